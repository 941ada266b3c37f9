//! Operations on the state and on a model that keeps everything: every answer, every event and every hash is
//! equal, however far reclaiming has come, before and after a restart.

use bytes::Bytes;
use engram_state::fixture::{KEYS, Step, Trial, without_duplicates};
use engram_types::request::{
    Compact, Compare, CompareResult, CompareTarget, DeleteRange, LeaseGrant, Op, Put, Range,
    SortOrder, SortTarget, Txn, TxnOp,
};
use engram_types::{KeyRange, LeaseId, RangeEnd};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "state",
    run,
    seeds,
    cases: 600,
};

/// The model looks at everything again and again.
const STEPS_MAX: usize = 60;
/// Transactions within one another.
const DEPTH_MAX: usize = 3;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cache_bytes = [0, 200, 1 << 20][input.below(3)];
    let mut trial = Trial::new(cache_bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        trial.take(step(&mut input));
    }
    trial.finish();
}

/// One step, as the input says.
pub fn step(input: &mut Input<'_>) -> Step {
    match input.byte() % 32 {
        0..=8 => Step::Apply(Op::Put(put(input))),
        9..=11 => Step::Apply(Op::DeleteRange(delete(input))),
        12..=15 => Step::Apply(Op::Txn(whole_txn(input))),
        16..=17 => {
            let revision = revision(input);
            Step::Apply(Op::Compact(Compact { revision }))
        }
        18..=19 => Step::Apply(Op::LeaseGrant(LeaseGrant {
            id: LeaseId(1 + input.below(3) as i64),
            ttl_seconds: 9,
        })),
        20 => Step::Apply(Op::LeaseRevoke(LeaseId(1 + input.below(3) as i64))),
        21..=23 => Step::Write,
        24..=25 => Step::Reclaim(1 + input.below(3)),
        26..=27 => Step::Ask(query(input)),
        28 => Step::Hash(revision(input).max(0)),
        29 => Step::Pin(input.below(4) as i64),
        30 => Step::Unpin,
        _ => Step::Restart,
    }
}

fn key(input: &mut Input<'_>) -> Bytes {
    Bytes::from_static(KEYS[input.below(KEYS.len())].as_bytes())
}

fn range(input: &mut Input<'_>) -> KeyRange {
    let start = key(input);
    let end = match input.byte() % 6 {
        0..=1 => RangeEnd::SingleKey,
        2 => RangeEnd::Unbounded,
        _ => RangeEnd::Before(key(input)),
    };
    KeyRange { start, end }
}

fn revision(input: &mut Input<'_>) -> i64 {
    i64::from(input.byte() % 48) - 2
}

/// A rare yes.
fn flag(input: &mut Input<'_>) -> bool {
    input.byte() % 5 == 4
}

fn put(input: &mut Input<'_>) -> Put {
    let (ignore_value, ignore_lease) = (flag(input), flag(input));
    let value = Bytes::copy_from_slice(input.take(3));
    let lease = LeaseId(input.below(4) as i64);
    Put {
        key: key(input),
        value: if ignore_value { Bytes::new() } else { value },
        lease: if ignore_lease { LeaseId::NONE } else { lease },
        prev_kv: flag(input),
        ignore_value,
        ignore_lease,
    }
}

fn delete(input: &mut Input<'_>) -> DeleteRange {
    DeleteRange {
        range: range(input),
        prev_kv: flag(input),
    }
}

fn query(input: &mut Input<'_>) -> Range {
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
    let mut bound = || match input.byte() {
        byte @ 0..30 => i64::from(byte),
        _ => 0,
    };
    let [min_mod_revision, max_mod_revision] = [bound(), bound()];
    let [min_create_revision, max_create_revision] = [bound(), bound()];
    Range {
        limit: i64::from(input.byte() % 6) - 1,
        revision: if flag(input) { revision(input) } else { 0 },
        sort_target: targets[input.below(targets.len())],
        sort_order: orders[input.below(orders.len())],
        keys_only: flag(input),
        count_only: flag(input),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
        ..Range::all(range(input))
    }
}

fn compare(input: &mut Input<'_>) -> Compare {
    let number = i64::from(input.byte() % 20);
    let target = match input.byte() % 5 {
        0 => CompareTarget::Version(number),
        1 => CompareTarget::Create(number),
        2 => CompareTarget::Mod(number),
        3 => CompareTarget::Value(Bytes::copy_from_slice(input.take(1))),
        _ => CompareTarget::Lease(number % 4),
    };
    let results = [
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ];
    Compare {
        range: range(input),
        result: results[input.below(4)],
        target,
    }
}

fn whole_txn(input: &mut Input<'_>) -> Txn {
    let mut txn = txn(input, 0);
    for branch in [&mut txn.success, &mut txn.failure] {
        without_duplicates(branch, &mut Vec::new());
    }
    txn
}

fn txn(input: &mut Input<'_>, depth: usize) -> Txn {
    let branch = |input: &mut Input<'_>| {
        let ops = input.below(4);
        (0..ops).map(|_| txn_op(input, depth)).collect()
    };
    Txn {
        success: branch(input),
        failure: branch(input),
        compare: (0..input.below(3)).map(|_| compare(input)).collect(),
    }
}

fn txn_op(input: &mut Input<'_>, depth: usize) -> TxnOp {
    match input.byte() % 8 {
        0..=1 => TxnOp::Range(query(input)),
        2..=4 => TxnOp::Put(put(input)),
        5..=6 => TxnOp::DeleteRange(delete(input)),
        _ if depth < DEPTH_MAX => TxnOp::Txn(txn(input, depth + 1)),
        _ => TxnOp::Range(query(input)),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut mixed = 0u64;
    let mut seed = |bytes: usize| -> Vec<u8> {
        let next = || {
            mixed = mixed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (mixed >> 56) as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    };
    [40, 120, 300, 600, 600, 900].map(&mut seed).to_vec()
}
