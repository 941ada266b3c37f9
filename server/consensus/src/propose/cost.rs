//! What a request weighs: against the quota (etcd's reckoning), and in the queue.

use crate::types::request::{Op, Put, Txn, TxnOp};
use crate::types::within;

/// What etcd reckons a put to take beside its key and value. Source: etcd's quota.go.
const PUT_OVERHEAD: u64 = 256;
/// What etcd reckons a lease to take.
const LEASE_OVERHEAD: u64 = 64;

/// How many bytes of quota the operation may take; 0 for what frees space or takes none.
pub fn cost(op: &Op) -> u64 {
    match op.bare() {
        Op::Put(put) => put_cost(put),
        Op::Txn(txn) => txn_cost(txn),
        Op::LeaseGrant(_) => LEASE_OVERHEAD,
        _ => 0,
    }
}

fn put_cost(put: &Put) -> u64 {
    PUT_OVERHEAD + (put.key.len() + put.value.len()) as u64
}

fn txn_cost(txn: &Txn) -> u64 {
    let branch = |ops: &[TxnOp]| -> u64 {
        ops.iter()
            .map(|op| match op {
                TxnOp::Put(put) => put_cost(put),
                TxnOp::Txn(inner) => within(|| txn_cost(inner)),
                TxnOp::Range(_) | TxnOp::DeleteRange(_) => 0,
            })
            .sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

/// About how many bytes the operation takes in the queue and in a batch.
pub fn bytes(op: &Op) -> usize {
    const SMALL: usize = 64;
    match op.bare() {
        Op::Put(put) => SMALL + put.key.len() + put.value.len(),
        Op::Txn(txn) => txn_bytes(txn),
        _ => SMALL,
    }
}

fn txn_bytes(txn: &Txn) -> usize {
    const SMALL: usize = 64;
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        TxnOp::Put(put) => SMALL + put.key.len() + put.value.len(),
        TxnOp::Txn(inner) => within(|| txn_bytes(inner)),
        TxnOp::Range(_) | TxnOp::DeleteRange(_) => SMALL,
    });
    SMALL + SMALL * txn.compare.len() + ops.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaseId;
    use bytes::Bytes;

    fn put(value: &'static [u8]) -> Put {
        Put {
            key: Bytes::from_static(b"key"),
            value: Bytes::from_static(value),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    #[test]
    fn a_transaction_costs_its_dearer_branch_nested_ones_included() {
        let inner = Txn {
            success: vec![TxnOp::Put(put(b"12345"))],
            ..Txn::default()
        };
        let txn = Txn {
            success: vec![TxnOp::Put(put(b"1")), TxnOp::Txn(inner)],
            failure: vec![TxnOp::Put(put(b"123456789"))],
            ..Txn::default()
        };
        assert_eq!(cost(&Op::Txn(txn)), (256 + 4) + (256 + 8));
        assert_eq!(cost(&Op::LeaseRevoke(LeaseId(1))), 0);
    }
}
