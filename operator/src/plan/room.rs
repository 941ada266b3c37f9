//! Room for whoever the quorum needs.

use super::Action;
use super::mutant::{Mutant, planted};
use super::view::{Lack, Member, Observed, PodState, Volume};

/// How long one that votes may wait for a node, in seconds, before those that do not make room.
const PLACE_WAIT: i64 = 60;

/// Whether no quorum answers, and one that votes finds no node because of its volume or of others: on the
/// only one that it can run on there may be a learner, which nobody can take out now.
pub(super) fn is_needed(observed: &Observed) -> bool {
    let waits = |member: &Member| {
        let state = member.pod.as_ref().map(|pod| &pod.state);
        matches!(
            state,
            Some(PodState::Unplaced { since, lack: Lack::Volume | Lack::Distance })
                if observed.now.saturating_sub(*since) >= PLACE_WAIT
        )
    };
    let mut voters = observed.members.iter().filter(|member| member.votes);
    observed.roster.is_none() && voters.any(waits) && !planted(Mutant::RoomRefused)
}

/// The next pod to go that has a node: its member has no vote. It is started again once a quorum answers, or
/// nobody waits any more. One whose volume would go with it stays.
pub(super) fn make(observed: &Observed) -> Option<Action> {
    if !is_needed(observed) {
        return None;
    }
    let holds = |member: &&Member| {
        let state = member.pod.as_ref().map(|pod| &pod.state);
        let nowhere = matches!(
            state,
            None | Some(PodState::Unplaced { .. } | PodState::Terminating { .. })
        );
        let keeps = !member.initialized || member.volume == Volume::Present;
        !member.votes && keeps && !nowhere
    };
    let member = observed.members.iter().find(holds)?;
    Some(Action::StopPod {
        member: member.name.clone(),
    })
}
