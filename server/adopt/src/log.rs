//! etcd's log, read: whose it is, what it promised, and its entries from some index on.
//!
//! Source: `ReadAll` and `ValidSnapshotEntries` of etcd's `server/storage/wal/wal.go`, and the
//! repair of a torn end in `repair.go`. Nothing is changed here, not even what is torn.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use super::segment::{Chain, Next, Segment, kind};
use crate::fs;
use crate::storage::LogPosition;
use crate::types::{ClusterId, MemberId};

/// What a file of the log is called: `<number>-<first index>.wal`, both hexadecimal.
const SUFFIX: &str = ".wal";

/// Why etcd's log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refuses.
    #[error("etcd's log in {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is missing between two.
    #[error("etcd's log in {}: a file between {before} and {after} is missing", dir.display())]
    Gap {
        /// The directory.
        dir: PathBuf,
        /// The file before.
        before: String,
        /// The file after.
        after: String,
    },
    /// A record is damaged.
    #[error("etcd's log is damaged: {} holds {what} at offset {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is there.
        what: &'static str,
    },
    /// A record of a kind that no etcd up to 3.7 writes.
    #[error("{} holds a record of kind {kind} at offset {offset}, which no etcd up to 3.7 writes", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The kind.
        kind: i64,
    },
    /// Nothing says whose it is.
    #[error("etcd's log in {} does not say whose it is", .0.display())]
    Nameless(PathBuf),
    /// Entries are missing.
    #[error(
        "etcd's log ends at entry {last}, but entry {committed} was committed: its last file is missing or damaged"
    )]
    Short {
        /// The last entry.
        last: u64,
        /// What was committed.
        committed: u64,
    },
    /// Entries are missing after what the store holds.
    #[error(
        "etcd's log begins with entry {first}, but the store ends with entry {applied}: files of the log are missing"
    )]
    Begins {
        /// The first entry.
        first: u64,
        /// The last entry in the store.
        applied: u64,
    },
}

/// `raftpb.HardState`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HardState {
    /// The term that the member had come to.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// The last entry that it had noted as committed. What it acknowledged may go further: a commit
    /// index alone is not synced.
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

/// `raftpb.Entry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RaftEntry {
    /// See [`LogEntry`].
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Its leader's term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Its place.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The request, the change.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// `walpb.Snapshot` without its configuration.
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotMark {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
}

/// `etcdserverpb.Metadata`.
#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(uint64, tag = "2")]
    cluster: u64,
}

/// An entry as etcd wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogEntry {
    /// Where.
    pub position: LogPosition,
    /// 0 a request, 1 a change of the members, 2 one of a kind that etcd does not write.
    pub kind: i32,
    /// The request, the change.
    pub data: Bytes,
}

/// Where a log ends: another end is another log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The last file's name.
    pub file: String,
    /// Where its last record ends.
    pub offset: u64,
    /// The chain of checksums there.
    pub checksum: u32,
}

/// A log, from some index on.
#[derive(Debug)]
pub(super) struct Log {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Whose it is.
    pub member: MemberId,
    /// What the member had promised.
    pub state: HardState,
    /// The newest snapshot up to what was committed; none where there was none.
    pub snapshot: Option<LogPosition>,
    /// The entries, ascending without a gap.
    pub entries: Vec<LogEntry>,
    /// The last entry's index, whether kept or not.
    last: u64,
    /// Where it ends.
    pub end: End,
}

/// Whether a directory holds a log of etcd's.
pub(super) fn is_in(dir: &Path) -> bool {
    files(dir).is_ok_and(|files| !files.is_empty())
}

/// The names of etcd's files in a directory of its log: those of the log, and those made ahead.
///
/// # Errors
/// It cannot be listed.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::file_names(dir)?;
    names.retain(|name| parse(name).is_some() || is_ahead(name));
    Ok(names)
}

/// Files that etcd makes ahead: `0.tmp`, `1.tmp`.
fn is_ahead(name: &str) -> bool {
    let number = name.strip_suffix(".tmp");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The number in a file's name.
fn parse(name: &str) -> Option<u64> {
    let (number, index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let is_number = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    (is_number(number) && is_number(index)).then(|| u64::from_str_radix(number, 16).ok())?
}

/// The log's files, ascending, without a gap.
fn files(dir: &Path) -> Result<Vec<String>, LogError> {
    let failed = |source| LogError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let mut names = fs::file_names(dir).map_err(failed)?;
    names.retain(|name| parse(name).is_some());
    let gap = names.windows(2).find(|pair| {
        let number = |name: &String| parse(name).expect("it was one a moment ago");
        number(&pair[0]) + 1 != number(&pair[1])
    });
    match gap {
        None => Ok(names),
        Some(pair) => Err(LogError::Gap {
            dir: dir.to_path_buf(),
            before: pair[0].clone(),
            after: pair[1].clone(),
        }),
    }
}

/// Where the log ends, of which only the last file is read.
///
/// # Errors
/// See [`LogError`].
pub(super) fn end(dir: &Path) -> Result<End, LogError> {
    let mut files = files(dir)?;
    let last = files.pop();
    let mut reading = Reading::new(dir, u64::MAX);
    reading.read(last.as_slice())?;
    Ok(reading.end)
}

/// Reads the log's entries from `from` on, and what it says beside them.
///
/// # Errors
/// See [`LogError`].
pub(super) fn read(dir: &Path, from: u64) -> Result<Log, LogError> {
    let mut reading = Reading::new(dir, from);
    reading.read(&files(dir)?)?;
    reading.finish()
}

/// What was read so far.
struct Reading<'a> {
    dir: &'a Path,
    from: u64,
    metadata: Option<Bytes>,
    state: HardState,
    snapshots: Vec<LogPosition>,
    entries: Vec<LogEntry>,
    last: u64,
    end: End,
}

impl Reading<'_> {
    fn new(dir: &Path, from: u64) -> Reading<'_> {
        Reading {
            dir,
            from,
            metadata: None,
            state: HardState::default(),
            snapshots: Vec::new(),
            entries: Vec::new(),
            last: 0,
            end: End::default(),
        }
    }

    fn read(&mut self, files: &[String]) -> Result<(), LogError> {
        let mut chain = Chain::default();
        for (n, name) in files.iter().enumerate() {
            let path = self.dir.join(name);
            self.read_file(&path, n + 1 == files.len(), &mut chain)?;
            self.end.file.clone_from(name);
        }
        self.end.checksum = chain.0;
        Ok(())
    }

    fn read_file(&mut self, path: &Path, last: bool, chain: &mut Chain) -> Result<(), LogError> {
        let failed = |source| LogError::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut segment = Segment::open(path, last).map_err(failed)?;
        loop {
            let offset = segment.offset();
            let damaged = |what| LogError::Damaged {
                path: path.to_path_buf(),
                offset,
                what,
            };
            let record = match segment.next(chain).map_err(failed)? {
                Next::Record(record) => record,
                Next::End | Next::Torn => break,
                Next::Damaged(what) => return Err(damaged(what)),
            };
            match record.kind {
                kind::METADATA => self.metadata(record.data).map_err(damaged)?,
                kind::ENTRY => self.entry(record.data).map_err(damaged)?,
                kind::STATE => self.state = decode(record.data).map_err(damaged)?,
                kind::SNAPSHOT => self.snapshot(record.data).map_err(damaged)?,
                kind::CHECKSUM => {}
                kind => {
                    return Err(LogError::Newer {
                        path: path.to_path_buf(),
                        offset,
                        kind,
                    });
                }
            }
        }
        self.end.offset = segment.offset();
        Ok(())
    }

    fn metadata(&mut self, data: Bytes) -> Result<(), &'static str> {
        match self.metadata.replace(data.clone()) {
            Some(before) if before != data => Err("the name of another member"),
            _ => Ok(()),
        }
    }

    fn snapshot(&mut self, data: Bytes) -> Result<(), &'static str> {
        let mark: SnapshotMark = decode(data)?;
        self.snapshots.push(LogPosition {
            term: mark.term,
            index: mark.index,
        });
        Ok(())
    }

    /// An entry takes the place of those from its index on: they were not committed. One that leaves
    /// a gap follows a snapshot that was received.
    fn entry(&mut self, data: Bytes) -> Result<(), &'static str> {
        let entry: RaftEntry = decode(data)?;
        let position = LogPosition {
            term: entry.term,
            index: entry.index,
        };
        self.last = position.index;
        if position.index < self.from {
            return Ok(());
        }
        let first = self.entries.first().map(|entry| entry.position.index);
        let place = first.and_then(|first| position.index.checked_sub(first));
        match place.and_then(|place| usize::try_from(place).ok()) {
            Some(place) if place <= self.entries.len() => self.entries.truncate(place),
            _ => self.entries.clear(),
        }
        self.entries.push(LogEntry {
            position,
            kind: entry.kind,
            data: entry.data,
        });
        Ok(())
    }

    fn finish(self) -> Result<Log, LogError> {
        let nameless = || LogError::Nameless(self.dir.to_path_buf());
        let metadata = self.metadata.ok_or_else(nameless)?;
        let metadata = Metadata::decode(metadata).map_err(|_| nameless())?;
        if metadata.member == 0 || metadata.cluster == 0 {
            return Err(nameless());
        }
        let commit = self.state.commit;
        let is_valid = |snapshot: &&LogPosition| snapshot.index > 0 && snapshot.index <= commit;
        let snapshot = self.snapshots.iter().rev().find(is_valid).copied();
        Ok(Log {
            cluster: ClusterId(metadata.cluster),
            member: MemberId(metadata.member),
            state: self.state,
            snapshot,
            entries: self.entries,
            last: self.last,
            end: self.end,
        })
    }
}

impl Log {
    /// Keeps what follows a store that ends with entry `applied`, and tells the term of that entry: it
    /// was in the log before it was applied.
    ///
    /// # Errors
    /// Entries are missing.
    pub fn follow(&mut self, applied: u64) -> Result<u64, LogError> {
        let known = |position: &LogPosition| position.index == applied;
        let before = self.entries.iter().map(|entry| entry.position).find(known);
        let before = before.or(self.snapshot.filter(known));
        self.entries.retain(|entry| entry.position.index > applied);
        let first = self.entries.first().map(|entry| entry.position.index);
        if let Some(first) = first.filter(|first| *first != applied + 1) {
            return Err(LogError::Begins { first, applied });
        }
        let last = self.entries.last().map(|entry| entry.position.index);
        let committed = self.state.commit.max(applied);
        let is_reached = last.unwrap_or(applied) >= committed;
        match before {
            Some(position) if is_reached => Ok(position.term),
            None if is_reached && applied == 0 => Ok(0),
            Some(_) | None => Err(LogError::Short {
                last: last.unwrap_or(self.last),
                committed,
            }),
        }
    }
}

fn decode<M: prost::Message + Default>(data: Bytes) -> Result<M, &'static str> {
    M::decode(data).map_err(|_| "a record that cannot be decoded")
}
