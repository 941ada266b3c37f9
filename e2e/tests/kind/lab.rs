//! The cluster of three nodes that the operator's stories share.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use engram_e2e::kind::image::{self, RunsAs};
use engram_e2e::kind::{Declared, Kind, Nodes};
use serde_json::{Value, json};

use crate::steps::step;

/// Where the quick start puts the operator.
pub const OPERATOR_NAMESPACE: &str = "engram-system";
/// The operator's chart.
pub const CHART: &str = "charts/engram-operator";
/// The release and its Deployment.
pub const OPERATOR: &str = "engram-operator";
/// How long a cluster may take to have all its members. Half a minute is usual.
pub const READY_LIMIT: Duration = Duration::from_secs(240);
/// How long anything else may take that takes seconds on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Engram's image, under the name under which it is published.
pub const IMAGE: &str = concat!("ghcr.io/engram-dev/engram:", env!("CARGO_PKG_VERSION"));

/// A kind cluster with the images that stories need, and the operator once somebody wants it.
pub struct Lab {
    kind: Arc<Kind>,
    has_operator: Cell<bool>,
}

impl Lab {
    /// Makes it. Engram's image has the name under which it is published: what a user types works.
    pub fn create() -> Lab {
        let image = step("the image", || image::engram(IMAGE, RunsAs::Nonroot));
        let kind = step("a cluster of three nodes", || {
            Kind::create("engram-e2e", Nodes::Three, None)
        });
        step("images in the nodes", || {
            kind.load(&image);
            kind.load_shell();
            kind.load_s3();
        });
        restrict(&kind, "default");
        Lab {
            kind: Arc::new(kind),
            has_operator: Cell::new(false),
        }
    }

    /// The cluster.
    pub fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// Whoever has installed the operator says so.
    pub fn operator_is_installed(&self) {
        self.has_operator.set(true);
    }

    /// Installs the operator unless it is there, as the quick start does.
    pub fn with_operator(&self) -> &Arc<Kind> {
        if !self.has_operator.replace(true) {
            step("helm install", || install_operator(&self.kind, CHART, &[]));
        }
        &self.kind
    }

    /// A cluster called `demo` in a namespace of its own, with every member ready. `more` is merged
    /// into its specification.
    pub fn cluster(&self, namespace: &str, replicas: usize, more: &Value) -> Declared {
        let mut spec = json!({
            "replicas": replicas,
            "storage": { "size": "1Gi" },
            "clientService": { "type": "NodePort" },
        });
        let fields = more.as_object().into_iter().flatten();
        for (key, value) in fields {
            spec[key] = value.clone();
        }
        let kind = self.with_operator();
        self.namespace(namespace);
        let demo = Declared::declare(kind, namespace, "demo", &spec);
        step("a cluster of its own", || demo.ready(replicas, READY_LIMIT));
        demo
    }

    /// Makes a namespace for a story.
    pub fn namespace(&self, name: &str) {
        namespace(&self.kind, name);
    }

    /// Deletes a story's namespace, so that the next story has the machine for itself.
    pub fn clear(&self, namespace: &str) {
        self.kind
            .must(&["delete", "namespace", namespace, "--wait=false"]);
    }
}

/// Installs the operator by a chart, as the quick start does.
pub fn install_operator(kind: &Kind, chart: &str, more: &[&str]) {
    let install = ["install", OPERATOR, chart, "--create-namespace", "--wait"];
    let namespace = ["--namespace", OPERATOR_NAMESPACE];
    kind.helm_must(&[&install[..], &namespace, more].concat());
}

/// Makes a namespace for a story.
pub fn namespace(kind: &Kind, name: &str) {
    kind.must(&["create", "namespace", name]);
    restrict(kind, name);
}

/// Members, backups and restores have to live where Kubernetes lets in restricted pods alone.
fn restrict(kind: &Kind, namespace: &str) {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    kind.must(&["label", "namespace", namespace, label]);
}
