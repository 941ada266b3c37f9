//! Reads while the store is replaced.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use std::time::Duration;

use crate::budget::{Budget, Turns};
use crate::read::{Reader, read_now};
use crate::store::Remembered;
use crate::types::KeyValue;
use crate::types::result::Item;

/// Entries that write the entry's number to two keys at once.
fn twins(from: u64, to: u64) -> Vec<Entry> {
    let twin = |key, n: u64| TxnOp::Put(put_with_lease(key, &n.to_string(), LeaseId::NONE));
    let txn = |n| Txn {
        compare: Vec::new(),
        success: vec![twin("left", n), twin("right", n)],
        failure: Vec::new(),
    };
    (from..to)
        .map(|n| batch(n, vec![Op::Txn(txn(n))]))
        .collect()
}

#[tokio::test]
async fn a_pinned_read_finishes_on_the_store_that_it_began_with() {
    let (leader, follower) = (Member::new(), Member::new());
    let mut entries = beginning();
    let old = (0..3000).map(|n| put(&format!("key-{n:04}"), "old"));
    entries.push(batch(2, old.collect()));
    follower.apply(&entries).await;
    let new = (0..3000).map(|n| put(&format!("key-{n:04}"), "new"));
    entries.push(batch(3, new.collect()));
    entries.push(batch(4, vec![compact(6001)]));
    leader.apply(&entries).await;
    wait_until("the leader has reclaimed", || {
        !leader.store.read().compact_pending()
    });
    let budget = Budget::new(1 << 20, 1, Duration::from_secs(1));
    let reader = Reader::new(follower.store.clone(), Turns::new(1), budget);
    let mut cursor = reader.cursor(all_keys()).await.unwrap();
    let mut items = cursor.step(1000).unwrap().items;
    let old_dir = follower.place().dir();
    follower.install_from(&leader).await;
    assert_eq!(follower.hash(), leader.hash());
    assert!(old_dir.exists(), "somebody reads it");
    for _ in 0..2 {
        items.extend(cursor.step(1000).unwrap().items);
    }
    let values = items.iter().map(|item| decode(item).value);
    assert_eq!(values.filter(|value| value == "old").count(), 3000);
    drop(cursor);
    wait_until("the old store is gone", || !old_dir.exists());
    let (_, fresh) = read_now(&follower.store, &all_keys()).unwrap();
    assert_eq!(fresh.items.len(), 3000);
}

#[tokio::test]
async fn an_export_under_way_reads_the_store_that_it_began_with() {
    let (leader, follower) = (Member::new(), Member::new());
    let entries = history(8, 80);
    follower.apply(&entries[..40]).await;
    leader.apply(&entries).await;
    let engine = follower.store.engine();
    let (meta, checkpoint) = leader.snapshot().await;
    let prepared = follower.receive(&checkpoint);
    let records = |scanner: &crate::storage::Scanner<'_>| {
        let mut count = 0;
        scanner.records(&mut |_| {
            count += 1;
            true
        });
        count
    };
    let before = engine.with_view(records);
    follower.install(&meta, prepared).await;
    let after = engine.with_view(|scanner| {
        assert_eq!(scanner.applied().unwrap().log_position.unwrap().index, 39);
        records(scanner)
    });
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_one_store_or_the_other_and_never_go_back() {
    let (leader, follower) = (Member::new(), Member::new());
    for member in [&leader, &follower] {
        member.apply(&beginning()).await;
        member.apply(&twins(2, 10)).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, stop) = (follower.store.clone(), stop.clone());
            std::thread::spawn(move || read_twins(store, &stop))
        })
        .collect();
    for round in 1..=4 {
        leader.apply(&twins(round * 10, round * 10 + 10)).await;
        follower.install_from(&leader).await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let last = reader.join().unwrap();
        assert!(last >= 2, "it has read");
    }
    let (revision, _) = read_now(&follower.store, &all_keys()).unwrap();
    assert_eq!(revision, leader.store.revision());
}

fn decode(item: &Item) -> KeyValue {
    KeyValue::decode(&Bytes::copy_from_slice(item.as_ref())).unwrap()
}

fn read_twins(store: Arc<Store>, stop: &AtomicBool) -> i64 {
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let published = store.revision();
        let (revision, range) = read_now(&store, &all_keys()).unwrap();
        assert!(
            revision >= published && revision.0 >= last,
            "time goes forward"
        );
        last = revision.0;
        let [left, right] = [0, 1].map(|at| decode(&range.items[at]));
        assert_eq!(left.value, right.value, "written at once");
        assert!(left.mod_revision <= revision && left.mod_revision == right.mod_revision);
    }
    last
}

#[tokio::test]
async fn a_compaction_remembers_what_its_revision_hashed_to() {
    let member = Member::new();
    let mut entries = beginning();
    let overwritten = (0..900).map(|n| put(&format!("key-{:03}", n % 300), &n.to_string()));
    entries.push(batch(2, overwritten.collect()));
    member.apply(&entries).await;
    let before = member.hash();
    let head = before.hash_revision;
    // The second is refused, and leaves nothing behind.
    member
        .apply(&[batch(3, vec![compact(head.0), compact(head.0)])])
        .await;
    let hashes = member.store.compaction_hashes();
    hashes.wait(head);
    let Remembered::Hash(after) = hashes.at(head) else {
        panic!("the compaction was hashed")
    };
    assert_eq!(after, before);
    assert_ne!(member.hash().hash, before.hash);
}
