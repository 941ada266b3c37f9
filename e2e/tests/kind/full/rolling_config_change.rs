//! A setting is changed under load: members are restarted one after the other, the leader last,
//! each on its own volume, and leadership is moved at most once.

use engram_e2e::kind::Declared;
use engram_e2e::kind::traffic::Traffic;
use serde_json::{Value, json};

use crate::ci::audit;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "rolling";
/// The setting, and the flag that it becomes.
const SETTING: (&str, u32) = ("maxTxnOps", 256);
const FLAG: &str = "--max-txn-ops=256";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({}));
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let leader = demo.leader();
    let before = pods(&demo);
    step_under(&traffic, "a setting changes, members restart", || {
        demo.change(&json!({ "config": { SETTING.0: SETTING.1 } }));
        demo.ready(3, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
    let after = pods(&demo);
    assert_eq!(before.len(), after.len());
    for (was, is) in before.iter().zip(&after) {
        assert_eq!((&was.member, &was.claim), (&is.member, &is.claim));
        assert_ne!(was.uid, is.uid, "{} was not restarted", is.member);
        assert!(is.flags.contains(FLAG), "{}: {}", is.member, is.flags);
    }
    let last = after.iter().max_by_key(|pod| &pod.created);
    let last = last.map(|pod| pod.member.clone());
    assert_eq!(last, Some(leader), "the leader is restarted last");
    lab.clear(NAMESPACE);
}

struct Pod {
    member: String,
    uid: String,
    created: String,
    claim: String,
    flags: String,
}

/// The members' pods, by name.
fn pods(demo: &Declared) -> Vec<Pod> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = |pod: &Value| Pod {
        member: text(&pod["metadata"]["name"]),
        uid: text(&pod["metadata"]["uid"]),
        created: text(&pod["metadata"]["creationTimestamp"]),
        claim: claim(pod),
        flags: pod["spec"]["containers"][0]["command"].to_string(),
    };
    let mut pods: Vec<Pod> = demo.pods().iter().map(pod).collect();
    pods.sort_by(|left, right| left.member.cmp(&right.member));
    pods
}

fn claim(pod: &Value) -> String {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut claims =
        volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str());
    claims.next().unwrap_or_default().to_owned()
}
