//! Parts of a cluster's specification.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvVar, NodeAffinity, PodSecurityContext, SecurityContext, Toleration,
    TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// The name of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Settings of the members. A change restarts them one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.electionTimeoutMilliseconds) || !has(self.heartbeatIntervalMilliseconds) || self.electionTimeoutMilliseconds >= 5 * self.heartbeatIntervalMilliseconds")
        .message("electionTimeoutMilliseconds has to be at least 5 times heartbeatIntervalMilliseconds")
)]
pub struct Config {
    /// How large the data may grow before the cluster refuses writes (a quantity such as `8Gi`).
    /// Unset: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    pub quota_bytes: Option<String>,
    /// What history is compacted by the members themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_compaction: Option<AutoCompaction>,
    /// Milliseconds between heartbeats (etcd's default: 100).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10_000))]
    pub heartbeat_interval_milliseconds: Option<u32>,
    /// Milliseconds without a leader before an election (etcd's default: 1000).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 50_000))]
    pub election_timeout_milliseconds: Option<u32>,
    /// Applied entries after which a snapshot is taken (etcd's `--snapshot-count`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub snapshot_count: Option<u64>,
    /// The largest request, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 104_857_600))]
    pub max_request_bytes: Option<u32>,
    /// The most operations in a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_txn_ops: Option<u32>,
    /// debug, info, warn, error, panic or fatal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(debug|info|warn|error|panic|fatal)$"))]
    pub log_level: Option<String>,
    /// `Extensive` adds histograms of how long calls take, for which each call looks at the clock
    /// twice; the alert etcdGRPCRequestsSlow needs them. Unset: Basic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsDetail>,
}

/// How much members measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricsDetail {
    /// What costs next to nothing.
    Basic,
    /// How long calls take as well.
    Extensive,
}

/// How members compact history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'Off' || has(self.retention)")
        .message("retention is needed unless mode is Off: a duration such as 1h for Periodic, a number of revisions for Revision"),
    validation = Rule::new("self.mode != 'Revision' || !has(self.retention) || self.retention.matches('^[0-9]+$')")
        .message("with mode Revision, retention is a number of revisions"),
)]
pub struct AutoCompaction {
    /// By time, by number of revisions, or not at all.
    pub mode: AutoCompactionMode,
    /// What is kept: `1h` (Periodic) or `1000` (Revision).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = "^[0-9]+((ms|s|m|h)([0-9]+(ms|s|m|h))*)?$")
    )]
    pub retention: Option<String>,
}

/// What compaction goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoCompactionMode {
    /// Time.
    Periodic,
    /// Number of revisions.
    Revision,
    /// Nothing is compacted by the members.
    Off,
}

/// Where members may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Whether two members may share a node.
    #[serde(default)]
    pub anti_affinity: AntiAffinity,
    /// What members are spread over, the most important first.
    #[serde(default = "topology_keys")]
    #[schemars(length(max = 4), inner(length(max = 317)))]
    pub topology_keys: Vec<String>,
    /// How strictly members are spread over `topologyKeys`.
    #[serde(default, skip_serializing_if = "Spread::is_preferred")]
    pub spread: Spread,
    /// Further constraints, in place of those made from `topologyKeys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that members put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Which nodes they keep to, or prefer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
    /// The priority class of the members' pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            anti_affinity: AntiAffinity::default(),
            topology_keys: topology_keys(),
            spread: Spread::default(),
            topology_spread_constraints: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            node_affinity: None,
            priority_class_name: None,
        }
    }
}

/// How strictly members keep away from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AntiAffinity {
    /// On different nodes where there are enough.
    #[default]
    Preferred,
    /// Never two on one node: a member waits for a node of its own.
    Required,
    /// Anywhere.
    None,
}

/// How strictly members are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    /// Evenly where there is room.
    #[default]
    Preferred,
    /// Never more than one more in one place than in another: a member waits for a place.
    Required,
}

impl Spread {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_preferred(&self) -> bool {
        *self == Self::Preferred
    }
}

pub(super) fn topology_keys() -> Vec<String> {
    vec![
        "kubernetes.io/hostname".into(),
        "topology.kubernetes.io/zone".into(),
    ]
}

/// An object of Kubernetes' that the operator hands on as it is: the API server checks it.
pub type HandedOn = serde_json::Map<String, serde_json::Value>;

/// What is added to the members' pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// More labels. Those of the operator win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// More annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// More of the environment of the member's own container. Flags that the operator sets win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// More volumes, as a pod has them. `data`, `client-tls`, `peer-tls`, `archive-store` and
    /// `archive-store-ca` are the operator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "volumes_schema")]
    pub volumes: Vec<HandedOn>,
    /// Where the member's own container has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volume_mounts: Vec<VolumeMount>,
    /// More containers, as a pod has them. They share the member's network; whether one of them is ready
    /// decides with the member's own whether clients are led to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "sidecars_schema")]
    pub sidecars: Vec<HandedOn>,
    /// The service account of the pods. Its token is not mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// The runtime class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// In place of the operator's own, which fixes user and group 65532: where Kubernetes gives each
    /// namespace its users (OpenShift), without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
    /// In place of the operator's own, of the containers that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_security_context: Option<SecurityContext>,
}

fn volumes_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    handed_on(
        16,
        "!(v.name in ['data', 'client-tls', 'peer-tls', 'archive-store', 'archive-store-ca'])",
        "data, client-tls, peer-tls, archive-store and archive-store-ca are the operator's own volumes",
    )
}

fn sidecars_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    handed_on(
        8,
        "!(v.name in ['engram', 'restore'])",
        "engram and restore are the operator's own containers",
    )
}

/// A list of objects that have a name, of which nothing else is looked at.
fn handed_on(most: u32, rule: &str, message: &str) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": most,
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": { "name": { "type": "string", "minLength": 1, "maxLength": 63 } },
            "x-kubernetes-preserve-unknown-fields": true,
        },
        "x-kubernetes-validations": [{ "rule": format!("self.all(v, {rule})"), "message": message }],
    })
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamily {
    /// 32 bits.
    IPv4,
    /// 128 bits.
    IPv6,
}

/// How many families a Service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where Kubernetes has two.
    PreferDualStack,
    /// Two.
    RequireDualStack,
}

/// The Service that clients use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientService {
    /// How many families of addresses it has. Unset: one, Kubernetes' first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Which, the first one first. Unset: as Kubernetes has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub ip_families: Vec<IpFamily>,
    /// Its type.
    #[serde(default, rename = "type")]
    pub kind: ServiceType,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The type of the client Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reached within Kubernetes.
    #[default]
    ClusterIP,
    /// Reached at a port of every node.
    NodePort,
    /// Reached through a load balancer.
    LoadBalancer,
}

/// Who may reach the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Whether there are network policies.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Who may reach the client port; nobody named: every pod of every namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self {
            enabled: true,
            from: Vec::new(),
        }
    }
}

/// Whether evictions are held to the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudgetSpec {
    /// Whether there is a disruption budget.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for PodDisruptionBudgetSpec {
    fn default() -> Self {
        Self { enabled: true }
    }
}

pub(super) fn yes() -> bool {
    true
}

/// The schema of a duration.
pub(super) fn duration_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "maxLength": 32, "pattern": duration::PATTERN })
}
