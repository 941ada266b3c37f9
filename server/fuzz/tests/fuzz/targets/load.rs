//! The index made of whatever rows a store holds, which may be another member's, a backup's or an etcd's: it is
//! refused, or it serves, takes changes, reclaims, and a restart makes the same of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use engram_state::fixture::{KEYS, Machine, Step, Storage, all, at, show_range};
use engram_state::{
    AuthTables, Effects, Limits, Loaded, NUMBER_MAX, RevisionRecord, State, Tables,
};
use engram_types::request::AlarmType;
use engram_types::result::{Alarm, ApplyError};
use engram_types::{KeyValue, LeaseId, MemberId, Revision, RevisionPair};

use super::{Target, state};
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "load",
    run,
    seeds,
    cases: 20_000,
};

const RECORDS_MAX: usize = 24;
const STEPS_MAX: usize = 20;
const CACHE_BYTES: usize = 200;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let tables = tables(&mut input);
    let records: Vec<RevisionRecord> = (0..input.below(RECORDS_MAX))
        .map(|_| record(&mut input))
        .collect();
    let limits = Limits {
        value_cache_bytes: CACHE_BYTES,
    };
    // In the order of the store, but for those that lie there as it never writes them.
    let loaded = State::load(limits, tables.clone(), |feed| {
        let each = |record: &RevisionRecord| feed(Loaded::of(record.lent())?);
        records.iter().try_for_each(each)
    });
    let state = match loaded {
        Ok(state) => state,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return;
        }
    };
    // Loaded for those alone who have counted on since.
    let beyond = |number: i64| number > NUMBER_MAX;
    let mut loaded = records
        .iter()
        .filter_map(|record| KeyValue::decode(&record.encoded).ok());
    if beyond(state.mvcc.revision().0) || loaded.any(|kv| beyond(kv.version)) {
        return;
    }
    let by_pair = records.into_iter().map(|record| (record.pair, record));
    let mut machine = Machine {
        state,
        storage: Storage {
            records: by_pair.collect::<BTreeMap<_, _>>(),
            tables,
        },
        batch: Effects::default(),
        cache_bytes: CACHE_BYTES,
    };
    asked(&mut machine);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match state::step(&mut input) {
            Step::Apply(op) => {
                let _ = machine.run(op);
            }
            Step::Ask(query) => {
                let _ = machine.range(&query);
            }
            Step::Hash(revision) => {
                let _ = machine.hash(revision);
            }
            Step::Reclaim(at_once) => machine.reclaim(at_once),
            _ => {}
        }
    }
    asked(&mut machine);
}

/// What is there now and was there lately, which is the same after a restart.
fn asked(machine: &mut Machine) {
    let before = answers(machine);
    let again = machine.reloaded();
    let state = std::mem::replace(&mut machine.state, again);
    assert_eq!(answers(machine), before, "after a restart");
    machine.state = state;
}

/// At some revisions: what is shown, and the hash.
fn answers(machine: &Machine) -> [(i64, Result<String, ApplyError>, Option<u32>); 4] {
    let head = machine.revision();
    [0, head, head - 1, head - 5].map(|revision| {
        let revision = revision.max(0);
        let query = if revision == 0 { all() } else { at(revision) };
        let shown = machine.range(&query).map(|range| show_range(&range));
        let hash = machine.hash(revision).map(|hash| hash.hash).ok();
        (revision, shown, hash)
    })
}

fn tables(input: &mut Input<'_>) -> Tables {
    let known = input.byte();
    let mut revision = |bit: u8| (known & bit != 0).then(|| Revision(input.number() as i64));
    Tables {
        revision: revision(1),
        compact_scheduled: revision(2),
        compact_finished: revision(4),
        whole_after: revision(8),
        leases: (0..known >> 6)
            .map(|id| (LeaseId(i64::from(id)), input.number() as i64))
            .collect(),
        alarms: (0..(known >> 5) & 1).map(|_| alarm(input)).collect(),
        members: Vec::new(),
        removed: vec![MemberId(7)],
        cluster_version: Some("3.7.0".into()),
        auth: AuthTables::default(),
    }
}

fn alarm(input: &mut Input<'_>) -> Alarm {
    Alarm {
        member: MemberId(input.number()),
        alarm: AlarmType::NoSpace,
    }
}

fn record(input: &mut Input<'_>) -> RevisionRecord {
    let shape = input.byte();
    let pair = RevisionPair::new(input.number() as i64, u32::from(input.byte() % 4));
    let tombstone = shape & 7 == 7;
    let key = KEYS[input.below(KEYS.len())];
    if shape >= 0xf0 {
        return RevisionRecord {
            pair,
            tombstone,
            encoded: input.kept(),
        };
    }
    let mut odd = |bit: u8, sound: i64| match shape & bit {
        0 => sound,
        _ => input.number() as i64,
    };
    let kv = KeyValue {
        key: Bytes::from_static(key.as_bytes()),
        create_revision: Revision(odd(0x10, pair.main.0)),
        mod_revision: Revision(odd(0x20, pair.main.0)),
        version: odd(0x40, 1),
        lease: LeaseId(odd(0x80, 0)),
        value: Bytes::from_static(b"v"),
    };
    RevisionRecord {
        pair,
        tombstone,
        encoded: kv.encode(),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let put = |main: u8, key: u8| vec![0, main, 0, key];
    let gone = |main: u8, key: u8| vec![7, main, 0, key];
    let of = |tables: &[u8], records: &[Vec<u8>], steps: &[u8]| {
        [tables, &[records.len() as u8], &records.concat(), steps].concat()
    };
    let three = [put(2, 0), put(3, 1), gone(4, 0)];
    vec![
        of(&[1, 4], &three, &[0, 0, 0, 1, 2, 3, 0, 1, 0]),
        of(&[7, 9, 3, 3], &three, &[16, 8, 24, 1, 28, 5]),
        of(
            &[0xcf, 9, 4, 3, 2, 60, 60, 60],
            &[put(2, 0), put(3, 0), put(5, 0)],
            &[24, 0],
        ),
        // A revision, a version and a lease from which nobody can count on.
        of(&[1, 254, 0], &[put(2, 0)], &[]),
        of(
            &[0],
            &[vec![0x40, 2, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0x40]],
            &[0, 0, 0, 1, 2, 3, 0, 0, 0],
        ),
        of(&[0], &[vec![0x80, 2, 0, 0, 254, 0]], &[20, 0]),
        of(&[0], &[vec![0xf0, 2, 0, 0, 3, 10, 1, b'a']], &[]),
        of(&[0], &[put(3, 0), put(2, 0)], &[]),
        of(&[0], &[gone(2, 0), gone(3, 0)], &[24, 1]),
    ]
}
