//! What a Raft entry holds: a batch of operations, as `engram.raft.v1.Batch`.
//!
//! Operations are encoded one by one where they arrive ([`encode_op`]) and only put together on the
//! proposing thread ([`join_batch`]), so that the one thread every write passes copies bytes and
//! does nothing else.

use bytes::{BufMut, Bytes, BytesMut};
use engram_proto::etcdserverpb as pb;
use engram_proto::raft;
use prost::Message;
use raft::op::Request;

use super::frame::{delimited_len, varint_len};
use super::request::Invalid;
use super::{auth, deep, proto, request};
use crate::types::auth::Identity;
use crate::types::request::{Alarm, AlarmType, Asked, Compact, LeaseGrant, MemberAttributes, Op};
use crate::types::{LeaseId, MemberId};

/// The rules by which this build applies a batch. A change of meaning is a new number.
pub const APPLY_VERSION: u32 = 2;
/// Those of a batch in which nobody is named and no user changed: releases that know neither apply
/// it as this one does.
const WITHOUT_USERS: u32 = 1;

/// The tag of `Batch.ops`.
const OPS_TAG: u8 = 0x2a;

/// Whose batch it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// The member that answers the callers.
    pub proposer: MemberId,
    /// The proposer's number for the batch.
    pub sequence: u64,
    /// The proposer's wall clock, milliseconds since 1970.
    pub wall_ms: u64,
}

/// Why a batch cannot be applied by this build.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The entry asks for rules that this build does not have.
    #[error(
        "the log holds an entry of apply version {found}, this build knows versions up to \
         {APPLY_VERSION}: upgrade this member to the release the others run"
    )]
    UnknownVersion {
        /// The version the entry names.
        found: u32,
    },
    /// The bytes are not a batch.
    #[error("a log entry is not a valid batch: {0}; the log is damaged: replace this member")]
    Protobuf(#[from] deep::Undecodable),
    /// An operation that no edge would have let through.
    #[error(
        "a log entry holds an invalid operation ({0}); the log is damaged: replace this member"
    )]
    Invalid(#[from] Invalid),
    /// An operation of no kind this build knows.
    #[error(
        "a log entry holds an operation this build does not know ({0}): upgrade this member to \
         the release the others run"
    )]
    UnknownOperation(&'static str),
}

/// Encodes one operation, to be put into a batch.
pub fn encode_op(op: &Op) -> Bytes {
    match op.bare() {
        Op::Txn(txn) if txn.nests_deeper_than(deep::SHALLOW) => deep::with_room(|| encode(op)),
        _ => encode(op),
    }
}

fn encode(op: &Op) -> Bytes {
    let by = op.by().cloned();
    let asked = by.is_some();
    let Identity { user, revision } = by.unwrap_or_default();
    let message = raft::Op {
        request: Some(op_request(op.bare())),
        user,
        auth_revision: revision,
        asked,
        ..raft::Op::default()
    };
    Bytes::from(message.encode_to_vec())
}

fn op_request(op: &Op) -> Request {
    match op {
        Op::Put(put) => Request::Put(proto::put(put)),
        Op::DeleteRange(delete) => Request::DeleteRange(proto::delete_range(delete)),
        Op::Txn(txn) => Request::Txn(proto::txn(txn)),
        Op::Compact(compact) => Request::Compact(pb::CompactionRequest {
            revision: compact.revision,
            physical: false,
        }),
        Op::LeaseGrant(grant) => Request::LeaseGrant(pb::LeaseGrantRequest {
            ttl: grant.ttl_seconds,
            id: grant.id.0,
        }),
        Op::LeaseRevoke(id) => Request::LeaseRevoke(pb::LeaseRevokeRequest { id: id.0 }),
        Op::Alarm(alarm) => Request::Alarm(alarm_request(*alarm)),
        Op::PublishMember {
            member,
            incarnation,
            attributes,
        } => Request::PublishMember(raft::PublishMember {
            member: member.0,
            incarnation: *incarnation,
            name: attributes.name.clone(),
            client_urls: attributes.client_urls.clone(),
            apply_version: attributes.apply_version,
        }),
        Op::SetClusterVersion(version) => Request::ClusterVersion(version.clone()),
        Op::Auth(op) => Request::Auth(auth::to_message(op)),
        Op::By(_) => unreachable!("who asks was taken off"),
    }
}

fn alarm_request(alarm: Alarm) -> pb::AlarmRequest {
    let (action, member, kind) = match alarm {
        Alarm::Activate(member, kind) => (1, member, kind),
        Alarm::Deactivate(member, kind) => (2, member, kind),
    };
    pb::AlarmRequest {
        action,
        member_id: member.0,
        alarm: proto::alarm_type(kind),
    }
}

/// How many bytes an encoded operation takes in a batch.
#[inline]
pub fn len_in_batch(encoded_op: &Bytes) -> usize {
    delimited_len(encoded_op.len())
}

/// Puts encoded operations together, in order.
/// `has_users`: some of them need [`Op::needs_users`].
pub fn join_batch(header: &BatchHeader, encoded_ops: &[Bytes], has_users: bool) -> Bytes {
    let head = raft::Batch {
        apply_version: match has_users {
            true => APPLY_VERSION,
            false => WITHOUT_USERS,
        },
        proposer: header.proposer.0,
        sequence: header.sequence,
        wall_ms: header.wall_ms,
        ops: Vec::new(),
    };
    let ops: usize = encoded_ops.iter().map(len_in_batch).sum();
    let mut out = BytesMut::with_capacity(head.encoded_len() + ops);
    head.encode(&mut out)
        .expect("the buffer has room for the batch's head");
    for op in encoded_ops {
        out.put_u8(OPS_TAG);
        put_varint(&mut out, op.len());
        out.put_slice(op);
    }
    out.freeze()
}

fn put_varint(out: &mut BytesMut, value: usize) {
    let mut rest = value as u64;
    for _ in 1..varint_len(rest) {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Encodes a batch in one go.
pub fn encode_batch(header: &BatchHeader, ops: &[Op]) -> Bytes {
    let has_users = ops.iter().any(Op::needs_users);
    let encoded: Vec<_> = ops.iter().map(encode_op).collect();
    join_batch(header, &encoded, has_users)
}

/// Decodes a batch. Keys and values share the memory of `bytes`.
///
/// # Errors
/// The bytes are damaged, or made by a newer release. Either way the member must stop.
pub fn decode_batch(bytes: Bytes) -> Result<(BatchHeader, Vec<Op>), DecodeError> {
    match raft::Batch::decode(bytes.clone()) {
        Ok(batch) => translate(batch),
        Err(_) => deep::with_room(|| translate(deep::batch(bytes)?)),
    }
}

fn translate(batch: raft::Batch) -> Result<(BatchHeader, Vec<Op>), DecodeError> {
    if !(WITHOUT_USERS..=APPLY_VERSION).contains(&batch.apply_version) {
        return Err(DecodeError::UnknownVersion {
            found: batch.apply_version,
        });
    }
    let header = BatchHeader {
        proposer: MemberId(batch.proposer),
        sequence: batch.sequence,
        wall_ms: batch.wall_ms,
    };
    let ops = batch
        .ops
        .into_iter()
        .map(decode_op)
        .collect::<Result<_, _>>()?;
    Ok((header, ops))
}

fn decode_op(op: raft::Op) -> Result<Op, DecodeError> {
    let by = op.asked.then_some(Identity {
        user: op.user,
        revision: op.auth_revision,
    });
    let op = decode_request(op.request)?;
    Ok(match by {
        None => op,
        Some(by) => Op::By(Box::new(Asked { by, op })),
    })
}

fn decode_request(request: Option<Request>) -> Result<Op, DecodeError> {
    let request = request.ok_or(DecodeError::UnknownOperation("it has no known field"))?;
    Ok(match request {
        Request::Put(put) => Op::Put(request::put(put)?),
        Request::DeleteRange(delete) => Op::DeleteRange(request::delete_range(delete)?),
        Request::Txn(txn) => Op::Txn(request::txn(txn, usize::MAX)?),
        Request::Compact(compact) => Op::Compact(Compact {
            revision: compact.revision,
        }),
        Request::LeaseGrant(grant) => Op::LeaseGrant(LeaseGrant {
            id: LeaseId(grant.id),
            ttl_seconds: grant.ttl,
        }),
        Request::LeaseRevoke(revoke) => Op::LeaseRevoke(LeaseId(revoke.id)),
        Request::Alarm(alarm) => Op::Alarm(decode_alarm(&alarm)?),
        Request::PublishMember(publish) => Op::PublishMember {
            member: MemberId(publish.member),
            incarnation: publish.incarnation,
            attributes: MemberAttributes {
                name: publish.name,
                client_urls: publish.client_urls,
                apply_version: publish.apply_version,
            },
        },
        Request::ClusterVersion(version) => Op::SetClusterVersion(version),
        Request::Auth(op) => {
            let op = auth::from_message(op);
            Op::Auth(op.ok_or(DecodeError::UnknownOperation("a change of users"))?)
        }
    })
}

fn decode_alarm(alarm: &pb::AlarmRequest) -> Result<Alarm, DecodeError> {
    let kind = match alarm.alarm {
        1 => AlarmType::NoSpace,
        2 => AlarmType::Corrupt,
        _ => return Err(DecodeError::UnknownOperation("an alarm of unknown kind")),
    };
    let member = MemberId(alarm.member_id);
    match alarm.action {
        1 => Ok(Alarm::Activate(member, kind)),
        2 => Ok(Alarm::Deactivate(member, kind)),
        _ => Err(DecodeError::UnknownOperation(
            "an alarm action of unknown kind",
        )),
    }
}
