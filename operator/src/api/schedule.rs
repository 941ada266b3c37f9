//! Backups again and again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup::{CopyTo, DeletionPolicy, is_zero};
use super::parts::LocalRef;
use super::store::Retention;

/// Backups by the clock.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev", version = "v1alpha1", kind = "EngramBackupSchedule", plural = "engrambackupschedules",
    shortname = "egbsch", category = "engram", namespaced, status = "EngramBackupScheduleStatus", cel,
    doc = "Backups of a cluster by the clock.",
    derive = "PartialEq",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last success", type_ = "date", json_path = ".status.lastSuccessTime"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 38")
        .message("the name may have at most 38 characters: backups are named after it and their time"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef")
        .message("clusterRef cannot be changed: make another schedule for another cluster"),
    validation = Rule::new("!has(self.copyTo) || self.copyTo.storeRef.name != self.storeRef.name")
        .message("copyTo is another store than storeRef"),
)]
pub struct EngramBackupScheduleSpec {
    /// The cluster that is backed up.
    pub cluster_ref: LocalRef,
    /// The store that backups are kept in.
    pub store_ref: LocalRef,
    /// When: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly,
    /// @monthly, @yearly.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$') || self.matches('^[^@\\\\s]+( +[^\\\\s]+){4}$')")
        .message("schedule needs exactly five fields (minute hour day month weekday), as in '0 3 * * *'; there is no field for seconds"))]
    pub schedule: String,
    /// The time zone that the schedule is meant in, as in Europe/Paris.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Makes no backups for now.
    #[serde(default)]
    pub suspend: bool,
    /// Makes the first backup at once.
    #[serde(default)]
    pub immediate: bool,
    /// What happens when a backup is due while another one of this schedule is being made.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How late a backup may begin: what was due before is missed.
    #[serde(default = "starting_deadline")]
    #[schemars(range(min = 10, max = 604_800))]
    pub starting_deadline_seconds: u32,
    /// How many objects of successful backups are kept. What is in the store is kept by
    /// `retention`.
    #[serde(default = "successful_history")]
    #[schemars(range(min = 1, max = 1000))]
    pub successful_history_limit: u32,
    /// How many objects of failed backups are kept.
    #[serde(default = "failed_history")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_history_limit: u32,
    /// Which backups of the cluster are kept in the store. Unset: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether each backup is read back, restored in a scratch process and compared; and after it the log archive, where
    /// the cluster's lies in the same store, segment by segment.
    #[serde(default)]
    pub verify: bool,
    /// A second store that each backup is copied to once it is complete, and verified where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_to: Option<CopyTo>,
    /// What becomes of the copy in the store when a backup's object is deleted by a person. Objects
    /// that the history limits delete leave theirs to `retention`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn utc() -> String {
    "UTC".into()
}

fn starting_deadline() -> u32 {
    600
}

fn successful_history() -> u32 {
    10
}

fn failed_history() -> u32 {
    3
}

/// What happens when a backup is due while another one is being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The new one is missed.
    #[default]
    Forbid,
    /// The old one is given up.
    Replace,
    /// Both are made.
    Allow,
}

/// What a schedule has done and will do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramBackupScheduleStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The newest time that was acted upon: its backup was begun, or missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the newest successful backup was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// When backups were last begun to be made again; none is late that was due before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Time>,
    /// The next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Backups that are being made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// Times that were missed.
    pub missed: i64,
    /// The backup after which the store was last pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_after: Option<String>,
    /// How often the prune after the newest backup was tried and failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub prune_attempts: u32,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_retry_at: Option<Time>,
    /// The backup after which the store is being pruned: that ends before another one is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruning_after: Option<String>,
    /// And which store that is: `storeRef` may be another one by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruning_store: Option<String>,
    /// How the log archive's verification stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveVerification>,
    /// What holds, by type: Ready, Pruned, ArchiveVerified; Reconciling and Stalled as kstatus has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How the verification of a log archive stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ArchiveVerification {
    /// The backup after which it was last looked at, to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The backup after which it is being looked at: that ends before another one is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_after: Option<String>,
    /// When every segment of it was last found whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// The last revision in it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<i64>,
    /// When a segment of it was last found missing or damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged_at: Option<Time>,
    /// How often it could not be read since.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// When that is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
}
