//! Random operations on the state and on the model ([`Trial`]).

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixture::{KEYS, Step, Trial, without_duplicates};
use crate::types::request::{
    Compact, Compare, CompareResult, CompareTarget, DeleteRange, LeaseGrant, Op, Put, Range,
    SortOrder, SortTarget, Txn, TxnOp,
};
use crate::types::{KeyRange, LeaseId, RangeEnd};

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(KEYS.to_vec()).prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        2 => Just(RangeEnd::SingleKey),
        1 => Just(RangeEnd::Unbounded),
        3 => key().prop_map(RangeEnd::Before),
    ];
    (key(), end).prop_map(|(start, end)| KeyRange { start, end })
}

fn value() -> impl Strategy<Value = Bytes> {
    vec(0u8..4, 0..12).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (0i64..4).prop_map(LeaseId)
}

fn put() -> impl Strategy<Value = Put> {
    let flag = || prop::bool::weighted(0.2);
    (key(), value(), lease(), flag(), flag(), flag()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| {
            let lease = if ignore_lease { LeaseId::NONE } else { lease };
            let value = if ignore_value { Bytes::new() } else { value };
            Put {
                key,
                value,
                lease,
                prev_kv,
                ignore_value,
                ignore_lease,
            }
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

fn query() -> impl Strategy<Value = Range> {
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let bound = || prop_oneof![4 => Just(0i64), 1 => 1i64..30];
    let flag = || prop::bool::weighted(0.2);
    let revision = prop_oneof![2 => Just(0i64), 3 => -2i64..40];
    let what = (range(), -1i64..5, revision, target, order, flag(), flag());
    (what, bound(), bound(), bound(), bound()).prop_map(
        |(what, min_mod_revision, max_mod_revision, min_create_revision, max_create_revision)| {
            let (range, limit, revision, sort_target, sort_order, keys_only, count_only) = what;
            Range {
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision,
                max_mod_revision,
                min_create_revision,
                max_create_revision,
                ..Range::all(range)
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0i64..4).prop_map(CompareTarget::Version),
        (0i64..20).prop_map(CompareTarget::Create),
        (0i64..20).prop_map(CompareTarget::Mod),
        value().prop_map(CompareTarget::Value),
        (0i64..4).prop_map(CompareTarget::Lease),
    ];
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ]);
    (range(), result, target).prop_map(|(range, result, target)| Compare {
        range,
        result,
        target,
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    let op = prop_oneof![
        query().prop_map(TxnOp::Range),
        put().prop_map(TxnOp::Put),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::DeleteRange),
    ];
    let flat = |op| {
        (vec(compare(), 0..2), vec(op, 0..4)).prop_flat_map(|(compare, success)| {
            let failure = success.iter().rev().cloned().collect();
            Just(Txn {
                compare,
                success,
                failure,
            })
        })
    };
    let op = op.boxed();
    let nested = prop_oneof![4 => op.clone(), 1 => flat(op).prop_map(TxnOp::Txn)];
    (
        vec(compare(), 0..2),
        vec(nested.clone(), 0..4),
        vec(nested, 0..4),
    )
        .prop_map(|(compare, success, failure)| {
            let mut txn = Txn {
                compare,
                success,
                failure,
            };
            for branch in [&mut txn.success, &mut txn.failure] {
                without_duplicates(branch, &mut Vec::new());
            }
            txn
        })
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        8 => put().prop_map(Op::Put),
        3 => delete().prop_map(Op::DeleteRange),
        4 => txn().prop_map(Op::Txn),
        2 => (-1i64..40).prop_map(|revision| Op::Compact(Compact { revision })),
        2 => (1i64..4).prop_map(|id| Op::LeaseGrant(LeaseGrant { id: LeaseId(id), ttl_seconds: 9 })),
        1 => (1i64..4).prop_map(|id| Op::LeaseRevoke(LeaseId(id))),
    ];
    prop_oneof![
        12 => op.prop_map(Step::Apply),
        4 => Just(Step::Write),
        3 => (1usize..4).prop_map(Step::Reclaim),
        6 => query().prop_map(Step::Ask),
        2 => (0i64..40).prop_map(Step::Hash),
        1 => (0i64..4).prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_state_answers_as_the_model_does(
        steps in vec(step(), 1..80),
        cache_bytes in prop::sample::select(vec![0usize, 200, 1 << 20]),
    ) {
        let mut trial = Trial::new(cache_bytes);
        for step in steps {
            trial.take(step);
        }
        trial.finish();
    }
}
