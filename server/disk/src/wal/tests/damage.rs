//! Every byte changed, every length cut, sectors missing: a log is read back whole, or cut only by
//! what was never acknowledged, or refused.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::wal::recovery::Restated;
use crate::wal::scan::Damage;
use crate::wal::{EntryId, dump};

/// What must come back.
#[derive(Debug, PartialEq)]
struct Content {
    first: u64,
    last: Option<EntryId>,
    restated: Restated,
    /// Offset of the end: with the chain checked this stands for every byte before.
    end: (u64, usize),
}

fn content(log: &Log) -> Content {
    let (segment, end) = log.current.unwrap();
    Content {
        first: log.index.first(),
        last: log.index.last(),
        restated: log.restated.clone(),
        end: (segment.number, end.offset),
    }
}

/// One segment with frames of many shapes; returns the offsets at which frames begin and the end.
fn small_log() -> (TempDir, Vec<usize>) {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![vote("first"), entry(0, b"membership")]);
    append(&wal, vec![entry(1, &payload(1, 700)), entry(2, b"")]);
    append(
        &wal,
        vec![
            entry(3, &[0; 1500]),
            Record::Committed(Bytes::from_static(b"2")),
        ],
    );
    append(
        &wal,
        vec![
            Record::TruncateAfter { index: Some(2) },
            entry(3, &[0xff; 20]),
        ],
    );
    append(&wal, vec![purge(0), vote("second")]);
    append(
        &wal,
        (4..20)
            .map(|index| entry(index, &payload(index, 90)))
            .collect(),
    );
    append(
        &wal,
        vec![entry(20, &[0; 1200]), entry(21, &payload(21, 900))],
    );
    wal.close();
    let frames = frame_offsets(dir.path());
    (dir, frames)
}

fn frame_offsets(dir: &Path) -> Vec<usize> {
    let mut offsets = Vec::new();
    let result = dump(dir, &mut |line| {
        let mut words = line.split_whitespace();
        let offset = words.next().unwrap().parse();
        if matches!(words.next(), Some("frame" | "end" | "end;")) {
            offsets.push(offset.unwrap());
        }
    });
    result.unwrap();
    offsets
}

fn patch(path: &Path, bytes: &[u8], offset: usize) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset as u64).unwrap();
}

#[test]
fn every_changed_byte_before_the_end_is_refused_and_behind_it_loses_nothing() {
    let (dir, frames) = small_log();
    let path = segment_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    let (expected, end) = (
        content(&inspect(dir.path()).unwrap()),
        *frames.last().unwrap(),
    );
    for at in 0..bytes.len() {
        for changed in [bytes[at] ^ 1, bytes[at] ^ 0xff, 0] {
            if changed == bytes[at] {
                continue;
            }
            patch(&path, &[changed], at);
            match inspect(dir.path()) {
                Ok(log) => {
                    assert!(at >= end, "byte {at} changed to {changed:#x} was accepted");
                    assert_eq!(content(&log), expected, "byte {at}");
                    assert!(log.cut.is_some(), "byte {at} was cut silently");
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("nothing was changed"), "{text}");
                }
            }
        }
        patch(&path, &bytes[at..=at], at);
    }
    assert_eq!(content(&inspect(dir.path()).unwrap()), expected);
}

#[test]
fn every_changed_byte_of_an_older_segment_is_refused() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    for index in 1..6 {
        append(&wal, vec![entry(index, &payload(index, 3000)), vote("v")]);
    }
    wal.close();
    assert_eq!(segment_numbers(dir.path()), [1, 2]);
    let path = segment_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        patch(&path, &[bytes[at] ^ 0x10], at);
        assert!(inspect(dir.path()).is_err(), "byte {at}");
        patch(&path, &bytes[at..=at], at);
    }
    inspect(dir.path()).unwrap();
}

#[test]
fn every_shorter_file_is_refused() {
    let (dir, _) = small_log();
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for bytes in (0..whole.len()).rev() {
        file.set_len(bytes as u64).unwrap();
        let error = inspect(dir.path()).unwrap_err();
        assert!(
            matches!(error, RecoverError::Damaged { .. }),
            "{bytes}: {error}"
        );
    }
}

#[test]
fn a_longer_file_is_refused() {
    let (dir, _) = small_log();
    let file = OpenOptions::new()
        .write(true)
        .open(segment_path(dir.path(), 1))
        .unwrap();
    file.set_len(16 * 1024 + 1).unwrap();
    let error = inspect(dir.path()).unwrap_err();
    assert!(matches!(
        error,
        RecoverError::Damaged {
            damage: Damage::Length { .. },
            ..
        }
    ));
}

/// The sectors that the bytes from `start` to `end` touch, as ranges within them.
fn sectors(start: usize, end: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = start;
    while at < end {
        let next = (at + 1).next_multiple_of(512).min(end);
        ranges.push(at..next);
        at = next;
    }
    ranges
}

#[test]
fn any_set_of_sectors_missing_from_the_last_frame_cuts_that_frame_alone() {
    let (dir, frames) = small_log();
    let path = segment_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    let [.., start, end] = frames[..] else {
        panic!("two frames")
    };
    let sectors = sectors(start, end);
    assert!(
        (5..8).contains(&sectors.len()),
        "several sectors: {}",
        sectors.len()
    );
    for missing in 1..(1u32 << sectors.len()) {
        let mut torn = bytes.clone();
        for (bit, sector) in sectors.iter().enumerate() {
            if missing & (1 << bit) != 0 {
                torn[sector.clone()].fill(0);
            }
        }
        fs::write(&path, &torn).unwrap();
        let log = inspect(dir.path()).unwrap();
        let found = content(&log);
        assert_eq!(found.end, (1, start), "{missing:b}");
        assert_eq!(found.last.unwrap().index, 19);
        let all_missing = missing + 1 == 1 << sectors.len();
        assert_eq!(log.cut.is_some(), !all_missing, "{missing:b}");
    }
}

#[test]
fn a_sector_missing_from_an_earlier_frame_is_refused() {
    let (dir, frames) = small_log();
    let path = segment_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    let last = frames[frames.len() - 2];
    // Any sector that ends before the last frame begins, and the shares of every earlier frame.
    for window in frames[..frames.len() - 1].windows(2) {
        for sector in sectors(window[0], window[1]) {
            patch(&path, &vec![0; sector.len()], sector.start);
            assert!(sector.end <= last);
            assert!(inspect(dir.path()).is_err(), "{sector:?}");
            patch(&path, &bytes[sector.clone()], sector.start);
        }
    }
}

#[test]
fn after_a_cut_the_torn_bytes_are_gone_and_the_log_goes_on() {
    let (dir, frames) = small_log();
    let path = segment_path(dir.path(), 1);
    let [.., start, end] = frames[..] else {
        panic!("two frames")
    };
    patch(&path, &[0; 512], (start + 600).next_multiple_of(512));
    let (wal, recovered) = reopen(dir.path());
    let cut = recovered.cut.expect("the torn frame is reported");
    assert_eq!(
        (cut.offset as usize, cut.bytes as usize),
        (start, end - start)
    );
    assert!(cut.to_string().contains("were cut off"), "{cut}");
    assert!(
        fs::read(&path).unwrap()[start..]
            .iter()
            .all(|byte| *byte == 0)
    );
    append(&wal, vec![entry(20, b"again")]);
    wal.close();
    let (wal, recovered) = reopen(dir.path());
    assert_eq!(recovered.cut, None);
    assert_eq!(all_entries(&wal).last().unwrap().payload, "again");
}

#[test]
fn the_frame_that_a_segment_is_born_with_is_never_cut() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    append(&wal, vec![vote("kept"), entry(1, &payload(1, 9000))]);
    append(&wal, vec![entry(2, &payload(2, 5000))]);
    wal.close();
    assert_eq!(segment_numbers(dir.path()), [1, 2]);
    let (path, born) = (segment_path(dir.path(), 2), 4096);
    let [.., first, end] = frame_offsets(dir.path())[..] else {
        panic!("frames")
    };
    patch(&path, &vec![0; end - first], first);
    let log = inspect(dir.path()).unwrap();
    assert_eq!(log.restated.vote.as_deref(), Some(&b"kept"[..]));
    assert_eq!(log.index.last().unwrap().index, 1);
    patch(&path, &vec![0; first - born], born);
    let error = inspect(dir.path()).unwrap_err();
    let expected = Damage::FirstFrameMissing;
    assert!(matches!(error, RecoverError::Damaged { damage, .. } if damage == expected));
}

#[test]
fn an_unknown_format_says_which() {
    let (dir, _) = small_log();
    patch(&segment_path(dir.path(), 1), &3u32.to_le_bytes(), 8);
    let error = inspect(dir.path()).unwrap_err();
    assert!(
        matches!(error, RecoverError::UnknownFormat { found: 3, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("start the version that wrote it"),
        "{error}"
    );
}

#[test]
fn a_refused_log_is_left_as_it_is() {
    let (dir, _) = small_log();
    let path = segment_path(dir.path(), 1);
    patch(&path, &[0xaa; 3], 4200);
    fs::write(dir.path().join("spare-0000000000000009.tmp"), b"x").unwrap();
    let before = fs::read(&path).unwrap();
    let error = open(dir.path(), small()).unwrap_err();
    assert!(error.to_string().contains("remove this member"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(dir.path().join("spare-0000000000000009.tmp").exists());
}

#[test]
fn a_dump_goes_on_behind_a_damaged_segment() {
    let dir = temporary();
    let (wal, _) = reopen(dir.path());
    for index in 1..6 {
        append(&wal, vec![entry(index, &payload(index, 3000))]);
    }
    wal.close();
    patch(&segment_path(dir.path(), 1), &[0xaa], 5000);
    let mut lines = Vec::new();
    let error = dump(dir.path(), &mut |line| lines.push(line)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 segments could not be read to their end"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("damaged at offset 4096")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("entry index=5 term=1 bytes=3000"))
    );
}

fn damage() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        (1usize..1600).prop_map(|count| vec![0; count]),
        (any::<u8>(), 1usize..600).prop_map(|(byte, count)| vec![byte; count]),
    ];
    (4000usize..16 * 1024 - 1600, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn random_damage_never_yields_anything_but_a_prefix(
        patches in prop::collection::vec(damage(), 1..4),
    ) {
        let (dir, frames) = shared_log();
        let copy = copy_dir(dir.path());
        for (offset, bytes) in &patches {
            patch(&segment_path(copy.path(), 1), bytes, *offset);
        }
        let (truth, end) = (inspect(dir.path()).unwrap(), *frames.last().unwrap());
        let Ok(log) = inspect(copy.path()) else { return Ok(()) };
        let at = log.current.unwrap().1.offset;
        prop_assert!(frames.contains(&at), "the end {at} is no frame's");
        // What is before the new end was not touched, so the content is a prefix.
        let (whole, damaged) = (
            fs::read(segment_path(dir.path(), 1)).unwrap(),
            fs::read(segment_path(copy.path(), 1)).unwrap(),
        );
        prop_assert_eq!(&whole[..at], &damaged[..at]);
        if at == end {
            prop_assert_eq!(content(&log), content(&truth));
            return Ok(());
        }
        // Acknowledged frames can be lost only where a disk put zeros over all that proves them.
        let zeroed = patches.iter().any(|(_, bytes)| bytes.iter().filter(|b| **b == 0).count() >= 8);
        prop_assert!(zeroed, "cut at {at} without a zeroed sector");
    }
}

fn shared_log() -> &'static (TempDir, Vec<usize>) {
    static LOG: std::sync::OnceLock<(TempDir, Vec<usize>)> = std::sync::OnceLock::new();
    LOG.get_or_init(small_log)
}

#[test]
fn zeros_longer_than_one_read_are_found_in_the_middle_and_at_the_end_of_a_segment() {
    let dir = temporary();
    let options = Options {
        segment_bytes: 8 << 20,
        ..small()
    };
    let (wal, _) = open(dir.path(), options).unwrap();
    append(&wal, vec![entry(1, &payload(1, 5 << 20))]);
    append(&wal, vec![entry(2, b"behind")]);
    wal.close();
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let log = inspect(dir.path()).unwrap();
    assert_eq!(log.index.last().unwrap().index, 2);
    // Sectors of the first frame are missing and the second proves that it was durable.
    patch(&path, &vec![0; 3 << 20], 1 << 20);
    assert!(inspect(dir.path()).is_err());
    // The same without the second.
    patch(&path, &[0; 4096], (5 << 20) + 4096);
    let cut = inspect(dir.path()).unwrap().cut.unwrap();
    assert_eq!((cut.offset, cut.bytes), (4096, (5 << 20) + 64));
    // Only the sector with the frame's header arrived, then nothing but that header.
    patch(&path, &vec![0; (8 << 20) - 4608], 4608);
    let cut = inspect(dir.path()).unwrap().cut.unwrap();
    assert_eq!((cut.offset, cut.bytes), (4096, (5 << 20) + 64));
    // Only a sector in its middle arrived.
    patch(&path, &[0; 512], 4096);
    patch(&path, &whole[4 << 20..(4 << 20) + 512], 4 << 20);
    let cut = inspect(dir.path()).unwrap().cut.unwrap();
    assert_eq!((cut.offset, cut.bytes), (4096, (4 << 20) + 512 - 4096));
}
