//! Whom a leader hands over to: a voter in touch, with room on its disk, that has the most of the log.

use std::time::Duration;

use crate::node::door::Door;
use crate::raft::Replication;
use crate::types::MemberId;

/// The voter that is best prepared to lead: heard of within `silence_max`, its connections standing, its disk
/// not short of room.
pub fn with_room(door: &Door, silence_max: Duration) -> Option<MemberId> {
    let replication = door.consensus.replication();
    let mut unfit = door.consensus.short_members();
    unfit.extend(away(door, &replication));
    replication.successor(silence_max, &unfit)
}

/// The same, or, where there is none, one that is short of room: it hands on as soon as another one can lead.
pub fn anyone(door: &Door, silence_max: Duration) -> Option<MemberId> {
    with_room(door, silence_max).or_else(|| {
        let replication = door.consensus.replication();
        let away: Vec<MemberId> = away(door, &replication).collect();
        replication.successor(silence_max, &away)
    })
}

/// Who was killed a moment ago was heard of a moment ago: its connections have ended.
fn away<'a>(
    door: &'a Door,
    replication: &'a Replication,
) -> impl Iterator<Item = MemberId> + use<'a> {
    let voters = replication.voters.iter().copied();
    voters.filter(|id| door.peers.active_since(*id).is_none())
}
