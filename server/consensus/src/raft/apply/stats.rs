//! What the apply thread counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::request::{Op, Put, Txn, TxnOp};
use crate::types::result::{self, Applied, Outcome};
use crate::types::within;

/// Counters, read at a scrape.
#[derive(Debug, Default)]
pub struct ApplyStats {
    /// Microseconds spent applying.
    pub apply_micros: AtomicU64,
    /// Entries applied.
    pub entries: AtomicU64,
    /// Operations applied.
    pub operations: AtomicU64,
    /// Entries, and reads, that took longer than `--warning-apply-duration`.
    pub slow: AtomicU64,
    /// Puts executed, those in transactions included (`etcd_mvcc_put_total`).
    pub puts: AtomicU64,
    /// Deletes executed, whatever number of keys each found (`etcd_mvcc_delete_total`).
    pub deletes: AtomicU64,
    /// Ranges executed in transactions that went through the log (part of `etcd_mvcc_range_total`).
    pub ranges: AtomicU64,
    /// Transactions that executed more than one operation (`etcd_mvcc_txn_total`).
    pub txns: AtomicU64,
    /// Bytes of keys and values put (`etcd_debugging_mvcc_total_put_size_in_bytes`).
    pub put_bytes: AtomicU64,
}

impl ApplyStats {
    /// Counts a batch's operations: one addition a counter, however many there are.
    pub(super) fn applied(&self, ops: &[Op], outcomes: &[Outcome]) {
        let mut batch = Work::default();
        for (op, outcome) in ops.iter().zip(outcomes) {
            batch.add(op, outcome);
        }
        let counters = [
            (&self.operations, ops.len() as u64),
            (&self.puts, batch.puts),
            (&self.deletes, batch.deletes),
            (&self.ranges, batch.ranges),
            (&self.txns, batch.txns),
            (&self.put_bytes, batch.put_bytes),
        ];
        for (counter, more) in counters {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// What operations did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    puts: u64,
    deletes: u64,
    ranges: u64,
    txns: u64,
    put_bytes: u64,
}

impl Work {
    fn add(&mut self, op: &Op, outcome: &Outcome) {
        match (op.bare(), &outcome.result) {
            (Op::Put(put), Ok(_)) => self.put(put),
            (Op::DeleteRange(_), Ok(_)) => self.deletes += 1,
            (Op::Txn(txn), Ok(Applied::Txn(result))) => {
                let before = self.executed();
                self.txn(txn, result);
                self.txns += u64::from(self.executed() - before > 1);
            }
            _ => {}
        }
    }

    fn executed(&self) -> u64 {
        self.puts + self.deletes + self.ranges
    }

    fn put(&mut self, put: &Put) {
        self.puts += 1;
        self.put_bytes += (put.key.len() + put.value.len()) as u64;
    }

    fn txn(&mut self, txn: &Txn, result: &result::Txn) {
        let branch = if result.succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        for (op, result) in branch.iter().zip(&result.responses) {
            match (op, result) {
                (TxnOp::Put(put), _) => self.put(put),
                (TxnOp::DeleteRange(_), _) => self.deletes += 1,
                (TxnOp::Range(_), _) => self.ranges += 1,
                (TxnOp::Txn(txn), result::TxnOp::Txn(result)) => within(|| self.txn(txn, result)),
                (TxnOp::Txn(_), _) => unreachable!("a transaction answers as a transaction"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::result::ApplyError;
    use crate::types::{LeaseId, Revision};

    fn put(value: &'static str) -> Put {
        Put {
            key: "key".into(),
            value: value.into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    fn outcome(result: Result<Applied, ApplyError>) -> Outcome {
        Outcome::new(Revision(2), result)
    }

    #[test]
    fn only_what_was_executed_counts() {
        let inner = Txn {
            compare: vec![],
            success: vec![TxnOp::Put(put("1")), TxnOp::Put(put("22"))],
            failure: vec![TxnOp::Put(put("never"))],
        };
        let outer = Txn {
            compare: vec![],
            success: vec![],
            failure: vec![TxnOp::Txn(inner)],
        };
        let put_answer = || result::TxnOp::Put(result::Put::default());
        let inner_answer = result::Txn {
            succeeded: true,
            responses: vec![put_answer(), put_answer()],
        };
        let outer_answer = result::Txn {
            succeeded: false,
            responses: vec![result::TxnOp::Txn(inner_answer)],
        };
        let stats = ApplyStats::default();
        let ops = [Op::Txn(outer), Op::Put(put("333")), Op::Put(put("4444"))];
        let outcomes = [
            outcome(Ok(Applied::Txn(outer_answer))),
            outcome(Ok(Applied::Put(result::Put::default()))),
            outcome(Err(ApplyError::NoSpace)),
        ];
        stats.applied(&ops, &outcomes);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&stats.operations), count(&stats.puts)), (3, 3));
        assert_eq!((count(&stats.txns), count(&stats.deletes)), (1, 0));
        assert_eq!(count(&stats.put_bytes), 4 + 5 + 6);
    }
}
