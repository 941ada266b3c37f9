//! A cluster that begins with what another one holds, which runs meanwhile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::LocalRef;

/// The cluster, an etcd's or Engram's, whose keys are copied and then followed, until both are equal and it is cut over.
/// Until then nothing else may be written into the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tlsSecretRef) == has(oldSelf.tlsSecretRef) && has(self.prefix) == has(oldSelf.prefix)")
        .message("of bootstrap nothing can be changed but import.cutOver"),
)]
pub struct Import {
    /// Its endpoints, such as `https://etcd-0.etcd:2379`.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 512), regex(pattern = "^https?://[^,\\s]+$"))
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("of bootstrap nothing can be changed but import.cutOver"))]
    pub endpoints: Vec<String>,
    /// A Secret with `ca.crt`, against which its certificate is checked, and with `tls.crt` and `tls.key`, which it is
    /// shown. Where it asks its clients who they are, that certificate's common name is a user that may read all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("of bootstrap nothing can be changed but import.cutOver"))]
    pub tls_secret_ref: Option<LocalRef>,
    /// Only keys that begin with this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("of bootstrap nothing can be changed but import.cutOver"))]
    pub prefix: String,
    /// Whether it ends, once both are equal. Stop the other one's clients before.
    #[serde(default)]
    pub cut_over: bool,
}

/// How an import stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportStatus {
    /// Attempts, with the present one: once one has run, each removes what was copied before.
    pub attempts: u32,
    /// When the first was seen to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Before when none is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// The revision of the source at which both were equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_revision: Option<i64>,
    /// The revision of this cluster at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The keys that both had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,
}
