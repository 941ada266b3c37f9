//! Conditions and their reasons: every one that the operator ever sets is listed here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Declares an enum whose variants are written as they are named.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $word:ident,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$inner])* $word,)+ }

        impl $name {
            /// As it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word),)+ }
            }

            /// The one that is written so.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                [$(Self::$word),+].into_iter().find(|one| one.as_str() == word)
            }
        }
    };
}

words! {
    /// What a condition is about. All are good when true, but for `Progressing`, `Degraded`, `Reconciling`
    /// and `Stalled`.
    ConditionKind {
        /// Everything is as it was asked for.
        Ready,
        /// Reads and writes are served.
        Available,
        /// Members or pods are being changed.
        Progressing,
        /// Something needs a person, or more time than it should.
        Degraded,
        /// Enough voters answer.
        QuorumAvailable,
        /// Every member answers.
        MembersHealthy,
        /// Every member runs what the specification says.
        UpToDate,
        /// Certificates are there and good.
        TLSReady,
        /// No alarm for lack of space, no volume that cannot grow.
        StorageHealthy,
        /// The specification asks for a pause.
        Paused,
        /// A member is in the cluster's list.
        Joined,
        /// A store can be read.
        Reachable,
        /// Every backup in a store can be decrypted.
        KeysAvailable,
        /// A backup, restore or operation has come to its good end.
        Complete,
        /// What another cluster held is here, and that one was cut over.
        Imported,
        /// A backup was read back and compared.
        Verified,
        /// A backup lies in a second store as well.
        Copied,
        /// What retention does not keep was deleted.
        Pruned,
        /// The log archive was read back, segment by segment.
        ArchiveVerified,
        /// It is not yet as it was asked for, and is being brought there (as kstatus has it).
        Reconciling,
        /// It will not be as it was asked for before a person has changed something (as kstatus has it).
        Stalled,
    }
}

words! {
    /// Why a condition is as it is.
    Reason {
        /// All is well.
        AsExpected,
        /// Every wanted member is ready.
        AllMembersReady,
        /// The first member starts.
        Bootstrapping,
        /// The first member restores a backup.
        Restoring,
        /// A member is being added.
        ScalingUp,
        /// A member is being taken out.
        ScalingDown,
        /// A learner follows, and is promoted when it has caught up.
        LearnerCatchingUp,
        /// Learners were taken out that did not catch up.
        LearnerStuck,
        /// Members are restarted one after the other.
        RollingUpdate,
        /// Leadership is moved before the leader is restarted.
        MovingLeader,
        /// A lost member is being replaced.
        ReplacingMember,
        /// A member's pod is being started.
        StartingMember,
        /// A member is not ready.
        MemberNotReady,
        /// Too few voters answer.
        QuorumLost,
        /// The next step would leave too few voters.
        WouldLoseQuorum,
        /// The only copy of the data is gone.
        DataLost,
        /// Too many members were replaced within the hour.
        ReplacementLimit,
        /// The cluster is stopped (`replicas: 0`).
        Hibernated,
        /// Nothing is changed, as was asked for.
        Paused,
        /// Changes wait for pods to be deleted by a person.
        WaitingForDeletion,
        /// The cluster is being deleted.
        Deleting,
        /// The data has outgrown its quota.
        NoSpace,
        /// A member's data differs from the others'.
        Corrupt,
        /// A Secret is missing or cannot be used.
        CertificateInvalid,
        /// A certificate ends soon.
        CertificateExpiring,
        /// What the specification says cannot be done.
        InvalidSpec,
        /// The members' list has one that is not of this cluster's objects.
        ForeignMember,
        /// An address of a member answers for another cluster.
        WrongCluster,
        /// What was changed does not start: the change goes no further.
        RolloutFailed,
        /// What it refers to does not exist.
        NotFound,
        /// It waits for the cluster to be ready.
        WaitingForCluster,
        /// It waits for another one to be done.
        WaitingForTurn,
        /// It is being done.
        Running,
        /// It is done.
        Succeeded,
        /// It was tried and failed.
        Failed,
        /// It was tried and failed, and is tried again.
        Retrying,
        /// A pod needed more memory than it may use.
        OutOfMemory,
        /// A pod needed more room than its scratch space has.
        ScratchFull,
        /// It is over its time.
        DeadlineExceeded,
        /// The store refuses its credentials.
        AccessDenied,
        /// There is no such bucket.
        BucketNotFound,
        /// There is no such backup in the store.
        BackupNotFound,
        /// The log archive does not reach the moment that was asked for, or no backup reaches into it.
        MomentNotFound,
        /// Clusters of one name have backups there: it does not say whose is meant.
        BackupAmbiguous,
        /// The store cannot be reached or read.
        StoreUnreachable,
        /// The store keeps it by a retention of its own.
        Locked,
        /// It is encrypted with a key that is not given.
        KeyMissing,
        /// What was read back is not what was written.
        VerificationFailed,
        /// No majority of the members could be asked for a backup's hash.
        NotAgreed,
        /// No node takes the pod that was to do it.
        Unschedulable,
        /// What retention does not keep was deleted: the copy in the store is gone.
        Pruned,
        /// Verification was not asked for.
        NotRequested,
        /// The schedule is not one.
        InvalidSchedule,
        /// The schedule is suspended.
        Suspended,
        /// Backups are made when they are due.
        Scheduled,
        /// Nothing was changed: the status says what would be done.
        Planned,
        /// What is to be done has to be confirmed.
        WaitingForConfirmation,
        /// The cluster's specification does not ask for authentication.
        AuthDisabled,
        /// The target exists already.
        AlreadyExists,
        /// Another restore of this cluster is not decided yet.
        NotDecided,
        /// What was restored, or is to go on, does not start.
        RestoreStuck,
        /// All is as it was before.
        Undone,
    }
}

impl Reason {
    /// Whether nothing gets better before a person has changed something.
    #[must_use]
    pub fn needs_person(self) -> bool {
        matches!(
            self,
            Self::DataLost
                | Self::InvalidSpec
                | Self::CertificateInvalid
                | Self::WrongCluster
                | Self::RolloutFailed
                | Self::AlreadyExists
                | Self::RestoreStuck
                | Self::BackupNotFound
                | Self::MomentNotFound
                | Self::VerificationFailed
                | Self::AccessDenied
                | Self::KeyMissing
                | Self::BucketNotFound
        )
    }
}

/// Sets a condition: the time of the last change moves only when the status does.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: ConditionKind,
    status: bool,
    reason: Reason,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let before = condition(conditions, kind);
    let since = before.filter(|one| one.status == status);
    let since = since.map_or_else(|| Time(now), |one| one.last_transition_time.clone());
    let condition = Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: since,
    };
    conditions.retain(|one| one.type_ != kind.as_str());
    conditions.push(condition);
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// The condition of a kind.
#[must_use]
pub fn condition(conditions: &[Condition], kind: ConditionKind) -> Option<&Condition> {
    conditions.iter().find(|one| one.type_ == kind.as_str())
}

/// Whether a condition is true.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: ConditionKind) -> bool {
    condition(conditions, kind).is_some_and(|one| one.status == "True")
}

/// Whether two lists say the same, times apart.
#[must_use]
pub fn same_conditions(left: &[Condition], right: &[Condition]) -> bool {
    let key = |one: &Condition| {
        (
            one.type_.clone(),
            one.status.clone(),
            one.reason.clone(),
            one.message.clone(),
        )
    };
    left.iter().map(key).eq(right.iter().map(key))
}
