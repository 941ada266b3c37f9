//! Counting voters.

use super::mutant::{Mutant, planted};
use super::view::{Entry, Observed, PodState, Roster};

/// How many of `voters` decide.
#[must_use]
pub(super) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether a listed member answers.
pub(super) fn is_healthy(observed: &Observed, entry: &Entry) -> bool {
    observed
        .member(&entry.member)
        .is_some_and(|member| member.healthy)
}

/// Healthy voters.
pub(super) fn healthy(observed: &Observed, roster: &Roster) -> usize {
    roster
        .voters()
        .filter(|entry| is_healthy(observed, entry))
        .count()
}

/// Whether the cluster can do without a voter for a while: enough others answer.
pub(super) fn can_miss(observed: &Observed, roster: &Roster, entry: &Entry) -> bool {
    let others = healthy(observed, roster) - usize::from(is_healthy(observed, entry));
    others >= quorum(roster.voters().count())
}

/// Whether a voter can be taken out for good: enough of those that remain answer.
pub(super) fn can_remove(observed: &Observed, roster: &Roster, entry: &Entry) -> bool {
    let remain = roster.voters().count() - 1;
    let others = healthy(observed, roster) - usize::from(is_healthy(observed, entry));
    remain >= 1 && (others >= quorum(remain) || planted(Mutant::RemovedWithoutQuorum))
}

/// Whether all voters answer, have caught up, and have been ready for as long as is asked.
pub(super) fn all_settled(observed: &Observed, roster: &Roster, min_ready: i64) -> bool {
    roster.voters().all(|entry| {
        let Some(member) = observed.member(&entry.member) else {
            return false;
        };
        let state = member.pod.as_ref().map(|pod| &pod.state);
        let Some(PodState::Running {
            ready_since: Some(since),
        }) = state
        else {
            return false;
        };
        member.healthy && member.caught_up && observed.now - since >= min_ready
    })
}

/// Who should lead next: a healthy voter other than `but`, one that stays, has caught up and is as
/// wanted first.
pub(super) fn successor<'a>(
    observed: &Observed,
    roster: &'a Roster,
    but: &Entry,
) -> Option<&'a Entry> {
    let fit = |entry: &&Entry| entry.id != but.id && is_healthy(observed, entry);
    let rank = |entry: &&Entry| {
        let member = observed.member(&entry.member);
        let outdated = member
            .and_then(|member| member.pod.as_ref())
            .is_some_and(|pod| pod.outdated);
        (
            member.is_some_and(|member| member.deleting),
            !member.is_some_and(|member| member.caught_up),
            outdated,
            entry.member.clone(),
        )
    };
    roster.voters().filter(fit).min_by_key(rank)
}
