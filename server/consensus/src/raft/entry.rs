//! Log entries, votes and log ids as bytes: `engram.raft.v1`, never a serialised Rust type.

use std::collections::BTreeSet;

use bytes::Bytes;
use engram_proto::raft as pb;
use openraft::EntryPayload;
use openraft::vote::leader_id_std::CommittedLeaderId;
use prost::Message;

use super::{Batch, Entry, LogId, Membership, Peer, Vote};
use crate::state::MemberNode;
use crate::storage::LogPosition;
use crate::types::MemberId;

/// Bytes in the log that no version of Engram has written.
#[derive(Debug, thiserror::Error)]
#[error("damaged log: {0} cannot be decoded; restore this member from the others or a backup")]
pub struct EntryError(&'static str);

/// Makes a log id.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(leader_of(term), index)
}

/// The leader of a term, as openraft names it in the entries of that term.
pub fn leader_of(term: u64) -> CommittedLeaderId<u64> {
    CommittedLeaderId { term }
}

/// openraft's log id as the store keeps it.
pub fn position(log_id: &LogId) -> LogPosition {
    LogPosition {
        term: log_id.committed_leader_id().term,
        index: log_id.index(),
    }
}

/// Encodes an entry for the log.
pub fn encode(entry: &Entry) -> Bytes {
    to_message(entry).encode_to_vec().into()
}

/// An entry as the log and the peers' messages hold it. It shares the batch's bytes.
pub fn to_message(entry: &Entry) -> pb::Entry {
    let position = position(&entry.log_id);
    let payload = match &entry.payload {
        EntryPayload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        EntryPayload::Normal(batch) => pb::entry::Payload::Batch(batch.encoded().clone()),
        EntryPayload::Membership(membership) => {
            pb::entry::Payload::Membership(membership_message(membership))
        }
    };
    pb::Entry {
        term: position.term,
        index: position.index,
        payload: Some(payload),
    }
}

/// Decodes an entry of the log. The batch in it stays encoded.
pub fn decode(bytes: Bytes) -> Result<Entry, EntryError> {
    from_message(pb::Entry::decode(bytes).map_err(|_| EntryError("an entry"))?)
}

/// Reads an entry. The batch in it stays encoded and shares the message's bytes.
pub fn from_message(entry: pb::Entry) -> Result<Entry, EntryError> {
    let payload = match entry.payload.ok_or(EntryError("an entry's payload"))? {
        pb::entry::Payload::Blank(_) => EntryPayload::Blank,
        pb::entry::Payload::Batch(batch) => EntryPayload::Normal(Batch::from_encoded(batch)),
        pb::entry::Payload::Membership(membership) => {
            EntryPayload::Membership(read_membership(membership)?)
        }
    };
    Ok(Entry {
        log_id: log_id(entry.term, entry.index),
        payload,
    })
}

/// Encodes a membership as the store keeps it.
pub fn encode_membership(membership: &Membership) -> Bytes {
    membership_message(membership).encode_to_vec().into()
}

/// The membership of a new cluster, all of whose members vote, as the store keeps it.
pub fn first_membership(members: &[(MemberId, Vec<String>)]) -> Bytes {
    let nodes = members.iter().map(|(id, peer_urls)| MemberNode {
        id: *id,
        peer_urls: peer_urls.clone(),
        learner: false,
    });
    membership_of(&nodes.collect::<Vec<_>>())
}

/// The membership of these members, as the store keeps it: who is no learner votes.
pub fn membership_of(members: &[MemberNode]) -> Bytes {
    let nodes = members.iter().map(|member| pb::Node {
        id: member.id.0,
        peer_urls: member.peer_urls.clone(),
        learner: member.learner,
        pending_voter: false,
    });
    let voters = members.iter().filter(|member| !member.learner);
    let voters = pb::VoterSet {
        ids: voters.map(|member| member.id.0).collect(),
    };
    let membership = pb::Membership {
        configs: vec![voters],
        nodes: nodes.collect(),
    };
    membership.encode_to_vec().into()
}

/// Decodes a membership.
pub fn decode_membership(bytes: Bytes) -> Result<Membership, EntryError> {
    let membership = pb::Membership::decode(bytes).map_err(|_| EntryError("a membership"))?;
    read_membership(membership)
}

/// The members that a membership names, ascending by id. A voter to be is no learner: that is how
/// it was added, and what clients are told.
pub fn members(membership: &Membership) -> Vec<MemberNode> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership
        .nodes()
        .map(|(id, peer)| MemberNode {
            id: MemberId(*id),
            peer_urls: peer.peer_urls.clone(),
            learner: !voters.contains(id) && !peer.pending_voter,
        })
        .collect()
}

/// A membership as a message.
pub fn membership_message(membership: &Membership) -> pb::Membership {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|ids| pb::VoterSet {
            ids: ids.iter().copied().collect(),
        })
        .collect();
    let nodes = membership
        .nodes()
        .map(|(id, peer)| pb::Node {
            id: *id,
            peer_urls: peer.peer_urls.clone(),
            learner: !voters.contains(id),
            pending_voter: peer.pending_voter,
        })
        .collect();
    pb::Membership { configs, nodes }
}

/// Reads a membership.
pub fn read_membership(membership: pb::Membership) -> Result<Membership, EntryError> {
    let configs = membership
        .configs
        .into_iter()
        .map(|set| set.ids.into_iter().collect())
        .collect();
    let nodes: std::collections::BTreeMap<u64, Peer> = membership
        .nodes
        .into_iter()
        .map(|node| {
            (
                node.id,
                Peer {
                    peer_urls: node.peer_urls,
                    pending_voter: node.pending_voter,
                },
            )
        })
        .collect();
    Membership::new(configs, nodes).map_err(|_| EntryError("a membership"))
}

/// A vote as a message.
pub fn vote_message(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// Reads a vote.
pub fn read_vote(vote: &pb::Vote) -> Vote {
    let leader_id = openraft::impls::leader_id_std::LeaderId {
        term: vote.term,
        voted_for: vote.node,
    };
    Vote {
        leader_id,
        committed: vote.committed,
    }
}

/// Encodes a vote.
pub fn encode_vote(vote: &Vote) -> Bytes {
    vote_message(vote).encode_to_vec().into()
}

/// The term of a vote of the log; none where that is damaged.
pub fn voted_term(bytes: Bytes) -> Option<u64> {
    let vote = decode_vote(bytes).ok()?;
    Some(vote.leader_id.term)
}

/// Decodes a vote.
pub fn decode_vote(bytes: Bytes) -> Result<Vote, EntryError> {
    let vote = pb::Vote::decode(bytes).map_err(|_| EntryError("a vote"))?;
    Ok(read_vote(&vote))
}

/// A log id as a message.
pub fn log_id_message(log_id: &LogId) -> pb::LogId {
    let position = position(log_id);
    pb::LogId {
        term: position.term,
        index: position.index,
    }
}

/// Encodes a log id.
pub fn encode_log_id(log_id: &LogId) -> Bytes {
    log_id_message(log_id).encode_to_vec().into()
}

/// Decodes a log id.
pub fn decode_log_id(bytes: Bytes) -> Result<LogId, EntryError> {
    let id = pb::LogId::decode(bytes).map_err(|_| EntryError("a log id"))?;
    Ok(log_id(id.term, id.index))
}
