//! Nodes are drained under load, one after the other: as long as the first one's member is away the budget refuses
//! the second; budgets are right at one, three and five members.

use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use engram_e2e::tools::Finished;
use serde_json::{Value, json};

use super::out_of_use::OutOfUse;
use crate::ci::audit;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "drained";
/// How long an eviction is tried that is to be refused, and one that is to be granted.
const REFUSED: &str = "--timeout=10s";
const GRANTED: &str = "--timeout=60s";
const DRAIN_LIMIT: Duration = Duration::from_secs(90);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 1, &json!({}));
    step("one member alone has no budget", || budget(&demo, None));
    step("three members can miss one", || {
        demo.change(&json!({ "replicas": 3 }));
        demo.ready(3, READY_LIMIT);
        budget(&demo, Some(2));
    });
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let nodes = nodes(&demo);
    let volumes = demo.uids("persistentvolumeclaims");
    let away = step_under(&traffic, "one is drained, and another one is not", || {
        let (first, one) = drain(&demo, &nodes[0], GRANTED);
        assert!(first.status.success(), "{}", first.text());
        let (second, other) = drain(&demo, &nodes[1], REFUSED);
        assert!(!second.status.success(), "{}", second.text());
        let refused = second.text().contains("disruption budget");
        assert!(refused, "{}", second.text());
        [one, other]
    });
    step_under(&traffic, "they take pods again", || {
        drop(away);
        back(&demo);
    });
    for node in &nodes[..2] {
        step_under(&traffic, "drained and back", || {
            // Refused until the budget knows that all are back, it asks again every 5 s.
            let (drained, cordoned) = drain(&demo, node, GRANTED);
            assert!(drained.status.success(), "{}", drained.text());
            drop(cordoned);
            back(&demo);
        });
    }
    assert_eq!(volumes, demo.uids("persistentvolumeclaims"));
    step_under(&traffic, "five members can miss two", || {
        demo.change(&json!({ "replicas": 5 }));
        demo.ready(5, READY_LIMIT);
        budget(&demo, Some(3));
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// The nodes of the members, those first that are no control plane.
fn nodes(demo: &Declared) -> Vec<String> {
    let pods = demo.pods();
    let nodes = pods
        .iter()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str());
    let mut nodes: Vec<String> = nodes.map(str::to_owned).collect();
    nodes.sort_by_key(|node| node.contains("control-plane"));
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    nodes
}

/// Takes the members off a node, which takes no pods for as long as the second value lives.
fn drain<'a>(demo: &'a Declared, node: &str, timeout: &str) -> (Finished, OutOfUse<'a>) {
    let cordoned = OutOfUse::cordoned(demo.kind(), node);
    let selector = format!("--pod-selector=engram.dev/cluster={}", demo.name());
    let drain = ["drain", node, &selector, timeout, "--ignore-daemonsets"];
    (demo.kind().kubectl_within(DRAIN_LIMIT, &drain), cordoned)
}

fn back(demo: &Declared) {
    // Its status may not tell of the eviction yet.
    wait_for("every pod is ready", READY_LIMIT, || {
        let pods = demo.pods();
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter();
            let mut conditions = conditions.flatten();
            conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        (pods.len() == 3 && pods.iter().all(ready)).then_some(())
    });
    demo.ready(3, READY_LIMIT);
}

/// Waits until so many members have to stay; none: there is no budget.
fn budget(demo: &Declared, stay: Option<u64>) {
    wait_for("the budget", LIMIT, || {
        let found = demo.kind().get(NAMESPACE, &["poddisruptionbudgets"])?;
        let found = found["items"].as_array()?;
        let found = found.first().map(|one| one["spec"]["minAvailable"].clone());
        (found == stay.map(|number| json!(number))).then_some(())
    });
}
