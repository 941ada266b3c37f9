//! Changes over many keys: who reads meanwhile neither waits for them nor sees half of one.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use engram_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, request_op,
};

use super::{Scene, everything, load};
use crate::case;
use crate::ci_or_full;

const CI_KEYS: usize = 250_000;
const KEYS: usize = 1_000_000;
/// etcd's bound on what a transaction holds is 128.
const COMPARES: usize = 100;
const ROUNDS: usize = 2;

fn scene() -> Scene {
    Scene::with(ci_or_full(CI_KEYS, KEYS), 4_096 * super::MIB)
}

/// All but what the probe has.
fn keys() -> (Vec<u8>, Vec<u8>) {
    (b"key/".to_vec(), b"key0".to_vec())
}

#[test]
fn transactions_that_compare_every_key() {
    let case = case::begin("transactions that write and compare every key");
    let scene = scene();
    let (key, range_end) = keys();
    let compare = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: key.into(),
        range_end: range_end.into(),
        target_union: Some(TargetUnion::Version(0)),
    };
    let put = PutRequest {
        key: b"compared".to_vec().into(),
        ..PutRequest::default()
    };
    let txn = TxnRequest {
        compare: vec![compare; COMPARES],
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        }],
        ..TxnRequest::default()
    };
    let address = scene.server.address();
    let time = Duration::from_secs(ci_or_full(3, 10));
    let beside = scene.beside(async {
        let mut client = Client::connect(address).await;
        let (began, mut held) = (Instant::now(), 0);
        while began.elapsed() < time {
            let answer = client.kv.txn(txn.clone()).await.expect("an answer");
            held += usize::from(answer.into_inner().succeeded);
        }
        held
    });
    let held = scene.judge_writer(&case, beside);
    case.saw(format!("{held} transactions"));
    assert!(held > 0, "no transaction at all");
}

#[test]
fn deletions_of_every_key() {
    let case = case::begin("deletions of every key");
    let scene = scene();
    let (key, range_end) = keys();
    let delete = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    };
    let count = RangeRequest {
        count_only: true,
        ..everything()
    };
    let all = i64::try_from(ci_or_full(CI_KEYS, KEYS)).expect("small");
    let address = scene.server.address();
    let beside = scene.beside(async {
        let mut took = Duration::ZERO;
        for round in 0..ROUNDS {
            if round > 0 {
                load(&scene.server, ci_or_full(CI_KEYS, KEYS)).await;
            }
            let mut deleter = Client::connect(address).await;
            let delete = delete.clone();
            let began = Instant::now();
            let deleting = tokio::spawn(async move { deleter.kv.delete_range(delete).await });
            let mut counter = Client::connect(address).await;
            while !deleting.is_finished() {
                let seen = counter.kv.range(count.clone()).await.expect("an answer");
                // The probe's key beside them, or not yet.
                let seen = seen.into_inner().count;
                assert!(seen <= 1 || seen >= all, "half a deletion: {seen} of {all}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let deleted = deleting.await.expect("no panic").expect("an answer");
            let deleted = deleted.into_inner();
            assert_eq!(deleted.deleted, all);
            took = took.max(began.elapsed());
            // What was deleted is history, and takes memory, until somebody compacts.
            let compact = CompactionRequest {
                revision: deleted.header.expect("a header").revision,
                physical: true,
            };
            counter.kv.compact(compact).await.expect("an answer");
        }
        took
    });
    let took = scene.judge_writer(&case, beside);
    case.saw(format!("{all} keys deleted in {took:.1?} at most"));
}
