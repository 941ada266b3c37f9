//! An image that is nowhere, under load: the change stops at the first member and is taken back, volumes stay, and
//! whoever looks at the cluster knows what is wrong and what is done. The members keep to zones of their own
//! (`spread: Required`), and their image is a version of a catalog.

use std::collections::BTreeSet;
use std::process::Command;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, condition, wait_for};
use engram_e2e::tools;
use serde_json::{Value, json};

use super::restore_in_place::uids;
use crate::ci::audit;
use crate::lab::{IMAGE, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "bad-image";
const GOOD: &str = "0.1.0";
const BAD: &str = "0.2.0";

/// Tells the story.
pub fn tell(lab: &Lab) {
    lab.with_operator();
    lab.namespace(NAMESPACE);
    catalog(lab);
    let spec = json!({
        "replicas": 3,
        "storage": { "size": "1Gi" },
        "clientService": { "type": "NodePort" },
        "imageCatalog": { "name": "engram", "version": GOOD },
        "update": { "rollback": "Automatic" },
        "healing": { "unhealthyAfter": "20s" },
        "scheduling": { "spread": "Required", "topologyKeys": ["kubernetes.io/hostname"] },
    });
    let demo = Declared::declare(lab.kind(), NAMESPACE, "demo", &spec);
    step("a cluster out of a catalog, one member a node", || {
        demo.ready(3, READY_LIMIT);
        let nodes = demo.pods();
        let nodes: BTreeSet<&str> = nodes.iter().filter_map(node).collect();
        assert_eq!(nodes.len(), 3, "{nodes:?}");
    });
    let before = uids(&demo, "persistentvolumeclaims");
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    step_under(&traffic, "an image that is nowhere stops", || {
        demo.change(&json!({ "imageCatalog": { "version": BAD } }));
        wait_for("the change has failed", READY_LIMIT, || {
            let degraded = condition(&demo.object()?, "Degraded")?;
            (degraded.reason == "RolloutFailed").then_some(())
        });
    });
    step_under(&traffic, "it is taken back", || {
        wait_for("three members on the image before", READY_LIMIT, || {
            let ready = demo.object()?["status"]["readyMembers"] == 3;
            let pods = demo.pods();
            let back = pods
                .iter()
                .all(|pod| pod["spec"]["containers"][0]["image"] == IMAGE);
            (ready && back && pods.len() == 3).then_some(())
        });
    });
    let after = uids(&demo, "persistentvolumeclaims");
    assert_eq!(before, after, "every member has its volume");
    step("the plugin and the events say so", || {
        said(&demo);
        reported(&demo);
    });
    step_under(&traffic, "corrected, all is well", || {
        demo.change(&json!({ "imageCatalog": { "version": GOOD } }));
        demo.ready(3, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

fn catalog(lab: &Lab) {
    let nowhere = "ghcr.io/engram-dev/engram:nowhere";
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramImageCatalog",
        "metadata": { "name": "engram" },
        "spec": { "images": [
            { "version": GOOD, "image": IMAGE }, { "version": BAD, "image": nowhere },
        ] },
    });
    lab.kind().apply(NAMESPACE, &object.to_string());
}

fn node(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str()
}

/// Runs the plugin, and returns what it prints.
pub(super) fn plugin(demo: &Declared, words: &[&str]) -> String {
    let kubectl = tools::tool("kubectl");
    let kubectl = kubectl.parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(tools::engramctl().with_file_name("kubectl-engram"));
    command.env("KUBECONFIG", demo.kind().kubeconfig());
    command.env("PATH", format!("{}:{path}", kubectl.display()));
    command.args(["--namespace", demo.namespace()]).args(words);
    tools::must_succeed(&mut command)
}

fn said(demo: &Declared) {
    let status = plugin(demo, &["status", "demo"]);
    for words in [
        "demo: serves reads and writes",
        "wrong: ",
        "RolloutFailed",
        "taken back",
        "3 of 3 voters answer",
    ] {
        assert!(status.contains(words), "{words:?} is not in\n{status}");
    }
    let events = demo.kind().must(&["-n", NAMESPACE, "get", "events"]);
    for reason in ["RolledBack", "RestartingPod"] {
        assert!(events.contains(reason), "{reason} is not in\n{events}");
    }
    let columns = demo.kind().must(&["-n", NAMESPACE, "get", "egc", "demo"]);
    assert!(columns.contains("RolloutFailed"), "{columns}");
    let listed = plugin(demo, &["etcdctl", "demo", "--", "endpoint", "health"]);
    assert!(listed.contains("is healthy"), "{listed}");
    let logs = plugin(demo, &["logs", "demo", "demo-1", "--tail", "3"]);
    assert_eq!(logs.lines().count(), 3, "{logs}");
    let words = plugin(demo, &["__complete", "--", "status", "de"]);
    assert_eq!(words, "demo\n:4\n");
}

/// All that a bug report needs is in one file, and no Secret.
fn reported(demo: &Declared) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("report.tar");
    plugin(
        demo,
        &["report", "demo", "--out", &out.display().to_string()],
    );
    let listed = tools::must_succeed(Command::new("tar").arg("-tf").arg(&out));
    for name in ["cluster.yaml", "status.txt", "events.yaml", "demo-1.log"] {
        assert!(listed.contains(name), "{name} is not in\n{listed}");
    }
    let text = std::fs::read(&out).expect("the report");
    let secret = demo
        .kind()
        .secret_file(NAMESPACE, "demo-client-tls", "tls.key");
    let line = secret.lines().nth(1).expect("a key").as_bytes();
    let found = text.windows(line.len()).any(|part| part == line);
    assert!(!found, "a key is in the report");
}
