//! What is appended to the log, and its bytes inside a frame.

use bytes::Bytes;

/// One thing to remember. Payloads are opaque; each may hold up to [`Wal::record_bytes_max`] bytes.
///
/// [`Wal::record_bytes_max`]: super::Wal::record_bytes_max
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A log entry. Its index follows the last one (or the purge point) without a gap.
    Entry {
        /// Position in the Raft log, from 0 or 1 on.
        index: u64,
        /// Term of the leader that proposed it.
        term: u64,
        /// The entry.
        payload: Bytes,
    },
    /// The vote; the newest counts.
    Vote(Bytes),
    /// The committed log id; the newest counts.
    Committed(Bytes),
    /// Entries after `index` are forgotten; `None` forgets all of them.
    TruncateAfter {
        /// The last index that stays.
        index: Option<u64>,
    },
    /// Entries up to and including `index` are no longer needed. May lie beyond the last entry
    /// (a snapshot was installed): then the log is empty and goes on at `index + 1`.
    Purge {
        /// The last index that goes.
        index: u64,
        /// The purged log id, given back by recovery.
        payload: Bytes,
    },
}

/// An entry as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the Raft log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The entry.
    pub payload: Bytes,
}

/// Index and term of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    /// Position in the Raft log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
}

/// Bytes of a record's header; the payload follows, padded with zeros to a multiple of 8.
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Records and frames begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// Largest payload of a vote, a commit mark or a purge point: they are restated in every segment.
pub(super) const STATE_PAYLOAD_BYTES_MAX: usize = 1024;

const KIND_ENTRY: u8 = 1;
const KIND_VOTE: u8 = 2;
const KIND_COMMITTED: u8 = 3;
const KIND_TRUNCATE: u8 = 4;
const KIND_PURGE: u8 = 5;

impl Record {
    /// Bytes that the record takes in a frame.
    pub(super) fn encoded_bytes(&self) -> usize {
        encoded_bytes(self.payload().map_or(0, Bytes::len))
    }

    pub(super) fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Entry { payload, .. }
            | Self::Vote(payload)
            | Self::Committed(payload)
            | Self::Purge { payload, .. } => Some(payload),
            Self::TruncateAfter { .. } => None,
        }
    }

    /// Appends the record's bytes to `buffer`, whose length is a multiple of 8.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        let (kind, index, term) = match self {
            Self::Entry { index, term, .. } => (KIND_ENTRY, *index, *term),
            Self::Vote(_) => (KIND_VOTE, 0, 0),
            Self::Committed(_) => (KIND_COMMITTED, 0, 0),
            // Stored as the first index that goes, so that "all" needs no special value.
            Self::TruncateAfter { index } => (KIND_TRUNCATE, first_truncated(*index), 0),
            Self::Purge { index, .. } => (KIND_PURGE, *index, 0),
        };
        let payload = self.payload().map_or(&[][..], |payload| payload.as_ref());
        let payload_bytes = u32::try_from(payload.len()).expect("append checked the size");
        let mut header = [0; RECORD_HEADER_BYTES];
        header[0..4].copy_from_slice(&payload_bytes.to_le_bytes());
        header[8] = kind;
        header[16..24].copy_from_slice(&index.to_le_bytes());
        header[24..32].copy_from_slice(&term.to_le_bytes());
        let crc = checksum(&header, payload);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        buffer.extend_from_slice(&header);
        buffer.extend_from_slice(payload);
        buffer.resize(buffer.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// The first index that a truncation after `index` removes.
pub(super) fn first_truncated(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index.saturating_add(1))
}

/// Bytes in a frame of a record with such a payload.
pub(super) fn encoded_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(ALIGNMENT)
}

/// A record found in a frame's body.
pub(super) struct Found<'a> {
    pub(super) record: Borrowed<'a>,
    /// Bytes that it takes.
    pub(super) bytes: usize,
}

/// A record whose payload lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Borrowed<'a> {
    Entry {
        index: u64,
        term: u64,
        payload: &'a [u8],
    },
    Vote(&'a [u8]),
    Committed(&'a [u8]),
    Truncate {
        from: u64,
    },
    Purge {
        index: u64,
        payload: &'a [u8],
    },
}

/// Reads the record at the start of `bytes`; `None` if that is not a whole, sound record.
pub(super) fn decode(bytes: &[u8]) -> Option<Found<'_>> {
    let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>()?;
    let payload_bytes = usize::try_from(u32_at(header, 0)).ok()?;
    let payload = rest.get(..payload_bytes)?;
    let mut unsealed = *header;
    unsealed[4..8].fill(0);
    let reserved_is_zero = header[9..16].iter().all(|byte| *byte == 0);
    if checksum(&unsealed, payload) != u32_at(header, 4) || !reserved_is_zero {
        return None;
    }
    let (index, term) = (u64_at(header, 16), u64_at(header, 24));
    let record = match header[8] {
        KIND_ENTRY => Borrowed::Entry {
            index,
            term,
            payload,
        },
        KIND_VOTE => Borrowed::Vote(payload),
        KIND_COMMITTED => Borrowed::Committed(payload),
        KIND_TRUNCATE => Borrowed::Truncate { from: index },
        KIND_PURGE => Borrowed::Purge { index, payload },
        _ => return None,
    };
    Some(Found {
        record,
        bytes: encoded_bytes(payload_bytes),
    })
}

/// Over the header (its checksum field zero) and the payload.
fn checksum(header: &[u8; RECORD_HEADER_BYTES], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

/// The little-endian number at `at`, which lies inside `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

/// The little-endian number at `at`, which lies inside `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("a slice of eight bytes"),
    )
}
