//! openraft's messages as `engram.peer.v1`, both ways. What comes from a peer is checked here: after
//! it, log ids are there where they must be, and entries follow each other.

use engram_proto::{peer as pb, raft};
use openraft::LogIdOptionExt;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotMetaOf;
use pb::append_response::Result as Appended;
use pb::transfer_leader_response::Result as Transferred;

use super::entry::{self, EntryError};
use super::{LogId, StoredMembership, TypeConfig, Vote, sane};
use crate::codec::entry::DecodeError;

/// A message of a peer that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field is not there that must be.
    #[error("a peer's message has no {0}")]
    Missing(&'static str),
    /// The entries of an append do not follow each other.
    #[error("a peer's append has a gap at entry {index}")]
    Gap {
        /// The entry after the gap.
        index: u64,
    },
    /// An entry cannot be decoded.
    #[error("a peer's entry cannot be decoded: {0}")]
    Entry(#[from] EntryError),
    /// A batch cannot be applied by this build.
    #[error("a peer's entry cannot be applied: {0}")]
    Batch(#[from] DecodeError),
    /// The follower lacks an entry that it has acknowledged.
    #[error("a follower lacks entry {index}, which it has acknowledged")]
    Forgotten {
        /// The entry.
        index: u64,
    },
    /// No correct member says so.
    #[error("a peer's message makes no sense: {0}")]
    Nonsense(&'static str),
}

fn id(log_id: Option<&LogId>) -> Option<raft::LogId> {
    log_id.map(entry::log_id_message)
}

fn read_id(message: Option<raft::LogId>) -> Result<Option<LogId>, WireError> {
    message.map(read_log_id).transpose()
}

fn read_log_id(message: raft::LogId) -> Result<LogId, WireError> {
    let id = entry::log_id(message.term, message.index);
    sane::check_id(&id)?;
    Ok(id)
}

fn vote(vote: &Vote) -> Option<raft::Vote> {
    Some(entry::vote_message(vote))
}

pub(super) fn read_vote(message: Option<raft::Vote>) -> Result<Vote, WireError> {
    let message = message.ok_or(WireError::Missing("vote"))?;
    let vote = entry::read_vote(&message);
    sane::check_term(&vote)?;
    Ok(vote)
}

pub(super) fn append_request(request: AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: vote(&request.vote),
        prev: id(request.prev_log_id.as_ref()),
        committed: id(request.leader_commit.as_ref()),
        entries: request.entries.iter().map(entry::to_message).collect(),
    }
}

pub(super) fn read_append_request(
    message: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let prev_log_id = read_id(message.prev)?;
    let mut next = prev_log_id.next_index();
    for entry in &message.entries {
        if entry.index != next {
            return Err(WireError::Gap { index: entry.index });
        }
        next = next.saturating_add(1);
    }
    let entries = message.entries.into_iter().map(entry::from_message);
    Ok(AppendEntriesRequest {
        vote: read_vote(message.vote)?,
        prev_log_id,
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: read_id(message.committed)?,
    })
}

pub(super) fn append_response(result: StreamAppendResult<TypeConfig>) -> pb::AppendResponse {
    let result = match result {
        Ok(last) => Appended::Matched(pb::Matched {
            last: id(last.as_ref()),
        }),
        Err(StreamAppendError::Conflict(at)) => Appended::Conflict(entry::log_id_message(&at)),
        Err(StreamAppendError::HigherVote(vote)) => {
            Appended::HigherVote(entry::vote_message(&vote))
        }
    };
    pb::AppendResponse {
        result: Some(result),
        short_of_room: false,
    }
}

pub(super) fn read_append_response(
    message: pb::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, WireError> {
    Ok(match message.result.ok_or(WireError::Missing("result"))? {
        Appended::Matched(matched) => Ok(read_id(matched.last)?),
        Appended::Conflict(at) => Err(StreamAppendError::Conflict(read_log_id(at)?)),
        Appended::HigherVote(vote) => Err(StreamAppendError::HigherVote(read_vote(Some(vote))?)),
    })
}

/// The answer to a request made by itself.
pub(super) fn single_response(
    result: StreamAppendResult<TypeConfig>,
    asked: Option<LogId>,
) -> AppendEntriesResponse<TypeConfig> {
    match result {
        Ok(last) if last == asked => AppendEntriesResponse::Success,
        Ok(last) => AppendEntriesResponse::PartialSuccess(last),
        Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
        Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
    }
}

pub(super) fn vote_request(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: vote(&request.vote),
        last: id(request.last_log_id.as_ref()),
        pre_vote,
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn read_vote_request(
    message: pb::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, WireError> {
    let mut request = VoteRequest::new(read_vote(message.vote)?, read_id(message.last)?);
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(super) fn vote_response(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: vote(&response.vote),
        granted: response.vote_granted,
        last: id(response.last_log_id.as_ref()),
    }
}

pub(super) fn read_vote_response(
    message: pb::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, WireError> {
    let vote = read_vote(message.vote)?;
    Ok(VoteResponse::new(
        vote,
        read_id(message.last)?,
        message.granted,
    ))
}

pub(super) fn transfer_request(
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from: vote(request.from_leader()),
        to: *request.to_node_id(),
        last: id(request.last_log_id()),
    }
}

pub(super) fn read_transfer_request(
    message: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, WireError> {
    let from = read_vote(message.from)?;
    Ok(TransferLeaderRequest::new(
        from,
        message.to,
        read_id(message.last)?,
    ))
}

pub(super) fn transfer_response(
    response: &TransferLeaderResponse<TypeConfig>,
) -> pb::TransferLeaderResponse {
    let result = match response {
        Ok(()) => Transferred::Accepted(pb::Accepted {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Transferred::VoteChanged(pb::VoteChanged {
                expected: vote(expected),
                actual: vote(actual),
            })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Transferred::LogNotFlushed(pb::LogNotFlushed {
                expected: id(expected.as_ref()),
                actual: id(actual.as_ref()),
            })
        }
    };
    pb::TransferLeaderResponse {
        result: Some(result),
    }
}

pub(super) fn read_transfer_response(
    message: pb::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, WireError> {
    let error = match message.result.ok_or(WireError::Missing("result"))? {
        Transferred::Accepted(_) => return Ok(Ok(())),
        Transferred::VoteChanged(changed) => TransferLeaderError::VoteChanged {
            expected: read_vote(changed.expected)?,
            actual: read_vote(changed.actual)?,
        },
        Transferred::LogNotFlushed(behind) => TransferLeaderError::LogNotFlushed {
            expected: read_id(behind.expected)?,
            actual: read_id(behind.actual)?,
        },
    };
    Ok(Err(error))
}

/// How a snapshot begins: who sends it, what it is said to be, how many bytes it has.
pub fn snapshot_begin(
    sender: &Vote,
    meta: &SnapshotMetaOf<TypeConfig>,
    bytes: u64,
) -> pb::SnapshotBegin {
    pb::SnapshotBegin {
        vote: vote(sender),
        last: id(meta.last_log_id.as_ref()),
        membership_at: id(meta.last_membership.log_id().as_ref()),
        membership: Some(entry::membership_message(meta.last_membership.membership())),
        bytes,
    }
}

pub(super) fn read_snapshot_begin(
    message: pb::SnapshotBegin,
) -> Result<(Vote, SnapshotMetaOf<TypeConfig>), WireError> {
    let membership = message
        .membership
        .ok_or(WireError::Missing("membership"))
        .and_then(|membership| Ok(entry::read_membership(membership)?))?;
    let meta = SnapshotMetaOf::<TypeConfig> {
        last_log_id: read_id(message.last)?,
        last_membership: StoredMembership::new(read_id(message.membership_at)?, membership),
    };
    Ok((read_vote(message.vote)?, meta))
}
