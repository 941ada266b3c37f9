//! More members, fewer members, none.

use super::mutant::{Mutant, planted};
use super::quorum::{all_settled, can_remove};
use super::view::{Member, Observed, PodState, Roster, Volume, Wanted};
use super::{Action, Cause, Next, Plan, lost};
use crate::api::Reason;

/// The cluster's object is being deleted: every member goes, whatever the quorum.
pub(super) fn tear_down(observed: &Observed) -> Plan {
    let action = |member: &Member| {
        let name = member.name.clone();
        match member.deleting {
            true => Action::FinishRemoval { member: name },
            false => Action::DeleteMember {
                member: name,
                cause: Cause::Teardown,
            },
        }
    };
    let actions = observed.members.iter().map(action).collect();
    Plan {
        actions,
        ..Plan::default()
    }
    .waiting(Reason::Deleting, "members are put away")
}

/// `replicas: 0`: pods go, volumes and places in the cluster stay. A volume that is being deleted would
/// go with its pod: that one stays up.
pub(super) fn rest(observed: &Observed) -> Plan {
    let condemned = |member: &&Member| {
        member.volume == Volume::Terminating && !planted(Mutant::CondemnedStopped)
    };
    let up = |member: &&Member| {
        member
            .pod
            .as_ref()
            .is_some_and(|pod| !matches!(pod.state, PodState::Terminating { .. }))
    };
    let running = observed.members.iter().filter(up);
    let kept = running.clone().find(condemned);
    let running = running.filter(|member| !condemned(member));
    let actions: Vec<Action> = running
        .map(|member| Action::StopPod {
            member: member.name.clone(),
        })
        .collect();
    let plan = Plan {
        actions,
        ..Plan::default()
    };
    if let Some(member) = kept {
        let name = &member.name;
        let message = format!(
            "the volume of {name} is being deleted and would go with its pod: set replicas again to have it replaced"
        );
        return plan.blocked(Reason::WouldLoseQuorum, message);
    }
    match observed.members.iter().all(|member| member.pod.is_none()) {
        true => plan,
        false => plan.waiting(Reason::Hibernated, "pods are stopped; their data stays"),
    }
}

/// Those that count: that stay, but for whoever the cluster does not list any more, who is put away.
fn counted<'a>(observed: &'a Observed, roster: &'a Roster) -> impl Iterator<Item = &'a Member> {
    observed.staying().filter(|member| !roster.dropped(member))
}

/// One more member, where there are too few.
pub(super) fn up(observed: &Observed, roster: &Roster, wanted: &Wanted, plan: Plan) -> Next {
    let staying = counted(observed, roster).count();
    if staying >= wanted.replicas {
        return Next::On(plan);
    }
    if roster.learners().next().is_some() {
        // One after the other.
        return Next::On(plan);
    }
    // They are members, whosever their objects are.
    if observed.listed_strangers(roster).next().is_some() {
        return Next::On(plan);
    }
    // What is there has to work, apart from what is going: nobody joins a cluster in trouble.
    let healthy = |member: &Member| member.healthy || planted(Mutant::JoinedInTrouble);
    let listed = observed
        .staying()
        .filter(|member| roster.of(&member.name).is_some());
    if !listed.into_iter().all(healthy) {
        let message = "a member is added once the others answer";
        return Next::On(plan.waiting(Reason::MemberNotReady, message));
    }
    if let Some(message) = lost::must_wait(observed) {
        return Next::On(plan.blocked(Reason::LearnerStuck, message));
    }
    let message = format!("{staying} of {} members: one more is made", wanted.replicas);
    Next::Done(plan.step(
        Action::CreateMember { seed: false },
        Reason::ScalingUp,
        message,
    ))
}

/// One member less, where there are too many: one that does not work, else one that is not alone on its
/// node, else the newest follower.
pub(super) fn down(observed: &Observed, roster: &Roster, wanted: &Wanted, plan: Plan) -> Next {
    let staying = counted(observed, roster).count();
    if staying <= wanted.replicas {
        return Next::On(plan);
    }
    let leads = |member: &Member| {
        roster
            .of(&member.name)
            .is_some_and(|entry| roster.leader == Some(entry.id))
    };
    let candidates = counted(observed, roster).filter(|member| !leads(member));
    let victim =
        candidates.max_by_key(|member| (!member.healthy, member.shares_node, member.number));
    // One that works may have to wait until one that does not has gone.
    let leaving = observed.members.iter().any(|member| member.deleting);
    if leaving && victim.is_none_or(|member| member.healthy) {
        return Next::Done(plan.waiting(Reason::ScalingDown, "one member after the other"));
    }
    let removable = |member: &&Member| {
        roster
            .of(&member.name)
            .is_none_or(|entry| can_remove(observed, roster, entry))
    };
    let Some(victim) = victim.filter(removable) else {
        let message = "too few voters would answer with a member less";
        return Next::Done(plan.blocked(Reason::WouldLoseQuorum, message));
    };
    // A healthy one goes only when all others are there to carry on.
    let settled = all_settled(observed, roster, 0) || planted(Mutant::ScaledDownUnsettled);
    if victim.healthy && !settled {
        return Next::Done(plan.waiting(Reason::ScalingDown, "waits until all members are ready"));
    }
    let action = Action::DeleteMember {
        member: victim.name.clone(),
        cause: Cause::ScaleDown,
    };
    let message = format!(
        "{} goes: {} of {} members",
        victim.name, staying, wanted.replicas
    );
    Next::Done(plan.step(action, Reason::ScalingDown, message))
}

/// Volumes that are smaller than wanted grow, whatever else goes on.
pub(super) fn volumes(observed: &Observed, _: &Wanted, mut plan: Plan) -> Plan {
    let small = observed.staying();
    let small = small.filter(|one| one.volume_small && !planted(Mutant::VolumesForgotten));
    plan.actions
        .extend(small.map(|member| Action::ExpandVolume {
            member: member.name.clone(),
        }));
    plan
}
