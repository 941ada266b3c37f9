//! A cluster as its user declares it.

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Auth;
use super::catalog::ImageCatalogRef;
use super::cluster_status::EngramClusterStatus;
use super::import::Import;
use super::moment::{Moment, time_schema};
use super::parts::{
    ClientService, Config, LocalRef, NetworkPolicySpec, PodDisruptionBudgetSpec, PodTemplate,
    Scheduling, duration_schema, yes,
};
use super::restoring::Restoring;
use super::tls::Tls;

/// A cluster of Engram members.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev", version = "v1alpha1", kind = "EngramCluster", plural = "engramclusters",
    shortname = "egc", category = "engram", namespaced, status = "EngramClusterStatus", cel,
    doc = "A cluster of Engram: an etcd-compatible datastore of 1, 3, 5 or 7 members.",
    derive = "PartialEq", derive = "Default",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.readyMembers",
        label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader.member"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision", priority = "1"),
    printcolumn(name = "DBSize", type_ = "integer", json_path = ".status.dbSizeBytes", priority = "1"),
    printcolumn(name = "Backup", type_ = "date", json_path = ".status.lastBackup.completedAt"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("the name may have at most 40 characters: the names of pods, Services and certificates are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name begins with a letter and has only lower case letters, digits and hyphens: Services are named after it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.auth.enabled || self.tls.client.mode != 'Disabled'")
        .message("auth needs TLS for clients: the operator is known by its certificate, and passwords are not for everybody on the way"),
    validation = Rule::new("!has(self.image) || !has(self.imageCatalog)")
        .message("image and imageCatalog both say what members run: at most one of them"),
    validation = Rule::new("has(self.bootstrap) == has(oldSelf.bootstrap)")
        .message("bootstrap says where the data came from: it can neither be added nor taken away"),
)]
pub struct EngramClusterSpec {
    /// How many members: 1, 3, 5 or 7; 0 stops them and keeps their data.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 7))]
    #[x_kube(validation = Rule::new("self in [0, 1, 3, 5, 7]")
        .message("replicas has to be 0, 1, 3, 5 or 7: an even number of members tolerates no more failures than one less"))]
    pub replicas: i32,
    /// Stops every change of members and pods; status and certificates are still kept up.
    #[serde(default)]
    pub paused: bool,
    /// The image of the members. Unset: that of the operator's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// The image as an EngramImageCatalog has it, by version. A later version is taken where it is at most one minor
    /// version on; an earlier one only where all members last worked with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_catalog: Option<ImageCatalogRef>,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Each member's volume.
    #[serde(default)]
    pub storage: Storage,
    /// Settings of the members.
    #[serde(default)]
    pub config: Config,
    /// How connections are secured.
    #[serde(default)]
    pub tls: Tls,
    /// Whether clients say who they are.
    #[serde(default)]
    pub auth: Auth,
    /// Where the first member's data comes from. Unset: an empty cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// Where every revision is shipped to as it is made, so that any moment can be restored. Unset: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<LogArchive>,
    /// How changes reach members that run.
    #[serde(default)]
    pub update: Update,
    /// When a member is given up and replaced.
    #[serde(default)]
    pub healing: Healing,
    /// What is done without being asked.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// Where members may run.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// What a member asks of its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// What is added to the members' pods.
    #[serde(default)]
    pub pod_template: PodTemplate,
    /// The Service that clients use.
    #[serde(default)]
    pub client_service: ClientService,
    /// Who may reach the members.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// Whether evictions are held to the quorum.
    #[serde(default)]
    pub pod_disruption_budget: PodDisruptionBudgetSpec,
}

impl EngramCluster {
    /// A restore in place that it has not forgotten.
    #[must_use]
    pub fn restoring(&self) -> Option<&Restoring> {
        self.status.as_ref()?.restoring.as_ref()
    }

    /// The backup that the first member begins with: of a restore in place, or else of `bootstrap`.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        let bootstrap = self.spec.bootstrap.as_ref();
        self.restoring()
            .and_then(|restoring| restoring.recovery.as_ref())
            .or_else(|| bootstrap.and_then(|bootstrap| bootstrap.recovery.as_ref()))
    }
}

fn replicas() -> i32 {
    3
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// At every start.
    Always,
    /// Never: it has to be there.
    Never,
}

/// A member's volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName)")
        .message("storageClassName can neither be added nor taken away"),
)]
pub struct Storage {
    /// Its size, a quantity such as `8Gi`. It can grow where the storage class allows it.
    #[serde(default = "size")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    )]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0")
        .message("storage.size cannot shrink: restore a backup into a new cluster instead"))]
    pub size: String,
    /// Its storage class. Unset: the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("storageClassName cannot be changed"))]
    pub storage_class_name: Option<String>,
    /// What becomes of a volume whose member goes.
    #[serde(default)]
    pub reclaim_policy: VolumeReclaim,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: size(),
            storage_class_name: None,
            reclaim_policy: VolumeReclaim::Delete,
        }
    }
}

fn size() -> String {
    "8Gi".into()
}

/// What becomes of a volume whose member goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeReclaim {
    /// Its claim is deleted.
    #[default]
    Delete,
    /// Its claim stays, for a person to look at. No member uses it again.
    Retain,
}

/// Where a new cluster's data comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.recovery) || !has(self.adopt)")
        .message("exactly one of recovery, adopt and import is needed"),
    validation = Rule::new("has(self.recovery) == has(oldSelf.recovery) && has(self.adopt) == has(oldSelf.adopt)")
        .message("bootstrap cannot be changed: it was acted on when the cluster was made"),
)]
// `import` is no name in CEL.
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Bootstrap {
    /// A backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("bootstrap cannot be changed: it was acted on when the cluster was made"))]
    pub recovery: Option<Recovery>,
    /// The volumes of a cluster whose objects are gone. An EngramRestore of kind AdoptVolumes finds out what
    /// to write here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("bootstrap cannot be changed: it was acted on when the cluster was made"))]
    pub adopt: Option<Adopt>,
    /// The keys of a cluster that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
}

/// Members that go on with the volumes that they had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// The cluster's ID, in hexadecimal.
    #[serde(rename = "clusterID")]
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9a-f]+$"))]
    pub cluster_id: String,
    /// Those that have a volume.
    #[schemars(length(min = 1, max = 16))]
    pub members: Vec<AdoptedMember>,
}

/// A member and its volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdoptedMember {
    /// Its name, as it was.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its ID, in hexadecimal.
    #[serde(rename = "memberID")]
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9a-f]+$"))]
    pub member_id: String,
    /// The claim of its volume.
    #[schemars(length(min = 1, max = 253))]
    pub volume_claim: String,
}

/// Which backup a new cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.markCompacted == (self.revisionBump > 0)")
        .message("revisionBump and markCompacted belong together: either revisionBump above 0 and markCompacted: true, or revisionBump: 0 and markCompacted: false"),
    validation = Rule::new("!has(self.targetTime) || !has(self.targetRevision)")
        .message("a moment is a time or a revision: at most one of targetTime and targetRevision"),
)]
pub struct Recovery {
    /// The store that holds it.
    pub store_ref: LocalRef,
    /// The cluster that was backed up, as it is named in the store. Unset: this one's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster: Option<String>,
    /// Which of the clusters of that name, by its ID, where several had it; with an incarnation behind
    /// a slash where several had that. `engramctl backup list` shows them.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 130), regex(pattern = "^[0-9a-zA-Z]+(/[0-9a-zA-Z]+)?$"))]
    pub cluster_id: Option<String>,
    /// The backup's ID, or `latest`.
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
    /// How far the revision is moved on, so that no client meets a revision twice.
    #[serde(default = "revision_bump")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub revision_bump: i64,
    /// Whether older revisions are marked compacted, so that watchers list anew.
    #[serde(default = "yes")]
    pub mark_compacted: bool,
}

impl Recovery {
    /// The moment that is meant, if not the backup's own.
    #[must_use]
    pub fn moment(&self) -> Option<Moment<'_>> {
        Moment::of(self.target_time.as_ref(), self.target_revision)
    }
}

pub(super) fn latest() -> String {
    "latest".into()
}

pub(super) fn revision_bump() -> i64 {
    1_000_000_000
}

/// Where the log is archived to. Full backups have to be in the same store: a moment is one of them and the log behind
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogArchive {
    /// An EngramBackupStore. A volume has to be one that all members can mount.
    pub store_ref: LocalRef,
}

/// How changes reach members that run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    /// By whom members are restarted.
    pub strategy: UpdateStrategy,
    /// How long a member has to be ready before the next one is restarted.
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: u32,
    /// What becomes of a change with which no member starts, once it has stopped.
    pub rollback: Rollback,
}

/// What becomes of a change that does not start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rollback {
    /// It stops, and waits for a person: who corrects the specification, or has it taken back by the
    /// annotation `engram.dev/rollback` with the cluster's generation as its value.
    #[default]
    Never,
    /// Pods are made from what members last worked with, until the specification is changed.
    Automatic,
}

/// By whom members are restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategy {
    /// By the operator: followers first, then leadership is moved, the leader last.
    #[default]
    Rolling,
    /// By whoever deletes their pods.
    OnDelete,
}

/// When a member is given up and replaced, by a new one with a new volume. Never below the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Healing {
    /// Whether members are replaced.
    pub enabled: bool,
    /// How long a member may fail to start (not for lack of memory or disk) before it is replaced.
    #[schemars(schema_with = "duration_schema")]
    pub unhealthy_after: String,
    /// How long a member's node may be gone or not ready before the member is replaced.
    #[schemars(schema_with = "duration_schema")]
    pub node_lost_after: String,
    /// How long a member may make no headway otherwise before it is replaced: its pod starts and does not
    /// run, finds no node because of its volume, or does not end; it runs and does not answer; as a
    /// learner it applies nothing.
    #[schemars(schema_with = "duration_schema")]
    pub stuck_after: String,
    /// The most members replaced in an hour.
    #[schemars(range(min = 1, max = 60))]
    pub max_per_hour: u32,
}

impl Default for Healing {
    fn default() -> Self {
        Self {
            enabled: true,
            unhealthy_after: "10m".into(),
            node_lost_after: "5m".into(),
            stuck_after: "40m".into(),
            max_per_hour: 6,
        }
    }
}

/// What is done without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maintenance {
    /// Whether an alarm for lack of space is cleared: compact, reclaim, disarm.
    pub disarm_no_space: bool,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            disarm_no_space: true,
        }
    }
}
