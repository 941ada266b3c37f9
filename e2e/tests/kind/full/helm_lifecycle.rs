//! `helm test`, an upgrade, an uninstall, and an installation anew: definitions, clusters and data
//! stay through all of it, and clients notice nothing.

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, SHELL_IMAGE};
use serde_json::json;

use crate::ci::{audit, scale};
use crate::lab::{LIMIT, Lab, OPERATOR, OPERATOR_NAMESPACE, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "helm";
const CHART: &str = "charts/engram-operator";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({}));
    let kind = lab.kind();
    let image = format!("test.image={SHELL_IMAGE}");
    let helm =
        |words: &[&str]| kind.helm_must(&[words, &["--namespace", OPERATOR_NAMESPACE]].concat());
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let before = pods(&demo);
    step_under(&traffic, "helm upgrade", || {
        let set = ["--set", &image, "--set", "podLabels.upgraded=yes", "--wait"];
        helm(&[&["upgrade", OPERATOR, CHART][..], &set].concat());
        kind.wait(
            OPERATOR_NAMESPACE,
            "condition=Ready",
            &["pod", "-l", "upgraded=yes"],
            LIMIT,
        );
    });
    step("helm test", || helm(&["test", OPERATOR]));
    step_under(&traffic, "helm uninstall", || {
        helm(&["uninstall", OPERATOR, "--wait"]);
    });
    let definitions = kind.must(&["get", "crd", "-o", "name"]);
    assert_eq!(
        definitions.matches(".engram.dev").count(),
        7,
        "{definitions}"
    );
    assert!(demo.object().is_some(), "the EngramCluster is gone");
    assert_eq!(before, pods(&demo), "members do not need the operator");
    step_under(&traffic, "helm install again, and scale to 5", || {
        helm(&["install", OPERATOR, CHART, "--set", &image, "--wait"]);
        demo.ready(3, READY_LIMIT);
        assert_eq!(before, pods(&demo), "an installation restarts no member");
        scale::to(&demo, 5);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// The UIDs of the members' pods, in order.
fn pods(demo: &Declared) -> Vec<String> {
    let uid = |pod: &serde_json::Value| pod["metadata"]["uid"].to_string();
    let mut uids: Vec<String> = demo.pods().iter().map(uid).collect();
    uids.sort();
    uids
}
