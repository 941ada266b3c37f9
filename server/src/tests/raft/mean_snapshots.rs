//! Snapshots of a mean peer: whatever comes, whole or not, is installed or leaves nothing behind, and
//! the member that was sent it starts again with what it had.

use super::*;
use crate::raft::fixture::snapshot;
use crate::state::{Change, RevisionRecord};
use crate::storage::place::incoming_dir;
use crate::types::{KeyValue, RevisionPair};

fn at(numbers: &mut Numbers, len: usize) -> usize {
    usize::try_from(numbers.below(len as u64)).unwrap()
}

/// Names that a store has, and none.
fn some_name(numbers: &mut Numbers, pieces: &[Piece]) -> String {
    let others = ["CURRENT", "MANIFEST-000001", "999999.sst", "../CURRENT", ""];
    match numbers.below(2) {
        0 => pieces[at(numbers, pieces.len())].file.clone(),
        _ => others[at(numbers, others.len())].to_owned(),
    }
}

/// Other bytes in a piece: some changed, some cut off, some more.
fn change_data(numbers: &mut Numbers, piece: &mut Piece) {
    let mut data = piece.data.to_vec();
    match numbers.below(4) {
        0 if !data.is_empty() => {
            let keep = at(numbers, data.len());
            data.truncate(keep);
        }
        1 => data.extend((0..=numbers.below(64)).map(|n| n as u8)),
        _ if !data.is_empty() => {
            for _ in 0..=numbers.below(8) {
                let place = at(numbers, data.len());
                data[place] = numbers.below(256) as u8;
            }
        }
        _ => {}
    }
    piece.data = data.into();
}

/// One change that whoever makes the pieces can make.
fn change(numbers: &mut Numbers, pieces: &mut Vec<Piece>) {
    let place = at(numbers, pieces.len());
    let other = at(numbers, pieces.len());
    match numbers.below(10) {
        0 => drop(pieces.remove(place)),
        1 => pieces.swap(place, other),
        2 => {
            let again = pieces[place].clone();
            pieces.insert(other, again);
        }
        3 => pieces[place].file = some_name(numbers, pieces),
        4 => pieces[place].offset = numbers.below(1 << 20),
        5 => pieces[place].end_of_file = !pieces[place].end_of_file,
        6 => {
            let data = pieces[other].data.clone();
            pieces[place].data = data;
        }
        _ => change_data(numbers, &mut pieces[place]),
    }
    if pieces.is_empty() {
        pieces.push(Piece::new("CURRENT", 0, Bytes::new(), true));
    }
}

/// Takes pieces as a member takes a leader's, up to where openraft would be told.
async fn take(
    member: &Member,
    pieces: &[Piece],
    meta: Option<&Meta>,
) -> std::io::Result<(Meta, Box<crate::snapshot::install::Prepared>)> {
    let mut incoming = Incoming::begin(&incoming_dir(member.dir.path()))?;
    for piece in pieces {
        incoming.accept(piece)?;
    }
    let received = incoming.finish()?;
    let meta = match meta {
        Some(meta) => meta.clone(),
        None => snapshot::describe(received.contents().applied.clone())?,
    };
    let prepared = snapshot::prepare(&member.store, &meta, received).await?;
    Ok((meta, prepared))
}

/// Nothing lies in the data directory but the one store and the log.
fn is_clean(member: &Member) {
    let left = crate::fs::file_names(&incoming_dir(member.dir.path())).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
    let store = member.place().dir();
    let names = crate::fs::file_names(member.dir.path()).unwrap();
    let stores = names.iter().filter(|name| name.starts_with("store"));
    for name in stores.filter(|name| *name != "store.incoming") {
        assert_eq!(member.dir.path().join(name), store, "{names:?}");
    }
}

/// Seeded: pieces with anything changed, and checksums that fit.
#[tokio::test]
async fn changed_pieces_are_refused_or_make_a_store_and_leave_nothing() {
    let leader = Member::new();
    leader.apply(&history(31, 60)).await;
    let (meta, checkpoint) = leader.snapshot().await;
    let whole = pieces(&checkpoint);
    let mut follower = Member::new();
    follower.apply(&history(31, 10)).await;
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..160 {
        let mut numbers = Numbers(seed);
        let mut pieces = whole.clone();
        for _ in 0..=numbers.below(3) {
            change(&mut numbers, &mut pieces);
        }
        for piece in &mut pieces {
            piece.crc32c = piece.checksum();
        }
        let before = follower.everything();
        match take(&follower, &pieces, Some(&meta)).await {
            Err(_) => {
                refused += 1;
                assert_eq!(follower.everything(), before, "seed {seed}");
            }
            Ok((meta, prepared)) => {
                taken += 1;
                let data = SnapshotData::Prepared(prepared);
                follower.snapshots().install(&meta, data).await.unwrap();
                let installed = follower.everything();
                assert_eq!(installed, leader.everything(), "seed {seed}");
                let dir = copy_dir(follower.dir.path());
                assert_eq!(Member::open(dir).everything(), installed, "seed {seed}");
                follower = Member::new();
                follower.apply(&history(31, 10)).await;
            }
        }
        is_clean(&follower);
    }
    assert!(
        refused > 100 && taken > 3,
        "{refused} refused, {taken} taken"
    );
    follower.flush().await;
    let again = Member::open(copy_dir(follower.dir.path()));
    assert_eq!(again.everything(), follower.everything());
}

fn record(main: i64, encoded: Bytes) -> Change {
    Change::PutRevision(RevisionRecord {
        pair: RevisionPair::new(main, 0),
        tombstone: false,
        encoded,
    })
}

fn key_value(main: i64) -> KeyValue {
    KeyValue {
        key: Bytes::from_static(b"key"),
        create_revision: Revision(main),
        mod_revision: Revision(main),
        version: 1,
        value: Bytes::from_static(b"value"),
        lease: LeaseId::NONE,
    }
}

/// Stores that the engine finds sound, with what no member has written.
fn mean_stores() -> Vec<(&'static str, Vec<Change>)> {
    let sound = key_value(2);
    let of = |kv: &KeyValue| record(kv.mod_revision.0, kv.encode());
    let bytes = |bytes: &'static [u8]| record(2, Bytes::from_static(bytes));
    let far = i64::MAX;
    vec![
        (
            "a value before its key",
            vec![bytes(b"\x2a\x01v\x0a\x01k\x10\x02\x18\x02\x20\x01")],
        ),
        (
            "two keys",
            vec![bytes(b"\x0a\x01a\x0a\x01b\x10\x02\x18\x02\x20\x01")],
        ),
        ("a record cut short", vec![bytes(b"\x0a\x09short")]),
        ("no record", vec![bytes(b"")]),
        (
            "a version nobody counts on from",
            vec![of(&KeyValue {
                version: far,
                ..sound.clone()
            })],
        ),
        (
            "another revision's write",
            vec![record(3, sound.encode()), Change::SetRevision(Revision(3))],
        ),
        (
            "created after it was written",
            vec![of(&KeyValue {
                create_revision: Revision(9),
                ..sound.clone()
            })],
        ),
        (
            "the last revision",
            vec![of(&key_value(far)), Change::SetRevision(Revision(far))],
        ),
        (
            "a last revision that is empty",
            vec![Change::SetRevision(Revision(far))],
        ),
        (
            "a compaction after the end",
            vec![
                of(&sound),
                Change::SetRevision(Revision(2)),
                Change::SetCompactScheduled(Revision(far)),
            ],
        ),
        ("a revision before the first", vec![of(&key_value(-7))]),
    ]
}

#[tokio::test]
async fn a_sound_file_with_unsound_contents_is_refused() {
    let follower = Member::new();
    follower.apply(&history(32, 10)).await;
    let before = follower.everything();
    let sound = vec![
        record(2, key_value(2).encode()),
        Change::SetRevision(Revision(2)),
    ];
    let mut stores = mean_stores();
    stores.push(("sound", sound));
    for (what, changes) in stores {
        let sender = Member::new();
        let mut applied = {
            sender.apply(&beginning()).await;
            sender.store.engine().applied().unwrap()
        };
        applied.log_position = Some(crate::storage::LogPosition { term: 1, index: 50 });
        sender.store.engine().write(&changes, &applied);
        let (_, checkpoint) = sender.snapshot().await;
        let taken = take(&follower, &pieces(&checkpoint), None).await;
        assert_eq!(taken.is_ok(), what == "sound", "{what}: {taken:?}");
        // It is closed and removed on a thread of its own.
        drop(taken);
        super::wait_until("what was not installed is gone", || {
            !follower.dir.path().join("store.1").exists()
        });
        is_clean(&follower);
        assert_eq!(follower.everything(), before, "{what}");
    }
}
