//! Real Kubernetes clusters on this machine, by kind.
//!
//! `e2e/kind/up.sh` makes them (`ENGRAM_KIND_OFFLINE=1`: with nothing pulled). A [`Kind`] has a
//! kubeconfig of its own in the cache and never touches another cluster or the user's
//! configuration. When a test panics, what the cluster can tell is kept as files (see
//! [`artifacts`]); `KEEP=1` leaves clusters up and says how to reach them.

mod access;
pub mod artifacts;
mod command;
mod declared;
mod forward;
mod helm;
pub mod image;
pub mod policies;
mod shell;
pub mod traffic;
mod wait;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::tools::{self, Finished};

pub use access::Access;
pub use declared::{Condition, Declared, condition};
pub use forward::Forward;
pub use shell::{S3_IMAGE, SHELL_IMAGE};
pub use wait::wait_for;

/// How long one kubectl may take; those that wait are given their own limit.
pub const KUBECTL_LIMIT: Duration = Duration::from_secs(60);
/// How long creating a cluster may take: half a minute with an image at hand, the rest for building
/// or pulling what is not.
const CREATE_LIMIT: Duration = Duration::from_secs(30 * 60);
const DELETE_LIMIT: Duration = Duration::from_secs(120);
const LOAD_LIMIT: Duration = Duration::from_secs(180);

/// The nodes of a new cluster.
#[derive(Debug, Clone, Copy)]
pub enum Nodes {
    /// A control plane that runs pods.
    One,
    /// A control plane and two workers, each of which takes pods.
    Three,
    /// A control plane that runs pods, with IPv6 alone.
    Ipv6,
}

impl Nodes {
    fn config(self) -> &'static str {
        match self {
            Nodes::One => "one-node.yaml",
            Nodes::Three => "three-nodes.yaml",
            Nodes::Ipv6 => "one-node-ipv6.yaml",
        }
    }
}

/// A running kind cluster.
#[derive(Debug)]
pub struct Kind {
    name: String,
    kubeconfig: PathBuf,
    deleted_on_drop: bool,
}

impl Kind {
    /// Creates a cluster that lives as long as this value (`KEEP=1`: longer). `etcd_image` is an
    /// image archive that takes the place of kubeadm's etcd. A left-over of the name is deleted.
    ///
    /// # Panics
    /// If the cluster does not become ready.
    pub fn create(name: &str, nodes: Nodes, etcd_image: Option<&Path>) -> Kind {
        let kind = Kind {
            name: name.to_owned(),
            kubeconfig: command::cache().join(format!("{name}.kubeconfig")),
            deleted_on_drop: !kept(),
        };
        let mut up = command::script("kind/up.sh");
        up.args(["--replace", "--name", name, "--config"])
            .arg(tools::directory().join("kind").join(nodes.config()));
        if let Some(archive) = etcd_image {
            up.arg("--etcd-image").arg(archive);
        }
        up.env("KUBECONFIG", &kind.kubeconfig);
        command::succeeded(&mut up, CREATE_LIMIT);
        kind
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl and returns how it ended, in success or not.
    pub fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.kubectl_within(KUBECTL_LIMIT, arguments)
    }

    /// Runs kubectl with a limit of its own.
    pub fn kubectl_within(&self, limit: Duration, arguments: &[&str]) -> Finished {
        let mut kubectl = command::program("kubectl");
        kubectl
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        tools::run(&mut kubectl, limit)
    }

    /// Runs kubectl, which has to succeed, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn must(&self, arguments: &[&str]) -> String {
        self.must_within(KUBECTL_LIMIT, arguments)
    }

    /// [`Self::must`] with a limit of its own.
    pub fn must_within(&self, limit: Duration, arguments: &[&str]) -> String {
        let finished = self.kubectl_within(limit, arguments);
        assert!(
            finished.status.success(),
            "kubectl {arguments:?} failed: {}",
            finished.text()
        );
        finished.stdout
    }

    /// Applies a manifest (YAML or JSON) to a namespace.
    ///
    /// # Panics
    /// If it is refused.
    pub fn apply(&self, namespace: &str, manifest: &str) {
        let applied = self.try_apply(namespace, manifest);
        let text = applied.text();
        assert!(applied.status.success(), "refused: {text}: {manifest}");
    }

    /// Applies a manifest that may be refused.
    pub fn try_apply(&self, namespace: &str, manifest: &str) -> Finished {
        let file = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile()
            .expect("a temporary file can be made");
        std::fs::write(file.path(), manifest).expect("a temporary file can be written");
        let path = file.path().to_str().expect("temporary paths are UTF-8");
        self.kubectl(&["-n", namespace, "apply", "-f", path])
    }

    /// An object, or a list of them, as JSON; `None` if it is not there or nobody answers.
    pub fn get(&self, namespace: &str, what: &[&str]) -> Option<Value> {
        let mut arguments = vec!["-n", namespace, "get", "-o", "json"];
        arguments.extend(what);
        let finished = self.kubectl(&arguments);
        if !finished.status.success() {
            return None;
        }
        serde_json::from_str(&finished.stdout).ok()
    }

    /// Waits with `kubectl wait` for a condition (`condition=Ready`, `jsonpath=…`, `delete`).
    ///
    /// # Panics
    /// If it does not come true within `limit`.
    pub fn wait(&self, namespace: &str, condition: &str, what: &[&str], limit: Duration) {
        let condition = format!("--for={condition}");
        let timeout = format!("--timeout={}s", limit.as_secs());
        let mut arguments = vec!["-n", namespace, "wait", &condition, &timeout];
        arguments.extend(what);
        self.must_within(limit + KUBECTL_LIMIT, &arguments);
    }

    /// Runs a script of `e2e/kind` against this cluster and returns how it ended.
    pub fn script(&self, name: &str, limit: Duration) -> Finished {
        let mut script = command::script(&format!("kind/{name}"));
        script.env("KUBECONFIG", &self.kubeconfig);
        tools::run(&mut script, limit)
    }

    /// Builds the programs of the release before, where they are not built yet, and returns the directory that
    /// has them (see `kind/before.sh`).
    ///
    /// # Panics
    /// If they cannot be built.
    pub fn before(limit: Duration) -> PathBuf {
        let printed = command::succeeded(&mut command::script("kind/before.sh"), limit);
        PathBuf::from(printed.trim())
    }

    /// The file that says how to reach this cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Stops a node as if its machine had lost power, or starts it again.
    ///
    /// # Panics
    /// If docker refuses.
    pub fn power(&self, node: &str, on: bool) {
        let mut docker = command::program("docker");
        match on {
            true => docker.args(["start", node]),
            false => docker.args(["kill", node]),
        };
        command::succeeded(&mut docker, KUBECTL_LIMIT);
    }

    /// Brings an image archive to every node.
    pub fn load(&self, archive: &Path) {
        let mut kind = command::program("kind");
        kind.args(["load", "image-archive", "--name", &self.name])
            .arg(archive);
        command::succeeded(&mut kind, LOAD_LIMIT);
    }

    /// The names of the nodes (they are those of their docker containers as well).
    pub fn nodes(&self) -> Vec<String> {
        let names = self.must(&["get", "nodes", "-o", "name"]);
        let bare = |line: &str| line.trim_start_matches("node/").to_owned();
        names.lines().map(bare).collect()
    }

    /// A node's address, which this machine reaches.
    ///
    /// # Panics
    /// If the node has none.
    pub fn node_address(&self, node: &str) -> IpAddr {
        let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        let addresses = self.must(&["get", "node", node, "-o", path]);
        let first = addresses.split_whitespace().next();
        let address = first.and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{node} has no address: {addresses:?}"))
    }

    /// Runs a command in a node and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn on_node(&self, node: &str, arguments: &[&str]) -> String {
        let mut docker = command::program("docker");
        docker.args(["exec", node]).args(arguments);
        command::succeeded(&mut docker, KUBECTL_LIMIT)
    }

    fn delete(&self) {
        let mut down = command::script("kind/down.sh");
        down.arg(&self.name).env("KUBECONFIG", &self.kubeconfig);
        command::succeeded(&mut down, DELETE_LIMIT);
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            artifacts::keep(self);
        }
        if self.deleted_on_drop {
            // A second panic would end the process before the other tests ran.
            let deleted = std::panic::catch_unwind(|| self.delete());
            if deleted.is_err() {
                eprintln!("delete cluster {} with e2e/kind/down.sh", self.name);
            }
        } else {
            println!(
                "cluster {} stays:  export KUBECONFIG={}\ndelete it with:  e2e/kind/down.sh {}",
                self.name,
                self.kubeconfig.display(),
                self.name
            );
        }
    }
}

/// Whether clusters outlive their tests.
fn kept() -> bool {
    std::env::var_os("KEEP").is_some_and(|value| value == "1")
}
