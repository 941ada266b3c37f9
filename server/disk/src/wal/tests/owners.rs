//! Whose log it is, and what a start does to a log whose last sync failed.

use super::*;
use crate::fs::faults::{self, Operation};
use crate::wal::segment::{HEADER_BYTES, SegmentHeader, SegmentId};
use crate::wal::{check_owner, exists};

const OURS: Owner = Owner {
    cluster: 0x11,
    member: 0x22,
    incarnation: 0x33,
};

fn owned() -> Options {
    Options {
        owner: OURS,
        ..small()
    }
}

/// What no other use of the directory may change.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = crate::fs::file_names(dir).unwrap();
    let segments = names.into_iter().filter(|name| name.ends_with(".wal"));
    segments
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

#[test]
fn a_log_of_somebody_else_is_refused_and_left_as_it_is() {
    let dir = temporary();
    let (wal, _) = open(dir.path(), owned()).unwrap();
    append(&wal, vec![vote("ours"), entry(1, b"one")]);
    wal.close();
    let before = content(dir.path());
    let others = [
        Owner { cluster: 1, ..OURS },
        Owner { member: 1, ..OURS },
        Owner {
            incarnation: 1,
            ..OURS
        },
    ];
    for owner in others {
        let options = Options { owner, ..small() };
        let error = open(dir.path(), options).unwrap_err();
        assert!(matches!(error, RecoverError::Foreign { .. }), "{error}");
        let looked = check_owner(dir.path(), owner).unwrap_err().to_string();
        assert_eq!(error.to_string(), looked);
        assert!(
            looked.contains("member 22 of cluster 11 (incarnation 33)"),
            "{looked}"
        );
        assert!(looked.contains("--wal-dir"), "{looked}");
    }
    assert_eq!(content(dir.path()), before);
    check_owner(dir.path(), OURS).unwrap();
    let (_, recovered) = open(dir.path(), owned()).unwrap();
    assert_eq!(recovered.last.unwrap().index, 1);
}

#[test]
fn every_later_segment_names_the_owner_too() {
    let dir = temporary();
    let (wal, _) = open(dir.path(), owned()).unwrap();
    for index in 1..=40 {
        append(&wal, vec![entry(index, &payload(index, 2000))]);
    }
    wal.close();
    let numbers = segment_numbers(dir.path());
    assert!(numbers.len() > 2, "{numbers:?}");
    for number in numbers {
        let bytes = fs::read(segment_path(dir.path(), number)).unwrap();
        let header = SegmentHeader::decode(&bytes).unwrap();
        assert_eq!(header.owner, Some(OURS), "segment {number}");
    }
}

#[test]
fn whether_there_is_a_log_is_seen_without_making_one() {
    let parent = temporary();
    let dir = parent.path().join("wal");
    assert!(!exists(&dir).unwrap());
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    fs::create_dir(dir.join("lost+found")).unwrap();
    assert!(!exists(&dir).unwrap());
    open(&dir, owned()).unwrap().0.close();
    assert!(exists(&dir).unwrap());
}

/// The header page that the version before wrote, byte for byte.
#[test]
fn a_header_of_format_1_is_read_and_written_again_as_it_was() {
    let mut page = vec![0; HEADER_BYTES];
    page[0..8].copy_from_slice(b"ENGRMWAL");
    page[8..12].copy_from_slice(&[1, 0, 0, 0]);
    page[12..16].copy_from_slice(&[0, 16, 0, 0]);
    page[16..24].copy_from_slice(&[0, 0x40, 0, 0, 0, 0, 0, 0]);
    page[24] = 7;
    page[32..40].copy_from_slice(&[9; 8]);
    page[40] = 70;
    page[48] = 71;
    page[56..60].copy_from_slice(&[1, 2, 3, 4]);
    page[64..72].copy_from_slice(&[0x40, 0x10, 0, 0, 0, 0, 0, 0]);
    let checksum = crc32c::crc32c(&page[..HEADER_BYTES - 4]);
    page[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    let header = SegmentHeader::decode(&page).unwrap();
    let expected = SegmentHeader {
        id: SegmentId {
            number: 7,
            nonce: 0x0909_0909_0909_0909,
        },
        owner: None,
        segment_bytes: 0x4000,
        sequence: 70,
        next_index: 71,
        chain_before: 0x0403_0201,
        born_bytes: 0x1040,
    };
    assert_eq!(header, expected);
    assert_eq!(
        header.encode(),
        page,
        "its chain goes on from the same bytes"
    );
}

/// A log that the version before left: its first segment names nobody.
fn unowned(dir: &Path) {
    let (wal, _) = open(dir, small()).unwrap();
    wal.close();
    let path = segment_path(dir, 1);
    let mut bytes = fs::read(&path).unwrap();
    let header = SegmentHeader {
        owner: None,
        ..SegmentHeader::decode(&bytes).unwrap()
    };
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_log_of_the_version_before_goes_on_and_names_its_owner_from_the_next_segment() {
    let dir = temporary();
    unowned(dir.path());
    check_owner(dir.path(), OURS).unwrap();
    let (wal, _) = open(dir.path(), owned()).unwrap();
    for index in 1..=20 {
        append(&wal, vec![entry(index, &payload(index, 2000))]);
    }
    wal.close();
    let (wal, recovered) = open(dir.path(), owned()).unwrap();
    assert_eq!(recovered.last.unwrap().index, 20);
    assert_eq!(all_entries(&wal).len(), 20);
    wal.close();
    let youngest = *segment_numbers(dir.path()).last().unwrap();
    let bytes = fs::read(segment_path(dir.path(), youngest)).unwrap();
    assert_eq!(SegmentHeader::decode(&bytes).unwrap().owner, Some(OURS));
    let stranger = Owner { member: 5, ..OURS };
    assert!(check_owner(dir.path(), stranger).is_err());
}

/// After a sync that failed, the last frame may be in the page cache as if it were on the disk, and
/// the next sync says that it is.
#[test]
fn the_last_frame_is_written_again_and_synced_before_anything_is_told() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![entry(1, b"one")]);
    append(&wal, vec![entry(2, b"two")]);
    wal.close();
    let before = content(dir.path());
    let end = inspect(dir.path()).unwrap().current.unwrap().1;
    faults::note(dir.path());
    let (wal, recovered) = reopen(dir.path());
    let done = faults::noted(dir.path());
    assert_eq!(recovered.last.unwrap().index, 2);
    let again = (
        Operation::Write,
        u64::try_from(end.last_frame).unwrap(),
        end.offset - end.last_frame,
    );
    assert!(end.last_frame > HEADER_BYTES && end.offset > end.last_frame);
    let written = done.iter().position(|noted| *noted == again);
    let written = written.unwrap_or_else(|| panic!("{again:?} is not in {done:?}"));
    assert!(
        done[written..].contains(&(Operation::Sync, 0, 0)),
        "{done:?}"
    );
    wal.close();
    assert_eq!(content(dir.path()), before, "it is what was there");
}

#[test]
fn a_last_frame_that_cannot_be_synced_again_is_not_told_of() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![entry(1, b"one")]);
    wal.close();
    let fault = faults::inject(dir.path(), Operation::Sync, 5, 0);
    assert!(matches!(
        open(dir.path(), small()),
        Err(RecoverError::Io { .. })
    ));
    drop(fault);
    assert_eq!(reopen(dir.path()).1.last.unwrap().index, 1);
}
