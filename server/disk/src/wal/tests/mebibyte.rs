//! Every byte of a log of a mebibyte changed, and the log cut at every one: read back whole, cut and said so, or
//! refused by name. `damage` does the same to a small log, with every `make unit`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
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

/// What became of so many damaged logs.
#[derive(Default)]
struct Seen {
    refused: usize,
    cut: usize,
    /// The zeros that were put there are what is there anyhow.
    unchanged: usize,
}

/// Has two threads do it, each to a log of its own, from one half of the bytes, and writes down what was seen,
/// or what does not hold. `check` is told of a byte of the log, which it restores.
fn each_byte(
    what: &str,
    check: impl Fn(&Damaged<'_>, usize, &mut Seen) -> Result<(), String> + Sync,
) {
    let begun = Instant::now();
    let half = |half: usize| {
        let (dir, whole, end) = full_log();
        let path = segment_path(dir.path(), 1);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let (dir, mut seen) = (dir.path(), Seen::default());
        let log = Damaged {
            dir,
            file,
            whole: &whole,
            end,
        };
        for at in (half * BYTES / 2)..((half + 1) * BYTES / 2) {
            check(&log, at, &mut seen)?;
        }
        Ok::<_, String>(seen)
    };
    let halves = std::thread::scope(|scope| {
        let [first, second] = [0, 1].map(|number| scope.spawn(move || half(number)));
        [first, second].map(|half| half.join().unwrap())
    });
    let seen: Result<Vec<Seen>, String> = halves.into_iter().collect();
    let said = match &seen {
        Ok(seen) => {
            let sum = |of: fn(&Seen) -> usize| seen.iter().map(of).sum::<usize>();
            let (refused, cut) = (sum(|seen| seen.refused), sum(|seen| seen.cut));
            let unchanged = sum(|seen| seen.unchanged);
            let logs = refused + cut + unchanged;
            format!("holds | {logs} | {refused} | {cut} | {unchanged}")
        }
        Err(fault) => format!("**fails**: {fault} | | | |"),
    };
    let row = format!("| {what} | {said} | {} s |\n", begun.elapsed().as_secs());
    print!("{row}");
    if let Some(report) = std::env::var_os("ENGRAM_DAMAGE_REPORT") {
        let report = OpenOptions::new().append(true).open(report);
        report.unwrap().write_all(row.as_bytes()).unwrap();
    }
    assert!(seen.is_ok(), "{row}");
}

/// A log of which something is changed.
struct Damaged<'a> {
    dir: &'a Path,
    file: fs::File,
    whole: &'a [u8],
    /// Where its last frame ends.
    end: usize,
}

impl Damaged<'_> {
    fn write(&self, bytes: &[u8], at: usize) {
        self.file.write_all_at(bytes, at as u64).unwrap();
    }

    fn is_zero(&self, range: Range<usize>) -> bool {
        self.whole[range].iter().all(|byte| *byte == 0)
    }
}

#[test]
#[ignore = "takes ten minutes: make damage"]
fn every_byte_of_a_mebibyte_is_changed() {
    each_byte("every byte changed, in two ways", |log, at, seen| {
        for changed in [log.whole[at] ^ 1 << (at % 8), !log.whole[at]] {
            log.write(&[changed], at);
            let Some((found, is_said)) = read_back(log.dir) else {
                seen.refused += 1;
                continue;
            };
            if at < log.end {
                return Err(format!("byte {at} changed to {changed:#x} is accepted"));
            }
            if found != log.end || !is_said {
                return Err(format!("byte {at}: it ends at {found}, said: {is_said}"));
            }
            seen.cut += 1;
        }
        log.write(&log.whole[at..=at], at);
        Ok(())
    });
}

/// What follows a byte never reached the disk, or the file ends there.
#[test]
#[ignore = "takes ten minutes: make damage"]
fn a_log_of_a_mebibyte_is_cut_at_every_byte() {
    each_byte(
        "cut at every byte: the file ends, zeros follow",
        |log, at, seen| {
            log.file.set_len(at as u64).unwrap();
            if read_back(log.dir).is_some() {
                return Err(format!("{at} bytes of it are accepted"));
            }
            seen.refused += 1;
            log.file.set_len(BYTES as u64).unwrap();
            match read_back(log.dir) {
                None => seen.refused += 1,
                Some((found, _)) if found > log.end || !log.is_zero(at.min(found)..found) => {
                    return Err(format!("zeros from {at} on, and it ends at {found}"));
                }
                Some((_, true)) => seen.cut += 1,
                Some((found, false)) if log.is_zero(found..at.max(found)) => seen.unchanged += 1,
                Some(_) => return Err(format!("cut at {at} silently")),
            }
            log.write(&log.whole[at..log.end.max(at)], at);
            Ok(())
        },
    );
}
