//! A control plane whose datastore goes back to a snapshot in place, by the commands of `docs/runbooks.md`: the API
//! server's process and the controllers go on by themselves, and no cache remembers what came later.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use engram_e2e::kind::image::{self, RunsAs};
use engram_e2e::kind::{Kind, Nodes, SHELL_IMAGE, wait_for};
use engram_e2e::tools;
use serde_json::Value;

use crate::ci::smoke;
use crate::lab::READY_LIMIT;
use crate::steps::step;

const SYSTEM: &str = "kube-system";
/// What the snapshot has.
const KEPT: &str = "kept";
/// What it has not.
const LATER: &str = "later";
/// How long caches and controllers may take to follow.
const FOLLOWED: Duration = Duration::from_secs(180);
/// Where objects of a kind are: in the datastore, and at the API server.
const KINDS: [(&str, &str); 7] = [
    ("configmaps", "/api/v1/configmaps"),
    ("deployments", "/apis/apps/v1/deployments"),
    ("namespaces", "/api/v1/namespaces"),
    ("pods", "/api/v1/pods"),
    ("replicasets", "/apis/apps/v1/replicasets"),
    ("secrets", "/api/v1/secrets"),
    ("serviceaccounts", "/api/v1/serviceaccounts"),
];

/// Tells the story.
pub fn tell() {
    let image = step("the image", || {
        image::engram("engram-e2e/etcd:engram", RunsAs::Root)
    });
    let kind = Arc::new(step("a control plane on Engram", || {
        Kind::create("engram-restored", Nodes::One, Some(&image))
    }));
    kind.load_shell();
    let plane = Plane::of(&kind);
    step("what the snapshot has", || {
        plane.runs(KEPT, 1);
        plane.kubectl(&["-n", KEPT, "create", "configmap", "deleted-later"]);
    });
    step("a snapshot", || plane.runbook("save"));
    let api_server = plane.api_server();
    step("what comes later", || {
        plane.runs(LATER, 1);
        plane.kubectl(&["-n", KEPT, "delete", "configmap", "deleted-later"]);
        plane.kubectl(&["-n", KEPT, "scale", "deployment/web", "--replicas=3"]);
        plane.rolled_out(KEPT);
    });
    step("back to the snapshot", || {
        plane.runbook("restore");
        wait_for("the API server has its datastore", READY_LIMIT, || {
            kind.get("default", &["--request-timeout=5s", "namespace", KEPT])
        });
    });
    step("no cache of the API server has anything later", || {
        wait_for("its caches are as the datastore", FOLLOWED, || {
            KINDS
                .iter()
                .all(|of| plane.is_cached_as_stored(of))
                .then_some(())
        });
        assert_eq!(plane.names("namespaces").get(LATER), None);
        assert_eq!(plane.api_server(), api_server, "it was not started again");
    });
    step("kubelet and controllers followed", || {
        wait_for("pods are those that are asked for", FOLLOWED, || {
            plane.runs_only_what_is_asked_for()
        });
        plane.kubectl(&["-n", KEPT, "get", "configmap", "deleted-later"]);
    });
    step("the same names are used anew", || plane.runs(LATER, 2));
    step("smoke test", || smoke::passes(&kind, "after"));
}

/// A control plane of one node.
struct Plane<'a> {
    kind: &'a Kind,
    node: String,
}

impl Plane<'_> {
    fn of(kind: &Kind) -> Plane<'_> {
        let node = kind.nodes().remove(0);
        Plane { kind, node }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.kind.must(arguments)
    }

    /// Has a Deployment `web` run in a namespace of its own.
    fn runs(&self, namespace: &str, replicas: usize) {
        self.kubectl(&["create", "namespace", namespace]);
        let (image, replicas) = (
            format!("--image={SHELL_IMAGE}"),
            format!("--replicas={replicas}"),
        );
        let create = [
            "-n",
            namespace,
            "create",
            "deployment",
            "web",
            &image,
            &replicas,
        ];
        self.kubectl(&[&create[..], &["--", "/bin/busybox", "sleep", "100000"]].concat());
        self.rolled_out(namespace);
    }

    fn rolled_out(&self, namespace: &str) {
        let timeout = format!("--timeout={}s", FOLLOWED.as_secs());
        let status = ["rollout", "status", "deployment/web", &timeout];
        let all = [&["-n", namespace][..], &status].concat();
        self.kind.must_within(FOLLOWED * 2, &all);
    }

    /// Does on the node what `docs/runbooks.md` says there.
    fn runbook(&self, part: &str) {
        let document = fs::read_to_string(tools::directory().join("../docs/runbooks.md"));
        let document = document.expect("the document");
        let mark = format!("<!-- control plane: {part} -->\n```sh\n");
        let (_, rest) = document.split_once(&mark).expect("a mark");
        let (commands, _) = rest.split_once("```").expect("its end");
        self.kind.on_node(&self.node, &["bash", "-ec", commands]);
    }

    /// The API server's pod, and how often its process was started.
    fn api_server(&self) -> (String, u64) {
        let pod = format!("kube-apiserver-{}", self.node);
        let pod = self.kind.get(SYSTEM, &["pod", &pod]).expect("it is there");
        let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        (uid, restarts.expect("it was started"))
    }

    /// Names in the datastore, of `/registry/KIND/[NAMESPACE/]NAME`.
    fn names(&self, of: &str) -> BTreeSet<String> {
        let prefix = format!("/registry/{of}/");
        let pki = "/etc/kubernetes/pki/etcd";
        let keys = self.kubectl(&[
            "-n",
            SYSTEM,
            "exec",
            &format!("etcd-{}", self.node),
            "--",
            "engramctl",
            &format!("--cacert={pki}/ca.crt"),
            &format!("--cert={pki}/server.crt"),
            &format!("--key={pki}/server.key"),
            "get",
            &prefix,
            "--prefix",
            "--keys-only",
        ]);
        let names = keys.lines().filter_map(|key| key.strip_prefix(&prefix));
        names.map(str::to_owned).collect()
    }

    /// Whether the API server answers from memory what the datastore has.
    fn is_cached_as_stored(&self, (of, path): &(&str, &str)) -> bool {
        let cached = self.kubectl(&["get", "--raw", &format!("{path}?resourceVersion=0")]);
        let cached: Value = serde_json::from_str(&cached).expect("a list");
        let items = cached["items"].as_array().expect("items").iter();
        let cached: BTreeSet<String> = items.map(|item| name(&item["metadata"])).collect();
        assert!(!cached.is_empty(), "{of}");
        cached == self.names(of)
    }

    /// Whether there are as many pods of what was kept as the snapshot asks for, all ready, and the node runs none of
    /// what came later.
    fn runs_only_what_is_asked_for(&self) -> Option<()> {
        let web = self.kind.get(KEPT, &["deployment", "web"])?;
        let pods = self.kind.get(KEPT, &["pods", "-l", "app=web"])?;
        let later = [
            "crictl",
            "pods",
            "--quiet",
            "--state",
            "ready",
            "--namespace",
        ];
        let running = |namespace: &str| {
            let said = self
                .kind
                .on_node(&self.node, &[&later[..], &[namespace]].concat());
            said.lines().count()
        };
        let is_so = web["spec"]["replicas"] == 1
            && web["status"]["readyReplicas"] == 1
            && pods["items"].as_array()?.len() == 1
            && running(KEPT) == 1
            && running(LATER) == 0;
        is_so.then_some(())
    }
}

/// `NAMESPACE/NAME`, or the name of what is in none.
fn name(metadata: &Value) -> String {
    let name = metadata["name"].as_str().expect("a name");
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}
