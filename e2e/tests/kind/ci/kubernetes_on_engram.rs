//! A Kubernetes cluster, made by kubeadm with nothing of its configuration changed, whose image
//! `registry.k8s.io/etcd` is Engram: it comes up, passes the smoke test, and goes on after its
//! Engram is killed, with everything that was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use engram_e2e::kind::image::{self, RunsAs};
use engram_e2e::kind::{Kind, Nodes, wait_for};

use super::smoke;
use super::writer::Writer;
use crate::steps::step;

/// Kubelet restarts a container at once the first time; then it has to be ready.
const RESTART_LIMIT: Duration = Duration::from_secs(90);
/// How many writes surround the kill on either side.
const WRITES: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "kube-system";

/// Tells the story.
pub fn tell() {
    let image = step("the image", || {
        image::engram("engram-e2e/etcd:engram", RunsAs::Root)
    });
    let kind = Arc::new(step("the cluster", || {
        Kind::create("engram-as-etcd", Nodes::One, Some(&image))
    }));
    kind.load_shell();
    let etcd = format!("etcd-{}", kind.nodes()[0]);
    runs_engram(&kind, &etcd);
    step("smoke test", || smoke::passes(&kind, "before"));
    step("Engram is killed under writes", || {
        killed_under_writes(&kind, &etcd)
    });
    step("smoke test after that", || smoke::passes(&kind, "after"));
}

/// It is Engram, and kubeadm does not know: its manifest names etcd's image and etcd's command.
fn runs_engram(kind: &Kind, pod: &str) {
    let version = kind.must(&["-n", NAMESPACE, "exec", pod, "--", "etcd", "--version"]);
    assert!(version.contains("ngram"), "{version}");
    let pod = kind
        .get(NAMESPACE, &["pod", pod])
        .expect("the pod is there");
    let container = &pod["spec"]["containers"][0];
    let image = container["image"].as_str().unwrap_or_default();
    assert!(image.starts_with("registry.k8s.io/etcd:"), "{image}");
    assert_eq!(container["command"][0], "etcd");
}

fn killed_under_writes(kind: &Arc<Kind>, pod: &str) {
    let namespace = "written";
    kind.must(&["create", "namespace", namespace]);
    let restarts = restarts(kind, pod).expect("the pod has a status");
    let writer = Writer::start(kind, namespace);
    std::thread::sleep(WRITES);
    kind.on_node(&kind.nodes()[0], &["pkill", "-KILL", "-x", "etcd"]);
    wait_for(
        "Engram is restarted and the apiserver answers",
        RESTART_LIMIT,
        || restarts_after(kind, pod, restarts),
    );
    kind.wait(
        NAMESPACE,
        "condition=Ready",
        &["pod", "--all"],
        RESTART_LIMIT,
    );
    std::thread::sleep(WRITES);
    writer.audit(kind, namespace);
}

fn restarts(kind: &Kind, pod: &str) -> Option<u64> {
    let pod = kind.get(NAMESPACE, &["pod", pod])?;
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64()
}

fn restarts_after(kind: &Kind, pod: &str, before: u64) -> Option<()> {
    (restarts(kind, pod)? > before).then_some(())
}
