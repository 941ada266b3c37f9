//! Members that are lost, or that someone wants gone.

use super::lost::{lost, overdue};
use super::mutant::{Mutant, planted};
use super::quorum::{can_remove, healthy, is_healthy, quorum, successor};
use super::view::{Entry, Lack, Member, Observed, PodState, Roster, Volume, Wanted};
use super::{Action, Cause, Next, Plan};
use crate::api::Reason;

/// How long a replacement may wait for a node before the member that it replaces, which still works,
/// makes room for it. In seconds.
const PLACE_WAIT: i64 = 60;

/// What a person should know where the list holds so few of the members that it may be one that a single
/// member made for itself (`--force-new-cluster`): what the others hold may be the cluster's data.
pub(super) fn disowned(observed: &Observed, roster: &Roster) -> Option<String> {
    let voters = roster.voters().count();
    let disowned = disowned_by(observed, roster, voters)?;
    Some(format!(
        "the members' list has {voters} voters and not {disowned}: their volumes are kept; delete their \
         EngramMember objects if they are to go"
    ))
}

/// Members that a list of so many voters does not name, where they are too many for it to be believed.
fn disowned_by(observed: &Observed, roster: &Roster, voters: usize) -> Option<String> {
    let unlisted = |member: &&Member| {
        let holds = member.votes && member.volume != Volume::None;
        holds && roster.dropped(member)
    };
    let disowned: Vec<&str> = observed
        .staying()
        .filter(unlisted)
        .map(|member| member.name.as_str())
        .collect();
    let enough = voters >= quorum(voters + disowned.len());
    let few = disowned.is_empty() || enough || planted(Mutant::DisownedPutAway);
    (!few).then(|| disowned.join(", "))
}

/// Members that the cluster does not list any more. Those that nobody deleted go one at a time, within
/// the limit of an hour, and while enough of the others have the data; those with no volume hold none.
pub(super) fn put_away(observed: &Observed, roster: &Roster, wanted: &Wanted) -> Vec<Action> {
    let keeps = |entry: &Entry| {
        let member = observed.member(&entry.member);
        member.is_some_and(|member| member.healthy && member.volume == Volume::Present)
    };
    // One whose volume is going has the data as long as it works.
    let enough = healthy(observed, roster) >= quorum(roster.voters().count());
    let held = enough && roster.voters().any(keeps);
    let may_mark = observed.replacements < wanted.replacements_per_hour;
    let may_mark = may_mark && !planted(Mutant::RemovedElsewhereKept);
    let unlisted = observed
        .members
        .iter()
        .filter(|member| roster.of(&member.name).is_none());
    let action = |member: &Member| match (member.deleting, member.listed_before) {
        (true, _) => Some(Action::FinishRemoval {
            member: member.name.clone(),
        }),
        (false, true) if may_mark && (held || member.volume == Volume::None) => {
            Some(Action::DeleteMember {
                member: member.name.clone(),
                cause: Cause::RemovedElsewhere,
            })
        }
        (false, _) => None,
    };
    // The second kind is not disruptive (the cluster has let go of them), but one a pass will do.
    let mut actions: Vec<Action> = unlisted.filter_map(action).collect();
    let mut marked = false;
    actions.retain(|action| !action.is_disruptive() || !std::mem::replace(&mut marked, true));
    actions
}

/// Takes out whoever is to go, and marks whoever is lost.
pub(super) fn step(observed: &Observed, roster: &Roster, wanted: &Wanted, plan: Plan) -> Next {
    if plan.actions.iter().any(Action::is_disruptive) {
        return Next::Done(plan);
    }
    let leaving = leaving(observed, roster);
    if let Some((entry, false)) = leaving {
        return take_out(observed, roster, wanted, entry, plan);
    }
    // Whoever is lost comes before whoever still works and waits for a replacement.
    let is_lost = |member: &&Member| lost(observed, wanted, member).is_some();
    let mut listed = observed
        .staying()
        .filter(|member| roster.of(&member.name).is_some());
    if let Some(member) = listed.find(is_lost) {
        return mark(observed, roster, wanted, member, plan);
    }
    match leaving {
        Some((entry, _)) => take_out(observed, roster, wanted, entry, plan),
        None => Next::On(plan),
    }
}

/// The listed member that is to go next: one that has no object at all, or whose object is being deleted.
/// Those that do not work come first. And whether it works.
fn leaving<'a>(observed: &Observed, roster: &'a Roster) -> Option<(&'a Entry, bool)> {
    let goes = |entry: &&Entry| match observed.member(&entry.member) {
        Some(member) => member.deleting,
        // Whoever only lost its owner works, and is given it back.
        None => entry.ours && !observed.strangers.contains(&entry.member),
    };
    // A learner holds nothing up: it goes at once, and makes room for its replacement.
    let works = |entry: &&Entry| !entry.learner && is_healthy(observed, entry);
    let next = roster
        .entries
        .iter()
        .filter(goes)
        .min_by_key(|entry| (works(entry), entry.id));
    next.map(|entry| (entry, works(&entry)))
}

/// Whether a replacement has found no node for a while because it has to keep away from others: the one
/// that goes may hold the place that it needs. What any other pod lacks is not to be had by that.
fn lacks_a_place(observed: &Observed) -> bool {
    observed.staying().any(|member| {
        let state = member.pod.as_ref().map(|pod| &pod.state);
        let kept_away = matches!(
            state,
            Some(PodState::Unplaced { since, lack })
                if (*lack == Lack::Distance || planted(Mutant::RoomForAnyReason))
                    && observed.now - since >= PLACE_WAIT
        );
        kept_away && !member.initialized
    })
}

fn take_out(
    observed: &Observed,
    roster: &Roster,
    wanted: &Wanted,
    entry: &Entry,
    plan: Plan,
) -> Next {
    let name = entry.member.clone();
    let remove = Action::RemoveMember {
        id: entry.id,
        member: observed.member(&name).map(|member| member.name.clone()),
    };
    if entry.learner {
        let message = format!("learner {name} is taken out");
        return Next::Done(plan.step(remove, Reason::ReplacingMember, message));
    }
    let works = is_healthy(observed, entry);
    let staying = roster.voters().filter(|one| {
        observed
            .member(&one.member)
            .is_some_and(|member| !member.deleting)
    });
    let staying = staying.count();
    let makes_room = lacks_a_place(observed);
    if works && staying < wanted.replicas && !makes_room {
        // A replacement first: it is made by the steps that follow.
        return Next::On(plan);
    }
    let remain = roster.voters().count().saturating_sub(1);
    if let Some(names) = disowned_by(observed, roster, remain)
        && !planted(Mutant::ListCutShort)
    {
        let message = format!(
            "{name} is taken out once {names} are put away, which the members' list does not name: a list \
             without it as well would be the shorter part"
        );
        return Next::On(plan.blocked(Reason::WouldLoseQuorum, message));
    }
    if !can_remove(observed, roster, entry) {
        let message = format!(
            "{name} cannot be taken out: {} of {} voters answer, and {} would have to remain",
            healthy(observed, roster),
            roster.voters().count(),
            quorum(remain),
        );
        return Next::On(plan.blocked(Reason::WouldLoseQuorum, message));
    }
    if roster.leader == Some(entry.id)
        && let Some(next) = successor(observed, roster, entry)
    {
        let action = Action::MoveLeader {
            to: next.member.clone(),
            id: next.id,
        };
        let message = format!("leadership moves from {name}, which is taken out");
        return Next::Done(plan.step(action, Reason::MovingLeader, message));
    }
    let reason = if staying < wanted.replicas {
        Reason::ReplacingMember
    } else {
        Reason::ScalingDown
    };
    Next::Done(plan.step(remove, reason, format!("{name} is taken out")))
}

/// Marks a lost member for replacement.
fn mark(
    observed: &Observed,
    roster: &Roster,
    wanted: &Wanted,
    member: &Member,
    plan: Plan,
) -> Next {
    let Some(cause) = lost(observed, wanted, member) else {
        return Next::On(plan);
    };
    let name = &member.name;
    let why = cause.as_str();
    let undecided_yet = healthy(observed, roster) < quorum(roster.voters().count());
    if cause == Cause::Corrupt && undecided_yet && !planted(Mutant::CorruptWithoutMajority) {
        return Next::On(plan.blocked(Reason::Corrupt, undecided(&[name])));
    }
    if !wanted.healing {
        let message =
            format!("{name} is lost ({why}) and healing is off: delete it to have it replaced");
        return Next::On(plan.blocked(Reason::MemberNotReady, message));
    }
    if observed.replacements >= wanted.replacements_per_hour && !planted(Mutant::NoLimit) {
        let message = format!(
            "{name} is lost ({why}), but {} members were replaced within the hour already",
            observed.replacements
        );
        return Next::On(plan.blocked(Reason::ReplacementLimit, message));
    }
    let entry = roster.of(name);
    let voter = entry.filter(|entry| !entry.learner);
    // A member that still works is replaced before it is taken out; one that does not, after.
    if !member.healthy && voter.is_some_and(|entry| !can_remove(observed, roster, entry)) {
        let (reason, message) = if roster.voters().count() == 1 {
            (
                Reason::DataLost,
                format!(
                    "{name} was the only member and is lost ({why}): restore a backup into a new cluster"
                ),
            )
        } else {
            (
                Reason::WouldLoseQuorum,
                format!("{name} is lost ({why}), but without it too few voters would answer"),
            )
        };
        return Next::On(plan.blocked(reason, message));
    }
    let action = Action::DeleteMember {
        member: name.clone(),
        cause,
    };
    let message = format!("{name} is lost ({why}) and is replaced");
    Next::Done(plan.step(action, Reason::ReplacingMember, message))
}

/// What a person should know where it is not known whose data is right.
fn undecided(names: &[&str]) -> String {
    format!(
        "the members' data differs, and no majority says whose is right ({}): nobody is replaced; compare \
         them (engramctl endpoint hashkv), then disarm the alarm CORRUPT and delete the EngramMember of \
         each that is wrong, or restore a backup into a new cluster",
        names.join(", ")
    )
}

/// What a person should know when no quorum answers.
pub(super) fn without_quorum(observed: &Observed, wanted: &Wanted) -> (Reason, String) {
    let corrupt = observed.members.iter().filter(|member| member.corrupt);
    let corrupt: Vec<&str> = corrupt.map(|member| member.name.as_str()).collect();
    if !corrupt.is_empty() {
        return (Reason::Corrupt, undecided(&corrupt));
    }
    let had_data = |member: &&Member| member.initialized;
    let mut holders = observed.members.iter().filter(had_data).peekable();
    if holders.peek().is_some() && holders.all(|member| member.volume != Volume::Present) {
        let text = "the data of every member is gone: restore a backup into a new cluster";
        return (Reason::DataLost, text.to_owned());
    }
    let healthy = observed
        .members
        .iter()
        .filter(|member| member.healthy)
        .count();
    let gone = |member: &&Member| member.initialized && member.volume != Volume::Present;
    let gone: Vec<&str> = observed
        .members
        .iter()
        .filter(gone)
        .map(|member| member.name.as_str())
        .collect();
    let mut text = format!(
        "{healthy} of {} members answer: no quorum",
        observed.members.len()
    );
    if !gone.is_empty() {
        text.push_str(&format!("; the data of {} is gone", gone.join(", ")));
    }
    if let Some(words) = overdue(observed, wanted) {
        text.push_str(&format!("; {words}"));
    }
    (Reason::QuorumLost, text)
}
