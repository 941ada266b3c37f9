//! Each promise, broken once.

use super::super::observer::Message;
use super::*;

/// A put of `a`; the state before it is the put one revision earlier, from revision 3 on.
fn event(revision: i64) -> Event {
    let put = |revision: i64| Kv {
        key: "a".to_owned(),
        value: revision.to_string(),
        created: 2,
        modified: revision,
        version: revision - 1,
        lease: 0,
    };
    Event {
        revision,
        is_delete: false,
        kv: put(revision),
        before: (revision > 2).then(|| put(revision - 1)),
    }
}

fn message(events: Vec<Event>, revision: i64) -> Message {
    Message {
        events,
        revision,
        at: 1,
    }
}

fn watch(start: i64, messages: Vec<Message>) -> Watch {
    Watch {
        watcher: 3,
        member: 1,
        key: Some("a".to_owned()),
        start,
        messages,
    }
}

fn whole() -> Watch {
    let events = (2..=5).map(event).collect();
    Watch {
        key: None,
        ..watch(1, vec![message(events, 5)])
    }
}

fn verdict(watch: Watch) -> Result<(), String> {
    let watches = [whole(), watch];
    let timeline = Timeline::merge(&watches, 5).expect("the first watch saw everything");
    check(&timeline, &watches, 0)
}

fn breaks(watch: Watch, promise: &str) {
    let said = verdict(watch).expect_err(promise);
    assert!(said.contains(promise), "{said}");
}

#[test]
fn a_right_watch_passes() {
    let messages = vec![
        message(vec![event(3)], 3),
        message(Vec::new(), 3),
        message(vec![event(4), event(5)], 5),
        message(Vec::new(), 5),
    ];
    assert_eq!(verdict(watch(3, messages)), Ok(()));
}

#[test]
fn events_out_of_order_are_found() {
    breaks(
        watch(3, vec![message(vec![event(4), event(3)], 4)]),
        "not ordered",
    );
}

#[test]
fn an_event_that_comes_twice_is_found() {
    let messages = vec![message(vec![event(3)], 3), message(vec![event(3)], 3)];
    breaks(watch(3, messages), "not ordered, unique and atomic");
}

#[test]
fn an_event_from_before_the_start_is_found() {
    breaks(
        watch(4, vec![message(vec![event(3)], 3)]),
        "not ordered, unique and atomic",
    );
}

#[test]
fn a_missed_event_is_found() {
    let messages = vec![message(vec![event(3)], 3), message(vec![event(5)], 5)];
    breaks(watch(3, messages), "not reliable and resumable");
}

#[test]
fn a_resumption_that_skips_is_found() {
    breaks(
        watch(3, vec![message(vec![event(4)], 4)]),
        "not reliable and resumable",
    );
}

#[test]
fn progress_ahead_of_an_event_is_found() {
    let messages = vec![message(Vec::new(), 4), message(vec![event(4)], 4)];
    breaks(watch(4, messages), "not bookmarkable");
    breaks(watch(3, vec![message(Vec::new(), 5)]), "not reliable");
}

#[test]
fn a_wrong_state_before_is_found() {
    let wrong = Event {
        before: event(2).before,
        ..event(4)
    };
    breaks(
        watch(4, vec![message(vec![wrong], 4)]),
        "wrong state before",
    );
}

#[test]
fn members_that_disagree_are_found() {
    let other = Watch {
        key: None,
        ..watch(
            2,
            vec![message(
                vec![Event {
                    kv: event(3).kv,
                    ..event(2)
                }],
                2,
            )],
        )
    };
    let said = Timeline::merge(&[whole(), other], 5).expect_err("revision 2 is told differently");
    assert!(said.contains("members disagree on revision 2"), "{said}");
}

#[test]
fn a_revision_that_nobody_saw_is_found() {
    let gap = Watch {
        key: None,
        ..watch(1, vec![message(vec![event(2), event(4)], 4)])
    };
    let said = Timeline::merge(&[gap], 4).expect_err("revision 3 is missing");
    assert!(said.contains("revision 3 has no event"), "{said}");
}
