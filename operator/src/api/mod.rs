//! The objects of the group `engram.dev`, version `v1alpha1`: what users write and read.
//!
//! Rules live here as CEL and as schema defaults, so that the API server refuses what cannot work:
//! there is no webhook. Only what the operator does is a field.

// Every column says its type, as often as there are columns.
#[allow(clippy::duplicated_attributes)]
mod auth;
mod backup;
mod catalog;
mod cluster;
mod cluster_status;
mod conditions;
mod duration;
mod import;
// Every column says its type, as often as there are columns.
#[allow(clippy::duplicated_attributes)]
mod member;
mod moment;
#[allow(clippy::duplicated_attributes)]
mod operation;
mod parts;
mod restore;
mod restoring;
mod schedule;
mod store;
#[cfg(test)]
mod tests;
mod tls;

pub use auth::{
    Auth, EngramRole, EngramRoleSpec, EngramRoleStatus, EngramUser, EngramUserSpec,
    EngramUserStatus, KeyAccess, OPERATOR_USER, Permission, ROOT, SecretKeyRef,
};
pub use backup::{
    BackupPhase, CopyTo, DeletionPolicy, EngramBackup, EngramBackupSpec, EngramBackupStatus,
};
pub use catalog::{
    CatalogEntry, CatalogImage, EngramImageCatalog, EngramImageCatalogSpec, ImageCatalogRef,
};
pub use cluster::{
    Adopt, AdoptedMember, Bootstrap, EngramCluster, EngramClusterSpec, Healing, ImagePullPolicy,
    LogArchive, Maintenance, Recovery, Rollback, Storage, Update, UpdateStrategy, VolumeReclaim,
};
pub use cluster_status::{
    CertificateStatus, EngramClusterStatus, LastBackup, LeaderStatus, QuorumStatus, RestoredFrom,
    RolledBack, TemplateStatus, WorkedWith,
};
pub use conditions::{ConditionKind, Reason, condition, is_true, same_conditions, set_condition};
pub use duration::{InvalidDuration, parse_duration};
pub use import::{Import, ImportStatus};
pub use member::{
    CatchingUp, EngramMember, EngramMemberSpec, EngramMemberStatus, MemberOrigin, MemberRole,
};
pub use moment::Moment;
pub use operation::{
    Compact, Defragment, EngramOperation, EngramOperationSpec, EngramOperationStatus, MoveLeader,
    OperationPhase,
};
pub use parts::{
    AntiAffinity, AutoCompaction, AutoCompactionMode, ClientService, Config, HandedOn, IpFamily,
    IpFamilyPolicy, LocalRef, MetricsDetail, NetworkPolicySpec, PodDisruptionBudgetSpec,
    PodTemplate, Scheduling, ServiceType, Spread,
};
pub use restore::{
    Decision, EngramRestore, EngramRestoreSpec, EngramRestoreStatus, RestoreKind, RestorePhase,
    RestoreSource, RestoreTarget,
};
pub use restoring::{Aside, Before, KeptVolume, Restoring, RestoringStage};
pub use schedule::{
    ArchiveVerification, ConcurrencyPolicy, EngramBackupSchedule, EngramBackupScheduleSpec,
    EngramBackupScheduleStatus,
};
pub use store::{
    AzureStore, Encryption, EncryptionKey, EngramBackupStore, EngramBackupStoreSpec,
    EngramBackupStoreStatus, GcsStore, PvcStore, Retention, S3Store, Scratch, StorePods,
};
pub use tls::{IssuerRef, Tls, TlsMode, TlsSide};

/// The API group of every object.
pub const GROUP: &str = "engram.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";
/// On members: their pod, volume and place in the cluster are put away before the object goes.
pub const MEMBER_FINALIZER: &str = "engram.dev/member";
/// On clusters: their members are put away before the object goes.
pub const CLUSTER_FINALIZER: &str = "engram.dev/cluster";
/// On backups with the deletion policy `Delete`: the copy in the store goes first.
pub const BACKUP_FINALIZER: &str = "engram.dev/backup";
/// On stores of such backups: a store goes after the backups that are deleted together with it.
pub const STORE_FINALIZER: &str = "engram.dev/store";
/// On users and roles with the deletion policy `Delete`: they go from the cluster first.
pub const ACCESS_FINALIZER: &str = "engram.dev/access";
/// On clusters: the installation of the operator that is to look after it, as `NAMESPACE/NAME`.
pub const HOLDER_ANNOTATION: &str = "engram.dev/operator";
/// On clusters: their generation as the value has what was changed in it taken back.
pub const ROLLBACK_ANNOTATION: &str = "engram.dev/rollback";
/// On clusters: a new value restarts the members one after the other.
pub const RESTART_ANNOTATION: &str = "engram.dev/restarted-at";
