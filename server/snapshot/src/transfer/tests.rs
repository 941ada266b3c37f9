//! What a transfer takes and what it refuses, over a small real store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::state::{Change, RevisionRecord, Values};
use crate::storage::{Applied, Checkpoint, Engine, EngineOptions, LogPosition, Place};
use crate::types::{KeyValue, Revision, RevisionPair};

/// Records of the store: with their values, more than one piece of a table.
const RECORDS: i64 = 3000;

fn record(main: i64) -> RevisionRecord {
    // Values that do not compress.
    let value: Vec<u8> = (0..64u64)
        .flat_map(|n| {
            (n + 1)
                .wrapping_mul(main.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .to_be_bytes()
        })
        .collect();
    let kv = KeyValue {
        key: format!("key-{main}").into(),
        create_revision: Revision(main),
        mod_revision: Revision(main),
        version: 1,
        value: value.into(),
        ..KeyValue::default()
    };
    RevisionRecord {
        pair: RevisionPair::new(main, 0),
        tombstone: false,
        encoded: kv.encode(),
    }
}

/// A data directory with a store, and a checkpoint of it.
fn sender() -> (TempDir, Arc<Checkpoint>) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&dir.path().join("store"), EngineOptions::default()).unwrap();
    let mut changes: Vec<Change> = (2..RECORDS)
        .map(|n| Change::PutRevision(record(n)))
        .collect();
    changes.push(Change::SetRevision(Revision(RECORDS)));
    let applied = Applied {
        log_position: Some(LogPosition { term: 1, index: 9 }),
        ..Applied::default()
    };
    engine.write(&changes, &applied);
    engine.flush();
    let place = Place::of(engine.dir()).unwrap();
    std::fs::create_dir(place.checkpoints_dir()).unwrap();
    let checkpoint = engine
        .checkpoint(&place.checkpoints_dir().join("1"))
        .unwrap();
    (dir, Arc::new(checkpoint))
}

fn pieces(checkpoint: &Arc<Checkpoint>) -> Vec<Piece> {
    let mut outgoing = Outgoing::open(checkpoint).unwrap();
    std::iter::from_fn(|| outgoing.next_piece().unwrap()).collect()
}

fn take(dir: &Path, pieces: &[Piece]) -> io::Result<Received> {
    let mut incoming = Incoming::begin(dir)?;
    for piece in pieces {
        incoming.accept(piece)?;
    }
    incoming.finish()
}

fn refused(dir: &Path, pieces: &[Piece]) -> TransferError {
    let error = take(dir, pieces).expect_err("it is refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        std::fs::read_dir(dir).unwrap().count(),
        0,
        "nothing is left"
    );
    let source = error.into_inner().unwrap();
    source.downcast_ref::<TransferError>().unwrap().clone()
}

#[test]
fn pieces_are_bounded_and_make_the_same_store() {
    let (_sender, checkpoint) = sender();
    let pieces = pieces(&checkpoint);
    assert!(
        pieces
            .iter()
            .all(|piece| piece.data.len() <= PIECE_BYTES_MAX)
    );
    assert!(
        pieces.len() > checkpoint.files().len(),
        "a table takes several"
    );
    assert_eq!(pieces.last().unwrap().file, "CURRENT");
    let sent: usize = pieces.iter().map(|piece| piece.data.len()).sum();
    assert_eq!(u64::try_from(sent).unwrap(), checkpoint.bytes());

    let dir = tempfile::tempdir().unwrap();
    let received = take(&dir.path().join("store.incoming"), &pieces).unwrap();
    assert_eq!(received.contents(), checkpoint.contents());
    assert_eq!(received.contents().revision, Revision(RECORDS));
    assert_eq!(received.bytes(), checkpoint.bytes());
    let first = Place::of(&dir.path().join("store")).unwrap();
    let place = received.move_beside(&first).unwrap();
    let engine = Engine::open(&place.dir(), EngineOptions::default()).unwrap();
    for main in 2..RECORDS {
        assert_eq!(engine.get(RevisionPair::new(main, 0)), Some(record(main)));
    }
}

#[test]
fn a_checkpoint_goes_with_its_directory_and_leaves_the_store() {
    let (sender, checkpoint) = sender();
    let dir = checkpoint.dir().to_path_buf();
    let mut outgoing = Outgoing::open(&checkpoint).unwrap();
    drop(checkpoint);
    assert!(
        outgoing.next_piece().unwrap().is_some(),
        "the sender holds it"
    );
    drop(outgoing);
    while dir.exists() {
        std::thread::yield_now();
    }
    let engine = Engine::open(&sender.path().join("store"), EngineOptions::default()).unwrap();
    assert_eq!(engine.get(RevisionPair::new(2, 0)), Some(record(2)));
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let (_sender, checkpoint) = sender();
    let whole = pieces(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    for (at, piece) in whole.iter().enumerate() {
        let mut data = piece.data.to_vec();
        let places = [0, data.len() / 3, data.len() - 1];
        let flips = places.map(|place| {
            data[place] ^= 1;
            let flipped = Piece {
                data: Bytes::from(data.clone()),
                ..piece.clone()
            };
            data[place] ^= 1;
            flipped
        });
        let mut others = vec![
            Piece {
                crc32c: piece.crc32c ^ 0x100,
                ..piece.clone()
            },
            Piece {
                offset: piece.offset ^ 0x200,
                ..piece.clone()
            },
            Piece {
                end_of_file: !piece.end_of_file,
                ..piece.clone()
            },
            Piece {
                file: piece.file.replace('0', "2"),
                ..piece.clone()
            },
        ];
        others.retain(|other| other != piece);
        for damaged in flips.into_iter().chain(others) {
            let mut pieces = whole[..at].to_vec();
            pieces.push(damaged);
            let error = refused(dir.path(), &pieces);
            assert!(matches!(error, TransferError::Damaged(_)), "{error}");
        }
    }
}

#[test]
fn names_that_no_store_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../000001.sst",
        "a/000001.sst",
        "000001.sst/",
        "x.sst",
        ".sst",
        "MANIFEST-",
        "MANIFEST-1/2",
        "OPTIONS-1.dbtmp",
        "000001.log",
        "LOCK",
        "current",
        "CURRENT\0",
        "٣.sst",
        "111111111111111111111.sst",
    ];
    for name in names {
        let piece = Piece::new(name, 0, Bytes::from_static(b"x"), true);
        let error = refused(dir.path(), &[piece]);
        assert!(matches!(error, TransferError::Name(_)), "{name:?}: {error}");
    }
}

#[test]
fn pieces_come_in_order_once_and_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let piece = |file, offset, data: &'static [u8], end| {
        Piece::new(file, offset, Bytes::from_static(data), end)
    };
    let is_order =
        |pieces: &[Piece]| matches!(refused(dir.path(), pieces), TransferError::Order { .. });
    let begun = piece("1.sst", 0, b"ab", false);
    assert!(
        is_order(&[piece("1.sst", 1, b"b", true)]),
        "a gap at the beginning"
    );
    assert!(
        is_order(&[begun.clone(), piece("1.sst", 3, b"d", true)]),
        "a gap"
    );
    assert!(
        is_order(&[begun.clone(), piece("1.sst", 1, b"b", true)]),
        "an overlap"
    );
    assert!(
        is_order(&[begun.clone(), piece("2.sst", 0, b"x", true)]),
        "another file"
    );
    let ended = piece("1.sst", 0, b"ab", true);
    assert!(is_order(&[ended.clone(), ended]), "twice");
    let error = refused(dir.path(), &[begun]);
    assert_eq!(error, TransferError::Unfinished("1.sst".into()));
    let long = Piece::new("1.sst", 0, Bytes::from(vec![0; PIECE_BYTES_MAX + 1]), true);
    assert!(matches!(
        refused(dir.path(), &[long]),
        TransferError::TooLarge(_)
    ));
    let idle = piece("1.sst", 0, b"", false);
    assert!(matches!(
        refused(dir.path(), &[idle]),
        TransferError::TooLarge(_)
    ));
}

#[test]
fn a_store_that_misses_a_file_is_none() {
    let (_sender, checkpoint) = sender();
    let whole = pieces(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    for file in checkpoint.files() {
        if file.name.starts_with("OPTIONS") {
            // The engine does without.
            continue;
        }
        let rest: Vec<Piece> = whole
            .iter()
            .filter(|piece| piece.file != file.name)
            .cloned()
            .collect();
        let error = refused(dir.path(), &rest);
        assert!(
            matches!(error, TransferError::NoStore(_)),
            "{}: {error}",
            file.name
        );
    }
}

#[test]
fn transfers_at_a_time_are_bounded_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let begun: Vec<Incoming> = (0..4)
        .map(|_| Incoming::begin(dir.path()).unwrap())
        .collect();
    let error = Incoming::begin(dir.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    drop(begun);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    Incoming::begin(dir.path()).unwrap();
}

#[test]
fn a_full_disk_ends_the_transfer_and_gives_its_space_back() {
    use crate::fs::faults::{Operation, inject};
    const ENOSPC: i32 = 28;
    let (_sender, checkpoint) = sender();
    let dir = tempfile::tempdir().unwrap();
    let fault = inject(dir.path(), Operation::Write, ENOSPC, 2);
    let error = take(dir.path(), &pieces(&checkpoint)).unwrap_err();
    assert!(crate::fs::is_out_of_space(&error), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(fault);
    take(dir.path(), &pieces(&checkpoint)).unwrap();
}
