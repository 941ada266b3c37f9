//! Changes of the membership and of leadership, on the leader. Whether a change is wise is the
//! caller's question; here it is made, and what openraft says of it translated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};

use super::{Consensus, Peer, TypeConfig};
use crate::types::MemberId;

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconfigureError {
    /// This member does not lead (any more).
    #[error("not the leader")]
    NotLeader,
    /// An earlier change is not committed yet.
    #[error("another membership change is under way")]
    InProgress,
    /// Leadership was lost on the way: it may have happened.
    #[error("leadership was lost while the membership changed")]
    Unknown,
    /// openraft refuses it.
    #[error("{0}")]
    Refused(String),
    /// Consensus has stopped.
    #[error("consensus has stopped")]
    Stopped,
}

type Done = Result<(), ReconfigureError>;

/// How far the others are, as the leader knows it.
#[derive(Clone, Debug, Default)]
pub struct Replication {
    /// The leader's last entry.
    pub last_index: u64,
    /// The last entry that each other member is known to have; 0 where nothing is known.
    pub matched: BTreeMap<MemberId, u64>,
    /// How long ago each other member was last heard of; absent where never.
    pub silent_for: BTreeMap<MemberId, Duration>,
    /// The other voters.
    pub voters: Vec<MemberId>,
    /// Learners that shall vote once they have caught up.
    pub pending_voters: Vec<MemberId>,
}

impl Replication {
    /// Who is best prepared to lead: the voter, heard of within `silence_max`, that has the most of
    /// the log.
    pub fn successor(&self, silence_max: Duration) -> Option<MemberId> {
        let heard = |id: &MemberId| {
            let silent_for = self.silent_for.get(id);
            silent_for.is_some_and(|silent| *silent < silence_max)
        };
        let voters = self.voters.iter().filter(|id| heard(id));
        let matched = |id: &MemberId| self.matched.get(id).copied().unwrap_or(0);
        voters.copied().max_by_key(matched)
    }
}

impl Consensus {
    /// Adds a learner. It is replicated to, and has no vote.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn add_learner(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
        pending_voter: bool,
    ) -> Done {
        let node = Peer {
            peer_urls,
            pending_voter,
        };
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id.0, node)])))
            .await
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn promote(&self, id: MemberId) -> Done {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id.0])))
            .await
    }

    /// Removes a member, voter or learner.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn remove(&self, id: MemberId) -> Done {
        let ids = BTreeSet::from([id.0]);
        let votes = self.raft.voter_ids().any(|voter| voter == id.0);
        self.change(match votes {
            true => ChangeMembers::RemoveVoters(ids),
            false => ChangeMembers::RemoveNodes(ids),
        })
        .await
    }

    /// Changes where a member's peers reach it.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn relocate(&self, id: MemberId, peer_urls: Vec<String>) -> Done {
        let pending_voter = self.replication().pending_voters.contains(&id);
        let node = Peer {
            peer_urls,
            pending_voter,
        };
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id.0, node)])))
            .await
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Done {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(error)) => Err(translate(error)),
            Err(RaftError::Fatal(_)) => Err(ReconfigureError::Stopped),
        }
    }

    /// Asks `to` to take over leadership; returns once it was asked.
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn hand_over(&self, to: MemberId) -> Done {
        let asked = self.raft.trigger().transfer_leader(to.0).await;
        asked.map_err(|_| ReconfigureError::Stopped)
    }

    /// How far the others are; nothing where this member does not lead.
    pub fn replication(&self) -> Replication {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let nodes = metrics.membership_config.membership().nodes();
        let pending = nodes.filter(|(id, peer)| peer.pending_voter && !voters.contains(*id));
        let matched = metrics.replication.iter().flatten();
        let heard = metrics.heartbeat.iter().flatten();
        Replication {
            last_index: metrics.last_log_index.unwrap_or(0),
            matched: matched
                .map(|(id, at)| (MemberId(*id), at.as_ref().map_or(0, |at| at.index())))
                .collect(),
            silent_for: heard
                .filter_map(|(id, at)| Some((MemberId(*id), at.as_ref()?.elapsed())))
                .collect(),
            voters: voters
                .iter()
                .map(|id| MemberId(*id))
                .filter(|id| *id != self.member)
                .collect(),
            pending_voters: pending.map(|(id, _)| MemberId(*id)).collect(),
        }
    }
}

fn translate(error: ClientWriteError<TypeConfig>) -> ReconfigureError {
    match error {
        ClientWriteError::ForwardToLeader(_) => ReconfigureError::NotLeader,
        ClientWriteError::LogEntryDiscarded(_) => ReconfigureError::Unknown,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
            ReconfigureError::InProgress
        }
        other => ReconfigureError::Refused(other.to_string()),
    }
}
