//! The edge, asked by itself: a message in, the answer's message out.

use bytes::{Bytes, BytesMut};
use engram_proto::etcdserverpb as pb;
use futures_util::StreamExt;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use prost::Message;

use super::super::Edge;
use super::super::backend::Backend;
use super::super::caller::{Caller, Credentials};
use super::super::error::Refusal;
use super::{SESSION_TTL_SECONDS, end_of};
use crate::codec::{Frame, PREFIX_LEN, Piece};
use crate::types::KeyRange;

/// Asks in the name of a caller: who that is, and what it may do, is looked up for each step, since a
/// wait may be longer than both stay as they are.
pub(in super::super) struct Asking<B> {
    edge: Edge<B>,
    credentials: Credentials,
}

impl<B> Clone for Asking<B> {
    fn clone(&self) -> Asking<B> {
        Asking {
            edge: self.edge.clone(),
            credentials: self.credentials.clone(),
        }
    }
}

impl<B: Backend> Edge<B> {
    /// The edge, asked in the name of whom these credentials are.
    pub(in super::super) fn asking(&self, credentials: Credentials) -> Asking<B> {
        let edge = self.clone();
        Asking { edge, credentials }
    }
}

impl<B: Backend> Asking<B> {
    pub(super) fn backend(&self) -> &B {
        self.edge.backend()
    }

    async fn caller(&self) -> Result<Caller, Refusal> {
        self.edge.holder(&self.credentials).await
    }

    pub(super) async fn range(
        &self,
        query: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Refusal> {
        let caller = self.caller().await?;
        gather(self.edge.range(message(query), &caller).await?).await
    }

    pub(super) async fn txn(&self, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
        let caller = self.caller().await?;
        gather(self.edge.txn(message(txn), &caller).await?).await
    }

    pub(super) async fn delete(&self, key: Bytes) -> Result<pb::DeleteRangeResponse, Refusal> {
        let delete = pb::DeleteRangeRequest {
            key,
            ..pb::DeleteRangeRequest::default()
        };
        let caller = self.caller().await?;
        gather(self.edge.delete_range(message(&delete), &caller).await?).await
    }

    /// The lease that a call goes by: its own, or a new one where it names none.
    pub(super) async fn session(&self, lease: i64) -> Result<i64, Refusal> {
        if lease != 0 {
            return Ok(lease);
        }
        self.caller().await?.authenticated()?;
        let grant = pb::LeaseGrantRequest {
            ttl: SESSION_TTL_SECONDS,
            id: 0,
        };
        let granted = self.edge.lease_grant(message(&grant)).await?;
        let granted: pb::LeaseGrantResponse = gather(granted).await?;
        Ok(granted.id)
    }

    /// Whether the caller may still be told of a range.
    pub(super) async fn check_may_read(&self, range: &KeyRange) -> Result<(), Refusal> {
        let caller = self.caller().await?;
        self.edge
            .check(&caller, |auth, by| auth.may_read(by, range))
    }
}

fn message(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// The message of a frame, with all that comes in pages.
async fn gather<M: Message + Default>(frame: Frame) -> Result<M, Refusal> {
    let (first, more, mut pages) = frame.into_pieces();
    let mut bytes = BytesMut::from(&first[PREFIX_LEN..]);
    for piece in more {
        let run = match piece {
            Piece::Bytes(piece) => {
                bytes.extend_from_slice(&piece);
                continue;
            }
            Piece::Run(run) => run,
        };
        let (end, pages) = (bytes.len() + run, pages.as_mut());
        let pages = pages.expect("an answer with a run has pages");
        while bytes.len() < end {
            let page = pages.0.next().await.and_then(Result::ok);
            bytes.extend_from_slice(&page.ok_or(Refusal::TIMEOUT)?);
        }
    }
    Ok(M::decode(bytes.freeze()).expect("an answer of this server is a message"))
}

/// A read of one key.
pub(super) fn get(key: Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key,
        ..pb::RangeRequest::default()
    }
}

/// A read of the oldest key with a prefix.
pub(super) fn oldest(prefix: &Bytes) -> pb::RangeRequest {
    of_prefix(prefix, pb::range_request::SortOrder::Ascend)
}

/// A read of the youngest key with a prefix, of those created at `created_max` or before. Its value
/// is left out.
pub(super) fn youngest(prefix: &Bytes, created_max: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        max_create_revision: created_max,
        keys_only: true,
        ..of_prefix(prefix, pb::range_request::SortOrder::Descend)
    }
}

fn of_prefix(prefix: &Bytes, order: pb::range_request::SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: order.into(),
        sort_target: pb::range_request::SortTarget::Create.into(),
        ..pb::RangeRequest::default()
    }
}

/// A put with a lease.
pub(super) fn put(key: Bytes, value: Bytes, lease: i64) -> Request {
    Request::RequestPut(pb::PutRequest {
        key,
        value,
        lease,
        ..pb::PutRequest::default()
    })
}

/// What is done where `key` was created at `created` (0: where there is none), and otherwise.
pub(super) fn if_created(
    key: Bytes,
    created: i64,
    then: Vec<Request>,
    otherwise: Vec<Request>,
) -> pb::TxnRequest {
    let operations = |requests: Vec<Request>| {
        let wrapped = requests.into_iter().map(|request| pb::RequestOp {
            request: Some(request),
        });
        wrapped.collect()
    };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key,
            target_union: Some(TargetUnion::CreateRevision(created)),
            ..pb::Compare::default()
        }],
        success: operations(then),
        failure: operations(otherwise),
    }
}
