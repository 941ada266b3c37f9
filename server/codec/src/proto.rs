//! The domain's words as protobuf messages, the way back of [`super::request`]: for log entries and
//! for the answers that are not worth an encoder of their own. Keys and values are shared, not
//! copied.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;

use crate::state::MemberRecord;
use crate::types::request::{
    AlarmType, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, SortOrder,
    SortTarget, Txn, TxnOp,
};
use crate::types::result::Alarm;
use crate::types::{KeyRange, RangeEnd};

fn range_end(range: &KeyRange) -> Bytes {
    match &range.end {
        RangeEnd::SingleKey => Bytes::new(),
        RangeEnd::Unbounded => Bytes::from_static(b"\0"),
        RangeEnd::Before(end) => end.clone(),
    }
}

/// A range.
pub fn range(range: &Range) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range.range.start.clone(),
        range_end: range_end(&range.range),
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        },
        sort_target: match range.sort_target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        },
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    }
}

/// A put.
pub fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.clone(),
        value: put.value.clone(),
        lease: put.lease.0,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

/// A delete.
pub fn delete_range(delete: &DeleteRange) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: delete.range.start.clone(),
        range_end: range_end(&delete.range),
        prev_kv: delete.prev_kv,
    }
}

/// A transaction.
pub fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(txn_op).collect(),
        failure: txn.failure.iter().map(txn_op).collect(),
    }
}

fn txn_op(op: &TxnOp) -> pb::RequestOp {
    let request = match op {
        TxnOp::Range(inner) => Request::RequestRange(range(inner)),
        TxnOp::Put(inner) => Request::RequestPut(put(inner)),
        TxnOp::DeleteRange(inner) => Request::RequestDeleteRange(delete_range(inner)),
        TxnOp::Txn(inner) => Request::RequestTxn(txn(inner)),
    };
    pb::RequestOp {
        request: Some(request),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    let (target, value) = match &compare.target {
        CompareTarget::Version(value) => (0, TargetUnion::Version(*value)),
        CompareTarget::Create(value) => (1, TargetUnion::CreateRevision(*value)),
        CompareTarget::Mod(value) => (2, TargetUnion::ModRevision(*value)),
        CompareTarget::Value(value) => (3, TargetUnion::Value(value.clone())),
        CompareTarget::Lease(value) => (4, TargetUnion::Lease(*value)),
    };
    pb::Compare {
        result: match compare.result {
            CompareResult::Equal => 0,
            CompareResult::Greater => 1,
            CompareResult::Less => 2,
            CompareResult::NotEqual => 3,
        },
        target,
        key: compare.range.start.clone(),
        range_end: range_end(&compare.range),
        target_union: Some(value),
    }
}

/// An alarm's kind.
pub fn alarm_type(alarm: AlarmType) -> i32 {
    match alarm {
        AlarmType::NoSpace => 1,
        AlarmType::Corrupt => 2,
    }
}

/// A raised alarm.
pub fn alarm(alarm: Alarm) -> pb::AlarmMember {
    pb::AlarmMember {
        member_id: alarm.member.0,
        alarm: alarm_type(alarm.alarm),
    }
}

/// A member as the member list shows it.
pub fn member(member: &MemberRecord) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.attributes.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.attributes.client_urls.clone(),
        is_learner: member.learner,
    }
}
