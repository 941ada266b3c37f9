//! A store's directory: one that comes from another member and one's own, with damaged files, whose manifest is
//! made to fit again; the records beside it (`IDENTITY`, `SWITCH`) and the store's rows, with any content.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use engram_applied::storage::{
    Applied, Engine, EngineOptions, IDENTITY_FILE, Identity, LogPosition, Place, schema,
};
use engram_state::{Change, RevisionRecord};
use engram_types::request::AlarmType;
use engram_types::{KeyValue, LeaseId, MemberId, Revision, RevisionPair};

use super::Target;
use crate::input::Input;
use crate::scratch;

pub const TARGET: Target = Target {
    name: "store",
    run,
    seeds,
    cases: 400,
};

const RECORDS: i64 = 40;
const OPTIONS: EngineOptions = EngineOptions {
    write_buffer_bytes: 1 << 20,
    block_cache_bytes: 1 << 20,
    past_page_cache: false,
    compresses: true,
};
/// Of a record in a manifest: its checksum, how long it is, its kind.
const MANIFEST_HEADER: usize = 7;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 8 {
        0 => damaged(&mut input, true),
        1 => damaged(&mut input, false),
        2 | 3 => beside(&mut input),
        _ => row(&mut input),
    }
}

/// The files of a sound store.
fn sound() -> &'static BTreeMap<String, Vec<u8>> {
    static SOUND: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let dir = scratch::empty_dir("sound-store");
        let engine = Engine::open(&dir.join("store"), OPTIONS).expect("an empty directory");
        let mut changes: Vec<Change> = (2..RECORDS)
            .map(|revision| Change::PutRevision(record(revision)))
            .collect();
        changes.extend([
            Change::SetRevision(Revision(RECORDS)),
            Change::PutLease(LeaseId(7), 60),
            Change::PutAlarm(MemberId(1), AlarmType::NoSpace),
            Change::SetClusterVersion("3.7.0".into()),
        ]);
        let applied = Applied {
            log_position: Some(LogPosition { term: 1, index: 9 }),
            ..Applied::default()
        };
        engine.write(&changes, &applied);
        engine.flush();
        drop(engine);
        let names = std::fs::read_dir(dir.join("store"))
            .expect("it is there")
            .flatten();
        names
            .filter(|file| file.file_name() != "LOCK" && file.file_name() != "LOG")
            .map(|file| {
                let name = file.file_name().into_string().expect("a store's file");
                (name, std::fs::read(file.path()).expect("it can be read"))
            })
            .collect()
    })
}

fn record(revision: i64) -> RevisionRecord {
    let kv = KeyValue {
        key: format!("key-{revision}").into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        value: vec![b'v'; 20].into(),
        lease: LeaseId::NONE,
    };
    RevisionRecord {
        pair: RevisionPair::new(revision, 0),
        tombstone: false,
        encoded: kv.encode(),
    }
}

/// A file of it is damaged, or not there. What is read was written, unless somebody made checksums fit.
fn damaged(input: &mut Input<'_>, is_foreign: bool) {
    let dir = scratch::empty_dir("store.2");
    let (which, how) = (input.below(sound().len()), input.byte());
    let mut fits = false;
    for (place, (name, bytes)) in sound().iter().enumerate() {
        let mut bytes = bytes.clone();
        if place == which {
            if how == 255 {
                continue;
            }
            input.damage(&mut bytes);
            if name.starts_with("MANIFEST") && how % 2 == 0 {
                fits = true;
                fit_manifest(&mut bytes);
            }
        }
        std::fs::write(dir.join(name), bytes).expect("memory can be written");
    }
    let opened = match is_foreign {
        true => Engine::inspect(&dir).and_then(|_| Engine::open_to_read(&dir, OPTIONS)),
        false => Engine::open(&dir, OPTIONS),
    };
    let Ok(engine) = opened else {
        return;
    };
    let mut found = 0;
    let read = engine.records(&mut |read| {
        let revision = read.pair.main.0;
        if !fits {
            assert_eq!(
                (read.pair, read.encoded),
                (record(revision).pair, &*record(revision).encoded)
            );
        }
        found += 1;
        Ok(())
    });
    let tables = engine.tables();
    if let (Ok(()), Ok(tables), false) = (read, tables, fits) {
        let whole = (RECORDS - 2, Some(Revision(RECORDS)));
        // One's own with another file in `CURRENT`'s place, or none, is a new one.
        let is_new = (0, None);
        let seen = (found, tables.revision);
        assert!(
            seen == whole || !is_foreign && seen == is_new,
            "{seen:?} of a store"
        );
    }
}

/// Recomputes the checksums of a manifest's records, as far as there are any.
fn fit_manifest(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= MANIFEST_HEADER {
        let (header, behind) = rest.split_at_mut(MANIFEST_HEADER);
        let len = usize::from(u16::from_le_bytes([header[4], header[5]])).min(behind.len());
        let (data, next) = behind.split_at_mut(len);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[6..]), data);
        let masked = sum.rotate_right(15).wrapping_add(0xa282_ead8);
        header[..4].copy_from_slice(&masked.to_le_bytes());
        rest = next;
    }
}

/// The records beside a store, with any content under a checksum that fits.
fn beside(input: &mut Input<'_>) {
    let dir = scratch::empty_dir("data");
    let is_fit = !input.byte().is_multiple_of(8);
    let file = |bytes: &[u8]| match is_fit {
        true => [bytes, &crc32c::crc32c(bytes).to_be_bytes()].concat(),
        false => bytes.to_vec(),
    };
    write(&dir, IDENTITY_FILE, &file(input.piece()));
    if let Ok(Some(identity)) = Identity::load(&dir) {
        let begun = Identity::log_is_begun(&dir).expect("it was just read");
        identity.store(&dir).expect("memory can be written");
        assert_eq!(
            Identity::load(&dir).expect("it was just written"),
            Some(identity)
        );
        if begun {
            identity
                .note_log_begun(&dir)
                .expect("memory can be written");
            assert!(matches!(Identity::log_is_begun(&dir), Ok(true)));
        }
    }
    write(&dir, "SWITCH", &file(input.piece()));
    for name in ["store", "store.1", "store.2"] {
        std::fs::create_dir(dir.join(name)).expect("memory can be written");
    }
    if let Ok((place, Some(installed))) = Place::find(&dir) {
        place.switch(installed).expect("memory can be written");
        let (again, same) = Place::find(&dir).expect("it was just written");
        assert_eq!((again.dir(), same), (place.dir(), Some(installed)));
        place.clean().expect("memory can be written");
        assert!(place.dir().is_dir(), "the store in force is gone");
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).expect("memory can be written");
}

/// A row of the store: what is understood of it is written in the same way again.
fn row(input: &mut Input<'_>) {
    let (kind, key, value) = (input.byte() % 8, input.piece(), input.rest());
    match kind {
        0 => same(value, schema::parse_applied, schema::encode_applied),
        1 => same(
            value,
            |value| schema::parse_lease(key, value),
            |(_, ttl)| schema::encode_lease(*ttl),
        ),
        2 => {
            if let Ok(alarm) = schema::parse_alarm(key) {
                assert_eq!(schema::alarm_key(alarm.member, alarm.alarm)[..], *key);
            }
        }
        3 => same(
            value,
            |value| schema::parse_member(key, value),
            schema::encode_member,
        ),
        4 => {
            if let Ok((enabled, revision)) = schema::parse_auth(value) {
                assert_eq!(schema::encode_auth(enabled, revision)[..], *value);
            }
        }
        5 => same(value, schema::parse_user, schema::encode_user),
        6 => same(value, schema::parse_role, schema::encode_role),
        _ => {
            if let Ok(pair) = schema::parse_revision_key(key) {
                assert_eq!(schema::revision_key(pair)[..], *key);
                let _ = schema::parse_record(pair, value);
                drop(schema::parse_revision(pair, value.to_vec().into()));
            }
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, E>,
    say: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(once) = read(bytes) {
        assert_eq!(read(&say(&once)).expect("it was understood before"), once);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let files = sound().len() as u8;
    // Each file with a changed byte at its beginning and further on, cut short, and missing.
    let mut seeds: Vec<Vec<u8>> = (0..files)
        .flat_map(|file| {
            let damage = |how: u8, change: &[u8]| [&[file % 2, file, how][..], change].concat();
            [
                damage(0, &[4, 20, 0, 3]),
                damage(1, &[4, 200, 0, 3]),
                damage(0, &[135, 30, 0]),
                damage(255, &[]),
            ]
        })
        .collect();
    seeds.extend([
        vec![2, 1, 6, 8, 1, 16, 5, 24, 6, 8, 8, 1, 16, 2, 26, 2, 8, 1],
        vec![2, 0, 2, 8, 1, 3, 8, 1, 16],
        [
            &[4, 0, 0][..],
            &schema::encode_applied(&Applied::default()),
            &[10, 2, 8, 1],
        ]
        .concat(),
        vec![4, 1, 8, 0, 0, 0, 0, 0, 0, 0, 7, 8, 60],
        vec![4, 2, 9, 0, 0, 0, 0, 0, 0, 0, 7, 1],
        vec![4, 3, 8, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 18, 1, b'm'],
        [&[4, 4, 0][..], &schema::encode_auth(true, 3)].concat(),
        vec![4, 5, 0, 10, 1, b'u', 18, 1, b'h', 26, 1, b'r'],
        vec![4, 6, 0, 10, 1, b'r', 18, 5, 8, 2, 18, 1, b'k'],
        [
            &[4, 7, 12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0][..],
            &record(3).encoded,
        ]
        .concat(),
    ]);
    seeds
}
