//! A restore into a new cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{EngramClusterSpec, latest, revision_bump};
use super::parts::{LocalRef, yes};

/// A restore of a backup into a new cluster.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramRestore",
    plural = "engramrestores",
    shortname = "egr",
    category = "engram",
    namespaced,
    status = "EngramRestoreStatus",
    cel,
    doc = "A restore of a backup into a new cluster, which it makes.",
    derive = "PartialEq",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Backup", type_ = "string", json_path = ".status.backupID"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("the name may have at most 63 characters: the cluster that is made is labelled with it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.source == oldSelf.source && self.target == oldSelf.target && self.revisionBump == oldSelf.revisionBump && self.markCompacted == oldSelf.markCompacted")
        .message("of a restore nothing but dryRun and confirm can be changed: make another one"),
    validation = Rule::new("self.markCompacted == (self.revisionBump > 0)")
        .message("revisionBump and markCompacted belong together: either revisionBump above 0 and markCompacted: true, or revisionBump: 0 and markCompacted: false"),
)]
pub struct EngramRestoreSpec {
    /// The backup.
    pub source: RestoreSource,
    /// The cluster that is made. It must not exist.
    pub target: RestoreTarget,
    /// How far the revision is moved on, so that no client meets a revision twice.
    #[serde(default = "revision_bump")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub revision_bump: i64,
    /// Whether older revisions are marked compacted, so that watchers list anew.
    #[serde(default = "yes")]
    pub mark_compacted: bool,
    /// Whether nothing is done but to find out what would be: see `plan` and `loss` of the status.
    #[serde(default)]
    pub dry_run: bool,
    /// The `planHash` of the status: what is done is this plan, or nothing. Needed after a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub confirm: Option<String>,
}

/// Which backup is restored: an EngramBackup, or one in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.backupRef) != has(self.storeRef)").message("exactly one of backupRef and storeRef is needed"),
    validation = Rule::new("!has(self.storeRef) || has(self.cluster)").message("with storeRef, cluster says whose backups are meant"),
)]
pub struct RestoreSource {
    /// A completed EngramBackup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<LocalRef>,
    /// A store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<LocalRef>,
    /// With a store: the cluster that was backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster: Option<String>,
    /// With a store: which of the clusters of that name, by its ID, where several had it; with an
    /// incarnation behind a slash where several had that. `engramctl backup list` shows them.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 130), regex(pattern = "^[0-9a-zA-Z]+(/[0-9a-zA-Z]+)?$"))]
    pub cluster_id: Option<String>,
    /// With a store: the backup's ID, or `latest`.
    #[serde(default = "latest")]
    #[schemars(length(min = 1, max = 253))]
    pub backup: String,
}

/// The cluster that a restore makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.spec.bootstrap)").message("spec.bootstrap is what the restore itself fills in"),
)]
pub struct RestoreTarget {
    /// Its name.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Its specification, without `bootstrap`.
    pub spec: EngramClusterSpec,
}

/// How far a restore has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramRestoreStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// The ID of the backup that is restored; of `latest`, once it was found.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// What is to be done, or was: of a restore that was planned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// What `confirm` has to be for this plan to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// What would be lost by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// The revision that the restored cluster began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the cluster was ready, or the restore was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// What holds, by type: Complete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How far a restore has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// The cluster is not made yet: the condition says what is waited for.
    Pending,
    /// Nothing was changed: the status says what would be done.
    Planned,
    /// The first member restores, or the others join.
    Running,
    /// Every member is ready.
    Completed,
    /// The backup was not restored. The condition says why, and what to do.
    Failed,
}
