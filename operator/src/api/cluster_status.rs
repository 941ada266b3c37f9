//! A cluster as the operator finds it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::CatalogImage;
use super::import::ImportStatus;
use super::parts::HandedOn;
use super::restoring::Restoring;

/// A cluster as the operator finds it. Written only when something changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramClusterStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The installation of the operator that looks after the cluster, as `NAMESPACE/NAME` of its Lease; the
    /// annotation `engram.dev/operator` hands it to another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Ready members of wanted ones, as in `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Members with an object.
    pub members: i32,
    /// Members that are ready.
    pub ready_members: i32,
    /// The selector of the members' pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The cluster's ID, in hexadecimal. Once it is known no member is ever started as the first of
    /// a new cluster again.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The image that members run: where the specification names none, that of an operator's version, which
    /// an upgrade of the operator moves forward in the cluster's turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the catalog said of the version that was asked for last, and is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogImage>,
    /// What pods are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateStatus>,
    /// What pods were made from when all members last worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<WorkedWith>,
    /// A change that did not start, and was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// The version that the leader runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderStatus>,
    /// How many voters there are and need to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumStatus>,
    /// The revision at the last change of this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The size of the data on the leader at the last change of this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    /// Alarms that are raised, as `NOSPACE demo-2`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Whether the operator has turned authentication on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auth_enabled: bool,
    /// Certificates and when they end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// The newest backup that completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// When a backup was last read back and found good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verified_at: Option<Time>,
    /// What a cluster that was restored began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredFrom>,
    /// How the import stands of a cluster that begins with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportStatus>,
    /// The families of addresses that the cluster's Services have: members listen by them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    /// How pods reach the store that the log is archived to, as they are made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "handed_on")]
    pub archiving: Option<HandedOn>,
    /// A restore in place that is under way, or not decided yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Restoring>,
    /// Where clients reach the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The highest number that a member was named with: numbers are not used twice.
    pub last_member_number: u32,
    /// When members were replaced, within the last hour.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replacements: Vec<Time>,
    /// When learners were taken out that did not catch up, since the last one that did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stuck_learners: Vec<Time>,
    /// What holds, by type: Ready, Available, Progressing, Degraded, QuorumAvailable,
    /// MembersHealthy, UpToDate, TLSReady, StorageHealthy, Paused; Reconciling and Stalled as kstatus has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl EngramClusterStatus {
    /// Whether it was ever founded: while it is being restored in place it has no ID.
    #[must_use]
    pub fn was_founded(&self) -> bool {
        self.cluster_id.is_some() || self.restoring.is_some()
    }
}

/// What pods are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateStatus {
    /// The hash of the template that counts as up to date.
    pub hash: String,
    /// The hash of the template as the operator builds it now: another one where an upgrade of the
    /// operator waits for the cluster's turn.
    pub rendered: String,
    /// The operator that built it: its version and image.
    pub operator: String,
}

/// What pods are made from, as the specification had it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkedWith {
    /// Its hash.
    pub hash: String,
    /// The fields of the specification that reach pods, and the image.
    #[schemars(schema_with = "handed_on")]
    pub inputs: HandedOn,
}

fn handed_on(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A change that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// The hash of what it had pods be made from.
    pub from: String,
    /// When.
    pub at: Time,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderStatus {
    /// The member's name.
    pub member: String,
    /// The member's ID, in hexadecimal.
    #[serde(rename = "memberID")]
    pub member_id: String,
}

/// How many voters there are and need to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QuorumStatus {
    /// Voters.
    pub voters: i32,
    /// Voters that answer.
    pub healthy: i32,
    /// How many more may fail before writes stop.
    pub tolerates: i32,
}

/// A certificate and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The Secret that holds it.
    pub name: String,
    /// When it ends.
    pub not_after: Time,
}

/// What a restored cluster began with: what engramctl said when it filled the first member's volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoredFrom {
    /// The backup's ID in the store.
    #[serde(rename = "backupID")]
    pub backup_id: String,
    /// Where it lies.
    pub path: String,
    /// The cluster that was backed up: its ID and incarnation. What it left in the store is this
    /// cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The revision that the cluster began with, moved on as was asked for. Unset where the pod that
    /// restored was lost before it could say so, and another one found its work done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}

/// The newest backup that completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// The EngramBackup's name.
    pub name: String,
    /// When it completed.
    pub completed_at: Time,
    /// The revision that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}
