//! What to do next: a pure function of what was observed and what is wanted.
//!
//! Rules, each of them a property that is tested ([`tests`]):
//! - No step leaves fewer healthy voters than the quorum of what remains, if there were enough.
//! - At most one step that disturbs a member or the membership at a time; before it, what the last
//!   one began has to have come to its end.
//! - The same observation gives the same plan; where nothing is to be done the plan is empty.
//! - Nothing is done on a view that may be old.
//!
//! Order: heal, finish a change of membership, roll, scale, volumes. A member that is replaced is
//! taken out first where it is lost, and last where it still works.

mod aside;
mod heal;
mod join;
mod lost;
mod mutant;
mod quorum;
mod roll;
mod room;
mod scale;
#[cfg(test)]
mod tests;
mod view;

use crate::api::Reason;
pub(crate) use lost::is_over;
use mutant::{Mutant, planted};
pub use view::{Aside, Entry, Lack, Member, Node, Observed, Pod, PodState, Roster, Volume, Wanted};

/// One step. Names are those of members' objects; ids are those of the cluster's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a member's object (the next number); `seed` is the first of a new cluster.
    CreateMember {
        /// Whether it founds the cluster.
        seed: bool,
    },
    /// Have the cluster list a member, as a learner.
    AddLearner {
        /// Whose peer URL is added.
        member: String,
    },
    /// Make a member's volume, where it never had one, and its pod.
    StartPod {
        /// Whose.
        member: String,
    },
    /// Delete a pod because the cluster is to rest.
    StopPod {
        /// Whose.
        member: String,
    },
    /// Delete a pod so that it comes back as it is wanted.
    RestartPod {
        /// Whose.
        member: String,
    },
    /// Let a learner vote.
    Promote {
        /// Who.
        member: String,
        /// Its id.
        id: u64,
    },
    /// Have another member lead.
    MoveLeader {
        /// Who shall lead.
        to: String,
        /// Its id.
        id: u64,
    },
    /// Take a member out of the cluster's list.
    RemoveMember {
        /// Its id.
        id: u64,
        /// Its object, if there is one.
        member: Option<String>,
    },
    /// Delete a member's object: from then on it is being taken out.
    DeleteMember {
        /// Who.
        member: String,
        /// Why.
        cause: Cause,
    },
    /// Put away the pod and the volume of a member that the cluster does not list any more, and let
    /// its object go.
    FinishRemoval {
        /// Whose.
        member: String,
    },
    /// Let a volume grow.
    ExpandVolume {
        /// Whose.
        member: String,
    },
}

impl Action {
    /// Whether it disturbs a member that works, or changes who is one.
    #[must_use]
    pub fn is_disruptive(&self) -> bool {
        match self {
            Self::AddLearner { .. }
            | Self::StopPod { .. }
            | Self::RestartPod { .. }
            | Self::Promote { .. }
            | Self::MoveLeader { .. }
            | Self::RemoveMember { .. }
            | Self::DeleteMember { .. } => true,
            Self::CreateMember { .. }
            | Self::StartPod { .. }
            | Self::FinishRemoval { .. }
            | Self::ExpandVolume { .. } => false,
        }
    }
}

/// Why a member is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There are more than wanted.
    ScaleDown,
    /// Its volume is gone or going.
    VolumeLost,
    /// Its node is gone.
    NodeLost,
    /// It does not start.
    Unhealthy,
    /// It makes no headway: it starts, ends or runs in vain.
    Stuck,
    /// A learner that applies nothing.
    NeverCaughtUp,
    /// Its data differs from the others'.
    Corrupt,
    /// The cluster does not list it any more.
    RemovedElsewhere,
    /// The whole cluster is being deleted.
    Teardown,
    /// A restore set it aside, and it was decided that it goes.
    Discarded,
    /// A restore set it aside and is gone: its volume is kept.
    LetGo,
}

impl Cause {
    /// Whether a member is lost, so that this is a replacement.
    #[must_use]
    pub fn is_replacement(self) -> bool {
        match self {
            Self::VolumeLost
            | Self::NodeLost
            | Self::Unhealthy
            | Self::Stuck
            | Self::NeverCaughtUp
            | Self::Corrupt => true,
            Self::ScaleDown
            | Self::RemovedElsewhere
            | Self::Teardown
            | Self::Discarded
            | Self::LetGo => false,
        }
    }

    /// Whether it counts for the limit of an hour: nobody asked the operator for it.
    #[must_use]
    pub fn is_limited(self) -> bool {
        self.is_replacement() || self == Self::RemovedElsewhere
    }

    /// As metrics and events name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleDown => "ScaleDown",
            Self::VolumeLost => "VolumeLost",
            Self::NodeLost => "NodeLost",
            Self::Unhealthy => "Unhealthy",
            Self::Stuck => "Stuck",
            Self::NeverCaughtUp => "NeverCaughtUp",
            Self::Corrupt => "Corrupt",
            Self::RemovedElsewhere => "RemovedElsewhere",
            Self::Teardown => "Teardown",
            Self::Discarded => "Discarded",
            Self::LetGo => "LetGo",
        }
    }
}

/// What is under way, or stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// In a word.
    pub reason: Reason,
    /// For a person.
    pub message: String,
}

impl Note {
    fn new(reason: Reason, message: impl Into<String>) -> Option<Self> {
        Some(Self {
            reason,
            message: message.into(),
        })
    }
}

/// What to do next, and why nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order. At most one of them is disruptive, unless the cluster is to rest or go, or
    /// members do not run that a restore has set aside.
    pub actions: Vec<Action>,
    /// What is under way.
    pub progress: Option<Note>,
    /// What stands in the way and needs a person, or time.
    pub blocked: Option<Note>,
}

impl Plan {
    /// Whether members are left as they are. Volumes grow beside everything else, or never.
    #[must_use]
    pub fn leaves_members(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.all(|action| matches!(action, Action::ExpandVolume { .. }))
    }

    fn step(mut self, action: Action, reason: Reason, message: impl Into<String>) -> Self {
        self.actions.push(action);
        self.waiting(reason, message)
    }

    fn waiting(mut self, reason: Reason, message: impl Into<String>) -> Self {
        self.progress = Note::new(reason, message);
        self
    }

    /// That a change failed stays the reason, whatever else stands in the way: it may be taken back for it.
    fn blocked(mut self, reason: Reason, message: impl Into<String>) -> Self {
        let before = self.blocked.take();
        let failed = before.filter(|note| note.reason == Reason::RolloutFailed);
        self.blocked = match failed {
            Some(note) => {
                let message = format!("{}; {}", note.message, message.into());
                Note::new(note.reason, message)
            }
            None => Note::new(reason, message),
        };
        self
    }
}

/// What to do next.
#[must_use]
pub fn plan(observed: &Observed, wanted: &Wanted) -> Plan {
    let plan = Plan::default();
    if !observed.fresh && !planted(Mutant::StaleView) {
        return plan;
    }
    if observed.deleting {
        return scale::tear_down(observed);
    }
    if wanted.paused && !planted(Mutant::PauseIgnored) {
        return plan;
    }
    if let Some(plan) = aside::stop(observed) {
        return plan;
    }
    aside::put_away(observed, in_force(observed, wanted))
}

/// Of the members that are in force.
fn in_force(observed: &Observed, wanted: &Wanted) -> Plan {
    let plan = Plan::default();
    if wanted.replicas == 0 {
        return scale::rest(observed);
    }
    if observed.held && !planted(Mutant::HoldIgnored) {
        let message =
            "nobody runs while it is looked at what the volumes hold: one of them goes on then";
        return plan.waiting(Reason::Restoring, message);
    }
    if !observed.foreign.is_empty() && !planted(Mutant::ForeignIgnored) {
        return foreign(observed);
    }
    if !observed.bootstrapped {
        return join::found(observed, wanted);
    }
    if observed.members.is_empty() {
        return plan.blocked(
            Reason::DataLost,
            "every member is gone: restore a backup into a new cluster",
        );
    }
    going_on(observed, wanted)
}

/// A re-used address or name, or data of another cluster: nothing that disturbs anybody is done until a
/// person has looked. Members that are missing are started, where the cluster was founded.
fn foreign(observed: &Observed) -> Plan {
    let plan = match observed.bootstrapped {
        true => join::starts(observed),
        false => Plan::default(),
    };
    let names = observed.foreign.join(", ");
    let message = format!(
        "{names}: another cluster answers there, and is not believed: nothing is changed until it does not"
    );
    plan.blocked(Reason::WrongCluster, message)
}

/// A cluster that has been founded.
fn going_on(observed: &Observed, wanted: &Wanted) -> Plan {
    let mut plan = join::starts(observed);
    let Some(roster) = &observed.roster else {
        let step = room::make(observed).or_else(|| roll::repair(observed, wanted));
        plan.actions.extend(step);
        let (reason, message) = heal::without_quorum(observed, wanted);
        // A disk that is full may be why.
        return scale::volumes(observed, wanted, plan.blocked(reason, message));
    };
    if let Some(message) = heal::disowned(observed, roster) {
        return Plan::default().blocked(Reason::WouldLoseQuorum, message);
    }
    if let Some(message) = lost::bad_rollout(observed, wanted) {
        plan = plan.blocked(Reason::RolloutFailed, message);
    }
    // First of all: whoever is started may need the room of whoever is gone.
    let gone = heal::put_away(observed, roster, wanted);
    plan.actions.splice(0..0, gone);
    let steps: [Step; 6] = [
        heal::step,
        join::step,
        roll::step,
        scale::up,
        scale::down,
        roll::settle,
    ];
    for step in steps {
        match step(observed, roster, wanted, plan) {
            Next::Done(done) => return scale::volumes(observed, wanted, done),
            Next::On(on) => plan = on,
        }
    }
    scale::volumes(observed, wanted, plan)
}

/// One concern: either it has the say in this pass, or the next one is asked.
type Step = fn(&Observed, &Roster, &Wanted, Plan) -> Next;

enum Next {
    Done(Plan),
    On(Plan),
}
