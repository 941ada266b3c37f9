//! Reading entries back, from memory or from their segments.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::frame::apply_mask;
use super::index::{Located, Place, widened};
use super::open::Wal;
use super::record::{Borrowed, Entry, RECORD_HEADER_BYTES, decode, encoded_bytes};
use super::writer::Shared;
use crate::fs::DataFile;

/// Bytes of other records between two entries that are read along rather than with a second call.
const GAP_BYTES_MAX: usize = 64 * 1024;
/// Payload that an iterator reads ahead.
const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They are gone.
    #[error("log entry {index} was purged; the first one is {first_index}")]
    Purged {
        /// The first index that was asked for.
        index: u64,
        /// The first index that is there.
        first_index: u64,
    },
    /// The bytes changed on the disk since they were written or recovered.
    #[error(
        "write-ahead log: {} is damaged at offset {offset}: it no longer holds entry {index}; stop \
         this member, check the disk, and replace the member",
        file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the entry should be.
        offset: u64,
        /// The entry.
        index: u64,
    },
    /// The system refused.
    #[error("write-ahead log: reading {} failed: {source}", file.display())]
    Io {
        /// The segment.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) fn read_entries(
    shared: &Shared,
    indexes: Range<u64>,
    max_bytes: usize,
) -> Result<Vec<Entry>, ReadError> {
    if indexes.is_empty() {
        return Ok(Vec::new());
    }
    let state = shared.state.lock();
    let first_index = state.index.first();
    let is_purged = state
        .index
        .purged()
        .is_some_and(|(purged, _)| indexes.start <= *purged);
    if is_purged {
        return Err(ReadError::Purged {
            index: indexes.start,
            first_index,
        });
    }
    let located = state.index.find(indexes, max_bytes);
    // The files are held from here on: a segment that somebody reads is not zeroed.
    let on_disk = located.iter().filter(|entry| entry.payload.is_none());
    let files: HashMap<u64, Arc<DataFile>> = on_disk
        .map(|entry| {
            let segment = state.segments.get(&entry.place.segment);
            let segment = segment.expect("W4: the segment of a live entry is kept");
            (entry.place.segment, Arc::clone(&segment.file))
        })
        .collect();
    drop(state);
    let mut entries = Vec::with_capacity(located.len());
    for span in located.chunk_by(is_one_read) {
        match span {
            [
                Located {
                    id,
                    payload: Some(payload),
                    ..
                },
            ] => {
                let payload = payload.clone();
                entries.push(Entry {
                    index: id.index,
                    term: id.term,
                    payload,
                });
            }
            _ => read_span(&files[&span[0].place.segment], span, &mut entries)?,
        }
    }
    Ok(entries)
}

/// Whether two neighbours are on the disk and near each other.
fn is_one_read(before: &Located, after: &Located) -> bool {
    let on_disk = before.payload.is_none() && after.payload.is_none();
    let end = end_of(before.place);
    let start = widened(after.place.offset);
    on_disk
        && before.place.segment == after.place.segment
        && (end..=end + GAP_BYTES_MAX).contains(&start)
}

fn end_of(place: Place) -> usize {
    widened(place.offset) + encoded_bytes(widened(place.payload_bytes))
}

/// Reads neighbours with one call; the payloads share its buffer.
fn read_span(file: &DataFile, span: &[Located], entries: &mut Vec<Entry>) -> Result<(), ReadError> {
    let (first, last) = (&span[0], &span[span.len() - 1]);
    let start = widened(first.place.offset);
    let mut buffer = BytesMut::zeroed(end_of(last.place) - start);
    file.read_exact_at(&mut buffer, u64::from(first.place.offset))
        .map_err(|source| ReadError::Io {
            file: file.path().to_path_buf(),
            source,
        })?;
    for entry in span {
        let (from, to) = (
            widened(entry.place.offset) - start,
            end_of(entry.place) - start,
        );
        apply_mask(&mut buffer[from..to], entry.place.mask);
    }
    let buffer = buffer.freeze();
    for entry in span {
        let from = widened(entry.place.offset) - start;
        let payload = payload_at(&buffer, from, entry).ok_or_else(|| ReadError::Damaged {
            file: file.path().to_path_buf(),
            offset: u64::from(entry.place.offset),
            index: entry.id.index,
        })?;
        entries.push(Entry {
            index: entry.id.index,
            term: entry.id.term,
            payload,
        });
    }
    Ok(())
}

/// The payload of the record at `from`, if that is the entry that is looked for.
fn payload_at(buffer: &Bytes, from: usize, entry: &Located) -> Option<Bytes> {
    match decode(&buffer[from..])?.record {
        Borrowed::Entry {
            index,
            term,
            payload,
        } if index == entry.id.index && term == entry.id.term => {
            let start = from + RECORD_HEADER_BYTES;
            Some(buffer.slice(start..start + payload.len()))
        }
        _ => None,
    }
}

/// Walks the entries from an index on. It stops after an error.
#[derive(Debug)]
pub struct Entries<'a> {
    wal: &'a Wal,
    next: u64,
    ahead: VecDeque<Entry>,
    failed: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(wal: &'a Wal, from: u64) -> Self {
        Self {
            wal,
            next: from,
            ahead: VecDeque::new(),
            failed: false,
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.ahead.is_empty() {
            match self.wal.read(self.next..u64::MAX, READ_AHEAD_BYTES) {
                Ok(entries) => self.ahead.extend(entries),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        let entry = self.ahead.pop_front()?;
        self.next = entry.index + 1;
        Some(Ok(entry))
    }
}
