//! A worker's Node object is deleted, as by who gives a machine back: the volume there is out of reach, and after
//! `nodeLostAfter` the member is replaced on a node that remains. Then the machine registers again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{KUBECTL_LIMIT, Kind, wait_for};
use serde_json::json;

use super::worker_node_stopped::worker;
use crate::ci::audit;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "node-deleted";
/// Kubernetes deletes the pods of a node that is gone within a minute.
const REPLACED_LIMIT: Duration = Duration::from_secs(300);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let healing = json!({ "healing": { "nodeLostAfter": "30s" } });
    let demo = lab.cluster(NAMESPACE, 3, &healing);
    let (node, member) = worker(&demo);
    // Not that node's own port: pods there are nobody's.
    let gone = lab.kind().node_address(&node);
    let mut addresses = demo.node_ports();
    addresses.retain(|address| address.ip() != gone);
    let traffic = Traffic::start(&demo.access(), &addresses);
    let deleted = Deleted::node(lab.kind(), &node);
    step_under(
        &traffic,
        "a node is deleted, its member is replaced",
        || {
            wait_for("the member is replaced", REPLACED_LIMIT, || {
                (!demo.members().contains(&member)).then_some(())
            });
            demo.ready(3, REPLACED_LIMIT);
        },
    );
    for pod in demo.pods() {
        assert_ne!(pod["spec"]["nodeName"], node.as_str(), "{pod:#}");
    }
    step_under(&traffic, "the machine registers again", || {
        drop(deleted);
        wait_for("its Node is there", LIMIT, || {
            lab.kind().get("default", &["node", &node]).map(drop)
        });
        let ready = format!("node/{node}");
        lab.kind()
            .wait("default", "condition=Ready", &[&ready], LIMIT);
        // Whatever is next on this node needs addresses and Services there.
        for system in ["ds/kindnet", "ds/kube-proxy"] {
            let timeout = format!("--timeout={}s", LIMIT.as_secs());
            let status = ["-n", "kube-system", "rollout", "status", system, &timeout];
            lab.kind().must_within(LIMIT + KUBECTL_LIMIT, &status);
        }
        demo.ready(3, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// A node without an object, as long as this value lives: then its kubelet registers it again.
struct Deleted<'a> {
    kind: &'a Kind,
    node: String,
}

impl<'a> Deleted<'a> {
    fn node(kind: &'a Kind, node: &str) -> Deleted<'a> {
        let deleted = Deleted {
            kind,
            node: node.to_owned(),
        };
        kind.must(&["delete", "node", node, "--wait=false"]);
        deleted
    }
}

impl Drop for Deleted<'_> {
    fn drop(&mut self) {
        // Whoever waits for the node finds out; a second panic would hide why.
        let restart = ["systemctl", "restart", "kubelet"];
        let restarted = catch_unwind(AssertUnwindSafe(|| self.kind.on_node(&self.node, &restart)));
        drop(restarted);
    }
}
