//! A compaction, a defragmentation and a change of the leader, declared, one after the other.

use engram_e2e::client::{self, revision_of};
use engram_e2e::kind::{Declared, wait_for};
use serde_json::{Value, json};

use crate::lab::LIMIT;

use super::content::client_of;

/// Revisions that the compaction keeps.
const KEEP: i64 = 100;

/// Tells the story.
pub fn tell(demo: &Declared) {
    let (revision, next) = (head(demo), demo.follower());
    let compact = json!({ "compact": { "keepRevisions": KEEP } });
    // All at once: each waits for the one before.
    declare(demo, "compact", &compact);
    declare(demo, "defragment", &json!({ "defragment": {} }));
    declare(demo, "lead", &json!({ "moveLeader": { "to": next } }));
    succeeded(demo, "compact");
    let defragmented = succeeded(demo, "defragment");
    let done = defragmented["status"]["doneMembers"].as_array();
    assert_eq!(done.map(Vec::len), Some(3), "{defragmented:#}");
    is_compacted(demo, revision - KEEP);
    succeeded(demo, "lead");
    wait_for(&format!("{next} leads"), LIMIT, || {
        (demo.leader() == next).then_some(())
    });
}

fn declare(demo: &Declared, name: &str, what: &Value) {
    let mut object = json!({
        "apiVersion": "engram.dev/v1alpha1",
        "kind": "EngramOperation",
        "metadata": { "name": name },
        "spec": what,
    });
    object["spec"]["clusterRef"] = json!({ "name": demo.name() });
    demo.kind().apply(demo.namespace(), &object.to_string());
}

fn succeeded(demo: &Declared, name: &str) -> Value {
    let object = wait_for(&format!("operation {name} is over"), LIMIT, || {
        let object = demo
            .kind()
            .get(demo.namespace(), &["engramoperation", name])?;
        let phase = object["status"]["phase"].as_str()?;
        ["Succeeded", "Failed", "Rejected"]
            .contains(&phase)
            .then_some(object)
    });
    assert_eq!(object["status"]["phase"], "Succeeded", "{object:#}");
    object
}

fn head(demo: &Declared) -> i64 {
    client::runtime().block_on(async {
        let answer = client_of(demo).await.get("nothing", 0).await;
        revision_of(answer.expect("a read").header.as_ref())
    })
}

fn is_compacted(demo: &Declared, revision: i64) {
    let refused = client::runtime().block_on(async {
        let answer = client_of(demo).await.get("nothing", revision).await;
        answer.expect_err("the revision is compacted")
    });
    assert!(
        refused.message().contains("has been compacted"),
        "{refused}"
    );
}
