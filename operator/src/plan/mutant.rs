//! Mistakes that a test plants in the planner, to see that its simulation (`tests/model`) finds each of
//! them. Outside tests none is ever planted.

/// Lists the mistakes once, for the planner and for the test that goes through all of them.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A mistake, named by what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Mutant {
            $($(#[$doc])* $name,)*
        }

        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[Mutant] = &[$(Mutant::$name,)*];
    };
}

mutants! {
    /// A view that may be old is acted upon.
    StaleView,
    /// A paused cluster is changed.
    PauseIgnored,
    /// Another cluster's answers keep nothing from being done.
    ForeignIgnored,
    /// A list with less than a quorum of the members puts the others away.
    DisownedPutAway,
    /// A voter is taken out whatever remains.
    RemovedWithoutQuorum,
    /// Working members are restarted while others are away.
    RestartedUnsettled,
    /// The leader is restarted as it leads.
    LeaderRestarted,
    /// A process that runs and does not answer here is restarted, whoever needs it.
    UnheardRestarted,
    /// Whoever holds nothing keeps the place of one that the quorum needs.
    RoomRefused,
    /// The list is made so short that those that it does not name are more.
    ListCutShort,
    /// A member that has had data is started on an empty volume.
    StartedEmpty,
    /// A member whose volume is gone is waited for.
    LostVolumeIgnored,
    /// A member is replaced as soon as its node is not ready.
    NodeLostAtOnce,
    /// One that works on a node that is not ready is replaced.
    WorkingReplaced,
    /// What fails on a change that nobody runs with is replaced.
    RolloutEatsVolumes,
    /// A pod that starts and never runs is waited for.
    EndlessStart,
    /// Failed pods stay where people restart members.
    SpentPodsStay,
    /// A learner that applies nothing is waited for.
    EndlessLearner,
    /// After a learner that got nowhere the next one is tried at once.
    NoBackOff,
    /// Members are replaced without a limit.
    NoLimit,
    /// Members whose data differs are replaced though no majority agrees.
    CorruptWithoutMajority,
    /// A member that differs is waited for.
    CorruptIgnored,
    /// Working members make room whatever their replacement lacks.
    RoomForAnyReason,
    /// A learner votes before it has caught up.
    PromotedEarly,
    /// The volume of a first member that may have served, unseen, is given up.
    UnseenGivenUp,
    /// Nobody waits for the learner before.
    TwoLearners,
    /// A member is added while others are away.
    JoinedInTrouble,
    /// A working member is scaled away while others are not ready.
    ScaledDownUnsettled,
    /// The pod of a volume that is being deleted is restarted.
    CondemnedRestarted,
    /// A cluster that rests stops the pod of a volume that is being deleted.
    CondemnedStopped,
    /// Volumes stay small.
    VolumesForgotten,
    /// Members that are taken out of the list by hand keep their objects.
    RemovedElsewhereKept,
}

#[cfg(test)]
thread_local! {
    /// The one that is planted now: each test has its thread.
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Plants one, or none, in what this thread plans from now on.
#[cfg(test)]
pub(super) fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

/// Whether this one is planted.
#[cfg(test)]
pub(super) fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether this one is planted: never.
#[cfg(not(test))]
pub(super) const fn planted(_: Mutant) -> bool {
    false
}
