//! More ways of being gone, each under load: a volume that is not mounted any more, a process that runs and answers
//! nobody, a claim whose volume is lost. Each member is replaced after its time.

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use serde_json::json;

use super::stuck::{delete, directory, node, pod, replaced, volume};
use crate::ci::audit;
use crate::frozen::Frozen;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "gone";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let healing = json!({ "unhealthyAfter": "20s", "stuckAfter": "40s" });
    let demo = lab.cluster(NAMESPACE, 3, &json!({ "healing": healing }));
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    step_under(&traffic, "its volume is not mounted", || not_mounted(&demo));
    step_under(&traffic, "it runs and answers nobody", || silent(&demo));
    step_under(&traffic, "its claim has lost its volume", || {
        claim_lost(&demo)
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// Where its directory was is a file: the kubelet waits, and its pod stays in ContainerCreating.
fn not_mounted(demo: &Declared) {
    let member = demo.follower();
    let pod = pod(demo, &member);
    let path = directory(demo, &pod);
    let moved = format!("mv {path} {path}.moved && touch {path}");
    demo.kind().on_node(node(&pod), &["sh", "-c", &moved]);
    delete(demo, &member);
    wait_for("it is said that it is not mounted", LIMIT, || {
        let get = ["-n", NAMESPACE, "get", "events"];
        let events = demo.kind().must(&get);
        let said = |line: &str| line.contains("FailedMount") && line.contains(&member);
        events.lines().any(said).then_some(())
    });
    replaced(demo, &member);
    let away = format!("rm -rf {path} {path}.moved");
    demo.kind().on_node(node(&pod), &["sh", "-c", &away]);
}

/// Its liveness probe has it started again, and each time it falls silent anew.
fn silent(demo: &Declared) {
    let member = demo.follower();
    let frozen = Frozen::member(demo, &member);
    wait_for("the member is gone", READY_LIMIT, || {
        frozen.again();
        (!demo.members().contains(&member)).then_some(())
    });
    replaced(demo, &member);
    drop(frozen);
}

fn claim_lost(demo: &Declared) {
    let member = demo.follower();
    let volume = volume(demo, &pod(demo, &member));
    demo.kind().must(&["delete", "pv", &volume, "--wait=false"]);
    let release = r#"{"metadata":{"finalizers":null}}"#;
    let patch = ["patch", "pv", &volume, "--type=merge", "-p", release];
    demo.kind().must(&patch);
    replaced(demo, &member);
}
