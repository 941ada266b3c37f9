//! What things are called.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use crate::api::{EngramCluster, TlsMode};

/// Clients'.
pub const CLIENT_PORT: u16 = 2379;
/// Members'.
pub const PEER_PORT: u16 = 2380;
/// Metrics and health, without TLS.
pub const METRICS_PORT: u16 = 2381;

/// On members: why their volume is kept whatever the policy says.
pub const KEEP_ANNOTATION: &str = "engram.dev/keep-volume";

/// The names of a cluster's objects, all from its own name (40 characters at most).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The cluster.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    client_mode: TlsMode,
    peer_mode: TlsMode,
    client_secret: Option<String>,
    peer_secret: Option<String>,
    /// Whether clients say who they are, or did.
    auth: bool,
}

impl Names {
    /// Those of `cluster`.
    #[must_use]
    pub fn of(cluster: &EngramCluster) -> Self {
        let tls = &cluster.spec.tls;
        Self {
            cluster: cluster.name_any(),
            namespace: cluster.namespace().unwrap_or_default(),
            client_mode: tls.client.mode,
            peer_mode: tls.peer.mode,
            client_secret: tls.client.secret_name.clone(),
            peer_secret: tls.peer.secret_name.clone(),
            auth: asks_who(cluster),
        }
    }

    /// The Service that gives each member its name.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service that clients use.
    #[must_use]
    pub fn client(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// The object and pod of the member with that number.
    #[must_use]
    pub fn member(&self, number: u32) -> String {
        format!("{}-{number}", self.cluster)
    }

    /// The number of the member with that name, if it is one of this cluster's.
    #[must_use]
    pub fn number(&self, member: &str) -> Option<u32> {
        let tail = member.strip_prefix(&self.cluster)?.strip_prefix('-')?;
        tail.parse().ok()
    }

    /// What every member's host name ends with.
    #[must_use]
    pub fn domain(&self) -> String {
        format!("{}.{}.svc", self.peers(), self.namespace)
    }

    /// A member's host name.
    #[must_use]
    pub fn host(&self, member: &str) -> String {
        format!("{member}.{}", self.domain())
    }

    /// A member's URL for the others.
    #[must_use]
    pub fn peer_url(&self, member: &str) -> String {
        format!(
            "{}://{}:{PEER_PORT}",
            scheme(self.peer_mode),
            self.host(member)
        )
    }

    /// A member's URL for clients.
    #[must_use]
    pub fn client_url(&self, member: &str) -> String {
        format!(
            "{}://{}:{CLIENT_PORT}",
            scheme(self.client_mode),
            self.host(member)
        )
    }

    /// The cluster's URL for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let host = format!("{}.{}.svc", self.client(), self.namespace);
        format!("{}://{host}:{CLIENT_PORT}", scheme(self.client_mode))
    }

    /// The member whose URL for the others this is, if the operator makes such.
    #[must_use]
    pub fn member_of(&self, peer_url: &str) -> Option<String> {
        let rest = peer_url
            .strip_prefix("https://")
            .or_else(|| peer_url.strip_prefix("http://"))?;
        let member = rest.strip_suffix(&format!(".{}:{PEER_PORT}", self.domain()))?;
        (!member.contains('.')).then(|| member.to_owned())
    }

    /// The Secret with what members show clients; none without TLS.
    #[must_use]
    pub fn server_secret(&self) -> Option<String> {
        match self.client_mode {
            TlsMode::SelfSigned | TlsMode::CertManager => {
                Some(format!("{}-server-tls", self.cluster))
            }
            TlsMode::Secret => self.client_secret.clone(),
            TlsMode::Disabled => None,
        }
    }

    /// The Secret with what clients show members; none without TLS.
    #[must_use]
    pub fn client_secret(&self) -> Option<String> {
        match self.client_mode {
            TlsMode::SelfSigned | TlsMode::CertManager => {
                Some(format!("{}-client-tls", self.cluster))
            }
            TlsMode::Secret => self.client_secret.clone(),
            TlsMode::Disabled => None,
        }
    }

    /// The Secret with what the operator and its pods show members; none without TLS. Where clients say who
    /// they are it is its own: it may do everything.
    #[must_use]
    pub fn operator_secret(&self) -> Option<String> {
        match self.client_mode {
            TlsMode::SelfSigned | TlsMode::CertManager if self.auth => {
                Some(format!("{}-operator-tls", self.cluster))
            }
            _ => self.client_secret(),
        }
    }

    /// The Secret with root's password, where the specification names none.
    #[must_use]
    pub fn root_secret(&self) -> String {
        format!("{}-root", self.cluster)
    }

    /// The Secret with what members show each other; none without TLS.
    #[must_use]
    pub fn peer_secret(&self) -> Option<String> {
        match self.peer_mode {
            TlsMode::SelfSigned | TlsMode::CertManager => {
                Some(format!("{}-peer-tls", self.cluster))
            }
            TlsMode::Secret => self.peer_secret.clone(),
            TlsMode::Disabled => None,
        }
    }

    /// The Secret with the authority of clients and of what members show them.
    #[must_use]
    pub fn client_authority(&self) -> String {
        format!("{}-client-ca", self.cluster)
    }

    /// The Secret with the authority of members among themselves.
    #[must_use]
    pub fn peer_authority(&self) -> String {
        format!("{}-peer-ca", self.cluster)
    }
}

/// Whether a cluster's clients are to say who they are, or still have to.
fn asks_who(cluster: &EngramCluster) -> bool {
    let still = cluster
        .status
        .as_ref()
        .is_some_and(|status| status.auth_enabled);
    cluster.spec.auth.enabled || still
}

fn scheme(mode: TlsMode) -> &'static str {
    if mode == TlsMode::Disabled {
        "http"
    } else {
        "https"
    }
}

/// Labels of everything that belongs to a cluster.
#[must_use]
pub fn cluster_labels(cluster: &str, component: &str) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "engram"),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/part-of", "engram"),
        ("app.kubernetes.io/managed-by", "engram-operator"),
        ("engram.dev/cluster", cluster),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The label that names a member.
pub(super) const MEMBER_LABEL: &str = "engram.dev/member";

/// Labels of what belongs to one member.
#[must_use]
pub fn member_labels(cluster: &str, member: &str) -> BTreeMap<String, String> {
    let mut labels = cluster_labels(cluster, "member");
    labels.insert(MEMBER_LABEL.into(), member.to_owned());
    labels
}

/// What selects a cluster's member pods.
#[must_use]
pub fn member_selector(cluster: &str) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/component", "member"),
        ("engram.dev/cluster", cluster),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The same, as lists are asked for by it.
#[must_use]
pub fn member_query(cluster: &str) -> String {
    let pairs = member_selector(cluster).into_iter();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn of(name: &str) -> Names {
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": name, "namespace": "data" },
            "spec": { "auth": { "enabled": true } },
        }))
        .unwrap();
        Names::of(&cluster)
    }

    #[test]
    fn clusters_whose_names_begin_alike_share_no_name_and_no_member() {
        // Every part that the operator puts behind a name is one that a user may put there as well.
        let parts = [
            "b", "0", "1", "1-1", "client", "peers", "peer", "server", "operator", "root",
            "client-1", "peers-1", "user", "tls", "ca",
        ];
        let mut all: Vec<Names> = parts.iter().map(|part| of(&format!("a-{part}"))).collect();
        all.extend(["a", "a1", "b"].map(of));
        let services = |names: &Names| vec![names.peers(), names.client()];
        let secrets = |names: &Names| {
            let tls = [
                names.server_secret(),
                names.client_secret(),
                names.operator_secret(),
                names.peer_secret(),
            ];
            let mut secrets: Vec<String> = tls.into_iter().flatten().collect();
            secrets.extend([
                names.root_secret(),
                names.client_authority(),
                names.peer_authority(),
            ]);
            secrets
        };
        let members = |names: &Names| vec![names.member(1), names.member(12)];
        let kinds: [fn(&Names) -> Vec<String>; 3] = [services, secrets, members];
        for kind in kinds {
            let names: Vec<String> = all.iter().flat_map(kind).collect();
            let distinct: BTreeSet<&String> = names.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{names:?}");
        }
        for one in &all {
            for other in &all {
                let member = other.member(1);
                let own = one.cluster == other.cluster;
                assert_eq!(one.number(&member).is_some(), own, "{one:?} {member}");
                let found = one.member_of(&other.peer_url(&member));
                assert_eq!(found.is_some(), own, "{one:?} {member}");
            }
        }
    }
}
