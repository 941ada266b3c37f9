//! Every byte of a log of a mebibyte changed, and the log cut at every one: read back whole, cut and said so, or
//! refused by name. `damage` does the same to a small log, with every `make unit`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;

const BYTES: usize = 1 << 20;
/// What the last frames must leave free.
const FREE_BYTES: usize = 8 << 10;

/// A segment of a mebibyte, full of frames of many sizes: the bytes, and where the last frame ends.
fn full_log() -> (TempDir, Vec<u8>, usize) {
    let dir = tempfile::tempdir_in(memory()).unwrap();
    let options = Options {
        segment_bytes: BYTES as u64,
        cache_bytes: 0,
        ..Options::default()
    };
    let (wal, _) = open(dir.path(), options).unwrap();
    let (mut index, mut bytes) = (0, 0);
    while bytes < BYTES - FREE_BYTES {
        let size = (index as usize * 37) % 3_000;
        let zeros = index % 5 == 4;
        let payload = if zeros {
            vec![0; size]
        } else {
            payload(index, size)
        };
        append(&wal, vec![entry(index, &payload), vote("a vote")]);
        index += 1;
        bytes = inspect(dir.path()).unwrap().current.unwrap().1.offset;
    }
    wal.close();
    assert_eq!(segment_numbers(dir.path()), [1]);
    let whole = fs::read(segment_path(dir.path(), 1)).unwrap();
    (dir, whole, bytes)
}

fn memory() -> &'static Path {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory,
        false => Path::new("/tmp"),
    }
}

/// Whether a log is refused by name; else where it ends, and whether a cut was said.
fn read_back(dir: &Path) -> Option<(usize, bool)> {
    match inspect(dir) {
        Ok(log) => Some((log.current.unwrap().1.offset, log.cut.is_some())),
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("nothing was changed"), "{said}");
            None
        }
    }
}

/// Has two threads do it, each to a log of its own, from one half of the bytes.
fn each_byte(check: impl Fn(&Path, &fs::File, &[u8], usize, usize) + Sync) {
    std::thread::scope(|scope| {
        for half in 0..2 {
            let check = &check;
            scope.spawn(move || {
                let (dir, whole, end) = full_log();
                let path = segment_path(dir.path(), 1);
                let file = OpenOptions::new().write(true).open(path).unwrap();
                for at in (half * BYTES / 2)..((half + 1) * BYTES / 2) {
                    check(dir.path(), &file, &whole, end, at);
                }
            });
        }
    });
}

#[test]
#[ignore = "takes ten minutes: make damage"]
fn every_byte_of_a_mebibyte_is_changed() {
    each_byte(|dir, file, whole, end, at| {
        for changed in [whole[at] ^ 1 << (at % 8), !whole[at]] {
            file.write_all_at(&[changed], at as u64).unwrap();
            if let Some((found, is_said)) = read_back(dir) {
                assert!(at >= end, "byte {at} changed to {changed:#x} is accepted");
                assert!(found == end && is_said, "byte {at}: it ends at {found}");
            }
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    });
}

/// What follows a byte never reached the disk, or the file ends there.
#[test]
#[ignore = "takes ten minutes: make damage"]
fn a_log_of_a_mebibyte_is_cut_at_every_byte() {
    each_byte(|dir, file, whole, end, at| {
        file.set_len(at as u64).unwrap();
        assert_eq!(read_back(dir), None, "{at} bytes of it are accepted");
        file.set_len(BYTES as u64).unwrap();
        if let Some((found, is_said)) = read_back(dir) {
            let is_zero =
                |range: std::ops::Range<usize>| whole[range].iter().all(|byte| *byte == 0);
            let is_there = is_zero(at.min(found)..found);
            assert!(
                found <= end && is_there,
                "zeros from {at} on, and it ends at {found}"
            );
            let is_clean = is_zero(found..at.max(found));
            assert!(is_said || is_clean, "cut at {at} silently");
        }
        file.write_all_at(&whole[at..end.max(at)], at as u64)
            .unwrap();
    });
}
