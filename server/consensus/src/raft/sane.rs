//! What a peer may say. openraft believes its peers: a term that cannot be counted on from, a commit
//! mark beyond the log or an entry that cannot be decoded would end its core, or this member at every
//! later start. So each message is held against what this member knows before openraft sees it, and
//! one that no correct member sends is refused, with nothing changed.

use openraft::EntryPayload;
use openraft::LogIdOptionExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest};
use openraft::type_config::alias::SnapshotMetaOf;
use parking_lot::Mutex;

use super::log_store::{Known, LogView};
use super::wire::WireError;
use super::{Batch, Entry, LogId, Membership, TypeConfig, Vote};

type Append = AppendEntriesRequest<TypeConfig>;

/// The highest term and index: beyond what any cluster reaches, and with room to count on.
const NUMBER_MAX: u64 = 1 << 62;
/// How far a term may be ahead of one's own: an election a millisecond for fifty days. A member that
/// knows no term yet takes any.
const TERM_AHEAD_MAX: u64 = 1 << 32;
/// Members of a configuration. Source: etcd's advice is seven, and a joint one holds two of them.
const MEMBERS_MAX: usize = 1000;

/// Checks the appends of one stream, in their order.
pub(super) struct Appends {
    log: LogView,
    member: u64,
    /// The last entry of the request before, where that follows on this log.
    offered: Option<LogId>,
    /// The newest configuration on this stream.
    membership: Option<LogId>,
}

fn nonsense<T>(what: &'static str) -> Result<T, WireError> {
    Err(WireError::Nonsense(what))
}

fn term(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

/// A log id's numbers.
pub(super) fn check_id(id: &LogId) -> Result<(), WireError> {
    match id.index() <= NUMBER_MAX && term(id) <= NUMBER_MAX {
        true => Ok(()),
        false => nonsense("a log id that no cluster reaches"),
    }
}

/// A vote's term.
pub(super) fn check_term(vote: &Vote) -> Result<(), WireError> {
    match vote.leader_id.term <= NUMBER_MAX {
        true => Ok(()),
        false => nonsense("a term that no cluster reaches"),
    }
}

/// A vote from outside: `member` itself makes its own, and `own` is the term it has come to.
fn check_foreign(vote: &Vote, member: u64, own: u64) -> Result<(), WireError> {
    check_term(vote)?;
    if vote.leader_id.voted_for == member && vote.leader_id.term > own {
        return nonsense("a vote for this member that it never made");
    }
    if own > 0 && vote.leader_id.term.saturating_sub(own) > TERM_AHEAD_MAX {
        return nonsense("a term far ahead of this cluster's");
    }
    Ok(())
}

/// What a leader says of itself.
fn check_leader(vote: &Vote, member: u64, known: &Known) -> Result<(), WireError> {
    check_foreign(vote, member, own_term(known))?;
    if !vote.committed || vote.leader_id.voted_for == member {
        return nonsense("a leader that was not elected");
    }
    Ok(())
}

fn own_term(known: &Known) -> u64 {
    known.vote.map_or(0, |vote| vote.leader_id.term)
}

/// A request for a vote.
pub(super) fn check_vote_request(
    request: &VoteRequest<TypeConfig>,
    member: u64,
    known: &Known,
) -> Result<(), WireError> {
    check_foreign(&request.vote, member, own_term(known))?;
    if request.vote.committed || request.vote.leader_id.voted_for == member {
        return nonsense("a candidate that is none");
    }
    let last = request.last_log_id.as_ref();
    match last.is_some_and(|last| term(last) > request.vote.leader_id.term) {
        true => nonsense("a candidate whose log is of a later term"),
        false => Ok(()),
    }
}

/// The vote in an answer of `peer`'s to what `member` asked in term `asked`, as it is to be believed.
///
/// A peer that took a liar for this member tells of a later vote that this member never made. That it
/// leads there must not be believed; that the peer has come to that term is true, and only an election
/// in a term after it brings the peer back. So it counts as the peer's own candidacy.
pub(super) fn answered_vote(vote: Vote, member: u64, asked: u64, peer: u64) -> Vote {
    match vote.leader_id.voted_for == member && vote.leader_id.term > asked {
        true => Vote::new(vote.leader_id.term, peer),
        false => vote,
    }
}

/// The vote in an answer to what was asked in term `asked`.
pub(super) fn check_answered_vote(vote: &Vote, member: u64, asked: u64) -> Result<(), WireError> {
    check_foreign(vote, member, asked.max(1))
}

/// The leader of a snapshot, and what the snapshot is said to hold.
pub(super) fn check_snapshot(
    vote: &Vote,
    meta: &SnapshotMetaOf<TypeConfig>,
    member: u64,
    known: &Known,
) -> Result<(), WireError> {
    check_leader(vote, member, known)?;
    let Some(last) = &meta.last_log_id else {
        return nonsense("a snapshot of nothing");
    };
    if term(last) > vote.leader_id.term {
        return nonsense("a snapshot of a later term than its leader's");
    }
    let membership = &meta.last_membership;
    if membership.log_id().is_none() || membership.log_id().as_ref() > Some(last) {
        return nonsense("a snapshot without a configuration");
    }
    check_membership(membership.membership())?;
    let contradicts = known
        .committed
        .is_some_and(|committed| *last > committed && last.index() <= committed.index());
    match contradicts {
        true => nonsense("a snapshot that contradicts what is committed here"),
        false => Ok(()),
    }
}

fn check_membership(membership: &Membership) -> Result<(), WireError> {
    let configs = membership.get_joint_config();
    let is_sound = (1..=2).contains(&configs.len()) && configs.iter().all(|ids| !ids.is_empty());
    match is_sound && membership.nodes().count() <= MEMBERS_MAX {
        true => Ok(()),
        false => nonsense("a configuration that none can lead"),
    }
}

impl Appends {
    /// For a stream of appends to `member`, whose log is `log`.
    pub fn new(log: LogView, member: u64) -> Appends {
        Appends {
            log,
            member,
            offered: None,
            membership: None,
        }
    }

    /// The request as openraft may see it: entries decoded, and committed no further than this
    /// request itself reaches.
    ///
    /// # Errors
    /// No correct leader sends it.
    pub fn check(&mut self, mut request: Append) -> Result<Append, WireError> {
        let known = self.log.known();
        check_leader(&request.vote, self.member, &known)?;
        check_order(&request)?;
        request.entries.iter_mut().try_for_each(decode)?;
        if request.vote.leader_id.term < own_term(&known) {
            // openraft answers with the higher vote, and looks at nothing else.
            request.leader_commit = None;
            return Ok(request);
        }
        let ids = request.entries.iter().map(|entry| entry.log_id);
        for id in request.prev_log_id.into_iter().chain(ids) {
            self.check_committed(&id, &known)?;
        }
        self.check_same(&request, &known)?;
        let shown = self.check_memberships(&request, &known)?;
        let follows = self.follows(request.prev_log_id, &known);
        request.leader_commit = commit(&request, follows)?.max(shown.filter(|_| follows));
        let last = last_of(&request);
        self.offered = last.filter(|_| follows);
        Ok(request)
    }

    /// An entry at a place that is committed here must be the one that is.
    fn check_committed(&self, id: &LogId, known: &Known) -> Result<(), WireError> {
        let is_committed = id.index() < known.committed.next_index();
        if !is_committed || self.log.term_at(id.index(), known) == Some(term(id)) {
            return Ok(());
        }
        let is_purged = id.index() < known.purged.next_index();
        let purged_term = known.purged.as_ref().map_or(0, term);
        match is_purged && term(id) <= purged_term {
            // It is gone, and openraft takes it for what it was.
            true => Ok(()),
            false => nonsense("an entry that contradicts what is committed here"),
        }
    }

    /// An entry that is sent again is the same: openraft would take it for the one that is here, and
    /// two histories would go on side by side.
    fn check_same(&self, request: &Append, known: &Known) -> Result<(), WireError> {
        let again = |entry: &&Entry| Some(entry.log_id.index()) <= known.last.map(|id| id.index());
        let mut again = request.entries.iter().filter(again);
        match again.any(|entry| self.log.holds_another(entry)) {
            true => nonsense(
                "an entry under the term and index of another one that this log holds: a member has \
                 lost or replaced its log; compare the members' data",
            ),
            false => Ok(()),
        }
    }

    /// Whether this log, or what this stream has brought, holds the entry before the request.
    fn follows(&self, previous: Option<LogId>, known: &Known) -> bool {
        let Some(previous) = previous else {
            return true;
        };
        let is_held = self.log.term_at(previous.index(), known) == Some(term(&previous));
        is_held || previous.index() < known.purged.next_index() || self.offered == Some(previous)
    }

    /// The newest configuration that this request shows to be committed. A leader proposes none before the one
    /// before it is: so of two that a log holds the first is committed, though nobody says so. A leader that
    /// a power cut took its commit mark from knows it as little, until its first own entry is committed.
    fn check_memberships(
        &mut self,
        request: &Append,
        known: &Known,
    ) -> Result<Option<LogId>, WireError> {
        // What comes after the entry before the request, the request replaces or brings.
        let newest = match self.offered {
            Some(_) => self.membership,
            None => known.membership,
        };
        let previous = request.prev_log_id.map(|id| id.index());
        let mut newest = newest.filter(|newest| Some(newest.index()) <= previous);
        let mut shown = None;
        for entry in &request.entries {
            let EntryPayload::Membership(membership) = &entry.payload else {
                continue;
            };
            check_membership(membership)?;
            shown = newest.replace(entry.log_id).or(shown);
        }
        self.membership = newest;
        Ok(shown)
    }
}

/// Entries of one append: their terms never fall, and are none after their leader's.
fn check_order(request: &Append) -> Result<(), WireError> {
    let mut before = request.prev_log_id.as_ref().map_or(0, term);
    for entry in &request.entries {
        check_id(&entry.log_id)?;
        if term(&entry.log_id) < before {
            return nonsense("entries whose terms fall");
        }
        before = term(&entry.log_id);
    }
    match before > request.vote.leader_id.term {
        true => nonsense("an entry of a later term than its leader's"),
        false => Ok(()),
    }
}

/// Decodes an entry's batch, which cannot be applied otherwise: once logged, it would end this
/// member at every start.
fn decode(entry: &mut Entry) -> Result<(), WireError> {
    if let EntryPayload::Normal(batch) = &mut entry.payload {
        *batch = Batch::parse(batch.encoded().clone())?;
    }
    Ok(())
}

fn last_of(request: &Append) -> Option<LogId> {
    let last = request.entries.last().map(|entry| entry.log_id);
    last.or(request.prev_log_id)
}

/// How far the request's commit mark holds for what the request itself brings. Beyond it nothing is
/// known to be in this log; the next request says more.
fn commit(request: &Append, follows: bool) -> Result<Option<LogId>, WireError> {
    let Some(committed) = request.leader_commit else {
        return Ok(None);
    };
    if term(&committed) > request.vote.leader_id.term {
        return nonsense("a commit mark of a later term than its leader's");
    }
    let Some(last) = last_of(request).filter(|_| follows) else {
        return Ok(None);
    };
    if (committed.index() > last.index()) != (committed > last) {
        return nonsense("a commit mark beside the log");
    }
    let named = request.entries.iter().map(|entry| entry.log_id);
    let mut named = named.chain(request.prev_log_id);
    let contradicts = named.any(|id| id.index() == committed.index() && id != committed);
    match contradicts {
        true => nonsense("a commit mark beside the log"),
        false => Ok(Some(committed.min(last))),
    }
}

/// What was asked of a peer in one append.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub term: u64,
    pub previous: Option<LogId>,
    pub last: Option<LogId>,
    /// What it had acknowledged when it was asked.
    pub held: Option<LogId>,
}

impl Asked {
    /// Of a request to a peer that has acknowledged so much.
    pub fn of(request: &Append, acknowledged: &Mutex<Acknowledged>) -> Asked {
        let term = request.vote.leader_id.term;
        Asked {
            term,
            previous: request.prev_log_id,
            last: last_of(request),
            held: acknowledged.lock().in_term(term),
        }
    }
}

/// What one peer has acknowledged to this member in its term. It cannot take that back: openraft
/// would end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acknowledged {
    term: u64,
    last: Option<LogId>,
}

impl Acknowledged {
    /// Takes note of what the peer holds, as it said to a leader of `term`.
    pub fn note(&mut self, term: u64, last: Option<LogId>) {
        if term > self.term {
            *self = Acknowledged { term, last: None };
        }
        if term == self.term {
            self.last = self.last.max(last);
        }
    }

    /// Checks the answer to an append of `member`'s.
    ///
    /// # Errors
    /// No correct follower gives it.
    pub fn check(
        &mut self,
        asked: &Asked,
        answer: &StreamAppendResult<TypeConfig>,
        member: u64,
    ) -> Result<(), WireError> {
        match answer {
            Ok(last) if *last == asked.last => {
                self.note(asked.term, *last);
                Ok(())
            }
            Ok(_) => nonsense("an acknowledgement of something else"),
            Err(StreamAppendError::HigherVote(vote)) => {
                check_answered_vote(vote, member, asked.term)
            }
            Err(StreamAppendError::Conflict(at)) => self.check_conflict(asked, at),
        }
    }

    fn check_conflict(&self, asked: &Asked, at: &LogId) -> Result<(), WireError> {
        if Some(*at) != asked.previous {
            return nonsense("a conflict at an entry that was not sent");
        }
        let lacks = |held: Option<LogId>| held.next_index() > at.index();
        if lacks(asked.held) {
            return Err(WireError::Forgotten { index: at.index() });
        }
        // It may have been asked this before it acknowledged, on another connection.
        match lacks(self.in_term(asked.term)) {
            true => nonsense("a conflict at an entry that it has acknowledged"),
            false => Ok(()),
        }
    }

    fn in_term(&self, term: u64) -> Option<LogId> {
        self.last.filter(|_| self.term == term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::entry::log_id;

    fn vote(term: u64, node: u64, committed: bool) -> Vote {
        Vote {
            leader_id: openraft::impls::leader_id_std::LeaderId {
                term,
                voted_for: node,
            },
            committed,
        }
    }

    #[test]
    fn a_later_vote_that_this_member_never_made_counts_as_the_peers_candidacy() {
        let (member, peer) = (1, 2);
        let believed = answered_vote(vote(6, member, true), member, 5, peer);
        assert_eq!(believed, vote(6, peer, false));
        assert!(check_answered_vote(&believed, member, 5).is_ok());
        for other in [vote(5, member, true), vote(6, 3, true)] {
            assert_eq!(answered_vote(other, member, 5, peer), other);
        }
    }

    #[test]
    fn a_vote_may_be_ahead_but_not_out_of_reach() {
        let checked = |term, own| check_foreign(&vote(term, 2, false), 1, own).is_ok();
        assert!(checked(7, 3) && checked(3, 7) && checked(3 + (1 << 32), 3));
        assert!(!checked(4 + (1 << 32), 3) && !checked(u64::MAX, 3));
        assert!(checked(1 << 40, 0), "a new member learns the term");
        assert!(!checked((1 << 62) + 1, 0) && !checked(u64::MAX, 0));
        assert!(
            check_foreign(&vote(9, 1, true), 1, 8).is_err(),
            "not its own"
        );
    }

    #[test]
    fn an_answer_is_to_what_was_asked() {
        let asked = Asked {
            term: 5,
            previous: Some(log_id(4, 10)),
            last: Some(log_id(5, 12)),
            held: None,
        };
        let mut acknowledged = Acknowledged::default();
        let mut check = |answer| acknowledged.check(&asked, &answer, 1).is_ok();
        for other in [
            None,
            Some(log_id(5, 11)),
            Some(log_id(5, 13)),
            Some(log_id(9, 12)),
        ] {
            assert!(!check(Ok(other)), "{other:?}");
        }
        assert!(check(Err(StreamAppendError::Conflict(log_id(4, 10)))));
        assert!(!check(Err(StreamAppendError::Conflict(log_id(4, 9)))));
        assert!(check(Err(StreamAppendError::HigherVote(vote(6, 3, true)))));
        for lie in [vote(u64::MAX, 3, true), vote(6, 1, true)] {
            assert!(!check(Err(StreamAppendError::HigherVote(lie))), "{lie}");
        }
    }

    #[test]
    fn what_was_acknowledged_cannot_be_missing_later() {
        let mut acknowledged = Acknowledged::default();
        let upto = |term, previous, last| Asked {
            term,
            previous: Some(log_id(5, previous)),
            last: Some(log_id(5, last)),
            held: None,
        };
        let first = upto(5, 10, 12);
        acknowledged.check(&first, &Ok(first.last), 1).unwrap();
        let mut missing = |term, at| {
            let answer = Err(StreamAppendError::Conflict(log_id(5, at)));
            acknowledged.check(&upto(term, at, at), &answer, 1)
        };
        assert!(missing(5, 12).is_err() && missing(5, 3).is_err());
        assert!(missing(5, 13).is_ok());
        assert!(missing(6, 12).is_ok(), "to another leader it said nothing");
        // Asked after it had said so, it has lost it.
        let asked = Asked {
            held: first.last,
            ..upto(5, 12, 14)
        };
        let answer = Err(StreamAppendError::Conflict(log_id(5, 12)));
        let found = acknowledged.check(&asked, &answer, 1);
        assert!(matches!(found, Err(WireError::Forgotten { index: 12 })));
    }
}
