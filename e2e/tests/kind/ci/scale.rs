//! Three members, five, and three again, under writes and reads.

use std::collections::BTreeSet;

use engram_e2e::kind::Declared;
use engram_e2e::kind::traffic::Traffic;
use serde_json::json;

use crate::lab::READY_LIMIT;
use crate::steps::step_under;

/// Tells the story.
pub fn tell(demo: &Declared, traffic: &Traffic) {
    step_under(traffic, "scale 3 → 5", || to(demo, 5));
    step_under(traffic, "scale 5 → 3", || to(demo, 3));
}

/// Scales, as `kubectl scale` does, and waits for members and volumes to be as many.
pub fn to(demo: &Declared, replicas: usize) {
    demo.change(&json!({ "replicas": replicas }));
    let status = demo.ready(replicas, READY_LIMIT)["status"].clone();
    assert_eq!(status["quorum"]["voters"], replicas, "{status:#}");
    let members: BTreeSet<String> = demo.members().into_iter().collect();
    assert_eq!(members.len(), replicas, "{members:?}");
}
