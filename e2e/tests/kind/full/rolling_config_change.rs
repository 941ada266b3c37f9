//! A setting is changed under load, then the image, then nothing at all: members are restarted one
//! after the other, the leader last, each on its own volume.

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
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
    let after = rolled(
        &demo,
        &traffic,
        "a setting changes, members restart",
        || {
            demo.change(&json!({ "config": { SETTING.0: SETTING.1 } }));
        },
    );
    for pod in &after {
        assert!(pod.flags.contains(FLAG), "{}: {}", pod.member, pod.flags);
    }
    let next = another_name(lab, &after[0].image);
    let after = rolled(&demo, &traffic, "another image, members restart", || {
        demo.change(&json!({ "image": next }));
    });
    for pod in &after {
        assert_eq!(pod.image, next, "{}", pod.member);
    }
    rolled(&demo, &traffic, "restarted for the sake of it", || {
        let mark = "engram.dev/restarted-at=now";
        let annotate = ["-n", NAMESPACE, "annotate", "engramcluster", "demo", mark];
        demo.kind().must(&annotate);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// Makes a change, and waits until every member was restarted for it: the leader last, each on its own
/// volume.
fn rolled(demo: &Declared, traffic: &Traffic, name: &str, change: impl FnOnce()) -> Vec<Pod> {
    let leader = demo.leader();
    let before = pods(demo);
    step_under(traffic, name, || {
        change();
        demo.ready(3, READY_LIMIT);
        // An annotation is no change of the specification, of which the status could speak.
        wait_for("every member was restarted", READY_LIMIT, || {
            let uids = |pods: &[Pod]| pods.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>();
            let (old, new) = (uids(&before), uids(&pods(demo)));
            (new.len() == old.len() && new.iter().all(|uid| !old.contains(uid))).then_some(())
        });
        demo.ready(3, READY_LIMIT);
    });
    let after = pods(demo);
    for (was, is) in before.iter().zip(&after) {
        assert_eq!((&was.member, &was.claim), (&is.member, &is.claim));
    }
    let last = after.iter().max_by_key(|pod| &pod.created);
    let last = last.map(|pod| pod.member.clone());
    assert_eq!(last, Some(leader), "{name}: the leader is restarted last");
    after
}

/// The image under another name, on every node.
fn another_name(lab: &Lab, image: &str) -> String {
    let next = format!("{image}-next");
    for node in lab.kind().nodes() {
        let tag = [
            "ctr",
            "--namespace",
            "k8s.io",
            "images",
            "tag",
            image,
            &next,
        ];
        lab.kind().on_node(&node, &tag);
    }
    next
}

struct Pod {
    member: String,
    uid: String,
    created: String,
    claim: String,
    flags: String,
    image: String,
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
        image: text(&pod["spec"]["containers"][0]["image"]),
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
