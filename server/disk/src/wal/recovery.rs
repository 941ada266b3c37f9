//! Reads a log's directory back: every frame checked, nothing changed on the disk.
//!
//! Whether bad bytes are a torn tail or damage is decided in `scan` for one segment and here across
//! segments. What is damaged is refused with advice; nothing is repaired by guess.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Index, Place};
use super::options::Options;
use super::record::{Borrowed, EntryId};
use super::scan::{Damage, DamageAt, End, RecordAt, Step, last_nonzero, walk};
use super::segment::{FORMAT, HEADER_BYTES, HeaderFault, Name, Owner, SegmentHeader, SegmentId};
use crate::fs::{DataFile, DirError, LockError};

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest vote.
    pub vote: Option<Bytes>,
    /// The newest commit mark.
    pub committed: Option<Bytes>,
    /// The purge point: the last purged index and the payload of its record.
    pub purged: Option<(u64, Bytes)>,
    /// Index of the first entry that can be read; of the next entry if there is none.
    pub first_index: u64,
    /// The last entry, if there is one.
    pub last: Option<EntryId>,
    /// A torn frame that was cut off: log it. None of it had been acknowledged.
    pub cut: Option<TornTail>,
}

/// The remains of the frame that was being written when the machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment file.
    pub file: PathBuf,
    /// Its number.
    pub segment: u64,
    /// Where the frame begins.
    pub offset: u64,
    /// Bytes that were cleared.
    pub bytes: u64,
}

impl fmt::Display for TornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "write-ahead log: {} bytes at offset {} of {} were cut off: a write that a crash \
             interrupted before anything in it was acknowledged",
            self.bytes,
            self.offset,
            self.file.display()
        )
    }
}

/// Bytes of a segment that are read at once.
const READ_BYTES: usize = 1024 * 1024;
/// Zeros that are kept behind the content, at least: more than a frame's header.
const PAGE_BYTES: usize = 4096;

const ADVICE: &str = "nothing was changed; do not edit or delete files of the log: remove this \
    member from the cluster, move its data directory away and add it as a new member, which takes \
    the data from the others; a cluster of one member is restored from a backup";

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// An option is out of its range.
    #[error("write-ahead log: {0}")]
    Options(&'static str),
    /// The directory.
    #[error("write-ahead log: {0}")]
    Directory(#[from] DirError),
    /// The lock.
    #[error("write-ahead log: {0}")]
    Lock(#[from] LockError),
    /// The system refused.
    #[error("write-ahead log: {operation} of {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another program's format.
    #[error(
        "write-ahead log: {} has format {found} and this program knows formats up to {FORMAT}: it was \
         written by another version, or the file is damaged; start the version that wrote it; {ADVICE}",
        file.display()
    )]
    UnknownFormat {
        /// The segment.
        file: PathBuf,
        /// Its format number.
        found: u32,
    },
    /// Bytes that a crash cannot explain.
    #[error("write-ahead log: {} is damaged at offset {offset}: {damage}; {ADVICE}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// Somebody else's log.
    #[error(
        "write-ahead log: {} was written by {found}, and this is {owner}: nothing was changed; mount \
         the log that belongs to this data directory (--wal-dir), or name the data directory that \
         belongs to this log",
        file.display()
    )]
    Foreign {
        /// The segment.
        file: PathBuf,
        /// Whose it is.
        found: Owner,
        /// Who asks.
        owner: Owner,
    },
    /// A segment file is not there.
    #[error("write-ahead log: segment {} is missing; {ADVICE}", file.display())]
    SegmentMissing {
        /// The file that should be there.
        file: PathBuf,
    },
}

/// A segment and what the log must know of it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<DataFile>,
    pub(super) bytes: u64,
    /// The highest entry index written in it, truncated or not.
    pub(super) entry_max: Option<u64>,
}

/// Vote, commit mark and purge point: what every new segment restates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Restated {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
}

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Log {
    /// Whose segments are read.
    pub(super) owner: Owner,
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) index: Index,
    pub(super) restated: Restated,
    /// The youngest segment and where it ends.
    pub(super) current: Option<(SegmentId, End)>,
    pub(super) cut: Option<TornTail>,
}

/// Reads the segments with these numbers (ascending), without changing anything.
pub(super) fn read_log(
    dir: &Path,
    numbers: &[u64],
    owner: Owner,
    cache_bytes: usize,
) -> Result<Log, RecoverError> {
    let mut log = Log {
        owner,
        segments: BTreeMap::new(),
        index: Index::new(0, cache_bytes),
        restated: Restated::default(),
        current: None,
        cut: None,
    };
    let Some((oldest, youngest)) = numbers.first().zip(numbers.last()) else {
        return Ok(log);
    };
    for (number, expected) in numbers.iter().zip(*oldest..) {
        if *number != expected {
            return Err(RecoverError::SegmentMissing {
                file: Name::Segment(expected).path(dir),
            });
        }
        read_segment(dir, *number, *number == *youngest, &mut log)?;
    }
    check_purge_point(dir, *oldest, &log)?;
    Ok(log)
}

fn read_segment(
    dir: &Path,
    number: u64,
    is_youngest: bool,
    log: &mut Log,
) -> Result<(), RecoverError> {
    let path = Name::Segment(number).path(dir);
    let failed = |operation| {
        let path = path.clone();
        move |source| RecoverError::Io {
            operation,
            path,
            source,
        }
    };
    let at = |fault: DamageAt| RecoverError::Damaged {
        file: path.clone(),
        offset: widen(fault.offset),
        damage: fault.damage,
    };
    let file = DataFile::open(&path).map_err(failed("open"))?;
    let Loaded {
        mut data,
        header,
        bytes,
    } = load(&file)?;
    refuse_foreign(&path, &header, log.owner)?;
    check_header(number, &header, bytes, log).map_err(|d| at(at_start(d)))?;
    let mut entry_max = None;
    let mut visit = |step: Step<'_>| match step {
        Step::Frame { .. } => Ok(()),
        Step::Record(record) => take_record(number, &record, &mut entry_max, log),
    };
    let end = walk(&header, &mut data, &mut visit).map_err(at)?;
    if end.torn_bytes > 0 {
        if !is_youngest {
            let damage = Damage::FrameMissing;
            return Err(at(DamageAt {
                damage,
                offset: end.offset,
            }));
        }
        log.cut = Some(TornTail {
            file: path.clone(),
            segment: number,
            offset: widen(end.offset),
            bytes: widen(end.torn_bytes),
        });
    }
    log.segments.insert(
        number,
        Segment {
            file: Arc::new(file),
            bytes,
            entry_max,
        },
    );
    log.current = Some((
        header.id,
        End {
            torn_bytes: 0,
            ..end
        },
    ));
    Ok(())
}

/// A segment that does not say whose it is was written before they did.
pub(super) fn refuse_foreign(
    path: &Path,
    header: &SegmentHeader,
    owner: Owner,
) -> Result<(), RecoverError> {
    match header.owner {
        Some(found) if found != owner => Err(RecoverError::Foreign {
            file: path.to_path_buf(),
            found,
            owner,
        }),
        _ => Ok(()),
    }
}

/// A segment file in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    /// What `walk` wants: the zeros at the end are left out but for a page.
    pub(super) data: Vec<u8>,
    pub(super) header: SegmentHeader,
    /// Bytes of the file.
    pub(super) bytes: u64,
}

/// Reads a whole segment file and its header.
pub(super) fn load(file: &DataFile) -> Result<Loaded, RecoverError> {
    let path = || file.path().to_path_buf();
    let failed = |source| RecoverError::Io {
        operation: "read",
        path: path(),
        source,
    };
    let damaged = |damage| RecoverError::Damaged {
        file: path(),
        offset: 0,
        damage,
    };
    let bytes = file.bytes().map_err(failed)?;
    if bytes > Options::SEGMENT_BYTES_MAX {
        let stated = Options::SEGMENT_BYTES_MAX;
        return Err(damaged(Damage::Length {
            found: bytes,
            stated,
        }));
    }
    let data = read_content(file, bytes).map_err(failed)?;
    let header = decode_header(file, &data)?;
    Ok(Loaded {
        data,
        header,
        bytes,
    })
}

/// Reads a segment file's header alone.
pub(super) fn load_header(file: &DataFile) -> Result<SegmentHeader, RecoverError> {
    let mut page = vec![0; HEADER_BYTES];
    // A file that is too short has no header: that is damage, as a wrong one is.
    match file.read_exact_at(&mut page, 0) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(RecoverError::Io {
            operation: "read",
            path: file.path().to_path_buf(),
            source: error,
        }),
        _ => decode_header(file, &page),
    }
}

fn decode_header(file: &DataFile, data: &[u8]) -> Result<SegmentHeader, RecoverError> {
    let path = || file.path().to_path_buf();
    SegmentHeader::decode(data).map_err(|fault| match fault {
        HeaderFault::Damaged => RecoverError::Damaged {
            file: path(),
            offset: 0,
            damage: Damage::SegmentHeader,
        },
        HeaderFault::UnknownFormat(found) => RecoverError::UnknownFormat {
            file: path(),
            found,
        },
    })
}

/// Reads all of the file and keeps what is before its last zeros, and a page of those. A young
/// segment is almost all zeros: to hold them would cost more than to read them.
fn read_content(file: &DataFile, bytes: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(bytes).expect("at most SEGMENT_BYTES_MAX");
    let mut data = Vec::new();
    let mut content_bytes = 0;
    let mut at = 0;
    while at < bytes {
        let chunk_bytes = READ_BYTES.min(bytes - at);
        let zeros_before = at - content_bytes;
        data.resize(content_bytes + chunk_bytes, 0);
        file.read_exact_at(&mut data[content_bytes..], widen(at))?;
        at += chunk_bytes;
        let Some(last) = last_nonzero(&data[content_bytes..]) else {
            continue;
        };
        if zeros_before > 0 {
            // Zeros were skipped and something follows them: put them back.
            data.splice(
                content_bytes..content_bytes,
                std::iter::repeat_n(0, zeros_before),
            );
        }
        content_bytes += zeros_before + last + 1;
    }
    data.truncate(content_bytes);
    data.resize(
        (content_bytes + PAGE_BYTES)
            .next_multiple_of(PAGE_BYTES)
            .min(bytes),
        0,
    );
    Ok(data)
}

fn check_header(
    number: u64,
    header: &SegmentHeader,
    bytes: u64,
    log: &mut Log,
) -> Result<(), Damage> {
    if bytes != header.segment_bytes {
        return Err(Damage::Length {
            found: bytes,
            stated: header.segment_bytes,
        });
    }
    if header.id.number != number {
        return Err(Damage::SegmentOrder);
    }
    let Some((_, end)) = &log.current else {
        // The oldest segment: what stood before it was purged, or it is the first.
        let is_first = header.next_index == 0 && header.sequence == 1;
        if number == 1 && !is_first {
            return Err(Damage::SegmentOrder);
        }
        log.index = std::mem::take(&mut log.index).starting_at(header.next_index);
        return Ok(());
    };
    let continues = header.chain_before == end.chain
        && header.sequence == end.sequence
        && header.next_index == log.index.next();
    if continues {
        Ok(())
    } else {
        Err(Damage::SegmentOrder)
    }
}

fn take_record(
    segment: u64,
    found: &RecordAt<'_>,
    entry_max: &mut Option<u64>,
    log: &mut Log,
) -> Result<(), Damage> {
    match found.record {
        // No log comes to where nobody could count on.
        Borrowed::Entry { index, .. } | Borrowed::Purge { index, .. } if index == u64::MAX => {
            return Err(Damage::Records);
        }
        Borrowed::Entry {
            index,
            term,
            payload,
        } => {
            if !log.index.accepts(index) {
                return Err(Damage::EntryOrder {
                    found: index,
                    expected: log.index.next(),
                });
            }
            let narrow = |value| u32::try_from(value).map_err(|_| Damage::Records);
            let place = Place {
                segment,
                offset: narrow(found.offset)?,
                payload_bytes: narrow(payload.len())?,
                mask: found.mask,
            };
            log.index.push_written(index, term, place);
            *entry_max = (*entry_max).max(Some(index));
        }
        Borrowed::Vote(payload) => log.restated.vote = Some(Bytes::copy_from_slice(payload)),
        Borrowed::Committed(payload) => {
            log.restated.committed = Some(Bytes::copy_from_slice(payload));
        }
        Borrowed::Truncate { from } => log.index.truncate(from),
        Borrowed::Purge { index, payload } => {
            log.index.purge(index, Bytes::copy_from_slice(payload));
            log.restated.purged = log.index.purged().cloned();
        }
    }
    Ok(())
}

/// What is not there at the beginning must have been purged.
fn check_purge_point(dir: &Path, oldest: u64, log: &Log) -> Result<(), RecoverError> {
    let first_index = log.index.first();
    let is_complete = match log.index.purged() {
        Some((purged, _)) => first_index <= purged + 1,
        None => oldest == 1,
    };
    if is_complete {
        return Ok(());
    }
    Err(RecoverError::Damaged {
        file: Name::Segment(oldest).path(dir),
        offset: 0,
        damage: Damage::EntriesMissing { first_index },
    })
}

fn at_start(damage: Damage) -> DamageAt {
    DamageAt { damage, offset: 0 }
}

/// A size in memory as a position in a file.
pub(super) fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize has at most 64 bits here")
}
