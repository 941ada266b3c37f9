//! Whether a transaction writes a key twice, which etcd refuses before it is proposed.
//!
//! The rule is etcd's, corners included: a key may be put once, and not be put where a delete of
//! the same level, or of a transaction before it, covers it; deletes may overlap; the two branches
//! of a transaction exclude each other, so both may put a key. A delete to the end of the key space
//! (`range_end` "\0") covers nothing in etcd's check, so it covers nothing here.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::error::Refusal;
use crate::types::request::{Txn, TxnOp};
use crate::types::{KeyRange, RangeEnd, within};

/// Checks both branches.
///
/// # Errors
/// A key is written twice.
pub(super) fn check(txn: &Txn) -> Result<(), Refusal> {
    writes(&txn.success)?;
    writes(&txn.failure).map(drop)
}

/// What a list of operations writes.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Deletes,
}

impl Writes {
    fn put(&mut self, key: &Bytes) -> Result<(), Refusal> {
        if self.deletes.covers(key) || !self.puts.insert(key.clone()) {
            return Err(Refusal::DUPLICATE_KEY);
        }
        Ok(())
    }
}

fn writes(ops: &[TxnOp]) -> Result<Writes, Refusal> {
    let mut all = Writes::default();
    for op in ops {
        if let TxnOp::DeleteRange(delete) = op {
            all.deletes.add(&delete.range);
        }
    }
    for op in ops {
        if let TxnOp::Txn(txn) = op {
            within(|| add_nested(&mut all, txn))?;
        }
    }
    for op in ops {
        if let TxnOp::Put(put) = op {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

fn add_nested(all: &mut Writes, txn: &Txn) -> Result<(), Refusal> {
    let then = writes(&txn.success)?;
    let otherwise = writes(&txn.failure)?;
    for key in &then.puts {
        all.put(key)?;
    }
    for key in &otherwise.puts {
        if !then.puts.contains(key) {
            all.put(key)?;
        }
    }
    all.deletes.join(then.deletes);
    all.deletes.join(otherwise.deletes);
    Ok(())
}

/// Disjoint intervals of keys: start to end, the end not included.
#[derive(Default)]
struct Deletes(BTreeMap<Bytes, Bytes>);

impl Deletes {
    fn add(&mut self, range: &KeyRange) {
        let end = match &range.end {
            RangeEnd::SingleKey => [range.start.as_ref(), &[0]].concat().into(),
            RangeEnd::Before(end) if *end > range.start => end.clone(),
            RangeEnd::Before(_) | RangeEnd::Unbounded => return,
        };
        self.insert(range.start.clone(), end);
    }

    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        // Whatever touches the new interval is melted into it; each interval melts once.
        while let Some((other_start, other_end)) = self
            .0
            .range::<Bytes, _>(..=&end)
            .next_back()
            .map(|(s, e)| (s.clone(), e.clone()))
        {
            if other_end < start {
                break;
            }
            self.0.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    fn covers(&self, key: &Bytes) -> bool {
        self.0
            .range::<Bytes, _>(..=key)
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }

    fn join(&mut self, other: Deletes) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaseId;
    use crate::types::request::{DeleteRange, Put};

    fn put(key: &'static str) -> TxnOp {
        TxnOp::Put(Put {
            key: key.into(),
            value: Bytes::new(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        })
    }

    fn delete(key: &'static str, end: &'static str) -> TxnOp {
        let range = KeyRange::from_request(key.into(), end.into());
        TxnOp::DeleteRange(DeleteRange {
            range,
            prev_kv: false,
        })
    }

    fn nested(success: Vec<TxnOp>, failure: Vec<TxnOp>) -> TxnOp {
        TxnOp::Txn(Txn {
            compare: vec![],
            success,
            failure,
        })
    }

    fn refused(success: Vec<TxnOp>) -> bool {
        check(&Txn {
            compare: vec![],
            success,
            failure: vec![],
        })
        .is_err()
    }

    #[test]
    fn a_key_is_written_once() {
        assert!(refused(vec![put("x"), put("x")]));
        assert!(refused(vec![put("x"), delete("x", "")]));
        assert!(refused(vec![delete("d", "z"), put("x")]));
        assert!(!refused(vec![delete("d", "x"), put("x")]));
        assert!(refused(vec![nested(vec![put("x")], vec![]), put("x")]));
        assert!(refused(vec![
            delete("a", "z"),
            nested(vec![], vec![put("x")])
        ]));
        assert!(refused(vec![
            nested(vec![delete("a", "z")], vec![]),
            put("x")
        ]));
        let txn = Txn {
            compare: vec![],
            success: vec![],
            failure: vec![put("x"), put("x")],
        };
        assert_eq!(check(&txn), Err(Refusal::DUPLICATE_KEY));
    }

    #[test]
    fn what_etcd_lets_pass_passes() {
        assert!(!refused(vec![delete("x", ""), delete("x", "")]));
        assert!(!refused(vec![nested(vec![put("x")], vec![put("x")])]));
        assert!(!refused(vec![put("x"), delete("y", "")]));
        // Corners of etcd's check: a delete to the end of all keys, an empty range, and a delete
        // in a transaction after the one that puts.
        assert!(!refused(vec![delete("a", "\0"), put("x")]));
        assert!(!refused(vec![delete("z", "a"), put("x")]));
        assert!(!refused(vec![
            nested(vec![put("x")], vec![]),
            nested(vec![delete("x", "")], vec![])
        ]));
    }

    #[test]
    fn intervals_melt_into_one_another() {
        let mut deletes = Deletes::default();
        for (start, end) in [("a", "c"), ("e", "g"), ("b", "f"), ("x", "y")] {
            deletes.insert(start.into(), end.into());
        }
        assert_eq!(deletes.0.len(), 2);
        assert!(deletes.covers(&"d".into()) && deletes.covers(&"a".into()));
        assert!(!deletes.covers(&"g".into()) && !deletes.covers(&"0".into()));
        assert!(deletes.covers(&"x".into()) && !deletes.covers(&"y".into()));
    }
}
