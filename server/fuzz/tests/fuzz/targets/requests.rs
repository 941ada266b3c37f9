//! Clients' requests: what is understood of one can be said again, and is understood in the same way.

use bytes::Bytes;
use engram_codec::{proto, request};
use engram_proto::etcdserverpb as pb;
use prost::Message;

use super::{Target, numbered};

pub const TARGET: Target = Target {
    name: "requests",
    run,
    seeds,
    cases: 60_000,
};

/// As `--max-txn-ops`.
const OPERATIONS_MAX: usize = 128;

fn run(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else {
        return;
    };
    let message = Bytes::copy_from_slice(message);
    match kind % 6 {
        0 => same(&message, request::range, proto::range),
        1 => same(&message, request::put, proto::put),
        2 => same(&message, request::delete_range, proto::delete_range),
        3 => txn(message),
        4 => {
            if let Ok(message) = pb::WatchRequest::decode(message) {
                drop(request::watch(message));
            }
        }
        _ => drop(request::raft_request_len(message.len())),
    }
}

fn same<M: Message + Default, T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &Bytes,
    read: impl Fn(M) -> Result<T, E>,
    say: impl Fn(&T) -> M,
) {
    let Ok(message) = M::decode(bytes.clone()) else {
        return;
    };
    if let Ok(once) = read(message) {
        let again = read(say(&once)).expect("it was understood before");
        assert_eq!(once, again);
    }
}

fn txn(bytes: Bytes) {
    if let Ok(once) = request::decode_txn(bytes, OPERATIONS_MAX) {
        let said = proto::txn(&once).encode_to_vec();
        let again = request::decode_txn(said.into(), OPERATIONS_MAX);
        assert_eq!(once, again.expect("it was understood before"));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        limit: 5,
        revision: 7,
        sort_order: 2,
        sort_target: 4,
        max_create_revision: 9,
        ..pb::RangeRequest::default()
    };
    let put = pb::PutRequest {
        key: "a".into(),
        value: "b".into(),
        lease: 3,
        prev_kv: true,
        ..pb::PutRequest::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        prev_kv: true,
    };
    let compare = |target, result, value| pb::Compare {
        result,
        target,
        key: "a".into(),
        range_end: Bytes::new(),
        target_union: Some(value),
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let inner = pb::TxnRequest {
        compare: vec![compare(4, 0, pb::compare::TargetUnion::Lease(3))],
        success: vec![op(pb::request_op::Request::RequestRange(range.clone()))],
        failure: vec![],
    };
    let txn = pb::TxnRequest {
        compare: vec![
            compare(3, 1, pb::compare::TargetUnion::Value("v".into())),
            compare(0, 3, pb::compare::TargetUnion::Version(2)),
        ],
        success: vec![
            op(pb::request_op::Request::RequestPut(put.clone())),
            op(pb::request_op::Request::RequestTxn(inner)),
        ],
        failure: vec![op(pb::request_op::Request::RequestDeleteRange(
            delete.clone(),
        ))],
    };
    let create = pb::WatchCreateRequest {
        key: "a".into(),
        start_revision: 5,
        filters: vec![0, 1],
        ..pb::WatchCreateRequest::default()
    };
    let watch = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let messages = [
        range.encode_to_vec(),
        put.encode_to_vec(),
        delete.encode_to_vec(),
        txn.encode_to_vec(),
        watch.encode_to_vec(),
    ];
    numbered(messages)
}
