//! Answers read in steps equal those read at once.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;

use super::*;
use crate::codec::answer::{self, Header};
use crate::codec::{Frame, Piece};
use crate::store::fixture::Scratch;
use crate::types::request::{CompareResult, CompareTarget, DeleteRange, Op, Put, TxnOp};
use crate::types::{KeyRange, KeyValue, LeaseId};

/// More than one operation may look at.
const KEYS: usize = 1200;

fn key(place: usize) -> String {
    format!("key-{place:05}")
}

fn put(key: &str, value: String) -> Put {
    Put {
        key: key.to_owned().into(),
        value: value.into(),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn txn(success: Vec<TxnOp>) -> Txn {
    Txn {
        success,
        ..Txn::default()
    }
}

/// Keys in several revisions, some written twice, some deleted; values in another order than keys.
fn filled() -> Scratch {
    let scratch = Scratch::empty();
    for from in (0..KEYS).step_by(100) {
        let puts = (from..from + 100).map(|place| {
            let value = format!("{:04}", place * 7919 % 1000);
            TxnOp::Put(put(&key(place), value))
        });
        let put = scratch.apply(&Op::Txn(txn(puts.collect())));
        assert!(put.result.is_ok());
    }
    for place in (0..KEYS).step_by(50) {
        scratch.put(&key(place), b"again");
    }
    let gone = KeyRange::from_request(key(40).into(), key(45).into());
    let delete = Op::DeleteRange(DeleteRange {
        range: gone,
        prev_kv: false,
    });
    assert!(scratch.apply(&delete).result.is_ok());
    scratch
}

fn reader(scratch: &Scratch) -> Reader {
    let budget = Budget::new(64 << 20, 4, Duration::from_secs(5));
    Reader::new(scratch.store.clone(), Turns::new(2), budget)
}

fn everything() -> Range {
    Range::all(KeyRange::from_request("a".into(), Bytes::from_static(&[0])))
}

async fn wire(frame: Frame) -> Vec<u8> {
    let (first, more, mut pages) = frame.into_pieces();
    let mut all = first.to_vec();
    for piece in more {
        let mut left = match piece {
            Piece::Bytes(bytes) => {
                all.extend_from_slice(&bytes);
                continue;
            }
            Piece::Run(bytes) => bytes,
        };
        while left > 0 {
            let pages = &mut pages.as_mut().expect("a run has pages").0;
            let page = pages.next().await.expect("as many as promised").unwrap();
            left -= page.len();
            all.extend_from_slice(&page);
        }
    }
    if let Some(mut pages) = pages {
        assert!(pages.0.next().await.is_none(), "nothing more than promised");
    }
    all
}

fn queries() -> Vec<Range> {
    use SortOrder::{Ascend, Descend, None};
    let mut all = Vec::new();
    for sort_target in [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ] {
        for sort_order in [None, Ascend, Descend] {
            for limit in [0, 1, 7, 1100, 5000] {
                for (revision, min_mod_revision) in [(0, 0), (9, 0), (0, 14), (12, 3)] {
                    all.push(Range {
                        sort_target,
                        sort_order,
                        limit,
                        revision,
                        min_mod_revision,
                        keys_only: limit == 7 || limit == 5000,
                        count_only: limit == 5000 && min_mod_revision == 0,
                        ..everything()
                    });
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn an_answer_in_steps_is_the_answer_at_once() {
    let scratch = filled();
    let reader = reader(&scratch);
    let mut large = 0;
    for query in queries() {
        let (head, whole) = read_now(&scratch.store, &query).unwrap();
        let expected = wire(answer::range(&Header::default(), &whole)).await;
        let read = reader.range(&query).await.unwrap();
        assert_eq!(read.head, head);
        large += u32::from(read.pages.is_some());
        let frame = answer::range(&Header::default(), &read.found).with_pages(read.pages);
        assert!(wire(frame).await == expected, "{query:?}");
    }
    assert!(large > 100, "{large} were large");
    assert_eq!(reader.budget.taken_bytes(), 0, "nothing is held any more");
    assert!(!scratch.store.read().mvcc.has_pins());
}

fn key_values(encoded: &[u8]) -> Vec<(Bytes, Bytes)> {
    let decoded: engram_proto::etcdserverpb::RangeResponse =
        prost::Message::decode(encoded).unwrap();
    let pairs = decoded.kvs.into_iter().map(|kv| (kv.key, kv.value));
    pairs.collect()
}

async fn read_all(reader: &Reader, revision: i64) -> Vec<(Bytes, Bytes)> {
    let query = Range {
        revision,
        ..everything()
    };
    let read = reader.range(&query).await.unwrap();
    let frame = answer::range(&Header::default(), &read.found).with_pages(read.pages);
    key_values(&wire(frame).await[5..])
}

#[tokio::test]
async fn what_a_transaction_left_for_later_is_what_it_saw() {
    let scratch = filled();
    let reader = reader(&scratch);
    let before = read_all(&reader, 0).await;
    let all = || TxnOp::Range(everything());
    let gone = KeyRange::from_request(key(100).into(), Bytes::from_static(&[0]));
    let delete = TxnOp::DeleteRange(DeleteRange {
        range: gone.clone(),
        prev_kv: true,
    });
    let changed = TxnOp::Put(put(&key(7), "changed".into()));
    let created = TxnOp::Put(put(&key(8).replace("key", "kez"), "new".into()));
    let ops = vec![all(), changed, all(), created, delete, all()];
    let mut outcome = scratch.apply(&Op::Txn(txn(ops)));
    let kept = outcome.kept.take().expect("much was left");
    // Nothing of this is seen, and nothing that is seen is reclaimed.
    for place in 0..KEYS {
        scratch.put(&key(place), b"later");
    }
    scratch.compact(scratch.store.revision());
    scratch.reclaim_step();
    let mut applied = outcome.result.unwrap();
    let pages = reader.complete(&mut applied, kept).await.unwrap();
    let Applied::Txn(found) = applied else {
        panic!("a transaction")
    };
    let frame = answer::txn(&Header::default(), &found).with_pages(pages);
    let bytes = wire(frame).await;
    let decoded: engram_proto::etcdserverpb::TxnResponse =
        prost::Message::decode(&bytes[5..]).unwrap();
    let mut ranges = Vec::new();
    let mut deleted = Vec::new();
    for response in decoded.responses {
        use engram_proto::etcdserverpb::response_op::Response;
        match response.response.unwrap() {
            Response::ResponseRange(range) => {
                assert_eq!(range.count, range.kvs.len() as i64);
                let pairs = range.kvs.into_iter().map(|kv| (kv.key, kv.value));
                ranges.push(pairs.collect::<Vec<_>>());
            }
            Response::ResponseDeleteRange(delete) => {
                assert_eq!(delete.deleted, delete.prev_kvs.len() as i64);
                deleted.extend(delete.prev_kvs.into_iter().map(|kv| (kv.key, kv.value)));
            }
            _ => {}
        }
    }
    assert!(ranges[0] == before, "the first sees what was before");
    let mut expected = before.clone();
    let place = expected.iter().position(|(k, _)| *k == key(7).as_bytes());
    expected[place.unwrap()].1 = "changed".into();
    assert!(ranges[1] == expected, "the second sees the first put");
    expected.push(("kez-00008".into(), "new".into()));
    let (stay, go): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(k, _)| !gone.contains(k));
    assert!(deleted == go, "the delete tells what it deleted");
    assert!(ranges[2] == stay, "the third sees the deletion");
    // The hash of the compaction pins its revision too.
    scratch.store.compaction_hashes().stop();
    assert!(!scratch.store.read().mvcc.has_pins());
}

#[tokio::test]
async fn a_read_only_transaction_compares_and_reads_in_steps() {
    let scratch = filled();
    let reader = reader(&scratch);
    let compare = |key: &str, target, result| Compare {
        range: KeyRange::from_request(key.to_owned().into(), Bytes::from_static(&[0])),
        result,
        target,
    };
    let exists = compare("a", CompareTarget::Version(0), CompareResult::Greater);
    let changed = compare("key-0003", CompareTarget::Mod(20), CompareResult::Greater);
    let valued = compare(
        "a",
        CompareTarget::Value("x".into()),
        CompareResult::NotEqual,
    );
    let none = compare(
        "z",
        CompareTarget::Value("x".into()),
        CompareResult::NotEqual,
    );
    for (compares, succeeds) in [
        (vec![exists.clone()], true),
        (vec![exists.clone(), valued.clone()], true),
        (vec![exists, changed], false),
        (vec![valued, none], false),
    ] {
        let asked = Txn {
            compare: compares,
            success: vec![TxnOp::Range(everything())],
            failure: vec![TxnOp::Range(Range::all(KeyRange::single(key(1).into())))],
        };
        let read = reader.txn(&asked).await.unwrap();
        assert_eq!(read.found.succeeded, succeeds);
        let frame = answer::txn(&Header::default(), &read.found).with_pages(read.pages);
        let bytes = wire(frame).await;
        let decoded: engram_proto::etcdserverpb::TxnResponse =
            prost::Message::decode(&bytes[5..]).unwrap();
        let Some(engram_proto::etcdserverpb::response_op::Response::ResponseRange(range)) =
            decoded.responses[0].response.clone()
        else {
            panic!("a range")
        };
        let expected = if succeeds { KEYS - 5 } else { 1 };
        assert_eq!(range.kvs.len(), expected);
    }
    assert!(!scratch.store.read().mvcc.has_pins());
}

#[tokio::test]
async fn an_answer_without_room_is_refused() {
    let scratch = filled();
    let budget = Budget::new(1 << 10, 4, Duration::from_millis(10));
    let reader = Reader::new(scratch.store.clone(), Turns::new(1), budget);
    let refused = reader.range(&everything()).await;
    assert_eq!(refused.unwrap_err(), ReadError::Exhausted(Exhausted));
    let one = Range::all(KeyRange::single(key(1).into()));
    assert!(reader.range(&one).await.is_ok(), "what is small goes on");
    let kv = reader.range(&one).await.unwrap().found.items.remove(0);
    assert_eq!(KeyValue::decode(&kv.into_bytes()).unwrap().version, 1);
}
