//! A client's request, checked and translated. Checks come in etcd's order.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;
use prost::Message;

use super::deep::{self, Undecodable};
use crate::types::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, SortOrder, SortTarget, Txn,
    TxnOp,
};
use crate::types::{KeyRange, LeaseId};
use crate::watch;

/// Why a request is refused before the store is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// An operation of a transaction holds no request.
    #[error("key not found")]
    EmptyOperation,
    /// An unknown sort order or target.
    #[error("invalid sort option")]
    SortOption,
    /// `ignore_value` with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// More operations than `--max-txn-ops`; one within another counts as one.
    #[error("too many operations in txn request")]
    TooManyOperations,
}

/// Why bytes are no transaction to run.
#[derive(Debug, thiserror::Error)]
pub enum TxnRefused {
    /// They are no `TxnRequest`, or one nested deeper than etcd decodes.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// It asks for what no transaction may.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Translates a range.
///
/// # Errors
/// The key is empty, or the sort option unknown.
pub fn range(message: pb::RangeRequest) -> Result<Range, Invalid> {
    if message.key.is_empty() {
        return Err(Invalid::EmptyKey);
    }
    let sort_order = match message.sort_order {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(Invalid::SortOption),
    };
    let sort_target = match message.sort_target {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        _ => return Err(Invalid::SortOption),
    };
    Ok(Range {
        range: KeyRange::from_request(message.key, message.range_end),
        limit: message.limit,
        revision: message.revision,
        sort_order,
        sort_target,
        serializable: message.serializable,
        keys_only: message.keys_only,
        count_only: message.count_only,
        min_mod_revision: message.min_mod_revision,
        max_mod_revision: message.max_mod_revision,
        min_create_revision: message.min_create_revision,
        max_create_revision: message.max_create_revision,
    })
}

/// Translates a put.
///
/// # Errors
/// The key is empty, or a value or lease comes with the wish to ignore it.
pub fn put(message: pb::PutRequest) -> Result<Put, Invalid> {
    if message.key.is_empty() {
        return Err(Invalid::EmptyKey);
    }
    if message.ignore_value && !message.value.is_empty() {
        return Err(Invalid::ValueProvided);
    }
    if message.ignore_lease && message.lease != 0 {
        return Err(Invalid::LeaseProvided);
    }
    Ok(Put {
        key: message.key,
        value: message.value,
        lease: LeaseId(message.lease),
        prev_kv: message.prev_kv,
        ignore_value: message.ignore_value,
        ignore_lease: message.ignore_lease,
    })
}

/// Translates a delete.
///
/// # Errors
/// The key is empty.
pub fn delete_range(message: pb::DeleteRangeRequest) -> Result<DeleteRange, Invalid> {
    if message.key.is_empty() {
        return Err(Invalid::EmptyKey);
    }
    let range = KeyRange::from_request(message.key, message.range_end);
    Ok(DeleteRange {
        range,
        prev_kv: message.prev_kv,
    })
}

/// Decodes a transaction, however deep it nests, and translates it: see [`txn`].
///
/// # Errors
/// The bytes are no transaction, or it is invalid.
pub fn decode_txn(bytes: Bytes, operations_max: usize) -> Result<Txn, TxnRefused> {
    match pb::TxnRequest::decode(bytes.clone()) {
        Ok(message) => Ok(txn(message, operations_max)?),
        Err(_) => deep::with_room(|| Ok(txn(deep::txn(bytes)?, operations_max)?)),
    }
}

/// Translates a transaction of at most `operations_max` operations. A nested one has what its
/// parent leaves of them: the parent uses as many as the longest of its three lists.
///
/// # Errors
/// Any of its parts is invalid, or there are too many.
pub fn txn(message: pb::TxnRequest, operations_max: usize) -> Result<Txn, Invalid> {
    let used = message
        .compare
        .len()
        .max(message.success.len())
        .max(message.failure.len());
    if used > operations_max {
        return Err(Invalid::TooManyOperations);
    }
    if message.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Invalid::EmptyKey);
    }
    let left = operations_max - used;
    let branch = |operations: Vec<pb::RequestOp>| {
        operations
            .into_iter()
            .map(|op| txn_op(op, left))
            .collect::<Result<Vec<_>, _>>()
    };
    let success = branch(message.success)?;
    let failure = branch(message.failure)?;
    let compare = message.compare.into_iter().filter_map(compare).collect();
    Ok(Txn {
        compare,
        success,
        failure,
    })
}

fn txn_op(op: pb::RequestOp, operations_max: usize) -> Result<TxnOp, Invalid> {
    match op.request.ok_or(Invalid::EmptyOperation)? {
        Request::RequestRange(message) => range(message).map(TxnOp::Range),
        Request::RequestPut(message) => put(message).map(TxnOp::Put),
        Request::RequestDeleteRange(message) => delete_range(message).map(TxnOp::DeleteRange),
        Request::RequestTxn(message) => txn(message, operations_max).map(TxnOp::Txn),
    }
}

/// Translates a compare; none for one that always holds. etcd refuses no compare: a value of
/// another type than the target counts as zero, an unknown target compares zero to zero, and an
/// unknown relation holds. Those are put into the words there are.
fn compare(message: pb::Compare) -> Option<Compare> {
    let range = KeyRange::from_request(message.key, message.range_end);
    let value = message.target_union;
    let target = match message.target {
        0 => CompareTarget::Version(if let Some(TargetUnion::Version(v)) = value {
            v
        } else {
            0
        }),
        1 => CompareTarget::Create(match value {
            Some(TargetUnion::CreateRevision(v)) => v,
            _ => 0,
        }),
        2 => CompareTarget::Mod(match value {
            Some(TargetUnion::ModRevision(v)) => v,
            _ => 0,
        }),
        3 => CompareTarget::Value(match value {
            Some(TargetUnion::Value(v)) => v,
            _ => Bytes::new(),
        }),
        4 => CompareTarget::Lease(if let Some(TargetUnion::Lease(v)) = value {
            v
        } else {
            0
        }),
        _ => return unknown_target(range, message.result),
    };
    let result = match message.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => return unknown_relation(range, &target),
    };
    Some(Compare {
        range,
        result,
        target,
    })
}

/// Zero compared to zero: only the three relations that exclude equality fail.
fn unknown_target(range: KeyRange, result: i32) -> Option<Compare> {
    let never = CompareTarget::Version(i64::MIN);
    matches!(result, 1..=3).then_some(Compare {
        range,
        result: CompareResult::Less,
        target: never,
    })
}

/// Always holds, but for the value of a key that is not there.
fn unknown_relation(range: KeyRange, target: &CompareTarget) -> Option<Compare> {
    let exists = CompareTarget::Version(0);
    matches!(target, CompareTarget::Value(_)).then_some(Compare {
        range,
        result: CompareResult::Greater,
        target: exists,
    })
}

/// Translates a message of a Watch call; none for a kind that is not known, which etcd ignores.
pub fn watch(message: pb::WatchRequest) -> Option<watch::Request> {
    use pb::watch_request::RequestUnion;
    match message.request_union? {
        RequestUnion::CreateRequest(create) => Some(watch::Request::Create(watch_create(create))),
        RequestUnion::CancelRequest(cancel) => Some(watch::Request::Cancel(cancel.watch_id)),
        RequestUnion::ProgressRequest(_) => Some(watch::Request::Progress),
    }
}

fn watch_create(message: pb::WatchCreateRequest) -> watch::Create {
    watch::Create {
        filter: watch::Filter {
            no_put: message.filters.contains(&0),
            no_delete: message.filters.contains(&1),
        },
        range: KeyRange::from_request(message.key, message.range_end),
        start_revision: message.start_revision,
        progress_notify: message.progress_notify,
        prev_kv: message.prev_kv,
        watch_id: message.watch_id,
        fragment: message.fragment,
        denied: None,
    }
}

/// The bytes etcd counts against `--max-request-bytes` for a request of `message_len` bytes: the
/// Raft request that it would wrap it in, a header with the request's id and the field around it.
pub fn raft_request_len(message_len: usize) -> usize {
    const HEADER: usize = 14;
    HEADER + super::frame::delimited_len(message_len)
}
