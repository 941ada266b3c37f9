//! Transactions nested deeper than the protobuf library decodes: it stops at 100 levels of messages,
//! which is at 49 transactions; etcd's stops at 10,000, which is at 4,999.
//!
//! The library is asked first, and this is the second try: a usual transaction pays nothing for it.
//! One level is decoded at a time, with what lies within as bytes. It runs on a stack of its own,
//! which holds [`LEVELS_MAX`] of them, and whatever else is done to such messages.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::raft;
use pb::request_op::Request;
use prost::Message;

/// Messages within one another: what Go's protobuf library admits, and so etcd.
pub const LEVELS_MAX: usize = 10_000;

/// How deep transactions may nest to be left to the protobuf library.
pub const SHALLOW: usize = 32;

/// Bytes of stack: six kibibytes a level. Only what is used of it takes memory.
const STACK: usize = 64 << 20;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Not protobuf, or not of this type.
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    /// More than [`LEVELS_MAX`] within one another.
    #[error("proto: exceeded maximum recursion depth")]
    TooDeep,
}

/// Runs `work` where deeply nested messages have room.
pub fn with_room<R>(work: impl FnOnce() -> R) -> R {
    stacker::grow(STACK, work)
}

/// One level of a `TxnRequest`.
#[derive(Clone, PartialEq, Message)]
struct Level {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    compare: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    success: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    failure: Vec<Bytes>,
}

/// A `RequestOp` whose transaction, if it is one, is not decoded yet.
#[derive(Clone, PartialEq, Message)]
struct LevelOp {
    #[prost(oneof = "LevelRequest", tags = "1, 2, 3, 4")]
    request: Option<LevelRequest>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum LevelRequest {
    #[prost(message, tag = "1")]
    Range(pb::RangeRequest),
    #[prost(message, tag = "2")]
    Put(pb::PutRequest),
    #[prost(message, tag = "3")]
    DeleteRange(pb::DeleteRangeRequest),
    #[prost(bytes = "bytes", tag = "4")]
    Txn(Bytes),
}

/// Decodes a transaction of at most [`LEVELS_MAX`] levels. To be called [`with_room`], within which
/// the message has to end as well.
///
/// # Errors
/// The bytes are no transaction, or it is nested too deep.
pub fn txn(bytes: Bytes) -> Result<pb::TxnRequest, Undecodable> {
    level(bytes, LEVELS_MAX)
}

/// `levels` are left for this message and those within it.
fn level(bytes: Bytes, levels: usize) -> Result<pb::TxnRequest, Undecodable> {
    let below = levels.checked_sub(1).ok_or(Undecodable::TooDeep)?;
    let level = Level::decode(bytes)?;
    if below == 0 && !level.compare.is_empty() {
        return Err(Undecodable::TooDeep);
    }
    let branch = |ops: Vec<Bytes>| -> Result<Vec<pb::RequestOp>, Undecodable> {
        ops.into_iter().map(|bytes| op(bytes, below)).collect()
    };
    let compare = level.compare.into_iter().map(pb::Compare::decode);
    Ok(pb::TxnRequest {
        compare: compare.collect::<Result<_, _>>()?,
        success: branch(level.success)?,
        failure: branch(level.failure)?,
    })
}

fn op(bytes: Bytes, levels: usize) -> Result<pb::RequestOp, Undecodable> {
    let below = levels.checked_sub(1).ok_or(Undecodable::TooDeep)?;
    let Some(request) = LevelOp::decode(bytes)?.request else {
        return Ok(pb::RequestOp::default());
    };
    if below == 0 {
        return Err(Undecodable::TooDeep);
    }
    let request = match request {
        LevelRequest::Range(range) => Request::RequestRange(range),
        LevelRequest::Put(put) => Request::RequestPut(put),
        LevelRequest::DeleteRange(delete) => Request::RequestDeleteRange(delete),
        LevelRequest::Txn(bytes) => Request::RequestTxn(level(bytes, below)?),
    };
    Ok(pb::RequestOp {
        request: Some(request),
    })
}

/// `engram.raft.v1.Batch` whose operations are not decoded yet.
#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(uint32, tag = "1")]
    apply_version: u32,
    #[prost(uint64, tag = "2")]
    proposer: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(uint64, tag = "4")]
    wall_ms: u64,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    ops: Vec<Bytes>,
}

/// `engram.raft.v1.Op` of which only a transaction is of interest, not decoded yet, and who asks
/// for it.
#[derive(Clone, PartialEq, Message)]
struct Op {
    #[prost(string, tag = "2")]
    user: String,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
    #[prost(bool, tag = "4")]
    asked: bool,
    #[prost(bytes = "bytes", optional, tag = "12")]
    txn: Option<Bytes>,
}

/// Decodes a log entry's batch in which some transaction is nested deep. To be called
/// [`with_room`], within which the batch has to end as well.
///
/// # Errors
/// The bytes are no batch, or a transaction is nested too deep.
pub fn batch(bytes: Bytes) -> Result<raft::Batch, Undecodable> {
    let batch = Batch::decode(bytes)?;
    let ops = batch.ops.into_iter().map(batch_op);
    Ok(raft::Batch {
        apply_version: batch.apply_version,
        proposer: batch.proposer,
        sequence: batch.sequence,
        wall_ms: batch.wall_ms,
        ops: ops.collect::<Result<_, _>>()?,
    })
}

fn batch_op(bytes: Bytes) -> Result<raft::Op, Undecodable> {
    let shallow = match raft::Op::decode(bytes.clone()) {
        Ok(op) => return Ok(op),
        Err(error) => error,
    };
    let op = Op::decode(bytes)?;
    let Some(deep) = op.txn else {
        return Err(shallow.into());
    };
    Ok(raft::Op {
        request: Some(raft::op::Request::Txn(txn(deep)?)),
        user: op.user,
        auth_revision: op.auth_revision,
        asked: op.asked,
        ..raft::Op::default()
    })
}
