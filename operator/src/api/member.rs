//! A member: one pod, one volume, one place in the cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::LocalRef;

/// A member of a cluster. The operator makes these; deleting one has the member replaced.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramMember",
    plural = "engrammembers",
    shortname = "egm",
    category = "engram",
    namespaced,
    status = "EngramMemberStatus",
    cel,
    doc = "A member of a cluster: one pod, one volume, one place in the cluster. Made by the operator; deleting one has it replaced, never below the quorum.",
    derive = "PartialEq",
    selectable = ".spec.clusterRef.name",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.role"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(
        name = "ID",
        type_ = "string",
        json_path = ".status.memberID",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a member cannot be changed: delete it to have it replaced"))]
pub struct EngramMemberSpec {
    /// The cluster that it belongs to.
    pub cluster_ref: LocalRef,
    /// How it comes into the cluster.
    pub origin: MemberOrigin,
    /// The URL at which the other members reach it: it has no other for life.
    #[serde(rename = "peerURL")]
    #[schemars(length(min = 1, max = 512))]
    pub peer_url: String,
    /// The claim of its volume, where that was there before the member was. Unset: one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_claim: Option<String>,
}

/// How a member comes into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberOrigin {
    /// It is the first one.
    Seed,
    /// It joins as a learner, which is promoted when it has caught up.
    Join,
}

/// A member as the operator finds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramMemberStatus {
    /// Its ID in the cluster, in hexadecimal.
    #[serde(rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// Whether its volume holds the member's data: from then on a lost volume is a lost member.
    pub initialized: bool,
    /// How many pods of it were made on its volume to found the cluster. The first is counted before it is made.
    pub founding_pods: u32,
    /// What it is in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// The claim of its volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_claim: Option<String>,
    /// The node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The version it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Since when it has not answered, or has known no leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_since: Option<Time>,
    /// Since when its node has not been ready, or has had no object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_lost_since: Option<Time>,
    /// How far a learner has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catching_up: Option<CatchingUp>,
    /// How it ended the last time: its exit code and Kubernetes' word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// What holds, by type: Ready, Joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How far a learner has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatchingUp {
    /// The index that it has applied.
    pub applied: u64,
    /// Since when.
    pub since: Time,
}

/// What a member is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It follows and does not vote yet.
    Learner,
}
