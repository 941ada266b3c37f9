//! What etcd answers, message by message (the expectations were recorded from etcd 3.7.3).

use super::*;

fn world() -> World {
    World::new(Config::default())
}

/// `a` put four times, at revisions 2 to 5, with what is below revision 4 compacted.
fn four_puts_compacted_at_four() -> World {
    let world = world();
    for value in ["1", "2", "3", "4"] {
        world.put("a", value);
    }
    world.store.compact(Revision(4));
    world
}

fn put(revision: i64, key: &str, value: &str) -> (i64, String, Option<String>) {
    (revision, key.to_owned(), Some(value.to_owned()))
}

#[tokio::test]
async fn created_comes_first_and_events_follow() {
    let world = world();
    world.put("a", "0");
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "b")));
    world.put("a1", "1");
    let created = next(&mut stream).await;
    assert!(created.created && !created.canceled && created.events.is_empty());
    assert_eq!((created.watch_id, revision_of(&created)), (0, 2));
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id, revision_of(&response)), (0, 3));
    assert_eq!(told(&response), [put(3, "a1", "1")]);
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn a_delete_tells_key_and_revision_and_what_was_there() {
    let world = world();
    world.txn(&[("L1", Some("v")), ("L2", Some("v"))]);
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        prev_kv: true,
        ..create("L", "M")
    }));
    next(&mut stream).await;
    world.txn(&[("L1", None), ("L2", None)]);
    let response = next(&mut stream).await;
    assert_eq!(
        told(&response),
        [(3, "L1".to_owned(), None), (3, "L2".to_owned(), None)]
    );
    for event in &response.events {
        let kv = event.kv.as_ref().unwrap();
        assert_eq!((kv.create_revision, kv.version, kv.value.len()), (0, 0, 0));
        assert_eq!(event.prev_kv.as_ref().unwrap().mod_revision, 2);
        assert_eq!(value_before(event).as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn only_watchers_that_ask_get_the_value_before() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("k", "")));
    stream.handle(Request::Create(Create {
        prev_kv: true,
        ..create("k", "")
    }));
    next(&mut stream).await;
    next(&mut stream).await;
    for (value, before) in [
        ("1", None),
        ("2", Some("1")),
        ("3", Some("2")),
        ("4", Some("3")),
    ] {
        world.put("k", value);
        let (plain, full) = (next(&mut stream).await, next(&mut stream).await);
        assert_eq!((plain.watch_id, full.watch_id), (0, 1));
        assert_eq!(value_before(&plain.events[0]), None);
        assert_eq!(value_before(&full.events[0]).as_deref(), before);
    }
}

#[tokio::test]
async fn a_value_before_that_memory_lacks_is_read_once_and_elsewhere() {
    let world = world();
    // The store tells the value before revision 3 by its place only.
    world.put("k", "1");
    let mut streams = [world.hub.open(None), world.hub.open(None)];
    for stream in &mut streams {
        stream.handle(Request::Create(Create {
            prev_kv: true,
            ..create("k", "")
        }));
        next(stream).await;
    }
    world.put("k", "2");
    world.put("k", "3");
    let here = std::thread::current().id();
    for stream in &mut streams {
        stream.handle(Request::Progress);
        assert_eq!(
            poll(stream),
            None,
            "storage is not read while the stream is polled"
        );
    }
    for stream in &mut streams {
        for (revision, value, before) in [(3, "2", "1"), (4, "3", "2")] {
            let response = next(stream).await;
            assert_eq!(told(&response), [put(revision, "k", value)]);
            assert_eq!(value_before(&response.events[0]).as_deref(), Some(before));
        }
        let progress = next(stream).await;
        assert_eq!((progress.watch_id, revision_of(&progress)), (-1, 4));
    }
    let readers = std::mem::take(&mut world.store.0.lock().readers);
    assert_eq!(readers.len(), 1, "two streams share one read");
    assert_ne!(readers[0], here);
}

#[tokio::test]
async fn refused_watchers_are_created_and_canceled_at_once() {
    let world = world();
    let mut stream = world.hub.open(None);
    let negative = Create {
        start_revision: -1,
        ..create("a", "")
    };
    let denied = Create {
        denied: Some("etcdserver: permission denied".into()),
        ..create("a", "")
    };
    let five = Create {
        watch_id: 5,
        ..create("a", "")
    };
    for create in [
        negative,
        denied,
        create("b", "a"),
        create("a", "a"),
        five.clone(),
        five,
    ] {
        stream.handle(Request::Create(create));
    }
    let mut reasons = Vec::new();
    for _ in 0..6 {
        let response = next(&mut stream).await;
        assert!(response.created && response.compact_revision == 0);
        assert_eq!(response.canceled, response.watch_id == -1);
        reasons.push((response.watch_id, response.cancel_reason));
    }
    let wanted = [
        (-1, "etcdserver: mvcc: required revision has been compacted"),
        (-1, "etcdserver: permission denied"),
        (-1, "mvcc: watcher range is empty"),
        (-1, "mvcc: watcher range is empty"),
        (5, ""),
        (-1, "mvcc: duplicate watch ID provided on the WatchStream"),
    ];
    assert_eq!(reasons, wanted.map(|(id, reason)| (id, reason.to_owned())));
}

#[tokio::test]
async fn a_watcher_that_is_refused_later_is_told_why_and_nothing_more() {
    let world = world();
    let mut stream = world.hub.open(None);
    for key in ["a", "b"] {
        stream.handle(Request::Create(create(key, "")));
        assert!(next(&mut stream).await.created);
    }
    world.put("a", "secret");
    world.put("b", "1");
    let denied = "etcdserver: permission denied".to_owned();
    stream.retain(|range| (range.start == "a").then(|| denied.clone()));
    let mut told = Vec::new();
    for _ in 0..2 {
        let response = next(&mut stream).await;
        told.push((response.watch_id, response.canceled, response.events.len()));
        if response.canceled {
            assert_eq!(response.cancel_reason, denied);
        }
    }
    told.sort_unstable();
    assert_eq!(told, [(0, true, 0), (1, false, 1)]);
    // A stream that sleeps is polled when it is nudged.
    assert_eq!(poll(&mut stream), None);
    world.hub.nudge();
    world.put("a", "more");
    assert_eq!(poll(&mut stream), None);
}

#[tokio::test]
async fn chosen_ids_count_from_zero_around_those_that_are_taken() {
    let world = world();
    let mut stream = world.hub.open(None);
    let mut ids = Vec::new();
    for watch_id in [1, 0, 0, 7, 0] {
        stream.handle(Request::Create(Create {
            watch_id,
            ..create("a", "")
        }));
        ids.push(next(&mut stream).await.watch_id);
    }
    assert_eq!(ids, [1, 0, 2, 7, 3]);
    stream.handle(Request::Cancel(3));
    next(&mut stream).await;
    stream.handle(Request::Create(create("a", "")));
    assert_eq!(
        next(&mut stream).await.watch_id,
        4,
        "a chosen id is not chosen again"
    );
}

#[tokio::test]
async fn cancel_is_answered_once_and_stops_what_was_queued() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        watch_id: 5,
        ..create("a", "")
    }));
    next(&mut stream).await;
    world.put("a", "1");
    stream.handle(Request::Cancel(6));
    stream.handle(Request::Cancel(5));
    stream.handle(Request::Cancel(5));
    let response = next(&mut stream).await;
    assert!(response.canceled && !response.created && response.cancel_reason.is_empty());
    assert_eq!((response.watch_id, revision_of(&response)), (5, 2));
    assert_silent(&mut stream).await;
    assert_eq!(world.hub.metrics().pending_events, 0);
    assert_eq!(world.hub.metrics().watchers, 0);
}

#[tokio::test]
async fn a_compacted_start_is_created_then_canceled_without_a_revision() {
    let world = four_puts_compacted_at_four();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        start_revision: 3,
        ..create("a", "")
    }));
    let created = next(&mut stream).await;
    assert!(created.created && !created.canceled && revision_of(&created) == 5);
    let canceled = next(&mut stream).await;
    assert!(canceled.canceled && !canceled.created && canceled.cancel_reason.is_empty());
    assert_eq!((revision_of(&canceled), canceled.compact_revision), (0, 4));
    stream.handle(Request::Create(Create {
        start_revision: 4,
        ..create("a", "")
    }));
    let created = next(&mut stream).await;
    assert!(created.created && created.watch_id == 1);
    assert_eq!(
        told(&next(&mut stream).await),
        [put(4, "a", "3"), put(5, "a", "4")]
    );
}

#[tokio::test]
async fn an_id_that_compaction_ended_stays_taken_and_silences_progress_until_it_is_cancelled() {
    let world = four_puts_compacted_at_four();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        start_revision: 3,
        watch_id: 7,
        ..create("a", "")
    }));
    assert!(next(&mut stream).await.created);
    assert!(next(&mut stream).await.canceled);
    stream.handle(Request::Create(create("b", "")));
    assert!(next(&mut stream).await.created);
    stream.handle(Request::Progress);
    stream.handle(Request::Create(Create {
        watch_id: 7,
        ..create("a", "")
    }));
    let refused = next(&mut stream).await;
    assert!(refused.created && refused.canceled && refused.watch_id == NO_WATCHER);
    stream.handle(Request::Cancel(7));
    let canceled = next(&mut stream).await;
    assert!(canceled.canceled && canceled.watch_id == 7 && revision_of(&canceled) == 5);
    stream.handle(Request::Progress);
    let progress = next(&mut stream).await;
    assert!(progress.watch_id == NO_WATCHER && progress.events.is_empty() && !progress.canceled);
    stream.handle(Request::Cancel(7));
    stream.handle(Request::Progress);
    assert_eq!(
        next(&mut stream).await.watch_id,
        NO_WATCHER,
        "an unknown id has no reply"
    );
}

#[tokio::test]
async fn a_future_start_is_silent_until_it_is_reached() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        start_revision: 4,
        ..create("a", "")
    }));
    assert_eq!(revision_of(&next(&mut stream).await), 1);
    world.put("a", "2");
    world.put("a", "3");
    stream.handle(Request::Progress);
    assert_silent(&mut stream).await;
    world.put("a", "4");
    assert_eq!(told(&next(&mut stream).await), [put(4, "a", "4")]);
    stream.handle(Request::Progress);
    let progress = next(&mut stream).await;
    assert_eq!((progress.watch_id, revision_of(&progress)), (-1, 4));
}

#[tokio::test]
async fn a_start_in_the_past_gets_history_in_one_response() {
    let world = world();
    for value in ["1", "2", "3"] {
        world.txn(&[("a", Some(value)), ("b", Some("x"))]);
    }
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        start_revision: 3,
        ..create("a", "")
    }));
    next(&mut stream).await;
    let response = next(&mut stream).await;
    assert_eq!(told(&response), [put(3, "a", "2"), put(4, "a", "3")]);
    assert_eq!(revision_of(&response), 4);
    assert_silent(&mut stream).await;
    assert_eq!(world.hub.metrics().slow_watchers, 0);
    assert_eq!(world.store.0.lock().scans, 0, "recent history is in memory");
}

#[tokio::test]
async fn history_from_before_the_hub_is_read_from_storage_with_values_before() {
    let store = Memory::new();
    for value in ["1", "2"] {
        store.apply(&[("a", Some(value))]);
    }
    store.apply(&[("a", None)]);
    let hub = Hub::new(store.clone(), Arc::new(Headers), Config::default());
    let world = World { store, hub };
    world.put("a", "5");
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(Create {
        start_revision: 1,
        prev_kv: true,
        ..create("", "\0")
    }));
    next(&mut stream).await;
    let response = next(&mut stream).await;
    let deleted = (4, "a".to_owned(), None);
    assert_eq!(
        told(&response),
        [
            put(2, "a", "1"),
            put(3, "a", "2"),
            deleted,
            put(5, "a", "5")
        ]
    );
    let before: Vec<_> = response.events.iter().map(value_before).collect();
    assert_eq!(
        before,
        [None, Some("1".to_owned()), Some("2".to_owned()), None]
    );
    assert_eq!(world.store.0.lock().scans, 1);
}

#[tokio::test]
async fn filtered_events_are_left_out_and_empty_responses_are_not_sent() {
    let world = world();
    let mut stream = world.hub.open(None);
    let no_put = Filter {
        no_put: true,
        no_delete: false,
    };
    let no_delete = Filter {
        no_put: false,
        no_delete: true,
    };
    stream.handle(Request::Create(Create {
        filter: no_put,
        ..create("a", "")
    }));
    stream.handle(Request::Create(Create {
        filter: no_delete,
        ..create("a", "")
    }));
    next(&mut stream).await;
    next(&mut stream).await;
    world.put("a", "1");
    world.txn(&[("a", None)]);
    let (second, first) = (next(&mut stream).await, next(&mut stream).await);
    assert_eq!(
        (second.watch_id, told(&second)),
        (1, vec![put(2, "a", "1")])
    );
    assert_eq!(
        (first.watch_id, told(&first)),
        (0, vec![(3, "a".to_owned(), None)])
    );
    stream.handle(Request::Create(Create {
        filter: no_put,
        start_revision: 2,
        ..create("a", "")
    }));
    next(&mut stream).await;
    assert_eq!(told(&next(&mut stream).await), [(3, "a".to_owned(), None)]);
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn an_empty_key_is_the_lowest_one() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("", "")));
    next(&mut stream).await;
    world.txn(&[("\0", Some("x")), ("a", Some("y"))]);
    assert_eq!(told(&next(&mut stream).await), [put(2, "\0", "x")]);
}

#[tokio::test]
async fn progress_of_a_stream_without_watchers_is_silent() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Progress);
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn progress_asked_for_while_the_hub_is_behind_comes_when_it_has_caught_up() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "")));
    next(&mut stream).await;
    let (revision, events) = world.store.apply(&[("a", Some("1"))]);
    stream.handle(Request::Progress);
    assert_silent(&mut stream).await;
    world.hub.publish(revision, events);
    assert_eq!(told(&next(&mut stream).await), [put(2, "a", "1")]);
    let progress = next(&mut stream).await;
    assert_eq!(
        (
            progress.watch_id,
            revision_of(&progress),
            progress.events.len()
        ),
        (-1, 2, 0)
    );
}

#[tokio::test]
async fn a_watcher_made_while_the_hub_is_behind_starts_after_the_store() {
    let world = world();
    let (revision, events) = world.store.apply(&[("a", Some("1"))]);
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "")));
    stream.handle(Request::Create(Create {
        start_revision: 2,
        ..create("a", "")
    }));
    assert_eq!(revision_of(&next(&mut stream).await), 2);
    next(&mut stream).await;
    world.hub.publish(revision, events);
    let response = next(&mut stream).await;
    assert_eq!(
        (response.watch_id, told(&response)),
        (1, vec![put(2, "a", "1")])
    );
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn periodic_progress_comes_for_its_watcher_and_is_left_out_after_events() {
    let config = Config {
        progress_interval: Duration::from_millis(400),
        ..Config::default()
    };
    let world = World::new(config);
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "")));
    stream.handle(Request::Create(Create {
        progress_notify: true,
        ..create("b", "")
    }));
    next(&mut stream).await;
    next(&mut stream).await;
    world.put("b", "1");
    assert_eq!(next(&mut stream).await.events.len(), 1);
    let sent = std::time::Instant::now();
    let progress = next(&mut stream).await;
    assert!(
        sent.elapsed() > Duration::from_millis(500),
        "one interval is left out"
    );
    assert_eq!(
        (
            progress.watch_id,
            revision_of(&progress),
            progress.events.len()
        ),
        (1, 2, 0)
    );
    stream.handle(Request::Cancel(1));
    assert!(next(&mut stream).await.canceled);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_silent(&mut stream).await;
}

#[tokio::test]
async fn a_large_transaction_is_split_only_for_those_who_asked() {
    let world = World::new(Config {
        fragment_bytes: 1000,
        ..Config::default()
    });
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("k", "l")));
    stream.handle(Request::Create(Create {
        fragment: true,
        ..create("k", "l")
    }));
    next(&mut stream).await;
    next(&mut stream).await;
    let (small, large) = ("s".repeat(300), "l".repeat(40_000));
    let ops = [
        ("k1", Some(&*small)),
        ("k2", Some(&*small)),
        ("k3", Some(&*large)),
    ];
    world.txn(&[&ops[..], &[("k4", Some(&*small))]].concat());
    let whole = next(&mut stream).await;
    assert_eq!(
        (whole.watch_id, whole.fragment, whole.events.len()),
        (0, false, 4)
    );
    let mut split = Vec::new();
    for _ in 0..3 {
        let part = next(&mut stream).await;
        assert_eq!((part.watch_id, revision_of(&part)), (1, 2));
        split.push((part.fragment, part.events.len()));
    }
    assert_eq!(split, [(true, 2), (true, 1), (false, 1)]);
    world.put("k1", "x");
    assert!(!next(&mut stream).await.fragment);
    assert!(!next(&mut stream).await.fragment);
}

#[tokio::test]
async fn watchers_go_on_in_the_history_of_an_installed_snapshot() {
    let world = world();
    let mut stream = world.hub.open(None);
    stream.handle(Request::Create(create("a", "")));
    next(&mut stream).await;
    world.put("a", "1");
    world.store.apply(&[("a", Some("2"))]);
    let (revision, _) = world.store.apply(&[("a", Some("3"))]);
    world.hub.reset(revision);
    assert_eq!(told(&next(&mut stream).await), [put(2, "a", "1")]);
    assert_eq!(
        told(&next(&mut stream).await),
        [put(3, "a", "2"), put(4, "a", "3")]
    );
    world.put("a", "4");
    assert_eq!(told(&next(&mut stream).await), [put(5, "a", "4")]);
}
