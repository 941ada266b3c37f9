//! Reading logs: whole, torn, damaged, newer, and one that a real etcd wrote.

use std::path::Path;

use tempfile::TempDir;

use super::super::log::{self, Log, LogError};
use crate::fixture::Writer;
use crate::storage::LogPosition;
use crate::types::{ClusterId, MemberId};

fn begun() -> (TempDir, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::new(dir.path());
    (dir, writer)
}

fn positions(log: &Log) -> Vec<(u64, u64)> {
    let entries = log.entries.iter();
    entries
        .map(|e| (e.position.term, e.position.index))
        .collect()
}

/// Three files: entries 1 to 9 of term 1 and 2, of which 6 and 7 were written twice.
fn several_files() -> (TempDir, Writer) {
    let (dir, mut writer) = begun();
    for index in 1..=3 {
        writer.entry(1, index);
    }
    writer.state(1, 2);
    writer.cut(4);
    for index in 4..=7 {
        writer.entry(1, index);
    }
    writer.state(1, 5);
    writer.cut(6);
    for index in 6..=9 {
        writer.entry(2, index);
    }
    writer.state(2, 8);
    writer.flush();
    (dir, writer)
}

#[test]
fn entries_of_several_files_follow_each_other_and_later_ones_count() {
    let (dir, writer) = several_files();
    let log = log::read(dir.path(), 0).unwrap();
    assert_eq!((log.cluster, log.member), (ClusterId(9), MemberId(7)));
    assert_eq!((log.state.term, log.state.commit), (2, 8));
    assert_eq!(log.snapshot, None);
    let wanted = [
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
        (1, 5),
        (2, 6),
        (2, 7),
        (2, 8),
        (2, 9),
    ];
    assert_eq!(positions(&log), wanted);
    assert_eq!(log.entries[8].data, "entry 9 of term 2");
    assert_eq!(
        log.end,
        log::end(dir.path()).unwrap(),
        "by the last file alone"
    );
    assert_eq!(log.end.offset, writer.offset() as u64);
    let mut later = log::read(dir.path(), 5).unwrap();
    assert_eq!(positions(&later), wanted[4..]);
    assert_eq!(later.follow(5).unwrap(), 1);
    assert_eq!(positions(&later), wanted[5..]);
}

#[test]
fn a_store_that_is_further_than_the_log_is_refused() {
    let (dir, _) = several_files();
    let mut log = log::read(dir.path(), 12).unwrap();
    let error = log.follow(12).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Short {
                last: 9,
                committed: 12
            }
        ),
        "{error}"
    );
    // What was committed is not there.
    let (dir, mut writer) = begun();
    writer.entry(1, 1);
    writer.state(1, 3);
    writer.flush();
    let error = log::read(dir.path(), 0).unwrap().follow(0).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Short {
                last: 1,
                committed: 3
            }
        ),
        "{error}"
    );
}

#[test]
fn a_snapshot_that_was_received_bridges_a_gap() {
    let (dir, mut writer) = begun();
    writer.entry(1, 1);
    writer.state(1, 1);
    writer.snapshot(3, 40);
    writer.state(3, 40);
    writer.entry(3, 41);
    writer.flush();
    let mut log = log::read(dir.path(), 1).unwrap();
    let at = LogPosition { term: 3, index: 40 };
    assert_eq!(log.snapshot, Some(at));
    assert_eq!(log.follow(40).unwrap(), 3);
    assert_eq!(positions(&log), [(3, 41)]);
    // Without it entries are missing.
    let mut log = log::read(dir.path(), 1).unwrap();
    let error = log.follow(1).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Begins {
                first: 41,
                applied: 1
            }
        ),
        "{error}"
    );
    // One that was not committed is none.
    writer.snapshot(4, 99);
    writer.flush();
    assert_eq!(log::read(dir.path(), 1).unwrap().snapshot, Some(at));
}

/// Reads a log whose last file was changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Log, LogError> {
    let (dir, writer) = several_files();
    let path = writer.path();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    log::read(dir.path(), 0)
}

#[test]
fn a_torn_end_is_cut_wherever_it_is_torn() {
    let (_dir, writer) = several_files();
    let whole = writer.offset();
    // The end of the last record, a state, is not there: the file is shorter.
    for cut in 1..40 {
        let log = changed(|bytes| bytes.truncate(whole - cut)).unwrap();
        assert!(log.end.offset <= (whole - cut) as u64);
        assert!(log.entries.len() >= 8, "cut by {cut}");
    }
    // A large record, of which a sector did not reach the disk.
    let (dir, mut writer) = begun();
    writer.entry(1, 1);
    let before = writer.offset();
    writer.entry_of(0, 1, 2, &[7; 3000]);
    writer.flush();
    let path = writer.path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1024..1536].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let log = log::read(dir.path(), 0).unwrap();
    assert_eq!(
        (positions(&log), log.end.offset),
        (vec![(1, 1)], before as u64)
    );
}

#[test]
fn what_is_damaged_is_refused_by_name() {
    let (_dir, writer) = several_files();
    let whole = writer.offset();
    // Any byte of the last file's records. A length that leads beyond the file looks like a torn end:
    // what is before it counts then, and the store says whether more had been there.
    for at in 0..whole {
        match changed(|bytes| bytes[at] ^= 0x10) {
            Err(error) => assert!(error.to_string().contains(".wal"), "byte {at}: {error}"),
            Ok(mut log) => {
                let is_cut = log.end.offset <= at as u64;
                // Padding and the width of a number mean nothing.
                assert!(is_cut || log.entries.len() == 9, "byte {at}");
                assert!(log.follow(9).is_ok() || log.entries.len() < 9, "byte {at}");
            }
        }
    }
    // In a file before the last one nothing is torn.
    let (dir, _) = several_files();
    let path = dir.path().join("0000000000000001-0000000000000004.wal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(150);
    std::fs::write(&path, bytes).unwrap();
    let error = log::read(dir.path(), 0).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = log::read(dir.path(), 0).unwrap_err();
    assert!(matches!(error, LogError::Gap { .. }), "{error}");
}

#[test]
fn what_a_newer_etcd_wrote_and_what_is_anothers_is_refused() {
    let (dir, mut writer) = begun();
    writer.record(9, b"news");
    writer.flush();
    let error = log::read(dir.path(), 0).unwrap_err();
    assert!(matches!(error, LogError::Newer { kind: 9, .. }), "{error}");
    let (dir, mut writer) = begun();
    writer.record(1, &[8, 8, 16, 9]);
    writer.flush();
    let error = log::read(dir.path(), 0).unwrap_err().to_string();
    assert!(error.contains("the name of another member"), "{error}");
}

/// `goldens/3.7.3.wal`: what etcd 3.7.3 wrote at its start, then puts, a lease, a compaction.
#[test]
fn a_log_of_a_real_etcd_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let name = "0000000000000000-0000000000000000.wal";
    let golden = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"))
        .join("src/tests/goldens/3.7.3.wal");
    std::fs::copy(golden, dir.path().join(name)).unwrap();
    let mut log = log::read(dir.path(), 0).unwrap();
    assert_eq!(log.member, MemberId(0x8e9e_05c5_2164_694d));
    assert_eq!(log.cluster, ClusterId(0xcdf8_1819_4e3a_8c32));
    assert_eq!(log.follow(0).unwrap(), 0);
    assert_eq!(log.entries.first().map(|e| e.position.index), Some(1));
    assert!(log.state.commit >= 10 && log.state.term >= 2);
}
