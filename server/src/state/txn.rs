//! Transactions: which branch runs, whether it may, and what it does.
//!
//! In etcd's order: every compare, nested ones too, looks at the store before the transaction; then
//! the operations of the branch taken are checked, first error wins; only then are they executed,
//! each seeing the writes of those before it. Execution cannot fail.

use std::cmp::Ordering;

use crate::types::request::{Compare, CompareResult, CompareTarget, DeleteRange, Put, Txn, TxnOp};
use crate::types::result::{self, ApplyError};
use crate::types::{KeyRange, KeyValue, LeaseId, within};

use super::mvcc::{Found, Writer};
use super::{Effects, State, Values};

/// The branches taken, outer before inner, in the order their transactions are met.
struct Path(Vec<bool>);

impl Path {
    fn choose(state: &State, txn: &Txn, values: &dyn Values) -> Path {
        let mut path = Path(Vec::new());
        path.walk(state, txn, values);
        path
    }

    fn walk(&mut self, state: &State, txn: &Txn, values: &dyn Values) {
        let succeeded = txn
            .compare
            .iter()
            .all(|compare| holds(state, compare, values));
        self.0.push(succeeded);
        for op in branch(txn, succeeded) {
            if let TxnOp::Txn(inner) = op {
                within(|| self.walk(state, inner, values));
            }
        }
    }
}

fn branch(txn: &Txn, succeeded: bool) -> &[TxnOp] {
    if succeeded {
        &txn.success
    } else {
        &txn.failure
    }
}

fn next(path: &mut impl Iterator<Item = bool>) -> bool {
    path.next()
        .expect("the path holds a branch for every transaction met")
}

/// Runs a transaction that may write.
pub(super) fn write(
    state: &mut State,
    txn: &Txn,
    values: &dyn Values,
    effects: &mut Effects,
) -> Result<result::Txn, ApplyError> {
    let path = Path::choose(state, txn, values);
    check(state, txn, &mut path.0.iter().copied())?;
    let mut writer = state.writer(values, effects);
    let answer = execute(&mut writer, txn, &mut path.0.iter().copied());
    writer.finish();
    Ok(answer)
}

/// Runs a read-only transaction.
pub(super) fn read(
    state: &State,
    txn: &Txn,
    values: &dyn Values,
) -> Result<result::Txn, ApplyError> {
    let path = Path::choose(state, txn, values);
    check(state, txn, &mut path.0.iter().copied())?;
    execute_reads(state, txn, values, &mut path.0.iter().copied())
}

fn check(
    state: &State,
    txn: &Txn,
    path: &mut impl Iterator<Item = bool>,
) -> Result<(), ApplyError> {
    for op in branch(txn, next(path)) {
        match op {
            TxnOp::Range(range) => state.mvcc.check_txn_revision(range.revision)?,
            TxnOp::Put(put) => check_put(state, put)?,
            TxnOp::DeleteRange(_) => {}
            TxnOp::Txn(inner) => within(|| check(state, inner, path))?,
        }
    }
    Ok(())
}

/// The lease is looked at first, then the key that `ignore_*` needs, as in etcd.
pub(super) fn check_put(state: &State, put: &Put) -> Result<(), ApplyError> {
    if put.lease != LeaseId::NONE && !state.leases.contains(put.lease) {
        return Err(ApplyError::LeaseNotFound);
    }
    if (put.ignore_value || put.ignore_lease) && !state.mvcc.exists(&put.key) {
        return Err(ApplyError::KeyNotFound);
    }
    Ok(())
}

fn execute(
    writer: &mut Writer<'_>,
    txn: &Txn,
    path: &mut impl Iterator<Item = bool>,
) -> result::Txn {
    let succeeded = next(path);
    let mut responses = Vec::with_capacity(branch(txn, succeeded).len());
    for op in branch(txn, succeeded) {
        responses.push(match op {
            TxnOp::Range(range) => result::TxnOp::Range(
                writer
                    .range(range)
                    .expect("the revision was checked and only grows since"),
            ),
            TxnOp::Put(op) => result::TxnOp::Put(put(writer, op)),
            TxnOp::DeleteRange(op) => result::TxnOp::DeleteRange(delete_range(writer, op)),
            TxnOp::Txn(inner) => result::TxnOp::Txn(within(|| execute(writer, inner, path))),
        });
    }
    result::Txn {
        succeeded,
        responses,
    }
}

fn execute_reads(
    state: &State,
    txn: &Txn,
    values: &dyn Values,
    path: &mut impl Iterator<Item = bool>,
) -> Result<result::Txn, ApplyError> {
    let succeeded = next(path);
    let mut responses = Vec::with_capacity(branch(txn, succeeded).len());
    for op in branch(txn, succeeded) {
        responses.push(match op {
            TxnOp::Range(range) => result::TxnOp::Range(state.mvcc.range(range, values)?),
            TxnOp::Txn(inner) => {
                result::TxnOp::Txn(within(|| execute_reads(state, inner, values, path))?)
            }
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => {
                unreachable!("asserted to be read-only by the caller")
            }
        });
    }
    Ok(result::Txn {
        succeeded,
        responses,
    })
}

/// Puts a key whose checks have passed.
pub(super) fn put(writer: &mut Writer<'_>, put: &Put) -> result::Put {
    if !(put.ignore_value || put.ignore_lease || put.prev_kv) {
        writer.put(&put.key, &put.value, put.lease);
        return result::Put {
            revision: writer.revision(),
            prev_kv: None,
        };
    }
    let previous = writer.current(&put.key);
    let decoded = previous.as_ref().map(|encoded| {
        KeyValue::decode(encoded).expect("stored key-values were encoded by this store")
    });
    // Within a transaction the key may have been deleted since the check; then nothing is kept.
    let kept = decoded.unwrap_or_default();
    let value = if put.ignore_value {
        &kept.value
    } else {
        &put.value
    };
    let lease = if put.ignore_lease {
        kept.lease
    } else {
        put.lease
    };
    writer.put(&put.key, value, lease);
    let prev_kv = if put.prev_kv { previous } else { None };
    result::Put {
        revision: writer.revision(),
        prev_kv,
    }
}

/// Deletes a range.
pub(super) fn delete_range(writer: &mut Writer<'_>, delete: &DeleteRange) -> result::DeleteRange {
    let prev_kvs = if delete.prev_kv {
        writer.current_in(&delete.range)
    } else {
        Vec::new()
    };
    let deleted = writer.delete_range(&delete.range);
    result::DeleteRange {
        revision: writer.revision(),
        deleted,
        prev_kvs,
    }
}

/// Whether every key of the range satisfies the compare. Where there is none, a value never
/// compares (there is no way to write "no value"), anything else compares as zero.
fn holds(state: &State, compare: &Compare, values: &dyn Values) -> bool {
    let mut any = false;
    for found in state.mvcc.live(&compare.range) {
        any = true;
        if !found_holds(state, compare, &found, values) {
            return false;
        }
    }
    any || absent_holds(compare)
}

fn absent_holds(compare: &Compare) -> bool {
    match compare.target {
        CompareTarget::Value(_) => false,
        CompareTarget::Version(wanted)
        | CompareTarget::Create(wanted)
        | CompareTarget::Mod(wanted)
        | CompareTarget::Lease(wanted) => relates(0.cmp(&wanted), compare.result),
    }
}

fn found_holds(state: &State, compare: &Compare, found: &Found<'_>, values: &dyn Values) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(wanted) => found.version().cmp(wanted),
        CompareTarget::Create(wanted) => found.create_revision().0.cmp(wanted),
        CompareTarget::Mod(wanted) => found.mod_revision().0.cmp(wanted),
        CompareTarget::Value(wanted) => state.mvcc.key_value(found, values).value.cmp(wanted),
        CompareTarget::Lease(wanted) => state.mvcc.key_value(found, values).lease.0.cmp(wanted),
    };
    relates(ordering, compare.result)
}

fn relates(ordering: Ordering, wanted: CompareResult) -> bool {
    match wanted {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

impl Writer<'_> {
    /// The encoded key-values of a range, as the transaction sees them now, in key order.
    fn current_in(&self, range: &KeyRange) -> Vec<bytes::Bytes> {
        let all = crate::types::request::Range::all(range.clone());
        let found = self
            .range(&all)
            .expect("the latest revision is always readable");
        found
            .items
            .into_iter()
            .map(result::Item::into_bytes)
            .collect()
    }
}
