//! The checker finds what it is there to find: every kind of wrong answer, planted in a right history.

use super::super::Kv;
use super::super::observer::{Message, Watch};
use super::*;

fn kv(key: &str, value: &str, created: i64, modified: i64, version: i64) -> Kv {
    Kv {
        key: key.to_owned(),
        value: value.to_owned(),
        created,
        modified,
        version,
        lease: 0,
    }
}

fn put_event(revision: i64, kv: Kv) -> Event {
    Event {
        revision,
        is_delete: false,
        kv,
        before: None,
    }
}

/// Revision 2: a = 1. Revision 3: a = 2. Revision 4: a deleted. Revision 5: a = 3.
fn timeline() -> Timeline {
    let gone = Event {
        is_delete: true,
        ..put_event(4, kv("a", "", 0, 4, 0))
    };
    let events = vec![
        put_event(2, kv("a", "1", 2, 2, 1)),
        put_event(3, kv("a", "2", 2, 3, 2)),
        gone,
        put_event(5, kv("a", "3", 5, 5, 1)),
    ];
    let message = Message {
        events,
        revision: 5,
        at: 1,
    };
    let watch = Watch {
        watcher: 0,
        member: 0,
        key: None,
        start: 1,
        messages: vec![message],
    };
    Timeline::merge(&[watch], 5).expect("a whole history")
}

fn operation(action: Action, call: u64, back: u64, outcome: Outcome) -> Operation {
    Operation {
        client: 1,
        member: 0,
        action,
        call,
        back,
        outcome,
    }
}

fn put(value: &str, call: u64, back: u64, outcome: Outcome) -> Operation {
    let action = Action::Put {
        key: "a".to_owned(),
        value: value.to_owned(),
        lease: 0,
    };
    operation(action, call, back, outcome)
}

fn delete(call: u64, back: u64, outcome: Outcome) -> Operation {
    let key = "a".to_owned();
    operation(Action::Delete { key }, call, back, outcome)
}

fn get(call: u64, back: u64, revision: i64, kvs: Vec<Kv>) -> Operation {
    let answer = Answer {
        revision,
        kvs,
        ..Answer::default()
    };
    let key = "a".to_owned();
    operation(Action::Get { key }, call, back, Outcome::Done(answer))
}

fn at(revision: i64) -> Outcome {
    Outcome::Done(Answer {
        revision,
        ..Answer::default()
    })
}

fn unknown() -> Outcome {
    Outcome::Unknown("no answer".to_owned())
}

fn right() -> Vec<Operation> {
    let deleted = Outcome::Done(Answer {
        revision: 4,
        deleted: 1,
        ..Answer::default()
    });
    vec![
        put("1", 10, 20, at(2)),
        put("2", 30, 40, at(3)),
        delete(50, 60, deleted),
        put("3", 70, 80, at(5)),
        get(41, 49, 3, vec![kv("a", "2", 2, 3, 2)]),
        get(61, 69, 4, Vec::new()),
    ]
}

fn verdict(history: &[Operation]) -> Result<Summary, String> {
    check(&timeline(), history)
}

#[test]
fn a_right_history_passes() {
    let summary = verdict(&right()).expect("it is right");
    assert_eq!(
        (summary.answered, summary.happened.len(), summary.lost),
        (6, 0, 0)
    );
}

#[test]
fn a_stale_read_is_found() {
    let mut history = right();
    history.push(get(55, 58, 2, vec![kv("a", "1", 2, 2, 1)]));
    let found = verdict(&history).expect_err("revision 3 was acknowledged before");
    assert!(
        found.contains("before it was asked somebody had been told of revision 3"),
        "{found}"
    );
}

#[test]
fn a_read_of_what_never_was_is_found() {
    let mut history = right();
    history.push(get(41, 49, 3, vec![kv("a", "1", 2, 2, 1)]));
    assert!(verdict(&history).expect_err("a was 2").contains("due was"));
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let mut history = right();
    history.push(put("4", 90, 95, at(6)));
    assert!(
        verdict(&history)
            .expect_err("there is no revision 6")
            .contains("never was")
    );
}

#[test]
fn a_write_acknowledged_twice_or_at_the_wrong_revision_is_found() {
    let mut history = right();
    history[1].outcome = at(2);
    assert!(
        verdict(&history)
            .expect_err("revision 2 put 1")
            .contains("at revision 2 happened")
    );
}

#[test]
fn an_open_write_may_happen_later_but_not_before_it_was_asked() {
    let mut history = right();
    history[1].outcome = unknown();
    assert_eq!(
        verdict(&history).expect("it may").happened,
        BTreeMap::from([(1, 3)])
    );
    history[1] = put("2", 65, 90, unknown());
    history.remove(4);
    assert!(
        verdict(&history)
            .expect_err("4 was told at 60")
            .contains("before it was asked")
    );
}

#[test]
fn a_refused_write_that_happened_is_found() {
    let mut history = right();
    history[3].outcome = Outcome::Refused("no".to_owned());
    assert!(
        verdict(&history)
            .expect_err("it is there")
            .contains("refused and yet happened")
    );
}

#[test]
fn a_deletion_needs_somebody_who_asked_for_it() {
    let mut history = right();
    history[2].outcome = unknown();
    assert_eq!(
        verdict(&history).expect("the open delete did it").happened[&2],
        4
    );
    history.remove(2);
    assert!(
        verdict(&history)
            .expect_err("nobody deleted")
            .contains("nobody asked for")
    );
}
