//! A worker node loses power. After `nodeLostAfter` its member is replaced, with a new volume, on a
//! node that remains.

use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, KUBECTL_LIMIT, Kind, wait_for};
use serde_json::json;

use super::out_of_use::OutOfUse;
use crate::ci::audit;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

/// Kubernetes calls a node not ready after 50 s at most, and deletes the pods of one that is gone within a minute;
/// then `nodeLostAfter`, and a member joins.
const REPLACED_LIMIT: Duration = Duration::from_secs(300);

/// Tells the story.
pub fn tell(lab: &Lab) {
    a_worker_goes(
        lab,
        "node",
        "a worker node stops, its member is replaced",
        OutOfUse::off,
        "the node comes back",
    );
}

/// A story of a worker that is out of use for a while.
pub(super) fn a_worker_goes<'l>(
    lab: &'l Lab,
    namespace: &str,
    goes: &str,
    away: fn(&'l Kind, &str) -> OutOfUse<'l>,
    comes_back: &str,
) {
    let healing = json!({ "healing": { "nodeLostAfter": "30s" } });
    let demo = lab.cluster(namespace, 3, &healing);
    let (node, member) = worker(&demo);
    // Not that node's own port: nobody answers there, or pods that are nobody's.
    let gone = lab.kind().node_address(&node);
    let mut addresses = demo.node_ports();
    addresses.retain(|address| address.ip() != gone);
    let traffic = Traffic::start(&demo.access(), &addresses);
    let out_of_use = away(lab.kind(), &node);
    step_under(&traffic, goes, || {
        wait_for("the member is replaced", REPLACED_LIMIT, || {
            (!demo.members().contains(&member)).then_some(())
        });
        demo.ready(3, REPLACED_LIMIT);
    });
    for pod in demo.pods() {
        assert_ne!(pod["spec"]["nodeName"], node.as_str(), "{pod:#}");
    }
    step_under(&traffic, comes_back, || {
        drop(out_of_use);
        is_of_use(lab.kind(), &node);
        demo.ready(3, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(namespace);
}

/// Waits until a node takes pods, with addresses and Services.
fn is_of_use(kind: &Kind, node: &str) {
    wait_for("its Node is there", LIMIT, || {
        kind.get("default", &["node", node]).map(drop)
    });
    let ready = format!("node/{node}");
    kind.wait("default", "condition=Ready", &[&ready], LIMIT);
    // kind's own image has kindnet's; the one that is built here routes by itself.
    let system = ["-n", "kube-system"];
    let sets = kind.must(&[&system[..], &["get", "ds", "-o", "name"]].concat());
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    for set in sets.lines() {
        let status = ["rollout", "status", set, &timeout];
        kind.must_within(LIMIT + KUBECTL_LIMIT, &[&system[..], &status].concat());
    }
}

/// A worker node with a member on it.
fn worker(demo: &Declared) -> (String, String) {
    let pods = demo.pods();
    let on_a_worker = pods.iter().find_map(|pod| {
        let node = pod["spec"]["nodeName"].as_str()?;
        let member = pod["metadata"]["name"].as_str()?;
        (!node.contains("control-plane")).then(|| (node.to_owned(), member.to_owned()))
    });
    on_a_worker.expect("there is a member on each node")
}
