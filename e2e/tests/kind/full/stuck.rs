//! Members that make no headway, each in another way and under load: one whose container fails on its data, one
//! whose pod does not end, one that finds no node because of its volume. Each is replaced after its time.

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use serde_json::{Value, json};

use super::out_of_use::OutOfUse;
use crate::ci::audit;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "stuck";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let healing = json!({ "unhealthyAfter": "20s", "stuckAfter": "40s" });
    let demo = lab.cluster(NAMESPACE, 3, &json!({ "healing": healing }));
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    step_under(&traffic, "its container fails", || fails(&demo));
    step_under(&traffic, "its pod does not end", || does_not_end(&demo));
    step_under(
        &traffic,
        "its volume is on a node that takes no pods",
        || {
            finds_no_node(&demo);
        },
    );
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

fn fails(demo: &Declared) {
    let member = demo.follower();
    let pod = pod(demo, &member);
    let volume = directory(demo, &pod);
    let identity = format!("echo nobody > {volume}/data/IDENTITY");
    demo.kind().on_node(node(&pod), &["sh", "-c", &identity]);
    delete(demo, &member);
    replaced(demo, &member);
}

fn does_not_end(demo: &Declared) {
    let member = demo.follower();
    finalizers(demo, &member, &["tests.engram.dev/held"]);
    delete(demo, &member);
    wait_for("another member in its place", READY_LIMIT, || {
        let object = demo.kind().get(NAMESPACE, &["engrammember", &member])?;
        let goes = !object["metadata"]["deletionTimestamp"].is_null();
        let ready = demo.object()?["status"]["readyMembers"] == 3;
        (goes && ready).then_some(())
    });
    finalizers(demo, &member, &[]);
    replaced(demo, &member);
}

fn finds_no_node(demo: &Declared) {
    let member = demo.follower();
    let pod = pod(demo, &member);
    let _cordoned = OutOfUse::cordoned(demo.kind(), node(&pod));
    delete(demo, &member);
    replaced(demo, &member);
}

/// The member goes, and another one takes its place; that is said.
pub(super) fn replaced(demo: &Declared, member: &str) {
    wait_for("the member is gone", READY_LIMIT, || {
        (!demo.members().iter().any(|one| one == member)).then_some(())
    });
    demo.ready(3, READY_LIMIT);
    let get = ["-n", demo.namespace(), "get", "events"];
    let events = demo.kind().must(&get);
    let said = |line: &str| line.contains("ReplacingMember") && line.contains(member);
    assert!(events.lines().any(said), "{events}");
}

pub(super) fn pod(demo: &Declared, member: &str) -> Value {
    let pod = demo.kind().get(demo.namespace(), &["pod", member]);
    pod.expect("the member has a pod")
}

pub(super) fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().expect("it is on a node")
}

pub(super) fn delete(demo: &Declared, member: &str) {
    let namespace = demo.namespace();
    let delete = ["-n", namespace, "delete", "pod", member, "--wait=false"];
    demo.kind().must(&delete);
}

fn finalizers(demo: &Declared, member: &str, these: &[&str]) {
    let patch = json!({ "metadata": { "finalizers": these } }).to_string();
    let namespace = demo.namespace();
    let patched = [
        "-n",
        namespace,
        "patch",
        "pod",
        member,
        "--type=merge",
        "-p",
    ];
    demo.kind().must(&[&patched[..], &[&patch]].concat());
}

/// The PersistentVolume of a member.
pub(super) fn volume(demo: &Declared, pod: &Value) -> String {
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    let data = volumes.iter().find(|volume| volume["name"] == "data");
    let claim = data.expect("a volume")["persistentVolumeClaim"]["claimName"].clone();
    let claim = claim.as_str().expect("a claim");
    let path = "jsonpath={.spec.volumeName}";
    let get = ["-n", demo.namespace(), "get", "pvc", claim, "-o", path];
    demo.kind().must(&get).trim().to_owned()
}

/// Where a member's volume is on its node.
pub(super) fn directory(demo: &Declared, pod: &Value) -> String {
    let volume = volume(demo, pod);
    let path = "jsonpath={.spec.hostPath.path}{.spec.local.path}";
    let get = ["get", "pv", &volume, "-o", path];
    demo.kind().must(&get)
}
