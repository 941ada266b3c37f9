//! Answers recorded from etcd 3.7.3 (`e2e/goldens/etcd-3.7.3.txt`), asked in the same order.

use crate::fixture::*;
use crate::types::request::{self, CompareResult, SortTarget, TxnOp};
use crate::types::result::{self, Applied, ApplyError};
use crate::types::{LeaseId, Revision};

/// The writes of the recorded session, up to and without its compaction.
fn recorded_session() -> Machine {
    let mut etcd = Machine::new(1 << 20);
    etcd.put("a", "1").unwrap();
    etcd.delete("zz", "").unwrap();
    let read_b = TxnOp::Range(request::Range::all(keys("b", "")));
    let answer = etcd.txn(vec![
        TxnOp::Put(put("b", "1")),
        read_b,
        TxnOp::Put(put("c", "1")),
        TxnOp::DeleteRange(delete("a", "")),
    ]);
    let kv = "KeyValue { key: b\"b\", create_revision: Revision(3), mod_revision: Revision(3), \
              version: 1, value: b\"1\", lease: LeaseId(0) }";
    assert_eq!(
        show(&answer),
        format!(
            "txn true [Put {{ revision: Revision(3), prev_kv: None }}; \
             rev 3 more false count 1 [{kv}]; Put {{ revision: Revision(3), prev_kv: None }}; \
             DeleteRange {{ revision: Revision(3), deleted: 1, prev_kvs: [], away: None }}; ]"
        )
    );
    etcd.txn(vec![]).unwrap();
    assert_eq!(etcd.revision(), 3);
    let delete_x = || TxnOp::DeleteRange(delete("x", ""));
    etcd.txn(vec![delete_x(), delete_x()]).unwrap();
    let inner = request::Txn {
        success: vec![TxnOp::Put(put("x", "1"))],
        failure: vec![TxnOp::Put(put("x", "2"))],
        ..Default::default()
    };
    etcd.txn(vec![TxnOp::Txn(inner)]).unwrap();
    etcd.txn(
        (0..128)
            .map(|i| TxnOp::Put(put(&format!("k{i}"), "v")))
            .collect(),
    )
    .unwrap();
    assert_eq!(etcd.revision(), 5);
    etcd
}

fn finish_session(etcd: &mut Machine) {
    etcd.grant(77).unwrap();
    assert!(matches!(etcd.grant(77), Err(ApplyError::LeaseExists)));
    etcd.grant(-9).unwrap();
    etcd.put_leased("L1", 77).unwrap();
    etcd.put_leased("L2", 77).unwrap();
    assert_eq!(etcd.revision(), 7);
    etcd.run(request::Op::LeaseRevoke(LeaseId(77))).unwrap();
    assert_eq!(etcd.revision(), 8);
    etcd.put("fut", "1").unwrap();
    etcd.compact(4).unwrap();
}

#[test]
fn the_hash_of_the_recorded_session_is_etcds() {
    let mut etcd = recorded_session();
    finish_session(&mut etcd);
    let before = etcd.hash(0).unwrap();
    assert_eq!(before.hash, 2_752_915_358);
    assert_eq!(
        (before.compact_revision, before.hash_revision),
        (Revision(4), Revision(9))
    );
    etcd.reclaim(1);
    assert_eq!(etcd.hash(0).unwrap(), before);
    assert_eq!(etcd.hash(3), Err(ApplyError::Compacted));
}

#[test]
fn ranges_of_the_recorded_session_are_etcds() {
    let etcd = recorded_session();
    let page = |query: request::Range| {
        let answer = etcd.range(&query).unwrap();
        (answer.items.len(), answer.more, answer.count)
    };
    assert_eq!(page(request::Range { limit: 3, ..all() }), (3, true, 131));
    assert_eq!(
        page(request::Range { limit: -3, ..all() }),
        (131, false, 131)
    );
    assert_eq!(
        page(request::Range {
            limit: 3,
            count_only: true,
            ..all()
        }),
        (0, false, 131)
    );
    assert_eq!(
        page(request::Range {
            min_mod_revision: 5,
            limit: 2,
            ..all()
        }),
        (2, true, 131)
    );
    assert_eq!(page(request::Range::all(keys("z", "a"))), (0, false, 0));
    assert_eq!(
        page(request::Range {
            revision: -5,
            ..all()
        })
        .0,
        131
    );
    assert!(matches!(
        etcd.range(&at(99_999)),
        Err(ApplyError::FutureRevision)
    ));
}

#[test]
fn a_leased_key_is_read_as_etcd_reads_it() {
    let mut etcd = recorded_session();
    etcd.grant(77).unwrap();
    etcd.put_leased("L1", 77).unwrap();
    let read = |options: request::Range| {
        let kv = decode(&etcd.range(&options).unwrap().items[0]);
        (kv.mod_revision.0, kv.version, kv.value.len(), kv.lease.0)
    };
    let l1 = || request::Range::all(keys("L1", ""));
    assert_eq!(read(l1()), (6, 1, 1, 77));
    assert_eq!(
        read(request::Range {
            keys_only: true,
            ..l1()
        }),
        (6, 1, 0, 0)
    );
    let by_value = request::Range {
        keys_only: true,
        sort_target: SortTarget::Value,
        ..l1()
    };
    assert_eq!(read(by_value), (6, 1, 0, 77));
}

#[test]
fn compaction_answers_as_etcd_does() {
    let mut etcd = recorded_session();
    finish_session(&mut etcd);
    assert!(matches!(etcd.compact(4), Err(ApplyError::Compacted)));
    assert!(matches!(
        etcd.compact(99_999),
        Err(ApplyError::FutureRevision)
    ));
    assert!(matches!(etcd.range(&at(3)), Err(ApplyError::Compacted)));
    assert!(etcd.range(&at(4)).is_ok());
    let compacted = TxnOp::Range(request::Range {
        revision: 2,
        ..all()
    });
    assert!(matches!(
        etcd.txn(vec![compacted]),
        Err(ApplyError::Compacted)
    ));
}

#[test]
fn missing_keys_and_leases_are_refused_as_etcd_refuses_them() {
    let mut etcd = recorded_session();
    let keep = request::Put {
        ignore_value: true,
        ..put("q", "")
    };
    assert!(matches!(
        etcd.run(request::Op::Put(keep)),
        Err(ApplyError::KeyNotFound)
    ));
    assert!(matches!(
        etcd.put_leased("q", 12_345),
        Err(ApplyError::LeaseNotFound)
    ));
    let revoke = request::Op::LeaseRevoke(LeaseId(999));
    assert!(matches!(etcd.run(revoke), Err(ApplyError::LeaseNotFound)));
    assert_eq!(etcd.revision(), 5);
}

#[test]
fn an_operation_before_the_first_write_of_a_transaction_answers_the_revision_before_it() {
    let mut etcd = recorded_session();
    let compare = request::Compare {
        range: keys("a", ""),
        result: CompareResult::Equal,
        target: request::CompareTarget::Create(0),
    };
    let read = || TxnOp::Range(request::Range::all(keys("b", "")));
    let success = vec![
        read(),
        TxnOp::DeleteRange(delete("none", "")),
        TxnOp::Put(put("b", "2")),
        read(),
    ];
    let txn = request::Txn {
        compare: vec![compare],
        success,
        failure: vec![],
    };
    let Ok(Applied::Txn(answer)) = etcd.run(request::Op::Txn(txn)) else {
        panic!("applies")
    };
    let revisions: Vec<i64> = answer
        .responses
        .iter()
        .map(|response| match response {
            result::TxnOp::Range(range) => range.revision.0,
            result::TxnOp::Put(put) => put.revision.0,
            result::TxnOp::DeleteRange(delete) => delete.revision.0,
            result::TxnOp::Txn(_) => panic!("none is nested"),
        })
        .collect();
    assert_eq!(revisions, vec![5, 5, 6, 6]);
}
