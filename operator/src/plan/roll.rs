//! Pods that are other than wanted: followers first, then leadership moves, the leader last.

use super::mutant::{Mutant, planted};
use super::quorum::{all_settled, can_miss, successor};
use super::view::{Entry, Member, Observed, PodState, Roster, Volume, Wanted};
use super::{Action, Next, Plan, lost};
use crate::api::Reason;

/// One whose volume goes with its pod is not restarted: it would come back with nothing.
fn is_outdated(member: &Member) -> bool {
    let pod = member.pod.as_ref();
    let stays = member.volume == Volume::Present || planted(Mutant::CondemnedRestarted);
    stays
        && pod.is_some_and(|pod| pod.outdated && !matches!(pod.state, PodState::Terminating { .. }))
}

/// How long members may have been away, in seconds, before one of them whose process runs is restarted
/// without a quorum: it may be about to return, and that process be a part of it.
const RETURN_WAIT: i64 = 60;

/// Whether a process that runs may be one that the quorum needs, though it does not answer here.
fn may_be_needed(observed: &Observed, member: &Member) -> bool {
    let state = member.pod.as_ref().map(|pod| &pod.state);
    let runs = matches!(state, Some(PodState::Running { .. }));
    if !runs || planted(Mutant::UnheardRestarted) {
        return false;
    }
    match &observed.roster {
        // It takes a quorum to give the list: where too few of the others answer, this one is of it.
        Some(roster) => {
            let entry = roster.of(&member.name).filter(|entry| !entry.learner);
            entry.is_some_and(|entry| !can_miss(observed, roster, entry))
        }
        None => observed.members.len() > 1 && quorum_may_return(observed),
    }
}

/// Whether somebody who votes has only just come up, or is coming up.
fn quorum_may_return(observed: &Observed) -> bool {
    let is_new = |since: i64| observed.now.saturating_sub(since) < RETURN_WAIT;
    let mut voters = observed.members.iter().filter(|member| member.votes);
    voters.any(|member| match member.pod.as_ref().map(|pod| &pod.state) {
        None => member.volume == Volume::Present,
        Some(PodState::Starting { since }) => is_new(*since),
        Some(PodState::Running { .. }) => {
            let begun = member.runs_since.max(member.away_since);
            begun.is_some_and(is_new)
        }
        Some(_) => false,
    })
}

/// One pod that serves nobody and is not as wanted. Where pods wait for a person to delete them, that is
/// about the template of those that work: one that has ended, or that has failed for as long as a member
/// may, is restarted all the same.
pub(super) fn repair(observed: &Observed, wanted: &Wanted) -> Option<Action> {
    let limit = i64::try_from(wanted.unhealthy_after.as_secs()).unwrap_or(i64::MAX);
    let hopeless = |member: &Member| {
        let pod = member.pod.as_ref();
        pod.is_some_and(|pod| match pod.state {
            PodState::Broken { since, .. } => {
                pod.spent || observed.now.saturating_sub(since) >= limit
            }
            _ => pod.spent,
        }) && !planted(Mutant::SpentPodsStay)
    };
    let mut members = observed
        .members
        .iter()
        .filter(|member| wanted.rolling || hopeless(member));
    let stuck = |member: &&Member| member.is_stuck_on_the_old() && !may_be_needed(observed, member);
    let stuck = members.find(stuck);
    stuck.map(|member| Action::RestartPod {
        member: member.name.clone(),
    })
}

/// The next pod to restart, if one may be.
pub(super) fn step(observed: &Observed, roster: &Roster, wanted: &Wanted, plan: Plan) -> Next {
    let outdated = observed
        .members
        .iter()
        .filter(|member| is_outdated(member))
        .count();
    if outdated == 0 {
        return Next::On(plan);
    }
    let message = format!("{outdated} pods are restarted, one after the other");
    if let Some(action) = repair(observed, wanted) {
        return Next::Done(plan.step(action, Reason::RollingUpdate, message));
    }
    if !wanted.rolling {
        let message = format!("{outdated} pods are not as wanted: delete them when it suits");
        return Next::On(plan.waiting(Reason::WaitingForDeletion, message));
    }
    // One of two can never be missed, and one that is to become more is not: scaling comes first,
    // and no write need wait.
    let voters = roster.voters().count();
    if voters == 2 || (voters == 1 && wanted.replicas > 1) {
        return Next::On(plan);
    }
    let min_ready = i64::try_from(wanted.min_ready.as_secs()).unwrap_or(i64::MAX);
    let leaving = observed.members.iter().any(|member| member.deleting);
    let settled = all_settled(observed, roster, min_ready) || planted(Mutant::RestartedUnsettled);
    if leaving || !settled {
        return Next::On(plan.waiting(Reason::RollingUpdate, message));
    }
    let outdated: Vec<&Entry> = roster
        .voters()
        .filter(|entry| observed.member(&entry.member).is_some_and(is_outdated))
        .collect();
    let follows =
        |entry: &&&Entry| roster.leader != Some(entry.id) || planted(Mutant::LeaderRestarted);
    let follower = outdated.iter().find(follows);
    if let Some(entry) = follower {
        if !can_miss(observed, roster, entry) && !planted(Mutant::RestartedUnsettled) {
            return Next::On(plan.waiting(Reason::RollingUpdate, message));
        }
        let action = Action::RestartPod {
            member: entry.member.clone(),
        };
        return Next::Done(plan.step(action, Reason::RollingUpdate, message));
    }
    let Some(leader) = outdated
        .iter()
        .find(|entry| roster.leader == Some(entry.id))
    else {
        return Next::On(plan.waiting(Reason::RollingUpdate, message));
    };
    if let Some(next) = successor(observed, roster, leader) {
        let action = Action::MoveLeader {
            to: next.member.clone(),
            id: next.id,
        };
        return Next::Done(plan.step(action, Reason::MovingLeader, message));
    }
    if voters == 1 {
        let action = Action::RestartPod {
            member: leader.member.clone(),
        };
        return Next::Done(plan.step(action, Reason::RollingUpdate, message));
    }
    Next::On(plan.waiting(Reason::RollingUpdate, message))
}

/// Nothing to change: is everybody there?
pub(super) fn settle(observed: &Observed, roster: &Roster, wanted: &Wanted, plan: Plan) -> Next {
    if plan.progress.is_some() || plan.blocked.is_some() {
        return Next::Done(plan);
    }
    let foreign = roster.entries.iter().find(|entry| !entry.ours);
    if let Some(entry) = foreign {
        let message = format!("{} is a member of someone else's making", entry.member);
        return Next::Done(plan.blocked(Reason::ForeignMember, message));
    }
    let strangers: Vec<&str> = observed
        .listed_strangers(roster)
        .map(String::as_str)
        .collect();
    if !strangers.is_empty() {
        let message = format!(
            "the cluster lists {}, whose EngramMember objects are not its own: put its owner reference back, or \
             delete them",
            strangers.join(", ")
        );
        return Next::Done(plan.blocked(Reason::ForeignMember, message));
    }
    if let Some(member) = observed.staying().find(|member| roster.dropped(member)) {
        let message = format!(
            "{} is not in the members' list, and is put away once the hour's limit and the others allow",
            member.name
        );
        return Next::Done(plan.blocked(Reason::ReplacementLimit, message));
    }
    let away = observed.members.iter().filter(|member| !member.healthy);
    let away: Vec<&str> = away.map(|member| member.name.as_str()).collect();
    let ends = |member: &&Member| {
        let state = member.pod.as_ref().map(|pod| &pod.state);
        matches!(state, Some(PodState::Terminating { .. }))
    };
    if away.is_empty() {
        return Next::Done(match observed.members.iter().find(ends) {
            Some(member) => {
                let message = format!("{} works, and its pod is to end", member.name);
                plan.waiting(Reason::MemberNotReady, message)
            }
            None => plan,
        });
    }
    if let Some(message) = lost::overdue(observed, wanted) {
        return Next::Done(plan.blocked(Reason::MemberNotReady, message));
    }
    let message = format!("{} does not answer", away.join(", "));
    Next::Done(plan.waiting(Reason::MemberNotReady, message))
}
