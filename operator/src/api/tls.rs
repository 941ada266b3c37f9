//! How a cluster's connections are secured.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::duration_schema;

/// TLS of both ports. The operator's own authorities sign for two ports apart: who may speak for a
/// client may not speak for a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// The port of clients.
    pub client: TlsSide,
    /// The port that members use among themselves.
    pub peer: TlsSide,
    /// How long certificates last that the operator makes (not below 5m).
    #[schemars(schema_with = "duration_schema")]
    pub certificate_lifetime: String,
    /// How long authorities last that the operator makes. They are replaced, with an overlap, when
    /// a third of it is left.
    #[schemars(schema_with = "duration_schema")]
    pub authority_lifetime: String,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            client: TlsSide::default(),
            peer: TlsSide::default(),
            certificate_lifetime: "2160h".into(),
            authority_lifetime: "26280h".into(),
        }
    }
}

/// TLS of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.mode == 'Secret') == has(self.secretName)")
        .message("secretName is needed with mode Secret, and only then"),
    validation = Rule::new("(self.mode == 'CertManager') == has(self.issuerRef)")
        .message("issuerRef is needed with mode CertManager, and only then"),
    validation = Rule::new("self.mode == oldSelf.mode")
        .message("mode cannot be changed: members of one mode do not reach those of another; restore a backup into a new cluster"),
)]
pub struct TlsSide {
    /// Where certificates come from.
    #[serde(default)]
    pub mode: TlsMode,
    /// With mode Secret: a Secret with tls.crt, tls.key and ca.crt, in the same namespace. Its
    /// certificate serves the members and is shown by the operator, so it needs both key usages; it
    /// has to name `*.<cluster>-peers.<namespace>.svc` and, for clients,
    /// `<cluster>-client.<namespace>.svc`. A new one is taken up without a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// With mode CertManager: who signs. Its certificates need a `ca.crt` beside them (a CA, Vault or
    /// self-signed issuer gives one, ACME does not). Issuers of both ports had better have authorities of
    /// their own: who may speak for a client may speak for a member otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// More names or addresses that the certificate is good for, where it is not a Secret of the user's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub extra_names: Vec<String>,
}

/// An issuer of cert-manager's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Issuer or ClusterIssuer, or another one's kind.
    #[serde(default = "issuer")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The API group of the kind.
    #[serde(default = "cert_manager")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

fn issuer() -> String {
    "Issuer".into()
}

fn cert_manager() -> String {
    "cert-manager.io".into()
}

/// Where a port's certificates come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// The operator's own authority makes and renews them.
    #[default]
    SelfSigned,
    /// A Secret of the user's.
    Secret,
    /// cert-manager makes and renews them.
    CertManager,
    /// No TLS: whoever reaches the port may do anything.
    Disabled,
}
