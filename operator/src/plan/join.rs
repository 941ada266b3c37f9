//! Founding a cluster, starting members, and having them join.

use super::lost::{is_over, lost, overdue};
use super::mutant::{Mutant, planted};
use super::quorum::{healthy, quorum};
use super::view::{Lack, Member, Observed, PodState, Roster, Volume, Wanted};
use super::{Action, Next, Plan, roll, room};
use crate::api::Reason;

/// A cluster that was not founded yet: its first member is made and started.
pub(super) fn found(observed: &Observed, wanted: &Wanted) -> Plan {
    let plan = Plan::default();
    let gone = observed.members.iter().filter(|member| member.deleting);
    let gone = gone.map(|member| Action::FinishRemoval {
        member: member.name.clone(),
    });
    let mut plan = Plan {
        actions: gone.collect(),
        ..plan
    };
    if !observed.strangers.is_empty() {
        let message = format!(
            "{} are there, and of a cluster of this name that is gone: no other one is founded beside them; \
             delete these EngramMembers, and go on with what they hold by a restore of kind AdoptVolumes, or delete \
             their claims as well if it does not count",
            observed.strangers.join(", ")
        );
        return plan.blocked(Reason::AlreadyExists, message);
    }
    let Some(seed) = observed.staying().next() else {
        let create = Action::CreateMember { seed: true };
        return plan.step(create, Reason::Bootstrapping, "the first member is made");
    };
    let name = seed.name.clone();
    if seed.initialized && seed.volume == Volume::None {
        let text = "the first member has served, and its volume is gone: restore a backup into a new cluster";
        return plan.blocked(Reason::DataLost, text);
    }
    let stranded = wanted.healing && is_stranded(observed, wanted, seed);
    let kept = stranded && may_have_served(seed);
    if stranded && !kept {
        let action = Action::DeleteMember {
            member: name.clone(),
            cause: super::Cause::Stuck,
        };
        let message = format!("{name} never starts where its volume is, and another one is made");
        return plan.step(action, Reason::Bootstrapping, message);
    }
    match &seed.pod {
        // What was promised from a volume that is gone, unseen, is gone with it: the member begins again.
        None if seed.volume != Volume::Terminating => {
            plan.actions.push(Action::StartPod {
                member: name.clone(),
            });
        }
        Some(_) if seed.is_stuck_on_the_old() => {
            plan.actions.push(Action::RestartPod {
                member: name.clone(),
            });
        }
        _ => {}
    }
    if kept {
        let message = format!(
            "{name} does not start where its volume is, and may have served from it before: delete its \
             EngramMember if what it holds does not count"
        );
        plan = plan.blocked(Reason::MemberNotReady, message);
    } else if let Some(message) =
        overdue(observed, wanted).or_else(|| failing(observed, wanted, seed))
    {
        plan = plan.blocked(Reason::MemberNotReady, message);
    }
    plan.waiting(
        Reason::Bootstrapping,
        format!("{name} starts as the first member"),
    )
}

/// Whether its volume may hold what clients have written, though nobody saw it serve.
fn may_have_served(seed: &Member) -> bool {
    seed.ran && seed.volume == Volume::Present && !planted(Mutant::UnseenGivenUp)
}

/// Whether the first member, which nobody saw serve, waits for long for a volume that it cannot use.
fn is_stranded(observed: &Observed, wanted: &Wanted, seed: &Member) -> bool {
    let pod = seed.pod.as_ref();
    let since = pod.and_then(|pod| match pod.state {
        PodState::Starting { since } if !observed.lacking => Some(since),
        PodState::Unplaced { since, lack } => {
            (lack == Lack::Volume || seed.volume != Volume::Present).then_some(since)
        }
        _ => None,
    });
    let may = !seed.initialized && observed.replacements < wanted.replacements_per_hour;
    may && since.is_some_and(|since| is_over(observed, since, wanted.stuck_after))
}

/// What a person should know of a first member that fails.
fn failing(observed: &Observed, wanted: &Wanted, seed: &Member) -> Option<String> {
    let pod = seed.pod.as_ref()?;
    let PodState::Broken { since, .. } = pod.state else {
        return None;
    };
    let over = is_over(observed, since, wanted.unhealthy_after);
    let name = &seed.name;
    over.then(|| format!("{name} fails to start as the first member: its log says why"))
}

/// Pods that are missing and can be started.
pub(super) fn starts(observed: &Observed) -> Plan {
    let listed = |member: &Member| match &observed.roster {
        Some(roster) => roster.of(&member.name).is_some(),
        // Without a quorum nobody can say; whoever was listed is needed.
        None => member.listed_before,
    };
    let makes_room = room::is_needed(observed);
    let startable = |member: &&Member| {
        let has_place = match member.volume {
            Volume::Present => true,
            Volume::None => !member.initialized || planted(Mutant::StartedEmpty),
            Volume::Terminating => false,
        };
        let may = !makes_room || member.votes;
        member.pod.is_none() && has_place && may && listed(member)
    };
    let missing = observed.members.iter().filter(startable);
    let actions: Vec<Action> = missing
        .map(|member| Action::StartPod {
            member: member.name.clone(),
        })
        .collect();
    let plan = Plan {
        actions,
        ..Plan::default()
    };
    match plan.actions.len() {
        0 => plan,
        count => plan.waiting(Reason::StartingMember, format!("{count} pods are started")),
    }
}

/// Has new members listed, and promotes learners that have caught up.
pub(super) fn step(observed: &Observed, roster: &Roster, wanted: &Wanted, plan: Plan) -> Next {
    let voting = |member: &&Member| roster.of(&member.name).is_some_and(|entry| !entry.learner);
    let surplus = observed.staying().filter(voting).count() >= wanted.replicas;
    if let Some(entry) = roster.learners().next()
        && !planted(Mutant::TwoLearners)
    {
        return follow(observed, wanted, entry, surplus, plan);
    }
    let new = |member: &&Member| !member.listed_before && roster.of(&member.name).is_none();
    let Some(member) = observed.staying().find(new) else {
        return Next::On(plan);
    };
    let name = member.name.clone();
    if surplus {
        let action = Action::DeleteMember {
            member: name.clone(),
            cause: super::Cause::ScaleDown,
        };
        return Next::Done(plan.step(action, Reason::ScalingDown, format!("{name} is not needed")));
    }
    if healthy(observed, roster) < quorum(roster.voters().count()) {
        let message = format!("{name} cannot join: too few voters answer");
        return Next::Done(plan.blocked(Reason::QuorumLost, message));
    }
    let action = Action::AddLearner {
        member: name.clone(),
    };
    Next::Done(plan.step(
        action,
        Reason::ScalingUp,
        format!("{name} joins as a learner"),
    ))
}

/// How long a learner may apply nothing before what keeps the quorum goes on without it, in seconds.
const STALL_WAIT: i64 = 60;

/// A learner is in the list: nobody else joins until it votes or is gone. While it gets on nothing else is
/// changed either: with the leader a snapshot that is on its way would begin anew.
fn follow(
    observed: &Observed,
    wanted: &Wanted,
    entry: &super::Entry,
    surplus: bool,
    mut plan: Plan,
) -> Next {
    let name = entry.member.clone();
    let Some(member) = observed.member(&name) else {
        // Somebody else's learner is not ours to promote.
        let message = format!("{name} is a learner of someone else's making");
        return Next::Done(plan.blocked(Reason::ForeignMember, message));
    };
    if surplus && !member.deleting {
        let action = Action::DeleteMember {
            member: name.clone(),
            cause: super::Cause::ScaleDown,
        };
        return Next::Done(plan.step(action, Reason::ScalingDown, format!("{name} is not needed")));
    }
    let caught_up = member.caught_up || planted(Mutant::PromotedEarly);
    if member.healthy && caught_up && lost(observed, wanted, member).is_none() {
        let action = Action::Promote {
            member: name.clone(),
            id: entry.id,
        };
        return Next::Done(plan.step(action, Reason::ScalingUp, format!("{name} begins to vote")));
    }
    // One that cannot start may need what was changed since; and so may another one, without which
    // nobody can be taken out to make room.
    let own = member.is_stuck_on_the_old().then(|| Action::RestartPod {
        member: name.clone(),
    });
    let stuck = own.or_else(|| roll::repair(observed, wanted));
    plan.actions.extend(stuck);
    let state = member.pod.as_ref().map(|pod| &pod.state);
    let unplaced = matches!(state, Some(PodState::Unplaced { .. }));
    plan = match unplaced {
        true => {
            let message = format!("no node takes the pod of {name}: its events say why");
            plan.waiting(Reason::Unschedulable, message)
        }
        false => plan.waiting(Reason::LearnerCatchingUp, format!("{name} catches up")),
    };
    let stalls = |since| observed.now.saturating_sub(since) >= STALL_WAIT;
    let begun = plan.actions.iter().any(Action::is_disruptive);
    match !begun && member.stalled_since.is_some_and(stalls) {
        true => Next::On(plan),
        false => Next::Done(plan),
    }
}
