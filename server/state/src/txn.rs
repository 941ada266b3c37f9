//! Transactions: which branch runs, whether it may, and what it does.
//!
//! In etcd's order: every compare, nested ones too, looks at the store before the transaction; then
//! the operations of the branch taken are checked, first error wins; only then are they executed,
//! each seeing the writes of those before it. Execution cannot fail.

use std::cmp::Ordering;

use crate::types::request::{Compare, CompareResult, CompareTarget, DeleteRange, Put, Txn, TxnOp};
use crate::types::result::{self, ApplyError};
use crate::types::{KeyRange, KeyValue, LeaseId, Revision, RevisionPair, within};

use super::hold::look;
use super::mvcc::{Found, Horizon, Walk, Writer};
use super::{Effects, Hold, Meter, State, Values};

/// The branches taken, outer before inner, in the order their transactions are met.
#[derive(Clone, Debug)]
pub struct Path(Vec<bool>);

impl Path {
    /// Chooses by what `holds` says of the compares.
    pub fn choose(txn: &Txn, holds: &mut dyn FnMut(&Compare) -> bool) -> Path {
        let mut path = Path(Vec::new());
        path.walk(txn, holds);
        path
    }

    fn walk(&mut self, txn: &Txn, holds: &mut dyn FnMut(&Compare) -> bool) {
        let succeeded = txn.compare.iter().all(&mut *holds);
        self.0.push(succeeded);
        for op in branch(txn, succeeded) {
            if let TxnOp::Txn(inner) = op {
                within(|| self.walk(inner, holds));
            }
        }
    }

    fn steps(&self) -> impl Iterator<Item = bool> {
        self.0.iter().copied()
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
    hold: &mut dyn Hold,
    txn: &Txn,
    values: &dyn Values,
    effects: &mut Effects,
    meter: &mut Meter,
) -> Result<result::Txn, ApplyError> {
    let path = look(hold, compares_ranges(txn), |state| {
        let newest = state.mvcc.newest();
        let at = newest.revision;
        let path = Path::choose(txn, &mut |compare| holds(state, at, compare, values));
        check(state, newest, txn, &mut path.steps())?;
        Ok::<_, ApplyError>(path)
    })?;
    let mut writer = Writer::new(hold, values, effects);
    let answer = execute(&mut writer, txn, &mut path.steps(), meter);
    writer.finish();
    Ok(answer)
}

/// Runs a read-only transaction at `head`.
pub(super) fn read(
    state: &State,
    txn: &Txn,
    path: &Path,
    head: Revision,
    values: &dyn Values,
    meter: &mut Meter,
) -> Result<result::Txn, ApplyError> {
    let horizon = Horizon {
        revision: head,
        ..state.mvcc.seen()
    };
    check(state, horizon, txn, &mut path.steps())?;
    let reads = Reads {
        state,
        horizon,
        values,
    };
    reads.execute(txn, &mut path.steps(), meter)
}

/// Whether the compares of a transaction, whichever way it goes, look at few keys.
pub(super) fn compares_fit(state: &State, txn: &Txn, meter: &mut Meter) -> bool {
    let inner = txn.success.iter().chain(&txn.failure);
    let mut looks = txn.compare.iter().map(|compare| &compare.range);
    looks.all(|range| meter.take(state.mvcc.keys_to_look_at(range), 0))
        && inner.into_iter().all(|op| match op {
            TxnOp::Txn(inner) => within(|| compares_fit(state, inner, meter)),
            TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) => true,
        })
}

/// Whether a compare of it, or of one within it, looks at more than one key.
fn compares_ranges(txn: &Txn) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    txn.compare.iter().any(|compare| !compare.range.is_single())
        || ops.any(|op| match op {
            TxnOp::Txn(inner) => within(|| compares_ranges(inner)),
            TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
        })
}

fn check(
    state: &State,
    horizon: Horizon,
    txn: &Txn,
    path: &mut impl Iterator<Item = bool>,
) -> Result<(), ApplyError> {
    for op in branch(txn, next(path)) {
        match op {
            TxnOp::Range(range) => horizon.check_txn_revision(range.revision)?,
            TxnOp::Put(put) => check_put(state, put)?,
            TxnOp::DeleteRange(_) => {}
            TxnOp::Txn(inner) => within(|| check(state, horizon, inner, path))?,
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
    meter: &mut Meter,
) -> result::Txn {
    let succeeded = next(path);
    let mut responses = Vec::with_capacity(branch(txn, succeeded).len());
    for op in branch(txn, succeeded) {
        responses.push(match op {
            TxnOp::Range(range) => result::TxnOp::Range(
                writer
                    .range(range, meter)
                    .expect("the revision was checked and only grows since"),
            ),
            TxnOp::Put(op) => result::TxnOp::Put(put(writer, op)),
            TxnOp::DeleteRange(op) => result::TxnOp::DeleteRange(delete_range(writer, op, meter)),
            TxnOp::Txn(inner) => result::TxnOp::Txn(within(|| execute(writer, inner, path, meter))),
        });
    }
    result::Txn {
        succeeded,
        responses,
    }
}

/// A read-only transaction under way.
struct Reads<'a> {
    state: &'a State,
    horizon: Horizon,
    values: &'a dyn Values,
}

impl Reads<'_> {
    fn execute(
        &self,
        txn: &Txn,
        path: &mut impl Iterator<Item = bool>,
        meter: &mut Meter,
    ) -> Result<result::Txn, ApplyError> {
        let succeeded = next(path);
        let mut responses = Vec::with_capacity(branch(txn, succeeded).len());
        let seen = RevisionPair {
            main: self.horizon.revision.next(),
            sub: 0,
        };
        for op in branch(txn, succeeded) {
            responses.push(match op {
                TxnOp::Range(range) => {
                    let mvcc = &self.state.mvcc;
                    let read = mvcc.range_within(range, self.horizon, seen, meter, self.values);
                    result::TxnOp::Range(read?)
                }
                TxnOp::Txn(inner) => {
                    result::TxnOp::Txn(within(|| self.execute(inner, path, meter))?)
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
pub(super) fn delete_range(
    writer: &mut Writer<'_>,
    delete: &DeleteRange,
    meter: &mut Meter,
) -> result::DeleteRange {
    let (prev_kvs, away) = match delete.prev_kv {
        true => writer.current_in(&delete.range, meter),
        false => (Vec::new(), None),
    };
    let deleted = writer.delete_range(&delete.range);
    result::DeleteRange {
        revision: writer.revision(),
        deleted,
        prev_kvs,
        away,
    }
}

/// Whether every key of the range, as it was at a revision, satisfies the compare. Where there is none, a value never
/// compares (there is no way to write "no value"), anything else compares as zero.
pub(super) fn holds(state: &State, at: Revision, compare: &Compare, values: &dyn Values) -> bool {
    let mut any = false;
    for found in state.mvcc.there(&compare.range, at) {
        any = true;
        if !found_holds(state, compare, &found, values) {
            return false;
        }
    }
    any || absent_holds(compare)
}

/// How a compare stands after some of its keys.
#[derive(Debug, PartialEq, Eq)]
pub enum CompareStep {
    /// A key does not satisfy it.
    Fails,
    /// All keys looked at satisfy it.
    Holds {
        /// Whether there was one.
        any: bool,
        /// The keys not looked at yet; none is the end.
        rest: Option<KeyRange>,
    },
}

impl CompareStep {
    /// What it comes to at the end, where `any` key was there at all.
    pub fn ended(compare: &Compare, any: bool) -> bool {
        any || absent_holds(compare)
    }
}

/// Looks at the compare for some keys of `rest`, as they were before `below`.
pub(super) fn compare_step(
    state: &State,
    compare: &Compare,
    rest: &KeyRange,
    below: RevisionPair,
    values: &dyn Values,
) -> CompareStep {
    let reads_values = matches!(
        compare.target,
        CompareTarget::Value(_) | CompareTarget::Lease(_)
    );
    let looked_max = if reads_values { 128 } else { 2048 };
    let (mut any, mut fails) = (false, false);
    let walk = Walk {
        below,
        backwards: false,
        looked_max,
    };
    let rest = state.mvcc.walk(&walk, rest, &mut |seen| {
        any = true;
        fails = !found_holds(state, compare, seen.found(), values);
        !fails
    });
    match fails {
        true => CompareStep::Fails,
        false => CompareStep::Holds { any, rest },
    }
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
    /// The encoded key-values of a range, as the transaction sees them now, in key order; or where
    /// they will be.
    fn current_in(
        &mut self,
        range: &KeyRange,
        meter: &mut Meter,
    ) -> (Vec<bytes::Bytes>, Option<Box<result::Away>>) {
        let all = crate::types::request::Range::all(range.clone());
        let found = self
            .range(&all, meter)
            .expect("the latest revision is always readable");
        let items = found.items.into_iter();
        (items.map(result::Item::into_bytes).collect(), found.away)
    }
}
