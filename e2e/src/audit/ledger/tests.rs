//! The books themselves: a right history passes, and each kind of wrong one is found.

use super::*;

fn record(operation: Operation, outcome: Outcome) -> Record {
    Record {
        operation,
        floor: 1,
        sent: Instant::now(),
        outcome,
    }
}

fn put(key: &str, value: &str, outcome: Outcome) -> Record {
    let operation = Operation::Put {
        key: key.to_owned(),
        value: value.to_owned(),
        lease: 0,
    };
    record(operation, outcome)
}

fn swap(expected: i64, outcome: Outcome) -> Record {
    let operation = Operation::Swap {
        guard: "a".to_owned(),
        expected,
        other: "b".to_owned(),
        value: "both".to_owned(),
    };
    record(operation, outcome)
}

fn created(revision: i64, key: &str, value: &str) -> Event {
    let change = Change::Put {
        key: key.to_owned(),
        value: value.to_owned(),
        lease: 0,
    };
    Event {
        revision,
        change,
        counters: (revision, 1),
        before: None,
    }
}

fn verdict(events: &[Event], records: &[Record]) -> String {
    let mut ledger = Ledger::new();
    match ledger.judge(events, records) {
        Ok(()) => format!("fine at {}", ledger.head()),
        Err(sentence) => sentence,
    }
}

#[test]
fn acknowledged_and_unknown_writes_are_found_in_the_history() {
    let records = [
        put("a", "one", Outcome::Changed(2)),
        put("b", "two", Outcome::Unknown),
        put("c", "three", Outcome::Unknown),
    ];
    let history = [created(2, "a", "one"), created(3, "b", "two")];
    assert_eq!(verdict(&history, &records), "fine at 3");
}

#[test]
fn a_lost_write_is_found() {
    let records = [put("a", "one", Outcome::Changed(2))];
    assert!(verdict(&[], &records).starts_with("1 acknowledged writes are lost"));
}

#[test]
fn a_revision_with_other_content_is_found() {
    let records = [
        put("a", "one", Outcome::Changed(2)),
        put("b", "two", Outcome::Unknown),
    ];
    assert!(verdict(&[created(2, "b", "two")], &records).starts_with("revision 2 holds"));
}

#[test]
fn a_revision_acknowledged_twice_is_found() {
    let records = [
        put("a", "one", Outcome::Changed(2)),
        put("b", "two", Outcome::Changed(2)),
    ];
    let said = verdict(&[created(2, "a", "one")], &records);
    assert!(
        said.starts_with("revision 2 was acknowledged twice"),
        "{said}"
    );
}

#[test]
fn a_gap_in_the_revisions_is_found() {
    let records = [put("a", "one", Outcome::Changed(3))];
    let said = verdict(&[created(3, "a", "one")], &records);
    assert_eq!(said, "revision 3 follows 1 in the history");
}

#[test]
fn half_a_transaction_is_found() {
    let records = [swap(0, Outcome::Unknown)];
    assert!(verdict(&[created(2, "a", "both")], &records).starts_with("revision 2 holds"));
    let whole = [created(2, "a", "both"), created(2, "b", "both")];
    assert_eq!(verdict(&whole, &records), "fine at 2");
}

#[test]
fn a_transaction_whose_condition_did_not_hold_is_found() {
    let records = [swap(7, Outcome::Changed(2))];
    let history = [created(2, "a", "both"), created(2, "b", "both")];
    assert!(verdict(&history, &records).contains("but the key was last modified at 0"));
}

#[test]
fn a_write_of_nobody_is_found() {
    let said = verdict(&[created(2, "a", "phantom")], &[]);
    assert!(said.ends_with("which nobody wrote"), "{said}");
}

#[test]
fn a_stale_read_is_found() {
    let mut read = record(
        Operation::Get {
            key: "a".to_owned(),
        },
        Outcome::Observed(1, None),
    );
    read.floor = 2;
    let records = [put("a", "one", Outcome::Changed(2)), read];
    assert!(verdict(&[created(2, "a", "one")], &records).starts_with("a stale answer"));
}

#[test]
fn a_read_of_what_was_not_there_is_found() {
    let seen = Some((2, "other".to_owned()));
    let read = record(
        Operation::Get {
            key: "a".to_owned(),
        },
        Outcome::Observed(2, seen),
    );
    let records = [put("a", "one", Outcome::Changed(2)), read];
    assert!(verdict(&[created(2, "a", "one")], &records).contains("was shown"));
}

#[test]
fn a_key_that_differs_from_the_history_is_found() {
    let mut ledger = Ledger::new();
    let records = [put("a", "one", Outcome::Changed(2))];
    ledger.judge(&[created(2, "a", "one")], &records).unwrap();
    let mut kv = KeyValue {
        key: "a".into(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        value: "one".into(),
        lease: 0,
    };
    assert_eq!(ledger.compare_keys(std::slice::from_ref(&kv)), Ok(()));
    kv.version = 2;
    assert!(ledger.compare_keys(&[kv]).is_err());
    assert!(ledger.compare_keys(&[]).is_err());
}

#[test]
fn a_lease_that_vanished_is_found() {
    let mut ledger = Ledger::new();
    let grant = record(
        Operation::Grant {
            lease: 7,
            ttl: 3600,
        },
        Outcome::Done,
    );
    ledger.judge(&[], &[grant]).unwrap();
    assert_eq!(ledger.compare_leases(&BTreeSet::from([7])), Ok(()));
    assert!(ledger.compare_leases(&BTreeSet::from([7, 8])).is_err());
    assert!(ledger.compare_leases(&BTreeSet::new()).is_err());
}
