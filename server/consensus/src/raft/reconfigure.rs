//! Changes of the membership and of leadership, on the leader. Whether a change is wise is the
//! caller's question; here it is made, and what openraft says of it translated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};
use openraft::{ChangeMembers, EntryPayload, ServerState};

use super::{Consensus, LogId, Membership, Peer, TypeConfig, entry};
use crate::types::MemberId;

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconfigureError {
    /// This member does not lead (any more).
    #[error("not the leader")]
    NotLeader,
    /// An earlier change is not committed yet, or nothing of this leader's term is. Nothing has
    /// happened.
    #[error("another membership change is under way")]
    InProgress,
    /// The configuration is not the one that the change was to start from (any more), or the leader
    /// of another term. Nothing has happened.
    #[error("the membership has changed meanwhile")]
    Changed,
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
    /// Who is best prepared to lead: the voter, heard of within `silence_max` and none of the `unfit`, that
    /// has the most of the log.
    pub fn successor(&self, silence_max: Duration, unfit: &[MemberId]) -> Option<MemberId> {
        let may_lead = |id: &MemberId| {
            let silent_for = self.silent_for.get(id);
            silent_for.is_some_and(|silent| *silent < silence_max) && !unfit.contains(id)
        };
        let voters = self.voters.iter().filter(|id| may_lead(id));
        let matched = |id: &MemberId| self.matched.get(id).copied().unwrap_or(0);
        voters.copied().max_by_key(matched)
    }
}

/// The configuration in force at a leader, and its term. A change is made on top of exactly this or
/// not at all: what was checked is what is changed.
///
/// Every change is one entry (openraft lets one voter come or go at a time): it is in the log or it
/// is not, whoever waits for it, and no configuration is left joint.
#[derive(Clone, Debug)]
pub struct Configuration {
    term: u64,
    at: Option<LogId>,
    membership: Membership,
}

impl Configuration {
    /// The entry that made it.
    pub fn index(&self) -> u64 {
        self.at.as_ref().map_or(0, LogId::index)
    }

    /// Whether two sets of voters have to agree: members of earlier releases changed the membership
    /// in two entries, of which the second may never have come.
    pub fn is_joint(&self) -> bool {
        self.membership.get_joint_config().len() > 1
    }

    /// The voters that it has, or, where it is joint, is about to have.
    fn voters(&self) -> BTreeSet<u64> {
        let configs = self.membership.get_joint_config();
        configs.last().cloned().unwrap_or_default()
    }

    fn nodes(&self) -> BTreeMap<u64, Peer> {
        let nodes = self.membership.nodes();
        nodes.map(|(id, peer)| (*id, peer.clone())).collect()
    }

    fn unchanged(&self) -> [Precondition<TypeConfig>; 2] {
        let committed_leader_id = entry::leader_of(self.term);
        let last_membership_log_id = self.at;
        [
            Precondition::CommittedLeaderId {
                committed_leader_id,
            },
            Precondition::LastMembershipLogId {
                last_membership_log_id,
            },
        ]
    }
}

impl Consensus {
    /// The configuration that a change starts from; none where this member does not lead.
    pub fn configuration(&self) -> Option<Configuration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state == ServerState::Leader;
        leads.then(|| Configuration {
            term: metrics.current_term,
            at: *metrics.membership_config.log_id(),
            membership: metrics.membership_config.membership().clone(),
        })
    }

    /// Ends a joint configuration: its last set of voters is the one that votes, and who is in none
    /// any more and voted before is gone.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn finish(&self, on: &Configuration) -> Done {
        let voters = on.voters();
        let mut nodes = on.nodes();
        let leave = on.membership.voter_ids().filter(|id| !voters.contains(id));
        for id in leave {
            nodes.remove(&id);
        }
        self.append(on, voters, nodes).await
    }

    /// Adds a learner. It is replicated to, and has no vote.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn add_learner(
        &self,
        on: &Configuration,
        id: MemberId,
        peer_urls: Vec<String>,
        pending_voter: bool,
    ) -> Done {
        let node = Peer {
            peer_urls,
            pending_voter,
        };
        let mut nodes = on.nodes();
        nodes.entry(id.0).or_insert(node);
        self.append(on, on.voters(), nodes).await
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn promote(&self, on: &Configuration, id: MemberId) -> Done {
        let mut voters = on.voters();
        voters.insert(id.0);
        self.append(on, voters, on.nodes()).await
    }

    /// Removes a member, voter or learner.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn remove(&self, on: &Configuration, id: MemberId) -> Done {
        let (mut voters, mut nodes) = (on.voters(), on.nodes());
        voters.remove(&id.0);
        nodes.remove(&id.0);
        self.append(on, voters, nodes).await
    }

    /// Changes where a member's peers reach it.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn relocate(&self, on: &Configuration, id: MemberId, peer_urls: Vec<String>) -> Done {
        let known = on.membership.get_node(&id.0);
        let node = Peer {
            peer_urls,
            pending_voter: known.is_some_and(|peer| peer.pending_voter),
        };
        // It changes nobody's vote, so that openraft makes one entry of it as well.
        let change = ChangeMembers::SetNodes(BTreeMap::from([(id.0, node)]));
        let changed = self
            .raft
            .change_membership_if(change, false, on.unchanged());
        done(changed.await)
    }

    async fn append(
        &self,
        on: &Configuration,
        voters: BTreeSet<u64>,
        nodes: BTreeMap<u64, Peer>,
    ) -> Done {
        let membership = Membership::new(vec![voters], nodes);
        let membership = membership.map_err(|e| ReconfigureError::Refused(e.to_string()))?;
        let payload = EntryPayload::Blank;
        let changing = self.cease_to_be_alone().await?;
        let appended = self
            .raft
            .append_membership(membership, payload, on.unchanged());
        let appended = done(appended.await);
        drop(changing);
        self.look_whether_alone().await;
        appended
    }

    /// Asks `to` to take over leadership; returns once it was asked. This member itself leads already, as
    /// etcd has it: openraft would take no entries until another one leads, which alone never comes.
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn hand_over(&self, to: MemberId) -> Done {
        if to == self.member {
            return Ok(());
        }
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

fn done(
    changed: Result<
        ClientWriteResponse<TypeConfig>,
        RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    >,
) -> Done {
    match changed {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(error)) => Err(translate(error)),
        Err(RaftError::Fatal(_)) => Err(ReconfigureError::Stopped),
    }
}

fn translate(error: ClientWriteError<TypeConfig>) -> ReconfigureError {
    match error {
        ClientWriteError::ForwardToLeader(_) => ReconfigureError::NotLeader,
        ClientWriteError::LogEntryDiscarded(_) => ReconfigureError::Unknown,
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        ) => ReconfigureError::InProgress,
        ClientWriteError::PreconditionFailed(_) => ReconfigureError::Changed,
        other => ReconfigureError::Refused(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_over_was_heard_of_and_has_room_and_the_most_of_the_log() {
        let [near, far, silent] = [1, 2, 3].map(MemberId);
        let replication = Replication {
            last_index: 9,
            matched: BTreeMap::from([(near, 9), (far, 4), (silent, 9)]),
            silent_for: BTreeMap::from([
                (near, Duration::ZERO),
                (far, Duration::ZERO),
                (silent, Duration::from_secs(5)),
            ]),
            voters: vec![near, far, silent],
            pending_voters: Vec::new(),
        };
        let successor = |unfit: &[MemberId]| replication.successor(Duration::from_secs(1), unfit);
        assert_eq!(successor(&[]), Some(near));
        assert_eq!(
            successor(&[near]),
            Some(far),
            "what is short of room hands on at once"
        );
        assert_eq!(successor(&[near, far]), None);
    }
}
