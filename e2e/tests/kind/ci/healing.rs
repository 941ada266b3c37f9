//! A member's pod is deleted and comes back with its data; a member's volume is deleted and the
//! member is replaced.

use std::collections::BTreeSet;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use serde_json::Value;

use crate::lab::{LIMIT, READY_LIMIT};
use crate::steps::step_under;

/// Tells the story.
pub fn tell(demo: &Declared, traffic: &Traffic) {
    step_under(traffic, "the leader's pod is deleted", || pod(demo));
    step_under(traffic, "a follower's volume is deleted", || volume(demo));
}

fn pod(demo: &Declared) {
    let leader = demo.leader();
    let before = identity(demo, &leader).expect("the leader has a pod");
    delete(demo, "pod", &leader);
    wait_for("the pod is made again", LIMIT, || {
        let now = identity(demo, &leader)?;
        (now.uid != before.uid).then_some(())
    });
    demo.ready(3, READY_LIMIT);
    let after = identity(demo, &leader).expect("it has a pod");
    assert_eq!(
        before.claim, after.claim,
        "the pod came back on another volume"
    );
}

fn volume(demo: &Declared) {
    let follower = demo.follower();
    let before = identity(demo, &follower).expect("the follower has a pod");
    delete(demo, "persistentvolumeclaim", &before.claim);
    wait_for("the member is gone", READY_LIMIT, || {
        let members = demo.members();
        (!members.contains(&follower)).then_some(())
    });
    let status = demo.ready(3, READY_LIMIT)["status"].clone();
    let replaced = status["replacements"].as_array().map_or(0, Vec::len);
    assert_eq!(replaced, 1, "{status:#}");
    let pods = demo.pods();
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str())
        .collect();
    assert_eq!(nodes.len(), 3, "members share a node: {nodes:?}");
}

fn delete(demo: &Declared, what: &str, name: &str) {
    let delete = ["-n", demo.namespace(), "delete", what, name, "--wait=false"];
    demo.kind().must(&delete);
}

/// Which pod a member has, and which volume.
struct Identity {
    uid: String,
    claim: String,
}

fn identity(demo: &Declared, member: &str) -> Option<Identity> {
    let pod = demo.kind().get(demo.namespace(), &["pod", member])?;
    let volumes = pod["spec"]["volumes"].as_array()?;
    let data = volumes.iter().find(|volume| volume["name"] == "data")?;
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    Some(Identity {
        uid: text(&pod["metadata"]["uid"])?,
        claim: text(&data["persistentVolumeClaim"]["claimName"])?,
    })
}
