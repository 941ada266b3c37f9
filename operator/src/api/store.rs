//! A place that backups are kept in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSecurityContext, ResourceRequirements, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{LocalRef, duration_schema};

/// A place that backups are kept in: a bucket, a container, or a volume.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramBackupStore",
    plural = "engrambackupstores",
    shortname = "egbs",
    category = "engram",
    namespaced,
    status = "EngramBackupStoreStatus",
    cel,
    doc = "A place that backups are kept in: a bucket of S3 or something compatible or of Google Cloud Storage, a container of Azure Blob Storage, or a volume.",
    derive = "PartialEq",
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(
        name = "Reachable",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = Rule::new("self.metadata.name.size() <= 48")
        .message("the name may have at most 48 characters: the names of pods are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.s3), has(self.gcs), has(self.azure), has(self.pvc)].filter(one, one).size() == 1")
        .message("exactly one of s3, gcs, azure and pvc is needed"),
)]
pub struct EngramBackupStoreSpec {
    /// A bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Store>,
    /// A bucket of Google Cloud Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsStore>,
    /// A container of Azure Blob Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureStore>,
    /// A volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcStore>,
    /// Keys that backups and the log archive are encrypted with, before they leave a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The pods that reach it: backups, verifications, deletions, prunes.
    #[serde(default)]
    pub pods: StorePods,
}

/// What objects are encrypted with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// The keys. The first one encrypts what is written, each decrypts what is read: a new key is put before
    /// the others, and one goes when neither a backup nor a segment of a log archive needs it any more
    /// (`engramctl backup keys`; `engramctl archive verify` with the others alone).
    #[schemars(length(min = 1, max = 16))]
    pub keys: Vec<EncryptionKey>,
}

/// A key, in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionKey {
    /// The Secret, in the same namespace.
    pub secret_ref: LocalRef,
    /// The name in it of 32 random bytes in base64 or hexadecimal, as `openssl rand -base64 32` prints them.
    #[serde(default = "key_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub key: String,
}

fn key_name() -> String {
    "key".into()
}

/// The pods that reach a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StorePods {
    /// What each asks of its node. Unset: 100m of CPU and 256Mi of memory, and at most the memory that
    /// a member may use: verifying needs what a member's index needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Where a snapshot is spooled, and a backup restored to be looked at.
    pub scratch: Scratch,
    /// The service account that they run as, by which clouds know a workload. Unset: the namespace's default one.
    /// Members that archive run as `podTemplate.serviceAccountName` of their cluster says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// More labels, such as `azure.workload.identity/use: "true"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub labels: BTreeMap<String, String>,
    /// In place of the cluster's (`podTemplate.securityContext`), or the operator's own, which fixes user
    /// and group 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// Secrets to pull their image with, beside the cluster's (`imagePullSecrets`): the pods that look whether the store
    /// can be read work for no cluster, and others for one that may be gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Taints that they put up with, beside those that members of the cluster do (`scheduling.tolerations`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

/// Room for a member's database, while it is backed up or verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scratch {
    /// How much, a quantity such as `20Gi`; more is not used. Unset: as much as a member's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = "^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    )]
    pub size: Option<String>,
    /// Whether each pod gets a volume of its own, which goes with it. Otherwise it is on the node's
    /// disk.
    pub claim: bool,
    /// With a volume: its storage class. Unset: the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

/// What a prefix in a bucket or container is made of.
const PREFIX_PATTERN: &str = "^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$";
/// A service's URL.
const ENDPOINT_PATTERN: &str = "^https?://[^?#&\\s]+$";
const TLS_RULE: &str =
    "!has(self.endpoint) || !self.endpoint.startsWith('http://') || self.allowHTTP";
const TLS_MESSAGE: &str = "an endpoint without TLS is used only with allowHTTP: true";

/// A bucket of S3 or something compatible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(TLS_RULE).message(TLS_MESSAGE),
)]
pub struct S3Store {
    /// The bucket's name.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = "^[a-z0-9][a-z0-9.-]*[a-z0-9]$")
    )]
    pub bucket: String,
    /// What the names of all objects begin with. Backups are told apart by their clusters' names:
    /// namespaces that share a bucket need a prefix each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = PREFIX_PATTERN))]
    pub prefix: String,
    /// The region.
    #[serde(default = "region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: String,
    /// The service's URL, where it is not AWS's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: Option<String>,
    /// Whether the endpoint may be spoken to without TLS.
    #[serde(default, rename = "allowHTTP")]
    pub allow_http: bool,
    /// A Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN). Unset:
    /// what the pod's surroundings give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
    /// A Secret with the authorities (`ca.crt`) that the endpoint's certificate is checked against.
    /// Unset: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<LocalRef>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(TLS_RULE).message(TLS_MESSAGE),
)]
pub struct GcsStore {
    /// The bucket's name.
    #[schemars(
        length(min = 3, max = 222),
        regex(pattern = "^[a-z0-9][a-z0-9._-]*[a-z0-9]$")
    )]
    pub bucket: String,
    /// What the names of all objects begin with. Backups are told apart by their clusters' names:
    /// namespaces that share a bucket need a prefix each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = PREFIX_PATTERN))]
    pub prefix: String,
    /// The service's URL, where it is not Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: Option<String>,
    /// Whether the endpoint may be spoken to without TLS.
    #[serde(default, rename = "allowHTTP")]
    pub allow_http: bool,
    /// A Secret with a service account's key, JSON, as GOOGLE_SERVICE_ACCOUNT_KEY. Unset: the service account of
    /// the pod (`pods.serviceAccountName`), as GKE's workload identity gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
    /// A Secret with the authorities (`ca.crt`) that the endpoint's certificate is checked against.
    /// Unset: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<LocalRef>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(TLS_RULE).message(TLS_MESSAGE),
)]
pub struct AzureStore {
    /// The storage account's name.
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z0-9]+$"))]
    pub account: String,
    /// The container's name.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub container: String,
    /// What the names of all objects begin with. Backups are told apart by their clusters' names:
    /// namespaces that share a container need a prefix each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = PREFIX_PATTERN))]
    pub prefix: String,
    /// The account's URL, where it is not `https://ACCOUNT.blob.core.windows.net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: Option<String>,
    /// Whether the endpoint may be spoken to without TLS.
    #[serde(default, rename = "allowHTTP")]
    pub allow_http: bool,
    /// A Secret with AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID, AZURE_TENANT_ID and
    /// AZURE_CLIENT_SECRET. Unset: what Azure's workload identity gives the pod (`pods.serviceAccountName`,
    /// `pods.labels`), or the node's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
    /// A Secret with the authorities (`ca.crt`) that the endpoint's certificate is checked against.
    /// Unset: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<LocalRef>,
}

fn region() -> String {
    "us-east-1".into()
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PvcStore {
    /// The claim's name, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// A directory in it; it is made where it is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 256),
        regex(pattern = "^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$")
    )]
    pub path: String,
}

/// Which backups are kept. One that any rule keeps is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.keepLast) || has(self.keepWithin) || has(self.hourly) || has(self.daily) || has(self.weekly) || has(self.monthly)")
        .message("at least one rule is needed: keepLast, keepWithin, hourly, daily, weekly or monthly"),
)]
pub struct Retention {
    /// The newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_last: Option<u32>,
    /// Those not older than this, a duration such as `168h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    pub keep_within: Option<String>,
    /// The newest of each of the last so many hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub hourly: Option<u32>,
    /// The same by days (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub daily: Option<u32>,
    /// The same by ISO weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weekly: Option<u32>,
    /// The same by months.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub monthly: Option<u32>,
}

/// A store as the operator finds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramBackupStoreStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The store as engramctl is given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The Secrets that it was last asked with: a digest of their names and versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
    /// What holds, by type: Reachable; where it is encrypted, KeysAvailable; Ready, Reconciling and Stalled as kstatus has
    /// them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
