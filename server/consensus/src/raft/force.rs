//! `--force-new-cluster`: a member goes on alone after the others are lost for good.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::EntryPayload;

use super::{Entry, LogStore, Membership, Peer, Vote, entry};
use crate::types::MemberId;

impl LogStore {
    /// Makes `member` the one member: a configuration at the log's end, in a term of its own. What
    /// is in the log stays, also what was not committed yet: nobody else can say what was. Durable
    /// on return; blocks. For the start, before consensus.
    ///
    /// # Errors
    /// The log was closed.
    pub fn make_sole(&self, member: MemberId, peer_urls: Vec<String>) -> io::Result<()> {
        let (vote, last) = self.end();
        let voted = vote.map_or(0, |vote| vote.leader_id.term);
        let last = last.map(|id| entry::position(&id));
        let term = voted.max(last.map_or(0, |last| last.term)) + 1;
        let index = last.map_or(0, |last| last.index + 1);
        let node = Peer {
            peer_urls,
            pending_voter: false,
        };
        let voters = vec![BTreeSet::from([member.0])];
        let membership = Membership::new(voters, BTreeMap::from([(member.0, node)]));
        let membership = membership.map_err(io::Error::other)?;
        let configuration = Entry {
            log_id: entry::log_id(term, index),
            payload: EntryPayload::Membership(membership),
        };
        self.append_by_force(Vote::new(term, member.0), configuration)
    }
}
