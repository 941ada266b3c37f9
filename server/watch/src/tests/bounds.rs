//! Slow streams, small queues, small rings, wake-ups and counters.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// So small that one event fills it.
fn tight() -> Config {
    Config {
        stream_queue_bytes: 1,
        ring_bytes: 2000,
        history_revisions_max: 3,
        ..Config::default()
    }
}

async fn collect(stream: &mut WatchStream, count: usize) -> Vec<(i64, String, Option<String>)> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(told(&next(stream).await));
    }
    all
}

#[tokio::test]
async fn a_stream_that_does_not_read_lags_and_catches_up_from_storage() {
    let world = World::new(tight());
    let (mut slow, mut quick) = (world.hub.open(None), world.hub.open(None));
    slow.handle(Request::Create(Create {
        prev_kv: true,
        ..create("a", "b")
    }));
    quick.handle(Request::Create(create("a", "b")));
    next(&mut slow).await;
    next(&mut quick).await;
    for count in 0..50 {
        let revision = world.put("a", &count.to_string());
        let response = next(&mut quick).await;
        assert_eq!(
            revision_of(&response),
            revision.0,
            "a slow stream holds up no other"
        );
        assert_eq!(poll(&mut quick), None);
    }
    assert_eq!(world.hub.metrics().slow_watchers, 1);
    assert!(world.hub.metrics().ring_bytes <= 2000);
    let all = collect(&mut slow, 50).await;
    let wanted: Vec<_> = (0..50)
        .map(|n| (n + 2, "a".to_owned(), Some(n.to_string())))
        .collect();
    assert_eq!(all, wanted);
    assert_silent(&mut slow).await;
    assert_eq!(world.hub.metrics().slow_watchers, 0);
    assert!(
        world.store.0.lock().scans > 3,
        "most of it was no longer in the ring"
    );
    world.put("a", "live");
    assert_eq!(next(&mut slow).await.events.len(), 1);
}

#[tokio::test]
async fn a_lagging_stream_tells_no_progress() {
    let world = World::new(tight());
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "b")));
    for count in 0..5 {
        world.put("a", &count.to_string());
    }
    stream.handle(Request::Progress);
    next(&mut stream).await;
    collect(&mut stream, 5).await;
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn a_historical_response_spans_no_more_revisions_than_allowed() {
    let world = World::new(Config {
        history_revisions_max: 3,
        ..Config::default()
    });
    for count in 0..7 {
        let value = count.to_string();
        world.txn(&[("a", Some(&value)), ("aa", Some(&value))]);
    }
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        start_revision: 2,
        ..create("a", "b")
    }));
    next(&mut stream).await;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        sizes.push(next(&mut stream).await.events.len());
    }
    assert_eq!(
        sizes,
        [6, 6, 2],
        "both events of a transaction stay together"
    );
}

#[tokio::test]
async fn a_lagging_watcher_whose_place_is_compacted_is_canceled() {
    let world = World::new(tight());
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "b")));
    next(&mut stream).await;
    for count in 0..9 {
        world.put("a", &count.to_string());
    }
    world.store.compact(Revision(9));
    assert_eq!(
        told(&next(&mut stream).await).len(),
        1,
        "what was queued is sent"
    );
    let canceled = next(&mut stream).await;
    assert!(canceled.canceled && canceled.compact_revision == 9);
    assert_eq!(world.hub.metrics().watchers, 0);
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn the_edge_stops_reading_requests_while_answers_wait() {
    let world = World::new(Config::default());
    let mut stream = world.hub.open(None);
    let mut handled = 0;
    while stream.wants_requests() {
        stream.handle(Request::Create(create("a", "")));
        handled += 1;
    }
    assert_eq!(handled, 16);
    next(&mut stream).await;
    assert!(stream.wants_requests());
}

#[tokio::test]
async fn progress_requests_that_nobody_reads_are_bounded() {
    let world = World::new(Config {
        stream_queue_bytes: 640,
        ..Config::default()
    });
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "")));
    for _ in 0..1000 {
        stream.handle(Request::Progress);
    }
    let mut count = 0;
    while poll(&mut stream).is_some() {
        count += 1;
    }
    assert_eq!(count, 11);
}

#[derive(Default)]
struct CountingHome(AtomicUsize, AtomicUsize);

impl Home for CountingHome {
    fn wake(&self, wakers: Vec<Waker>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.fetch_add(wakers.len(), Ordering::Relaxed);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[tokio::test]
async fn a_batch_wakes_each_home_once_and_only_streams_that_sleep() {
    let world = World::new(Config::default());
    let homes: [Arc<CountingHome>; 2] = Default::default();
    let mut streams: Vec<_> = (0..10)
        .map(|index| world.hub.open(Some(homes[index % 2].clone())))
        .collect();
    for stream in &mut streams {
        stream.handle(Request::Create(create("a", "")));
        stream.handle(Request::Create(create("a", "b")));
        while poll(stream).is_some() {}
    }
    let calls = || homes.each_ref().map(|home| home.0.load(Ordering::Relaxed));
    let woken = || homes.each_ref().map(|home| home.1.load(Ordering::Relaxed));
    world.txn(&[("a", Some("1")), ("a", Some("2"))]);
    assert_eq!((calls(), woken()), ([1, 1], [5, 5]));
    world.put("a", "3");
    assert_eq!(
        calls(),
        [1, 1],
        "streams that have not looked yet are not woken again"
    );
    while poll(&mut streams[0]).is_some() {}
    world.put("a", "4");
    assert_eq!((calls(), woken()), ([2, 1], [6, 5]));
}

#[tokio::test]
async fn counters_follow_watchers_streams_and_events() {
    let world = World::new(Config::default());
    let mut stream = world.hub.open(None);
    let other = world.hub.open(None);
    stream.handle(Request::Create(create("a", "b")));
    stream.handle(Request::Create(create("a", "")));
    world.txn(&[("a", Some("1")), ("aa", Some("1"))]);
    let metrics = world.hub.metrics();
    assert_eq!(
        (metrics.watchers, metrics.streams, metrics.pending_events),
        (2, 2, 3)
    );
    while poll(&mut stream).is_some() {}
    let metrics = world.hub.metrics();
    assert_eq!((metrics.events_total, metrics.pending_events), (3, 0));
    world.put("a", "2");
    drop(stream);
    drop(other);
    let metrics = world.hub.metrics();
    assert_eq!(
        (metrics.watchers, metrics.streams, metrics.pending_events),
        (0, 0, 0)
    );
}
