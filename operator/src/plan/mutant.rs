//! Mistakes that a test plants in the planner, to see that its simulation (`tests/model`) finds each of them.

use crate::mutant::mutants;

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
    /// Members that are held while their volumes are looked at are taken for lost.
    HoldIgnored,
    /// Members that a restore has set aside run on beside those in force.
    AsideRuns,
    /// What a restore has set aside goes before anybody has decided.
    AsideGoesUndecided,
    /// What a restore has set aside stays once it was decided that it goes.
    AsideStays,
}
