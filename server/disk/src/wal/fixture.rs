//! What fuzzing of the log looks into: a log read as a start reads it, and segments whose checksums fit,
//! whatever they hold.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::frame::{FRAME_HEADER_BYTES, Position, seal};
use super::record::ALIGNMENT;
use super::recovery::read_log;
use super::segment::{HEADER_BYTES, Name, SegmentHeader, SegmentId};
use super::{EntryId, Owner, Record, RecoverError};

/// Bytes of a forged segment.
pub const FORGED_BYTES: usize = 32 << 10;

/// What a start finds in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entries that count, ascending.
    pub entries: Vec<EntryId>,
    /// Vote, commit mark and purge point.
    pub restated: (Option<Bytes>, Option<Bytes>, Option<(u64, Bytes)>),
    /// Where the last whole frame of the youngest segment ends.
    pub end: usize,
    /// Whether a torn frame follows, which a start would cut off.
    pub is_cut: bool,
}

/// Reads the segments of these numbers as a start does, and changes nothing.
///
/// # Errors
/// They are refused.
pub fn read(dir: &Path, numbers: &[u64]) -> Result<Found, RecoverError> {
    let log = read_log(dir, numbers, Owner::default(), 0)?;
    let id = |index| {
        Some(EntryId {
            index,
            term: log.index.term(index)?,
        })
    };
    Ok(Found {
        entries: (log.index.first()..log.index.next())
            .filter_map(id)
            .collect(),
        end: log.current.map_or(0, |(_, end)| end.offset),
        is_cut: log.cut.is_some(),
        restated: (
            log.restated.vote,
            log.restated.committed,
            log.restated.purged,
        ),
    })
}

/// The file of a segment.
#[must_use]
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    Name::Segment(number).path(dir)
}

/// A record as a frame holds it.
#[must_use]
pub fn record(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

/// A segment with frames of these bodies, each said to hold so many records, as far as they fit.
#[must_use]
pub fn forged(number: u64, sequence: u64, next_index: u64, frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let bytes_of = |bytes: usize| u64::try_from(bytes).expect("a segment's size fits");
    let header = SegmentHeader {
        id: SegmentId { number, nonce: 7 },
        owner: Some(Owner::default()),
        segment_bytes: bytes_of(FORGED_BYTES),
        sequence,
        next_index,
        chain_before: 0,
        born_bytes: bytes_of(HEADER_BYTES),
    };
    let mut bytes = header.encode();
    let (mut chain, mut sequence) = (header.chain(), sequence);
    for (records, body) in frames {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        frame.extend_from_slice(body);
        frame.resize(frame.len().next_multiple_of(ALIGNMENT), 0);
        if bytes.len() + frame.len() > FORGED_BYTES {
            break;
        }
        let position = Position {
            segment: header.id,
            offset: bytes.len(),
            sequence,
            chain,
        };
        chain = seal(&mut frame, &position, *records).chain;
        sequence = sequence.wrapping_add(1);
        bytes.extend_from_slice(&frame);
    }
    bytes.resize(FORGED_BYTES, 0);
    bytes
}
