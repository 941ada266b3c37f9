//! A control plane that kubeadm made on a real etcd is moved to Engram in place, by the commands of `docs/adopt.md`:
//! the API server's process stays and reads nothing anew, no pod is touched, and what was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use engram_e2e::kind::image::{self, RunsAs};
use engram_e2e::kind::{Kind, Nodes, wait_for};
use engram_e2e::tools;
use serde_json::Value;

use crate::ci::smoke;
use crate::ci::writer::Writer;
use crate::lab::{IMAGE, READY_LIMIT};
use crate::steps::step;

const SYSTEM: &str = "kube-system";
const WRITTEN: &str = "written";
const LIST: &str = "/api/v1/namespaces/written/configmaps?limit=1";
/// How long is written before etcd is stopped, and after Engram serves.
const WRITES: Duration = Duration::from_secs(10);

/// Tells the story.
pub fn tell() {
    let image = step("the image", || image::engram(IMAGE, RunsAs::Nonroot));
    let kind = Arc::new(step("a control plane on etcd", || {
        Kind::create("engram-moved", Nodes::One, None)
    }));
    kind.load(&image);
    kind.load_shell();
    let node = kind.nodes().remove(0);
    let etcd = format!("etcd-{node}");
    assert!(version(&kind, &etcd).starts_with("etcd Version: "), "etcd");
    step("smoke test on etcd", || smoke::passes(&kind, "before"));
    kind.must(&["create", "namespace", WRITTEN]);
    let before = Seen::of(&kind, &node);
    let writer = Writer::start(&kind, WRITTEN);
    std::thread::sleep(WRITES);
    step("etcd goes, Engram comes", || {
        kind.on_node(&node, &["bash", "-ec", &commands()]);
        wait_for("Engram serves the API server", READY_LIMIT, || {
            // Without a datastore the API server answers late.
            let pod = kind.get(SYSTEM, &["--request-timeout=5s", "pod", &etcd])?;
            let container = &pod["status"]["containerStatuses"][0];
            let is_it = pod["spec"]["containers"][0]["image"] == IMAGE;
            (is_it && container["ready"] == true).then_some(())
        });
    });
    assert!(version(&kind, &etcd).contains("ngram"), "Engram");
    std::thread::sleep(WRITES);
    step("every acknowledged write is there", || {
        let written = writer.audit(&kind, WRITTEN);
        assert!(written > 20, "{written} writes are no load");
    });
    step("nobody read anything anew, no pod was touched", || {
        let after = Seen::of(&kind, &node);
        assert!(before.revision < after.revision, "{before:?} {after:?}");
        assert_eq!(before.pods, after.pods);
        assert_eq!(before.caches_filled, after.caches_filled);
    });
    step("smoke test on Engram", || smoke::passes(&kind, "after"));
    step("etcd's files go", || {
        let finish = ["adopt", "--data-dir", "/var/lib/etcd", "--finish"];
        let exec = ["-n", SYSTEM, "exec", &etcd, "--", "engramctl"];
        kind.must(&[&exec[..], &finish].concat());
        let left = kind.on_node(&node, &["ls", "/var/lib/etcd"]);
        assert!(!left.lines().any(|name| name == "member"), "{left}");
    });
}

/// What `docs/adopt.md` says to do on a node.
fn commands() -> String {
    let document = fs::read_to_string(tools::directory().join("../docs/adopt.md"));
    let document = document.expect("the document");
    let (_, rest) = document.split_once("<!-- kubeadm -->\n").expect("a mark");
    let (marked, _) = rest.split_once("<!-- end of kubeadm -->").expect("its end");
    let commands: Vec<&str> = marked
        .lines()
        .filter(|line| !line.starts_with("```"))
        .collect();
    commands.join("\n")
}

fn version(kind: &Kind, pod: &str) -> String {
    kind.must(&["-n", SYSTEM, "exec", pod, "--", "etcd", "--version"])
}

/// What must not change, and what must grow.
#[derive(Debug)]
struct Seen {
    /// The resource version of a list.
    revision: u64,
    /// Uid of each pod but etcd's own, and how often it was restarted.
    pods: BTreeMap<String, (String, u64)>,
    /// How often each of the API server's caches was filled by a list: a watch that could not go on makes it one more.
    caches_filled: BTreeSet<String>,
}

impl Seen {
    fn of(kind: &Kind, node: &str) -> Seen {
        let list = kind.must(&["get", "--raw", LIST]);
        let list: Value = serde_json::from_str(&list).expect("a list");
        let revision = list["metadata"]["resourceVersion"].as_str();
        let own = format!("etcd-{node}");
        let pods = kind.get(SYSTEM, &["pods"]).expect("a list");
        let pods = pods["items"].as_array().expect("items").iter();
        let metrics = kind.must(&["get", "--raw", "/metrics"]);
        let filled = metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_watch_cache_initializations_total{"));
        let seen = Seen {
            revision: revision
                .and_then(|text| text.parse().ok())
                .expect("a revision"),
            pods: pods.map(pod).filter(|(name, _)| *name != own).collect(),
            caches_filled: filled.map(str::to_owned).collect(),
        };
        assert!(seen.caches_filled.len() > 10, "{seen:?}");
        seen
    }
}

/// Who gives up where the lease that says who leads cannot be renewed for ten seconds; the kubelet starts it again.
const BY_LEASE: [&str; 2] = ["kube-controller-manager-", "kube-scheduler-"];

/// Name, uid, and restarts where nothing but a fault makes one.
fn pod(pod: &Value) -> (String, (String, u64)) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&pod["metadata"]["name"]);
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    let restarts = match BY_LEASE.iter().any(|of| name.starts_with(of)) {
        true => 0,
        false => restarts.expect("it was started"),
    };
    (name, (text(&pod["metadata"]["uid"]), restarts))
}
