//! Compaction, pins, the value cache and counting over more keys than the model could bear.

use crate::fixture::*;
use crate::types::request::Range;
use crate::types::result::ApplyError;
use crate::types::{KeyValue, LeaseId, Revision, RevisionPair};
use crate::{
    Change, Limits, LoadError, Loaded, NUMBER_MAX, RevisionRecord, State, Tables, is_sound,
};

fn filled(keys: usize, cache_bytes: usize) -> Machine {
    let mut machine = Machine::new(cache_bytes);
    for i in 0..keys {
        machine.put(&format!("key-{i:05}"), "value").unwrap();
    }
    machine
}

#[test]
fn a_tombstone_outlives_a_compaction_at_its_own_revision_and_not_the_next() {
    let mut machine = Machine::new(0);
    machine.put("a", "1").unwrap();
    machine.delete("a", "").unwrap();
    machine.compact(3).unwrap();
    machine.reclaim(1);
    assert_eq!(machine.storage.records.len(), 1);
    assert!(machine.storage.records[&RevisionPair::new(3, 0)].tombstone);
    machine.put("b", "1").unwrap();
    machine.compact(4).unwrap();
    machine.reclaim(1);
    assert_eq!(machine.list(&all()), "b=1");
    assert!(
        machine
            .storage
            .records
            .keys()
            .eq([&RevisionPair::new(4, 0)])
    );
}

#[test]
fn a_compaction_survives_a_crash_halfway() {
    let mut machine = filled(50, 1 << 20);
    machine.delete("key-", "key-00040").unwrap();
    machine.compact(52).unwrap();
    assert!(!machine.state.compact_step(15, &mut machine.batch));
    machine.write();
    machine.state = machine.reloaded();
    assert!(machine.state.compact_pending());
    machine.reclaim(15);
    assert_eq!(machine.state.mvcc.compact_finished(), Revision(52));
    assert_eq!(machine.storage.tables.compact_finished, Some(Revision(52)));
    assert_eq!(machine.storage.records.len(), 50);
    assert_eq!(machine.range(&all()).unwrap().count, 10);
}

#[test]
fn after_where_history_is_whole_is_known_after_a_start() {
    let mut machine = Machine::new(0);
    let overwrite = |machine: &mut Machine| {
        for value in 0..10 {
            machine.put("a", &format!("{value}")).unwrap();
        }
    };
    let known = |machine: &Machine| {
        let found = machine.state.mvcc.whole_after();
        assert_eq!(machine.reloaded().mvcc.whole_after(), found);
        found
    };
    overwrite(&mut machine);
    assert_eq!(known(&machine), Revision(0));
    machine.compact(8).unwrap();
    assert_eq!(known(&machine), Revision(8), "nobody holds what may go");
    assert_eq!(machine.storage.tables.whole_after, None);
    machine.reclaim(2);
    assert_eq!(machine.storage.tables.whole_after, None);
    machine.state.mvcc.pin(Revision(9)).unwrap();
    overwrite(&mut machine);
    machine.compact(20).unwrap();
    assert_eq!(known(&machine), Revision(8), "nothing went as yet");
    machine.reclaim(2);
    assert_eq!(known(&machine), Revision(9));
    assert!(
        machine
            .storage
            .records
            .contains_key(&RevisionPair::new(9, 0))
    );
    // A store that says nothing of it may have lost anything up to its compaction.
    machine.storage.tables.whole_after = None;
    assert_eq!(machine.reloaded().mvcc.whole_after(), Revision(20));
}

#[test]
fn a_step_reclaims_no_more_than_it_was_told() {
    let mut machine = filled(10, 0);
    machine.delete("key-", "kez").unwrap();
    machine.compact(12).unwrap();
    machine.state.compact_step(3, &mut machine.batch);
    let dropped = |change: &&Change| matches!(change, Change::DeleteRevision(_));
    assert_eq!(machine.batch.changes.iter().filter(dropped).count(), 3);
}

#[test]
fn a_pinned_revision_stays_readable_and_holds_back_only_what_it_needs() {
    let mut machine = Machine::new(0);
    machine.put("a", "1").unwrap();
    machine.put("a", "2").unwrap();
    machine.put("a", "3").unwrap();
    machine.put("a", "4").unwrap();
    machine.state.mvcc.pin(Revision(3)).unwrap();
    machine.compact(5).unwrap();
    machine.reclaim(100);
    assert!(
        !machine.state.compact_step(100, &mut machine.batch),
        "the pin is in the way"
    );
    assert!(matches!(machine.range(&at(3)), Err(ApplyError::Compacted)));
    assert_eq!(
        machine.state.mvcc.pin(Revision(4)),
        Err(ApplyError::Compacted)
    );
    assert_eq!(
        machine.state.mvcc.pin(Revision(6)),
        Err(ApplyError::FutureRevision)
    );
    let plan = walked(&machine, &at(3));
    assert_eq!(show_pairs(&plan.resolve(&machine.storage).unwrap()), "a=2");
    assert_eq!(
        machine.storage.records.len(),
        3,
        "only what was superseded by revision 3 is gone"
    );
    machine.state.mvcc.unpin(Revision(3));
    assert!(machine.state.compact_pending());
    machine.reclaim(100);
    assert_eq!(machine.storage.records.len(), 1);
}

#[test]
fn the_value_cache_comes_back_to_its_budget_and_spares_what_is_read() {
    let budget = 60 * 100;
    let mut machine = filled(100, budget);
    let cached = |machine: &Machine| machine.state.mvcc.value_cache_bytes();
    assert!(cached(&machine) <= budget, "{} bytes", cached(&machine));
    let hot = Range::all(keys("key-00099", ""));
    for i in 0..300 {
        machine.list(&hot);
        machine.put(&format!("new-{i:05}"), "value").unwrap();
        assert!(cached(&machine) <= budget, "{} bytes", cached(&machine));
    }
    let plan = machine.state.mvcc.plan(&hot).unwrap();
    assert!(
        matches!(plan.slots[..], [crate::Slot::Stored(_)]),
        "what is read stays"
    );
    assert_eq!(machine.range(&all()).unwrap().items.len(), 400);
}

#[test]
fn logical_bytes_are_those_of_the_records_held() {
    let mut machine = filled(20, 0);
    machine.delete("key-", "key-00010").unwrap();
    machine.put("key-00015", "longer than before").unwrap();
    machine.compact(machine.revision()).unwrap();
    machine.reclaim(7);
    let held: usize = machine
        .storage
        .records
        .values()
        .map(|record| 17 + usize::from(record.tombstone) + record.encoded.len())
        .sum();
    assert_eq!(machine.state.mvcc.logical_bytes(), held as u64);
}

#[test]
fn pages_of_a_list_count_what_is_left_while_the_store_moves() {
    let mut machine = filled(1_000, 0);
    let revision = machine.revision();
    let mut start = "key-".to_owned();
    let mut left = 1_000;
    while left > 0 {
        let query = Range {
            limit: 90,
            revision,
            ..Range::all(keys(&start, "kez"))
        };
        let page = machine.range(&query).unwrap();
        assert_eq!(page.count, left);
        assert_eq!(page.more, left > 90);
        left -= page.items.len() as i64;
        let last = decode(page.items.last().unwrap()).key;
        start = format!("{}\0", String::from_utf8(last.to_vec()).unwrap());
        machine.delete("key-00500", "key-00600").unwrap();
        machine.put(&format!("key-x{left}"), "new").unwrap();
    }
    machine.state = machine.reloaded();
    assert_eq!(
        machine.range(&at(revision)).unwrap().count,
        1_000,
        "counted by walking"
    );
}

#[test]
fn what_no_store_has_written_is_refused_at_load() {
    let machine = filled(3, 0);
    let load = |tables: Tables, records: Vec<RevisionRecord>| {
        State::load(
            Limits {
                value_cache_bytes: 0,
            },
            tables,
            |feed| {
                records
                    .iter()
                    .try_for_each(|record| feed(Loaded::of(record.lent())?))
            },
        )
        .err()
    };
    let records: Vec<RevisionRecord> = machine.storage.records.values().cloned().collect();
    let tables = machine.storage.tables.clone();
    assert!(load(tables.clone(), records.clone()).is_none());
    let reversed = records.iter().rev().cloned().collect();
    assert!(matches!(
        load(tables.clone(), reversed),
        Some(LoadError::OutOfOrder { .. })
    ));
    let early = Tables {
        revision: Some(Revision(3)),
        ..tables.clone()
    };
    assert!(matches!(
        load(early, records.clone()),
        Some(LoadError::BeyondRevision { .. })
    ));
    let mut cut = records.clone();
    cut[1].encoded = cut[1].encoded.slice(..cut[1].encoded.len() - 1);
    assert!(matches!(
        load(tables.clone(), cut),
        Some(LoadError::Damaged { .. })
    ));
    let far = Tables {
        revision: Some(Revision(i64::MAX)),
        ..tables.clone()
    };
    assert!(matches!(
        load(far, records.clone()),
        Some(LoadError::OutOfReach { .. })
    ));
    let mut bare = records;
    bare[1].encoded = bytes::Bytes::new();
    assert!(matches!(
        load(tables, bare),
        Some(LoadError::Nonsense { .. })
    ));
}

#[test]
fn who_begins_with_the_highest_numbers_counts_on_and_starts_again() {
    let kv = KeyValue {
        key: "a".into(),
        create_revision: Revision(2),
        mod_revision: Revision(2),
        version: NUMBER_MAX,
        value: "v".into(),
        lease: LeaseId::NONE,
    };
    let pair = RevisionPair::new(2, 0);
    let record = RevisionRecord {
        pair,
        tombstone: false,
        encoded: kv.encode(),
    };
    assert!(is_sound(record.lent(), &kv));
    let mut machine = Machine::new(0);
    machine.storage.records.insert(pair, record);
    machine.storage.tables.revision = Some(Revision(NUMBER_MAX));
    machine.state = machine.reloaded();
    machine.put("a", "w").expect("there is room to count on");
    assert_eq!(machine.reloaded().mvcc.revision(), Revision(NUMBER_MAX + 1));
    let newest = &machine.range(&all()).expect("readable").items[0];
    assert_eq!(decode(newest).version, NUMBER_MAX + 1);
}
