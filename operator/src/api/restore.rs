//! A restore: of a backup into a new cluster, or into the one that is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{EngramClusterSpec, latest, revision_bump};
use super::moment::time_schema;
use super::parts::{LocalRef, yes};
use super::restoring::KeptVolume;

/// A restore of a backup.
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
    doc = "A restore of a backup: into a new cluster, which it makes, or into the one that is there.",
    derive = "PartialEq",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
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
    validation = Rule::new("self.kind == oldSelf.kind && has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source) && has(self.volumes) == has(oldSelf.volumes) && (!has(self.volumes) || self.volumes == oldSelf.volumes) && has(self.survivor) == has(oldSelf.survivor) && (!has(self.survivor) || self.survivor == oldSelf.survivor) && self.target == oldSelf.target && self.revisionBump == oldSelf.revisionBump && self.markCompacted == oldSelf.markCompacted")
        .message("of a restore nothing but dryRun, confirm and decision can be changed: make another one"),
    validation = Rule::new("has(self.source) == (self.kind in ['NewCluster', 'InPlace'])")
        .message("source is the backup that kind NewCluster and InPlace restore; QuorumRecovery goes on with what is there"),
    validation = Rule::new("has(self.target.spec) == (self.kind in ['NewCluster', 'AdoptVolumes'])")
        .message("target.spec is what a new cluster is made with: it is needed with kind NewCluster and AdoptVolumes, and with no other"),
    validation = Rule::new("!has(self.volumes) || self.kind == 'AdoptVolumes'")
        .message("volumes are those that kind AdoptVolumes takes"),
    validation = Rule::new("!has(self.survivor) || self.kind == 'QuorumRecovery'")
        .message("survivor is the member that goes on with kind QuorumRecovery, and with no other"),
    validation = Rule::new("!has(self.decision) || self.kind in ['InPlace', 'QuorumRecovery']")
        .message("decision is for what was put in another one's place: a new cluster is simply deleted"),
    validation = Rule::new("!has(self.decision) || self.kind != 'QuorumRecovery' || self.decision != 'Undo'")
        .message("a member that goes on alone cannot be made one of several again: with kind QuorumRecovery there is no Undo"),
    validation = Rule::new("!has(oldSelf.decision) || (has(self.decision) && self.decision == oldSelf.decision)")
        .message("what was decided is done: make another restore"),
    validation = Rule::new("self.markCompacted == (self.revisionBump > 0)")
        .message("revisionBump and markCompacted belong together: either revisionBump above 0 and markCompacted: true, or revisionBump: 0 and markCompacted: false"),
)]
pub struct EngramRestoreSpec {
    /// Into what.
    #[serde(default)]
    pub kind: RestoreKind,
    /// The backup, where one is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<RestoreSource>,
    /// The claims of the volumes that are adopted. Unset: all that are labelled as the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub volumes: Option<Vec<String>>,
    /// With kind QuorumRecovery: the member that goes on, where it is not to be the one whose log goes furthest:
    /// that one does not start, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub survivor: Option<String>,
    /// The cluster.
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
    /// The `planHash` of the status: what is done is this plan, or nothing. Needed after a dry run, and for
    /// every restore into a cluster that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub confirm: Option<String>,
    /// What becomes of the old volumes of a cluster that was restored in place. They are kept until this is
    /// said; `Undo` can be said at any time before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// Into what a backup is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreKind {
    /// A cluster that is made for it. None of its name may exist.
    #[default]
    NewCluster,
    /// The cluster that is there: it keeps its name, Services and certificates. Its members are stopped, and
    /// their volumes kept.
    InPlace,
    /// The cluster that has lost its quorum for good: the member whose log goes furthest goes on alone, with
    /// all that it has, and others join it. No backup is needed.
    QuorumRecovery,
    /// A cluster that is made for it, and goes on with the volumes of one whose objects are gone: members have
    /// their names and data again. No backup is needed.
    AdoptVolumes,
}

/// What becomes of what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Decision {
    /// The restored data stays: the old members and, by `storage.reclaimPolicy`, their volumes go.
    Accept,
    /// The old members start again on their volumes: the restored ones go.
    Undo,
}

/// Which backup is restored: an EngramBackup, or one in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.backupRef) != has(self.storeRef)").message("exactly one of backupRef and storeRef is needed"),
    validation = Rule::new("!has(self.storeRef) || has(self.cluster)").message("with storeRef, cluster says whose backups are meant"),
    validation = Rule::new("!has(self.targetTime) || !has(self.targetRevision)")
        .message("a moment is a time or a revision: at most one of targetTime and targetRevision"),
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
    /// Not the backup's own moment, but the last one not after this time (RFC 3339, such as
    /// `2026-11-29T14:30:00Z`), out of the log archive behind a full backup of the same store. `latest` is then
    /// the last backup that it can be gone on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub target_time: Option<String>,
    /// The same: the last moment at this revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub target_revision: Option<i64>,
}

/// The cluster that a restore makes, or restores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.spec) || !has(self.spec.bootstrap)").message("spec.bootstrap is what the restore itself fills in"),
)]
pub struct RestoreTarget {
    /// Its name.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Of a new cluster: its specification, without `bootstrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<EngramClusterSpec>,
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
    /// The member that goes on, where a quorum was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survivor: Option<String>,
    /// The revision that the restored cluster began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The volumes of the members that were set aside: kept until `decision`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptVolume>,
    /// What was decided, once that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decision>,
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
    /// All is as it was before.
    Undone,
}
