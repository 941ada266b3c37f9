//! The directory as a crash can leave it between two steps.

use std::fs;

use super::*;
use crate::wal::scan::Damage;

/// A log over several segments.
fn long_log(entries: u64) -> TempDir {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![vote("v1")]);
    for index in 1..=entries {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    wal.close();
    dir
}

fn refused(dir: &Path) -> String {
    open(dir, small()).unwrap_err().to_string()
}

#[test]
fn a_missing_segment_in_the_middle_is_refused_by_name() {
    let dir = long_log(20);
    assert!(segment_numbers(dir.path()).len() > 3);
    fs::remove_file(segment_path(dir.path(), 2)).unwrap();
    let message = refused(dir.path());
    assert!(
        message.contains("0000000000000002.wal is missing"),
        "{message}"
    );
}

#[test]
fn missing_first_segments_are_refused_if_nothing_was_purged() {
    let dir = long_log(20);
    fs::remove_file(segment_path(dir.path(), 1)).unwrap();
    let message = refused(dir.path());
    assert!(
        message.contains("are missing and were not purged"),
        "{message}"
    );
}

#[test]
fn spares_without_segments_are_refused() {
    let dir = long_log(1);
    wait_until("a spare is there", || {
        let (wal, _) = reopen(dir.path());
        wait_until("bytes", || wal.bytes() >= 2 * 16 * 1024);
        true
    });
    fs::remove_file(segment_path(dir.path(), 1)).unwrap();
    let message = refused(dir.path());
    assert!(
        message.contains("0000000000000001.wal is missing"),
        "{message}"
    );
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let dir = long_log(10);
    let youngest = *segment_numbers(dir.path()).last().unwrap();
    fs::copy(
        segment_path(dir.path(), 1),
        segment_path(dir.path(), youngest + 1),
    )
    .unwrap();
    let error = inspect(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            RecoverError::Damaged {
                damage: Damage::SegmentOrder,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn purged_segments_may_be_gone_or_still_there() {
    let dir = long_log(20);
    let numbers = segment_numbers(dir.path());
    // The first holds the vote and three entries, every other one three: 13 to 15 are in the fifth.
    let kept_from = 5;
    let before = copy_dir(dir.path());
    let (wal, _) = reopen(dir.path());
    append(
        &wal,
        vec![purge(14), Record::Committed(Bytes::from_static(b"c"))],
    );
    wait_until("segments are given up", || {
        segment_numbers(dir.path())[0] == kept_from
    });
    wal.close();
    let youngest = *numbers.last().unwrap();
    let after = inspect(dir.path()).unwrap();
    fs::copy(
        segment_path(dir.path(), youngest),
        segment_path(before.path(), youngest),
    )
    .unwrap();
    for number in numbers
        .into_iter()
        .take_while(|number| *number <= kept_from)
    {
        let log = inspect(before.path()).unwrap();
        assert_eq!(log.index.first(), 15, "from segment {number}");
        assert_eq!(log.index.last(), after.index.last());
        assert_eq!(log.restated, after.restated);
        let copy = copy_dir(before.path());
        let (wal, _) = reopen(copy.path());
        assert_eq!(all_entries(&wal).len(), 6);
        wait_until("what was purged is given up after a restart", || {
            segment_numbers(copy.path())[0] == kept_from
        });
        drop(wal);
        fs::remove_file(segment_path(before.path(), number)).unwrap();
    }
    // One more than the purge allows.
    let error = inspect(before.path()).unwrap_err();
    let RecoverError::Damaged { damage, .. } = error else {
        panic!("{error}")
    };
    assert!(matches!(damage, Damage::EntriesMissing { .. }), "{damage}");
}

#[test]
fn a_half_zeroed_file_is_cleared_away() {
    let dir = long_log(3);
    fs::write(dir.path().join("spare-0000000000000042.tmp"), vec![7; 5000]).unwrap();
    let (wal, recovered) = reopen(dir.path());
    assert_eq!(recovered.last.unwrap().index, 3);
    assert!(!dir.path().join("spare-0000000000000042.tmp").exists());
    drop(wal);
}

#[test]
fn a_spare_that_is_not_zeroed_is_never_used() {
    let dir = long_log(1);
    let names = crate::fs::file_names(dir.path()).unwrap();
    for spare in names.iter().filter(|name| name.ends_with(".zero")) {
        fs::remove_file(dir.path().join(spare)).unwrap();
    }
    // As a crash leaves it between writing the next segment's header and the rename; and a byte of
    // an earlier use; and a file of another size.
    let mut begun = fs::read(segment_path(dir.path(), 1)).unwrap();
    fs::write(dir.path().join("spare-0000000000000007.zero"), &begun).unwrap();
    begun.fill(0);
    begun[9000] = 1;
    fs::write(dir.path().join("spare-0000000000000008.zero"), &begun).unwrap();
    fs::write(
        dir.path().join("spare-0000000000000009.zero"),
        vec![0; 4096],
    )
    .unwrap();
    let (wal, _) = reopen(dir.path());
    for index in 2..30 {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    wal.close();
    let (wal, recovered) = reopen(dir.path());
    assert_eq!(recovered.cut, None);
    assert_eq!(all_entries(&wal).len(), 29);
    for stale in ["7", "8", "9"] {
        assert!(
            !dir.path()
                .join(format!("spare-000000000000000{stale}.zero"))
                .exists()
        );
    }
}

#[test]
fn a_new_segment_without_frames_is_the_end_of_the_log() {
    let dir = long_log(9);
    let youngest = *segment_numbers(dir.path()).last().unwrap();
    let path = segment_path(dir.path(), youngest);
    let mut bytes = fs::read(&path).unwrap();
    // Header, then the frame with the vote.
    let born = u64::from_le_bytes(bytes[64..72].try_into().unwrap()) as usize;
    assert!(born > 4096);
    bytes[born..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let (wal, recovered) = reopen(dir.path());
    assert_eq!(recovered.vote.as_deref(), Some(&b"v1"[..]));
    let last = recovered.last.unwrap().index;
    append(&wal, vec![entry(last + 1, b"goes on")]);
    wal.close();
    assert_eq!(
        inspect(dir.path()).unwrap().index.last().unwrap().index,
        last + 1
    );
}

#[test]
fn bytes_of_an_earlier_use_are_never_read_again() {
    let dir = long_log(4);
    let whole = fs::read(segment_path(dir.path(), 1)).unwrap();
    let youngest = *segment_numbers(dir.path()).last().unwrap();
    assert_eq!(youngest, 2, "the second segment has room behind its end");
    let end = inspect(dir.path()).unwrap().current.unwrap().1.offset;
    let path = segment_path(dir.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[end..].copy_from_slice(&whole[end..]);
    fs::write(&path, &bytes).unwrap();
    match inspect(dir.path()) {
        Ok(log) => assert_eq!(log.current.unwrap().1.offset, end),
        Err(error) => assert!(matches!(error, RecoverError::Damaged { .. }), "{error}"),
    }
}
