//! One file of etcd's log: frames, records, the chain of checksums, and where a crash tore it.
//!
//! A frame is a length (8 bytes, little endian: the low 56 bits are the record's length; where the
//! highest bit is set, the three lowest of the top byte say how many bytes of padding follow), then
//! the record (`walpb.Record`), then the padding. A length of zero ends the file: it is filled with
//! zeroes ahead. A checksum is CRC-32C over the data of every record since the chain began; the first
//! record of a file states the chain so far.
//!
//! Source: etcd's `server/storage/wal/decoder.go`.

use std::io;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;

use crate::fs::DataFile;

/// Bytes read at a time; a record that is longer is read whole.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a frame's length.
const LENGTH_BYTES: u64 = 8;
/// A sector that holds zeroes alone did not reach the disk. Bytes.
const SECTOR_BYTES: u64 = 512;

/// The kinds of records.
pub(super) mod kind {
    /// Which member of which cluster.
    pub const METADATA: i64 = 1;
    /// An entry of the Raft log.
    pub const ENTRY: i64 = 2;
    /// Term, vote and commit index.
    pub const STATE: i64 = 3;
    /// The chain of checksums so far.
    pub const CHECKSUM: i64 = 4;
    /// A snapshot was taken or received.
    pub const SNAPSHOT: i64 = 5;
}

/// `walpb.Record`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    #[prost(int64, tag = "1")]
    /// One of [`kind`], or of a newer etcd.
    pub kind: i64,
    #[prost(uint32, tag = "2")]
    /// The chain of checksums with it.
    pub checksum: u32,
    #[prost(bytes = "bytes", tag = "3")]
    /// What it holds.
    pub data: Bytes,
}

/// What comes next in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// A record whose checksum is right.
    Record(Record),
    /// Nothing: the file ends, or only zeroes follow.
    End,
    /// A record that did not reach the disk whole.
    Torn,
    /// A record that is not what was written, and why.
    Damaged(&'static str),
}

/// The chain of checksums, over all files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain(pub u32);

/// A file that is being read.
pub(super) struct Segment {
    file: DataFile,
    bytes: u64,
    at: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Only in the last file can a record be torn.
    last: bool,
}

impl Segment {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, last: bool) -> io::Result<Segment> {
        let file = DataFile::open_to_read(path)?;
        Ok(Segment {
            bytes: file.bytes()?,
            file,
            at: 0,
            buffer: Vec::new(),
            buffer_at: 0,
            last,
        })
    }

    /// Where the last sound record ends.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next record. After anything else the file is at its end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, chain: &mut Chain) -> io::Result<Next> {
        let left = self.bytes - self.at;
        if left < LENGTH_BYTES {
            return Ok(match left {
                0 => Next::End,
                _ => self.torn_or("a length"),
            });
        }
        let head = self.take(self.at, LENGTH_BYTES)?;
        let head = u64::from_le_bytes(head.try_into().expect("eight bytes were asked for"));
        if head == 0 {
            return Ok(Next::End);
        }
        let record_bytes = head & ((1 << 56) - 1);
        let padding = match head >> 63 {
            0 => 0,
            _ => (head >> 56) & 7,
        };
        if record_bytes + padding > left - LENGTH_BYTES {
            return Ok(self.torn_or("a record that is longer than its file"));
        }
        let start = self.at + LENGTH_BYTES;
        let body = self.take(start, record_bytes + padding)?;
        let is_torn = has_empty_sector(body, start);
        let record = Bytes::copy_from_slice(&body[..body.len() - padding as usize]);
        let refused = |segment: &Segment, why| match is_torn {
            true => segment.torn_or(why),
            false => Next::Damaged(why),
        };
        let Ok(record) = Record::decode(record) else {
            return Ok(refused(self, "a record that is none"));
        };
        let Some(after) = chain.after(&record) else {
            return Ok(refused(self, "a checksum that is wrong"));
        };
        *chain = after;
        self.at = start + record_bytes + padding;
        Ok(Next::Record(record))
    }

    fn torn_or(&self, why: &'static str) -> Next {
        match self.last {
            true => Next::Torn,
            false => Next::Damaged(why),
        }
    }

    /// Bytes of the file, which are there.
    fn take(&mut self, from: u64, bytes: u64) -> io::Result<&[u8]> {
        let wanted = usize::try_from(bytes).map_err(io::Error::other)?;
        let held = |segment: &Segment| {
            let skip = from.checked_sub(segment.buffer_at)?;
            let skip = usize::try_from(skip).ok()?;
            (segment.buffer.len() >= skip + wanted).then_some(skip)
        };
        if held(self).is_none() {
            let left = usize::try_from(self.bytes - from).unwrap_or(usize::MAX);
            self.buffer.resize(wanted.max(READ_BYTES).min(left), 0);
            self.buffer_at = from;
            self.file.read_exact_at(&mut self.buffer, from)?;
        }
        let skip = held(self).expect("it was read");
        Ok(&self.buffer[skip..skip + wanted])
    }
}

impl Chain {
    /// The chain with a record that fits it.
    fn after(self, record: &Record) -> Option<Chain> {
        let stated = record.checksum;
        if record.kind == kind::CHECKSUM {
            // Whoever begins to read knows no chain yet.
            return (self.0 == 0 || self.0 == stated).then_some(Chain(stated));
        }
        let sum = crc32c::crc32c_append(self.0, &record.data);
        (sum == stated).then_some(Chain(sum))
    }
}

/// Whether some sector's part of these bytes, which begin at `offset` of the file, is all zeroes.
fn has_empty_sector(bytes: &[u8], offset: u64) -> bool {
    let to_boundary = usize::try_from(SECTOR_BYTES - offset % SECTOR_BYTES).expect("512 fits");
    let (first, rest) = bytes.split_at(to_boundary.min(bytes.len()));
    let sector = usize::try_from(SECTOR_BYTES).expect("512 fits");
    let mut parts = std::iter::once(first).chain(rest.chunks(sector));
    parts.any(|part| !part.is_empty() && part.iter().all(|byte| *byte == 0))
}
