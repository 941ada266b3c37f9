//! Large questions whose answers are read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engram_e2e::raw::{Connection, Ended};
use engram_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use engram_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, request_op};

use super::{Scene, everything};
use crate::case;
use crate::ci_or_full;

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const RANGES: usize = 60;
const AT_ONCE: usize = 64;
const SORTERS: usize = 4;
/// A client that was told to wait may ask again, as etcd's do.
const TOO_MANY: &str = "too many requests";
/// What no message can hold, gRPC's servers refuse: 2 GiB.
const TOO_LARGE: &str = "trying to send message larger than max";

#[test]
fn a_transaction_of_60_ranges_of_everything() {
    transaction("transaction of 60 ranges of everything", false);
}

#[test]
fn a_transaction_of_60_ranges_of_everything_and_a_put() {
    transaction("transaction of 60 ranges of everything and a put", true);
}

fn transaction(name: &'static str, with_put: bool) {
    let case = case::begin(name);
    let scene = Scene::begin();
    let mut operations: Vec<RequestOp> = (0..RANGES)
        .map(|_| RequestOp {
            request: Some(request_op::Request::RequestRange(everything())),
        })
        .collect();
    if with_put {
        let put = PutRequest {
            key: b"with".to_vec().into(),
            ..PutRequest::default()
        };
        operations.push(RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        });
    }
    let txn = TxnRequest {
        success: operations,
        ..TxnRequest::default()
    };
    let address = scene.server.address();
    let beside = scene.beside(async {
        let connection = Connection::open(address, true).await?;
        connection.call(TXN, &[], &txn).await
    });
    let ended = scene.judge(&case, beside);
    case.saw(format!("the transaction: {ended:?}"));
    answered_or_refused(&ended.expect("a connection"));
}

#[test]
fn ranges_of_everything_at_once() {
    let case = case::begin("64 ranges of everything at once");
    let scene = Scene::begin();
    let address = scene.server.address();
    let beside = scene.beside(async {
        let calls = (0..AT_ONCE).map(|_| {
            tokio::spawn(async move {
                let connection = Connection::open(address, true).await?;
                connection.call(RANGE, &[], &everything()).await
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut ends = Vec::new();
        for call in calls {
            ends.push(call.await.expect("no panic"));
        }
        ends
    });
    let ends = scene.judge(&case, beside);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for end in &ends {
        let end = end.as_ref().expect("a connection");
        answered_or_refused(end);
        *counts
            .entry(format!("{} {}", end.status, end.message))
            .or_default() += 1;
    }
    case.saw(format!("the ranges: {counts:?}"));
}

#[track_caller]
fn answered_or_refused(end: &Ended) {
    let message = end.message.replace("%20", " ");
    let refused = message.contains(TOO_MANY) || message.contains(TOO_LARGE);
    let is_right = end.status == "0" || (end.status == "8" && refused);
    assert!(is_right, "{end:?}");
}

#[test]
fn sorting_by_value_for_the_first_key() {
    let sorted = RangeRequest {
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Value.into(),
        limit: 1,
        ..everything()
    };
    sorting(
        "4 clients, sorted by value with limit 1",
        sorted,
        Scene::begin,
    );
}

#[test]
fn sorting_by_revision_for_the_last_key() {
    let last = RangeRequest {
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Mod.into(),
        limit: 1,
        ..everything()
    };
    let keys = ci_or_full(60_000, 1_000_000);
    let scene = || Scene::with(keys, 2_048 * super::MIB);
    sorting("4 clients, the last revision of a prefix", last, scene);
}

fn sorting(name: &'static str, query: RangeRequest, scene: impl FnOnce() -> Scene) {
    let case = case::begin(name);
    let scene = scene();
    let address = scene.server.address();
    let time = Duration::from_secs(ci_or_full(4, 10));
    let beside = scene.beside(async {
        let sorters = (0..SORTERS).map(|_| {
            let query = query.clone();
            tokio::spawn(async move {
                let connection = Connection::open(address, true).await.expect("a connection");
                let (began, mut answers) = (Instant::now(), 0);
                while began.elapsed() < time {
                    let end = connection
                        .call(RANGE, &[], &query)
                        .await
                        .expect("an answer");
                    answered_or_refused(&end);
                    answers += usize::from(end.status == "0");
                }
                answers
            })
        });
        let sorters: Vec<_> = sorters.collect();
        let mut answers = 0;
        for sorter in sorters {
            answers += sorter.await.expect("no panic");
        }
        answers
    });
    let answers = scene.judge(&case, beside);
    case.saw(format!("{answers} sorted answers"));
    assert!(answers > 0, "no answer at all");
}
