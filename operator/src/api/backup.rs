//! One backup.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::LocalRef;

/// One backup of a cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev", version = "v1alpha1", kind = "EngramBackup", plural = "engrambackups",
    shortname = "egb", category = "engram", namespaced, status = "EngramBackupStatus", cel,
    doc = "One backup of a cluster. It is made once: for another one make another object.",
    derive = "PartialEq",
    selectable = ".spec.clusterRef.name",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.sizeBytes"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.conditions[?(@.type==\"Verified\")].status"),
    printcolumn(name = "To-Revision", type_ = "integer", json_path = ".status.restorableToRevision"),
    printcolumn(name = "To-Time", type_ = "date", json_path = ".status.restorableTo"),
    printcolumn(name = "ID", type_ = "string", json_path = ".status.backupID", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52")
        .message("the name may have at most 52 characters: the names of pods are made from it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef && self.storeRef == oldSelf.storeRef")
        .message("clusterRef and storeRef say what was backed up, and where to: make another backup instead"),
    validation = Rule::new("!has(self.copyTo) || self.copyTo.storeRef.name != self.storeRef.name")
        .message("copyTo is another store than storeRef"),
)]
pub struct EngramBackupSpec {
    /// The cluster that is backed up.
    pub cluster_ref: LocalRef,
    /// The store that it is kept in.
    pub store_ref: LocalRef,
    /// Whether it is read back, restored in a scratch process and compared. Set on a backup that was
    /// completed without: it is done then.
    #[serde(default)]
    pub verify: bool,
    /// A second store that it is copied to once it is complete, and verified where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_to: Option<CopyTo>,
    /// What becomes of the copy in the store when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A second store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyTo {
    /// It. What is copied is encrypted with its keys, whatever it was encrypted with before. Neither
    /// `retention` nor a deletion takes anything there: `engramctl backup prune`, or rules of the bucket's own, do.
    pub store_ref: LocalRef,
}

/// What becomes of the copy in the store when its object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// How far a backup has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramBackupStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// Its ID in the store.
    #[serde(rename = "backupID", skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The ID of the cluster that was backed up, in hexadecimal.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Which of the clusters that had this ID: one that was set back to an earlier state is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// Where in the store it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The revision that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The last revision that can be restored from it: its own, or, where the cluster's log archive follows it in the
    /// same store, the last one that the archive had when it was last read back (`verify` of a schedule).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restorable_to_revision: Option<i64>,
    /// When that revision was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restorable_to: Option<Time>,
    /// The oldest revision that can be read in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// HashKV at that revision.
    #[serde(rename = "hashKV", skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<u32>,
    /// The ID of the key that it is encrypted with. Unset: it is not.
    #[serde(rename = "keyID", skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Its size in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// The version that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engram_version: Option<String>,
    /// How often what is being done was tried and failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was complete in the store, or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// The store that `Copied` speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_store: Option<String>,
    /// What holds, by type: Complete, Verified, Copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

pub(super) fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How far a backup has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// It has not begun.
    Pending,
    /// It is being made.
    Running,
    /// It is being read back.
    Verifying,
    /// It is complete in the store. Where it was to be verified, the condition Verified says how
    /// that went.
    Completed,
    /// There is no backup, or it is not good. The condition says why.
    Failed,
}
