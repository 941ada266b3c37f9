//! Watchers across an installation: nothing twice, nothing left out, or told that it is compacted.

use engram_proto::etcdserverpb::WatchResponse;
use prost::Message;

use super::*;
use crate::watch::{AUTO_WATCH_ID, Create, Filter, Request, WatchStream};

fn watch(member: &Member, start_revision: i64) -> WatchStream {
    let mut stream = member.hub.open(None);
    stream.handle(Request::Create(Create {
        range: all_keys().range,
        start_revision,
        progress_notify: false,
        prev_kv: true,
        filter: Filter::default(),
        watch_id: AUTO_WATCH_ID,
        fragment: false,
        denied: None,
    }));
    stream
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    let next = tokio::time::timeout(Duration::from_secs(10), stream.next());
    let frame = next.await.expect("a response comes");
    let mut whole = bytes::BytesMut::new();
    frame.write_to(&mut whole);
    WatchResponse::decode(whole.freeze()).unwrap()
}

/// The revisions of the events up to `last`, in the order in which they come.
async fn revisions_up_to(stream: &mut WatchStream, last: i64) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last) {
        let response = next(stream).await;
        assert!(!response.canceled, "{response:?}");
        let header = response.header.unwrap().revision;
        for event in response.events {
            let revision = event.kv.unwrap().mod_revision;
            assert!(revision <= header, "a header is not behind its events");
            revisions.push(revision);
        }
    }
    revisions
}

/// Entries of one put each: entry `n` makes revision `n`.
fn puts(from: u64, to: u64) -> Vec<Entry> {
    (from..to)
        .map(|n| batch(n, vec![put(&format!("key-{}", n % 7), &n.to_string())]))
        .collect()
}

async fn apply_puts(member: &Member, to: u64) {
    member.apply(&beginning()).await;
    member.apply(&puts(2, to)).await;
    assert_eq!(member.store.revision().0, i64::try_from(to).unwrap() - 1);
}

#[tokio::test]
async fn a_live_watcher_gets_what_the_snapshot_went_over_once_and_then_what_follows() {
    let (leader, follower) = (Member::new(), Member::new());
    apply_puts(&leader, 3000).await;
    apply_puts(&follower, 10).await;
    let mut stream = watch(&follower, 0);
    assert!(next(&mut stream).await.created);
    follower.apply(&puts(10, 12)).await;
    // These wait in the stream's queue while the store is replaced.
    follower.install_from(&leader).await;
    follower.apply(&puts(3000, 3010)).await;
    let seen = revisions_up_to(&mut stream, 3009).await;
    assert_eq!(seen, (10..3010).collect::<Vec<i64>>());
    assert_eq!(follower.hub.metrics().slow_watchers, 0, "it is live again");
}

#[tokio::test]
async fn a_lagging_watcher_reads_on_in_the_new_store() {
    let (leader, follower) = (Member::new(), Member::new());
    apply_puts(&leader, 4000).await;
    apply_puts(&follower, 2500).await;
    let mut stream = watch(&follower, 2);
    assert!(next(&mut stream).await.created);
    // It has read a batch of its past (1000 revisions at most), and more is being read.
    let first = next(&mut stream).await;
    let mut seen: Vec<i64> = first
        .events
        .into_iter()
        .map(|event| event.kv.unwrap().mod_revision)
        .collect();
    follower.install_from(&leader).await;
    seen.extend(revisions_up_to(&mut stream, 3999).await);
    assert_eq!(seen, (2..4000).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_watcher_that_waits_for_the_future_goes_on_waiting() {
    let (leader, follower) = (Member::new(), Member::new());
    apply_puts(&leader, 100).await;
    apply_puts(&follower, 10).await;
    let mut within = watch(&follower, 50);
    let mut beyond = watch(&follower, 102);
    assert!(next(&mut within).await.created && next(&mut beyond).await.created);
    follower.install_from(&leader).await;
    follower.apply(&puts(100, 105)).await;
    let seen = revisions_up_to(&mut within, 104).await;
    assert_eq!(seen, (50..105).collect::<Vec<i64>>());
    assert_eq!(revisions_up_to(&mut beyond, 104).await, [102, 103, 104]);
}

#[tokio::test]
async fn a_watcher_whose_place_the_snapshot_has_compacted_is_told_so() {
    let (leader, follower) = (Member::new(), Member::new());
    apply_puts(&leader, 100).await;
    leader.apply(&[batch(100, vec![compact(60)])]).await;
    apply_puts(&follower, 10).await;
    let mut behind = watch(&follower, 0);
    let mut at = watch(&follower, 60);
    assert!(next(&mut behind).await.created && next(&mut at).await.created);
    follower.install_from(&leader).await;
    let told = next(&mut behind).await;
    assert_eq!((told.canceled, told.compact_revision), (true, 60));
    let seen = revisions_up_to(&mut at, 99).await;
    assert_eq!(
        seen,
        (60..100).collect::<Vec<i64>>(),
        "60 itself is readable"
    );
    follower.apply(&puts(101, 102)).await;
    assert_eq!(revisions_up_to(&mut at, 100).await, [100]);
}
