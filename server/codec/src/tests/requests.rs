//! Requests as etcd takes and refuses them.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use prost::Message;

use crate::entry::{BatchHeader, decode_batch, encode_batch};
use crate::types::LeaseId;
use crate::types::request::{CompareResult, CompareTarget, Op, Txn, TxnOp};
use crate::{Invalid, TxnRefused, Undecodable, request};

fn request_op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn pb_puts(count: usize) -> Vec<pb::RequestOp> {
    let put = |n: usize| pb::PutRequest {
        key: format!("{n}").into(),
        ..Default::default()
    };
    (0..count)
        .map(|n| request_op(pb::request_op::Request::RequestPut(put(n))))
        .collect()
}

fn pb_nested(inner: pb::TxnRequest) -> pb::RequestOp {
    request_op(pb::request_op::Request::RequestTxn(inner))
}

#[test]
fn a_nested_transaction_has_what_its_parent_leaves_of_the_operations() {
    let of = |count, nested: usize| {
        let mut success = pb_puts(count);
        success.push(pb_nested(pb::TxnRequest {
            success: pb_puts(nested),
            ..Default::default()
        }));
        request::txn(
            pb::TxnRequest {
                success,
                ..Default::default()
            },
            128,
        )
    };
    assert!(of(125, 2).is_ok());
    assert_eq!(of(127, 2), Err(Invalid::TooManyOperations));
    assert_eq!(of(128, 0), Err(Invalid::TooManyOperations));
}

#[test]
fn mistakes_answer_in_etcds_order() {
    let compare = pb::Compare::default();
    let broken = pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp::default()],
        failure: vec![],
    };
    assert_eq!(
        request::txn(broken.clone(), 0),
        Err(Invalid::TooManyOperations)
    );
    assert_eq!(request::txn(broken.clone(), 9), Err(Invalid::EmptyKey));
    let no_compare = pb::TxnRequest {
        compare: vec![],
        ..broken
    };
    assert_eq!(request::txn(no_compare, 9), Err(Invalid::EmptyOperation));
    let range = pb::RangeRequest {
        sort_order: 9,
        ..Default::default()
    };
    assert_eq!(request::range(range.clone()), Err(Invalid::EmptyKey));
    let keyed = pb::RangeRequest {
        key: "a".into(),
        ..range
    };
    assert_eq!(request::range(keyed), Err(Invalid::SortOption));
    let put = pb::PutRequest {
        key: "a".into(),
        value: "v".into(),
        lease: 3,
        ignore_value: true,
        ignore_lease: true,
        prev_kv: false,
    };
    assert_eq!(request::put(put.clone()), Err(Invalid::ValueProvided));
    assert_eq!(
        request::put(pb::PutRequest {
            value: Bytes::new(),
            ..put
        }),
        Err(Invalid::LeaseProvided)
    );
}

/// A put within `depth` transactions, encoded.
fn encoded_nested(depth: usize) -> Bytes {
    let mut encoded = pb::TxnRequest {
        success: pb_puts(1),
        ..Default::default()
    }
    .encode_to_vec();
    for _ in 1..depth {
        // `RequestOp.request_txn`, and that in `TxnRequest.failure`.
        for tag in [4, 3] {
            let mut outer = Vec::with_capacity(encoded.len() + 8);
            prost::encoding::bytes::encode(tag, &encoded, &mut outer);
            encoded = outer;
        }
    }
    encoded.into()
}

/// How deep the transaction nests along its first operations.
fn depth_of(txn: &Txn) -> usize {
    let (mut txn, mut depth) = (txn, 1);
    while let Some(TxnOp::Txn(inner)) = txn.success.first().or(txn.failure.first()) {
        (txn, depth) = (inner, depth + 1);
    }
    depth
}

#[test]
fn transactions_nest_as_deep_as_in_etcd_and_come_back_from_the_log() {
    for depth in [1, 40, 41, 49, 50, 128, 129, 4_999] {
        let bytes = encoded_nested(depth);
        let txn = request::decode_txn(bytes.clone(), depth).unwrap();
        assert_eq!(depth_of(&txn), depth);
        let too_many = request::decode_txn(bytes, depth - 1);
        assert!(matches!(
            too_many,
            Err(TxnRefused::Invalid(Invalid::TooManyOperations))
        ));
        let ops = [Op::LeaseRevoke(LeaseId(7)), Op::Txn(txn)];
        let encoded = encode_batch(&BatchHeader::default(), &ops);
        let (_, back) = decode_batch(encoded.clone()).unwrap();
        assert_eq!(back[0], ops[0]);
        let Op::Txn(txn) = &back[1] else {
            panic!("a transaction comes back as one")
        };
        assert_eq!(depth_of(txn), depth);
        assert_eq!(encode_batch(&BatchHeader::default(), &back), encoded);
    }
}

#[test]
fn deeper_than_etcd_decodes_is_refused_whatever_is_admitted() {
    for depth in [5_001, 20_000] {
        let refused = request::decode_txn(encoded_nested(depth), usize::MAX);
        assert!(matches!(
            refused,
            Err(TxnRefused::Undecodable(Undecodable::TooDeep))
        ));
    }
    let mut broken = encoded_nested(300).to_vec();
    broken.pop();
    let refused = request::decode_txn(broken.into(), usize::MAX);
    assert!(matches!(
        refused,
        Err(TxnRefused::Undecodable(Undecodable::Protobuf(_)))
    ));
}

#[test]
fn compares_of_unknown_kind_mean_what_etcd_makes_of_them() {
    let of = |target, result, value| {
        let compare = pb::Compare {
            result,
            target,
            key: "k".into(),
            target_union: value,
            ..Default::default()
        };
        let message = pb::TxnRequest {
            compare: vec![compare],
            ..Default::default()
        };
        request::txn(message, 9)
            .unwrap()
            .compare
            .pop()
            .map(|c| (c.result, c.target))
    };
    // Zero equals zero: holds always, so it is left out; anything else never does.
    assert_eq!(of(9, 0, None), None);
    assert_eq!(
        of(9, 1, None),
        Some((CompareResult::Less, CompareTarget::Version(i64::MIN)))
    );
    // An unknown relation holds, but a value has to be there.
    assert_eq!(of(0, 7, None), None);
    assert_eq!(
        of(3, 7, None),
        Some((CompareResult::Greater, CompareTarget::Version(0)))
    );
    // A value of another type than the target counts as zero.
    let lease = Some(pb::compare::TargetUnion::Lease(4));
    assert_eq!(
        of(0, 0, lease),
        Some((CompareResult::Equal, CompareTarget::Version(0)))
    );
}
