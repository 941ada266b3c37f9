//! A cluster by its chart; the operator tested by `helm test`, upgraded, uninstalled and installed
//! anew. Definitions, clusters and data stay through all of it, and clients notice nothing.

use std::collections::BTreeSet;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, SHELL_IMAGE};
use engram_e2e::tools;
use serde_json::Value;

use crate::ci::{audit, scale};
use crate::lab::{LIMIT, Lab, OPERATOR, OPERATOR_NAMESPACE, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "helm";
const CHART: &str = "charts/engram-operator";
/// Tells the story.
pub fn tell(lab: &Lab) {
    let kind = lab.with_operator();
    let image = format!("test.image={SHELL_IMAGE}");
    let helm =
        |words: &[&str]| kind.helm_must(&[words, &["--namespace", OPERATOR_NAMESPACE]].concat());
    let demo = step("a cluster by its chart, and helm test", || {
        cluster(lab, &image)
    });
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let before = pods(&demo);
    step_under(&traffic, "the operator: helm upgrade", || {
        let set = ["--set", &image, "--set", "podLabels.upgraded=yes", "--wait"];
        helm(&[&["upgrade", OPERATOR, CHART][..], &set].concat());
        let upgraded = ["pod", "-l", "upgraded=yes"];
        kind.wait(OPERATOR_NAMESPACE, "condition=Ready", &upgraded, LIMIT);
    });
    step("the operator: helm test", || helm(&["test", OPERATOR]));
    step_under(&traffic, "the operator: helm uninstall", || {
        helm(&["uninstall", OPERATOR, "--wait"]);
    });
    let definitions = kind.must(&["get", "crd", "-o", "name"]);
    let count = definitions.matches(".engram.dev").count();
    let made = std::fs::read_dir(tools::directory().join("../manifests/crds"));
    let made = made.expect("the definitions").count();
    assert_eq!(count, made, "{definitions}");
    assert!(demo.object().is_some(), "the EngramCluster is gone");
    assert_eq!(before, pods(&demo), "members do not need the operator");
    step_under(&traffic, "installed again, and scaled to 5", || {
        helm(&["install", OPERATOR, CHART, "--set", &image, "--wait"]);
        scale::to(&demo, 5);
    });
    let after = pods(&demo);
    assert!(
        after.is_superset(&before),
        "an installation restarts nobody"
    );
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// Declares a cluster by the chart `engram-cluster`.
fn cluster(lab: &Lab, image: &str) -> Declared {
    let kind = lab.kind();
    lab.namespace(NAMESPACE);
    let helm = |words: &[&str]| kind.helm_must(&[words, &["--namespace", NAMESPACE]].concat());
    let install = ["install", "demo", "charts/engram-cluster"];
    let values = [
        "--set",
        "cluster.storage.size=1Gi",
        "--set",
        "cluster.clientService.type=NodePort",
        "--set",
        image,
    ];
    helm(&[&install[..], &values].concat());
    let demo = Declared::named(kind, NAMESPACE, "demo");
    demo.ready(3, READY_LIMIT);
    helm(&["test", "demo"]);
    demo
}

/// The UIDs of the members' pods.
fn pods(demo: &Declared) -> BTreeSet<String> {
    let uid = |pod: &Value| pod["metadata"]["uid"].to_string();
    demo.pods().iter().map(uid).collect()
}
