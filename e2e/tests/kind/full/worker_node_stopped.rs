//! A worker node loses power. After `nodeLostAfter` its member is replaced, with a new volume, on a
//! node that remains.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, Kind, wait_for};
use serde_json::json;

use crate::ci::audit;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "node";
/// Kubernetes calls a node not ready after 50 s at most; then `nodeLostAfter`, and a member joins.
const REPLACED_LIMIT: Duration = Duration::from_secs(300);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let healing = json!({ "healing": { "nodeLostAfter": "30s" } });
    let demo = lab.cluster(NAMESPACE, 3, &healing);
    let (node, member) = worker(&demo);
    // Not that node's own port: nobody answers there.
    let gone = lab.kind().node_address(&node);
    let mut addresses = demo.node_ports();
    addresses.retain(|address| address.ip() != gone);
    let traffic = Traffic::start(&demo.access(), &addresses);
    let off = Off::stop(lab.kind(), &node);
    step_under(
        &traffic,
        "a worker node stops, its member is replaced",
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
    step_under(&traffic, "the node comes back", || {
        drop(off);
        let ready = format!("node/{node}");
        lab.kind()
            .wait("default", "condition=Ready", &[&ready], LIMIT);
        demo.ready(3, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// A worker node with a member on it.
pub(super) fn worker(demo: &Declared) -> (String, String) {
    let pods = demo.pods();
    let on_a_worker = pods.iter().find_map(|pod| {
        let node = pod["spec"]["nodeName"].as_str()?;
        let member = pod["metadata"]["name"].as_str()?;
        (!node.contains("control-plane")).then(|| (node.to_owned(), member.to_owned()))
    });
    on_a_worker.expect("there is a member on each node")
}

/// A node without power, as long as this value lives.
struct Off<'a> {
    kind: &'a Kind,
    node: String,
}

impl<'a> Off<'a> {
    fn stop(kind: &'a Kind, node: &str) -> Off<'a> {
        kind.power(node, false);
        Off {
            kind,
            node: node.to_owned(),
        }
    }
}

impl Drop for Off<'_> {
    fn drop(&mut self) {
        // Whoever waits for the node finds out; a second panic would hide why.
        let started = catch_unwind(AssertUnwindSafe(|| self.kind.power(&self.node, true)));
        drop(started);
    }
}
