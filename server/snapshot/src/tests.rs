//! From a store to etcd's file, and from that to a data directory: nothing is lost on the way.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use engram_proto::backup as pb;
use prost::Message as _;
use tempfile::TempDir;

use super::file::{DigestCheck, FileError, SnapshotFile, auth_tables};
use super::restore::{Bump, NewMember, Restore, RestoreError, Restored, Totals, UNFINISHED};
use super::{Description, restore, write};
use crate::state::{AuthTables, Change, Hashing, KeyValueHash, MemberRecord, RevisionRecord};
use crate::storage::{Applied, Engine, EngineOptions, Identity, Place};
use crate::types::auth::{Allows, Permission, Role, Secret, User};
use crate::types::request::MemberAttributes;
use crate::types::{ClusterId, KeyValue, LeaseId, MemberId, Revision, RevisionPair};

fn put(main: i64, sub: u32, key: &str, create: i64, version: i64, lease: i64) -> RevisionRecord {
    let revisions = (Revision(create), Revision(main), version);
    let value = format!("value of {key} at {main}").repeat(20);
    RevisionRecord {
        pair: RevisionPair::new(main, sub),
        tombstone: false,
        encoded: KeyValue::encode_parts(
            key.as_bytes(),
            revisions,
            value.as_bytes(),
            LeaseId(lease),
        ),
    }
}

fn tombstone(main: i64, key: &str) -> RevisionRecord {
    let key = bytes::Bytes::copy_from_slice(key.as_bytes());
    RevisionRecord {
        pair: RevisionPair::new(main, 0),
        tombstone: true,
        encoded: KeyValue {
            key,
            ..KeyValue::default()
        }
        .encode(),
    }
}

/// A history with everything in it: transactions, versions, deletes, leases.
fn history() -> Vec<RevisionRecord> {
    let mut records = vec![
        put(2, 0, "a", 2, 1, 0),
        put(2, 1, "b", 2, 1, 77),
        put(3, 0, "a", 2, 2, 0),
        tombstone(4, "b"),
        put(5, 0, "b", 5, 1, -9),
    ];
    records.extend((6..200).map(|main| put(main, 0, &format!("k{main}"), main, 1, 0)));
    records
}

/// Users and roles with everything in them.
fn users() -> AuthTables {
    let user = |name: &str, roles: &[&str], hash: &[u8]| User {
        name: name.to_owned(),
        password_hash: Secret(hash.to_vec()),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        no_password: hash.is_empty(),
    };
    let permission = |key: &'static [u8], end: &'static [u8], allows| Permission {
        key: key.into(),
        range_end: end.into(),
        allows,
    };
    AuthTables {
        switch: Some((true, 41)),
        users: vec![
            user("alice", &["r", "s"], b""),
            user("root", &["root"], b"$2a$10$hash"),
        ],
        roles: vec![Role {
            name: "r".to_owned(),
            permissions: vec![
                permission(b"a", b"b", Allows::Read),
                permission(b"b", b"\0", Allows::Write),
                permission(b"c", b"", Allows::ReadWrite),
            ],
        }],
    }
}

/// The snapshot file of a store with these records, compacted at 3.
fn snapshot(dir: &TempDir, records: &[RevisionRecord]) -> PathBuf {
    let engine = Engine::open(&dir.path().join("source"), EngineOptions::default()).unwrap();
    let mut changes: Vec<Change> = records.iter().cloned().map(Change::PutRevision).collect();
    changes.extend([
        Change::SetRevision(Revision(199)),
        Change::SetCompactScheduled(Revision(3)),
        Change::SetCompactFinished(Revision(2)),
        Change::PutLease(LeaseId(77), 600),
        Change::PutLease(LeaseId(-9), 60),
    ]);
    changes.extend(users().into_changes());
    engine.write(&changes, &Applied::default());
    let mut bytes = Vec::new();
    let about = Description {
        voters: vec![MemberId(5)],
        learners: vec![],
    };
    let begin = |_| {};
    write(&engine, &about, begin, |piece| {
        bytes.extend_from_slice(&piece);
        true
    })
    .unwrap();
    let path = dir.path().join("snapshot.db");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// One of three first members, `m1` to `m3`, with a new incarnation at each call.
fn member(name: &str) -> NewMember {
    static INCARNATIONS: AtomicU64 = AtomicU64::new(1);
    let of = |number: u64| MemberRecord {
        id: MemberId(number),
        incarnation: 0,
        peer_urls: vec![format!("http://127.0.0.1:{number}")],
        learner: false,
        attributes: MemberAttributes {
            name: format!("m{number}"),
            ..MemberAttributes::default()
        },
    };
    NewMember {
        identity: Identity {
            cluster: ClusterId(0xc),
            member: MemberId(name[1..].parse().unwrap()),
            incarnation: INCARNATIONS.fetch_add(1, Ordering::Relaxed),
        },
        members: (1..=3).map(of).collect(),
        membership: Bytes::from_static(b"what consensus makes of them"),
        position: restore::FIRST,
    }
}

fn restored(path: &Path, data_dir: &Path, bump: Bump) -> Result<Restored, RestoreError> {
    let file = SnapshotFile::open(path, DigestCheck::Required).unwrap();
    let tables = file.tables().unwrap();
    let mut restore = Restore::begin(data_dir, member("m1"))?;
    let last = file.records(&mut |record| {
        restore.record(record).unwrap();
        Ok(())
    });
    let leases = tables.leases.iter();
    let totals = Totals {
        revision: last.unwrap().last,
        compact_scheduled: tables.compact_scheduled,
        compact_finished: tables.compact_finished,
        leases: leases.map(|lease| (lease.id, lease.ttl_seconds)).collect(),
        auth: auth_tables(&tables.auth).unwrap(),
        ..Totals::default()
    };
    restore.finish(&totals, bump, "here")
}

fn records_of(data_dir: &Path) -> (Vec<RevisionRecord>, crate::state::Tables, Applied) {
    let (place, installed) = Place::find(data_dir).unwrap();
    assert!(installed.is_some(), "the log begins after the store");
    let engine = Engine::open(&place.dir(), EngineOptions::default()).unwrap();
    let mut records = Vec::new();
    engine
        .records(&mut |record| {
            records.push(record.kept());
            Ok(())
        })
        .unwrap();
    (records, engine.tables().unwrap(), engine.applied().unwrap())
}

/// What a member that starts in the directory answers.
fn hash_in(data_dir: &Path) -> KeyValueHash {
    let (place, _) = Place::find(data_dir).unwrap();
    let engine = Engine::open(&place.dir(), EngineOptions::default()).unwrap();
    restore::hash_of(&engine)
}

#[test]
fn a_store_survives_the_way_through_etcds_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(&dir, &history());
    let data_dir = dir.path().join("restored");
    let done = restored(&path, &data_dir, Bump(0)).unwrap();
    assert_eq!(done.revision, Revision(199));
    let (records, tables, applied) = records_of(&data_dir);
    assert_eq!(records, history());
    assert_eq!(tables.revision, Some(Revision(199)));
    assert_eq!(tables.compact_scheduled, Some(Revision(3)));
    assert_eq!(tables.compact_finished, Some(Revision(2)));
    let mut leases = tables.leases;
    leases.sort();
    assert_eq!(leases, [(LeaseId(-9), 60), (LeaseId(77), 600)]);
    assert_eq!(tables.auth, users());
    let names = tables.members.iter().map(|m| m.attributes.name.as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    assert_eq!(names, ["m1", "m2", "m3"], "the members are the new ones");
    assert!(tables.removed.is_empty());
    assert!(applied.log_position.is_some() && !applied.membership.is_empty());
    let identity = Identity::load(&data_dir).unwrap().expect("written");
    assert_eq!(identity.member, done.identity.member);
    assert_eq!(restore::origin(&data_dir).unwrap().as_deref(), Some("here"));
    let hash = hash_in(&data_dir);
    assert_eq!(
        (hash.hash_revision, hash.compact_revision),
        (Revision(199), Revision(3))
    );
}

#[test]
fn members_of_one_restore_begin_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(&dir, &history());
    let one = dir.path().join("one");
    let two = dir.path().join("two");
    restored(&path, &one, Bump(10)).unwrap();
    restored(&path, &two, Bump(10)).unwrap();
    assert_eq!(records_of(&one).2, records_of(&two).2);
    assert_eq!(hash_in(&one), hash_in(&two));
}

#[test]
fn a_bump_compacts_everything_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(&dir, &history());
    let data_dir = dir.path().join("restored");
    let done = restored(&path, &data_dir, Bump(1_000)).unwrap();
    assert_eq!(done.revision, Revision(1_199));
    let (_, tables, _) = records_of(&data_dir);
    assert_eq!(tables.revision, Some(Revision(1_199)));
    assert_eq!(tables.compact_scheduled, Some(Revision(1_199)));
    assert_eq!(
        tables.compact_finished,
        Some(Revision(2)),
        "reclaiming goes on from there"
    );
    let far = restored(&path, &dir.path().join("far"), Bump(u64::MAX));
    assert!(matches!(far, Err(RestoreError::Bump { .. })));
}

#[test]
fn a_flipped_byte_of_a_snapshot_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(&dir, &history()[..20]);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        let opened = SnapshotFile::open(&path, DigestCheck::Required);
        assert!(matches!(opened, Err(FileError::Digest { .. })), "byte {at}");
    }
    std::fs::write(&path, &whole[..whole.len() - 32]).unwrap();
    let opened = SnapshotFile::open(&path, DigestCheck::Required);
    assert!(matches!(opened, Err(FileError::NoDigest)));
    assert!(SnapshotFile::open(&path, DigestCheck::Skipped).is_ok());
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(&dir, &history());
    let data_dir = dir.path().join("restored");
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::write(data_dir.join("precious"), b"data").unwrap();
    let refused = restored(&path, &data_dir, Bump(0)).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    assert_eq!(std::fs::read(data_dir.join("precious")).unwrap(), b"data");
    std::fs::remove_file(data_dir.join("precious")).unwrap();
    restored(&path, &data_dir, Bump(0)).unwrap();
    let again = restored(&path, &data_dir, Bump(0));
    assert!(
        matches!(again, Err(RestoreError::NotEmpty { .. })),
        "a member's directory"
    );
}

#[test]
fn an_unfinished_restore_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(&dir, &history());
    let data_dir = dir.path().join("restored");
    let mut begun = Restore::begin(&data_dir, member("m1")).unwrap();
    begun.record(history()[0].clone()).unwrap();
    let backwards = begun.record(history()[0].clone());
    assert!(matches!(backwards, Err(RestoreError::OutOfOrder(_))));
    drop(begun);
    assert!(data_dir.join(UNFINISHED).is_dir());
    assert_eq!(restore::origin(&data_dir).unwrap(), None);
    restored(&path, &data_dir, Bump(0)).unwrap();
    assert!(!data_dir.join(UNFINISHED).exists());
    assert_eq!(records_of(&data_dir).0, history());
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut restore = Restore::begin(&dir.path().join("d"), member("m1")).unwrap();
    let mut other_revision = put(9, 0, "a", 9, 1, 0);
    other_revision.pair = RevisionPair::new(8, 0);
    let mut no_key = put(9, 0, "", 9, 1, 0);
    no_key.pair = RevisionPair::new(9, 0);
    let mut not_a_key_value = put(9, 0, "a", 9, 1, 0);
    not_a_key_value.encoded = bytes::Bytes::from_static(b"\xff\xff");
    for record in [other_revision, no_key, not_a_key_value] {
        assert!(matches!(
            restore.record(record),
            Err(RestoreError::Record(_))
        ));
    }
}

#[test]
fn what_backups_take_is_every_record_with_what_they_hash_to() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&dir.path().join("source"), EngineOptions::default()).unwrap();
    let records = changes(3_000, false);
    let mut rows: Vec<Change> = records.iter().cloned().map(Change::PutRevision).collect();
    rows.extend([
        Change::SetRevision(Revision(3_001)),
        Change::SetCompactScheduled(Revision(900)),
        Change::PutLease(LeaseId(77), 600),
    ]);
    rows.extend(users().into_changes());
    engine.write(&rows, &Applied::default());
    let limits = crate::state::Limits {
        value_cache_bytes: 0,
    };
    let state = crate::store::load(limits, engine.tables().unwrap(), &engine).unwrap();
    let plan = state.mvcc.hash_keep(Revision(0)).unwrap();
    let mut pieces = Vec::new();
    let send = |piece: Bytes| {
        pieces.push(pb::SnapshotPiece::decode(piece).unwrap());
        true
    };
    let sent = engine.with_view(|scanner| super::records::write(scanner, plan, send));
    sent.unwrap();
    let head = pieces[0].head.clone().expect("it comes first");
    assert_eq!((head.revision, head.compact_scheduled), (3_001, 900));
    let (mut found, mut hashing, mut kinds) = (Vec::new(), Hashing::default(), Vec::new());
    for piece in &pieces {
        assert_eq!(piece.crc32c, crc32c::crc32c(&piece.raw));
        kinds.push(piece.kind);
        let (mut rest, mut place) = (piece.raw.clone(), 0);
        while piece.kind == 1 && !rest.is_empty() {
            let record = pb::Record::decode_length_delimited(&mut rest).unwrap();
            let record = RevisionRecord {
                pair: RevisionPair::new(record.revision, record.sub),
                tombstone: record.tombstone,
                encoded: record.key_value,
            };
            if !piece.uncounted.contains(&place) {
                hashing.add(record.lent());
            }
            found.push(record);
            place += 1;
        }
    }
    assert_eq!(found, records);
    kinds.dedup();
    assert_eq!(kinds, [0, 1, 2, 3, 0], "no members are in it");
    let end = pieces.last().and_then(|piece| piece.end).expect("the end");
    assert_eq!(end.records, 3_000);
    assert_eq!(end.hash_kv, restore::hash_of(&engine).hash);
    assert_eq!(end.hash_kv, hashing.finish());
    let plan = state.mvcc.hash_keep(Revision(0)).unwrap();
    let mut heard = 0;
    let leaves = |_| {
        heard += 1;
        heard < 2
    };
    let sent = engine.with_view(|scanner| super::records::write(scanner, plan, leaves));
    assert!(sent.is_ok() && heard == 2, "{heard}");
}

/// Twenty keys put and deleted in no order; at the end all of them are deleted, where that is asked for.
fn changes(count: i64, ends_empty: bool) -> Vec<RevisionRecord> {
    let mut live = std::collections::BTreeMap::new();
    let mut records = Vec::new();
    let mut seed = 7_u64;
    for main in 2..count + 2 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let name = format!("k{}", (seed >> 33) % 20);
        if live.contains_key(&name) && (seed >> 40).is_multiple_of(3) {
            live.remove(&name);
            records.push(tombstone(main, &name));
            continue;
        }
        let (create, version) = live.entry(name.clone()).or_insert((main, 0));
        *version += 1;
        records.push(put(main, 0, &name, *create, *version, 0));
    }
    if ends_empty {
        let rest = (count + 2..).zip(live.into_keys());
        records.extend(rest.map(|(main, name)| tombstone(main, &name)));
    }
    records
}

#[test]
fn a_restore_hashes_without_an_index_what_a_member_hashes_with_one() {
    for ends_empty in [false, true] {
        let records = changes(300, ends_empty);
        let last = records.last().unwrap().pair.main;
        for compacted in [-1, 1, 2, 50, 150, 299, last.0] {
            let dir = tempfile::tempdir().unwrap();
            let data_dir = dir.path().join("restored");
            let mut restore = Restore::begin(&data_dir, member("m1")).unwrap();
            for record in &records {
                restore.record(record.clone()).unwrap();
            }
            let totals = Totals {
                revision: last,
                compact_scheduled: (compacted >= 0).then_some(Revision(compacted)),
                ..Totals::default()
            };
            let hash = restore.hash_kv(&totals).unwrap();
            restore.finish(&totals, Bump(0), "here").unwrap();
            assert_eq!(hash, hash_in(&data_dir), "{compacted} {ends_empty}");
            assert_eq!(hash.compact_revision, Revision(compacted));
        }
    }
}

#[test]
fn a_compaction_in_the_future_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut restore = Restore::begin(&dir.path().join("d"), member("m1")).unwrap();
    restore.record(history()[0].clone()).unwrap();
    let totals = Totals {
        compact_scheduled: Some(Revision(3)),
        ..Totals::default()
    };
    let refused = restore.hash_kv(&totals);
    assert!(
        matches!(refused, Err(RestoreError::State(_))),
        "{refused:?}"
    );
}
