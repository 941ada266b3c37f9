//! One thing to be done to a cluster, once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::LocalRef;

/// One operation on a cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramOperation",
    plural = "engramoperations",
    shortname = "ego",
    category = "engram",
    namespaced,
    status = "EngramOperationStatus",
    cel,
    doc = "One thing done to a cluster, once: compact, defragment or moveLeader.",
    derive = "PartialEq",
    selectable = ".spec.clusterRef.name",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an operation cannot be changed: make another one"),
    validation = Rule::new("[has(self.compact), has(self.defragment), has(self.moveLeader)].filter(x, x).size() == 1")
        .message("exactly one of compact, defragment and moveLeader is needed"),
)]
pub struct EngramOperationSpec {
    /// The cluster.
    pub cluster_ref: LocalRef,
    /// Forgets history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact: Option<Compact>,
    /// Gives space back, one member after the other, the leader last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defragment: Option<Defragment>,
    /// Has another member lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_leader: Option<MoveLeader>,
    /// How long the object is kept once it is done.
    #[serde(default = "ttl")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub ttl_seconds_after_finished: u32,
}

fn ttl() -> u32 {
    86_400
}

/// Which history is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.revision) && has(self.keepRevisions))").message("at most one of revision and keepRevisions"),
)]
pub struct Compact {
    /// Everything below this revision. Neither this nor `keepRevisions`: below the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// All but the newest so many revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_revisions: Option<i64>,
}

/// Whose space is given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defragment {
    /// Only these members. None named: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(max = 63)))]
    pub members: Vec<String>,
}

/// Who shall lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveLeader {
    /// The member. Unset: any other one that is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub to: Option<String>,
}

/// How far an operation has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramOperationStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<OperationPhase>,
    /// What was done, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Members that are done already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub done_members: Vec<String>,
    /// Since when it waits for its cluster. Unset: since it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Time>,
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// What holds, by type: Complete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How far an operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// It waits for the cluster, or for an operation that came before it.
    Pending,
    /// It is being done.
    Running,
    /// It is done.
    Succeeded,
    /// It was tried and did not succeed.
    Failed,
    /// It cannot be done: nothing was tried.
    Rejected,
}
