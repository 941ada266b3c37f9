//! The frame: what one write and one sync put on the disk, and so the unit that a crash can tear.
//!
//! ```text
//!  0 magic u32 │ 4 body bytes u32 │ 8 sequence u64 │ 16 mask u32 │ 20 records u32 │ 24 chain u32 │
//! 28 header checksum u32 │ 32 body: records, each padded to 8 bytes; masked
//! ```
//! `chain` is the CRC32C of the chain before, the header up to it and the body as stored. The header
//! checksum is seeded with the segment's nonce and id and with the frame's offset: it proves, even
//! where the chain is lost, that this frame was written here and not by an earlier use of the file.
//!
//! A disk writes sectors of 512 bytes (or multiples), each wholly or not at all, in any order, and
//! what lay there before are zeros. So a sector that is missing shows as zeros, and nothing else
//! does if no sector of a whole frame is zero. The mask sees to that: it is 0 (bytes as they are)
//! unless some sector would hold fewer than [`DENSITY_MIN`] bytes that are not zero; then the body
//! is XORed with a mask that leaves none such.

use super::record::{u32_at, u64_at};
use super::segment::SegmentId;

pub(super) const FRAME_HEADER_BYTES: usize = 32;
/// The smallest unit that a disk writes.
pub(super) const SECTOR_BYTES: usize = 512;
/// Bytes that are not zero in every sector's share of a body, if the share has so many (it has at
/// least 8): damage to one or two bytes can then not make a sector look unwritten.
const DENSITY_MIN: usize = 4;
const MAGIC: u32 = 0x4d52_4645; // "EFRM"

/// What a frame's header says, once its checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) body_bytes: usize,
    pub(super) sequence: u64,
    pub(super) mask: u32,
    pub(super) records: u32,
    pub(super) chain: u32,
}

impl FrameHeader {
    /// Bytes of header and body.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body_bytes
    }
}

/// Where a frame goes and what precedes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) segment: SegmentId,
    /// Offset in the segment file, a multiple of 8.
    pub(super) offset: usize,
    pub(super) sequence: u64,
    /// The chain value of the frame before, or of the segment's header.
    pub(super) chain: u32,
}

/// Completes a frame: `frame` holds room for the header and then the records. Returns its header.
pub(super) fn seal(frame: &mut [u8], position: &Position, records: u32) -> FrameHeader {
    let body_bytes = frame.len() - FRAME_HEADER_BYTES;
    let mask = choose_mask(
        &frame[FRAME_HEADER_BYTES..],
        position.offset + FRAME_HEADER_BYTES,
    );
    apply_mask(&mut frame[FRAME_HEADER_BYTES..], mask);
    frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    let body_field = u32::try_from(body_bytes).expect("a frame fits its segment");
    frame[4..8].copy_from_slice(&body_field.to_le_bytes());
    frame[8..16].copy_from_slice(&position.sequence.to_le_bytes());
    frame[16..20].copy_from_slice(&mask.to_le_bytes());
    frame[20..24].copy_from_slice(&records.to_le_bytes());
    let chain = chain_after(position.chain, frame);
    frame[24..28].copy_from_slice(&chain.to_le_bytes());
    let checksum = header_checksum(position.segment, position.offset, frame);
    frame[28..32].copy_from_slice(&checksum.to_le_bytes());
    FrameHeader {
        body_bytes,
        sequence: position.sequence,
        mask,
        records,
        chain,
    }
}

/// The frame header at `offset` of a segment, if the bytes there are one that was written there.
pub(super) fn header_at(segment: SegmentId, data: &[u8], offset: usize) -> Option<FrameHeader> {
    let header = data.get(offset..)?.get(..FRAME_HEADER_BYTES)?;
    if u32_at(header, 0) != MAGIC || u32_at(header, 28) != header_checksum(segment, offset, header)
    {
        return None;
    }
    Some(FrameHeader {
        body_bytes: usize::try_from(u32_at(header, 4)).ok()?,
        sequence: u64_at(header, 8),
        mask: u32_at(header, 16),
        records: u32_at(header, 20),
        chain: u32_at(header, 24),
    })
}

/// The chain value that a frame (header and body as stored) must state.
pub(super) fn chain_after(before: u32, frame: &[u8]) -> u32 {
    let chain = crc32c::crc32c_append(before, &frame[..24]);
    crc32c::crc32c_append(chain, &frame[FRAME_HEADER_BYTES..])
}

/// Masks or unmasks bytes that begin at a multiple of 4 in their file.
pub(super) fn apply_mask(bytes: &mut [u8], mask: u32) {
    if mask == 0 {
        return;
    }
    let mask = mask.to_le_bytes();
    for word in bytes.chunks_mut(4) {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

/// The shares of sectors in `bytes`, which begin at `offset` of their file.
pub(super) fn sector_shares(bytes: &[u8], offset: usize) -> impl Iterator<Item = &[u8]> {
    let first = (offset.next_multiple_of(SECTOR_BYTES) - offset).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    std::iter::once(head)
        .filter(|head| !head.is_empty())
        .chain(rest.chunks(SECTOR_BYTES))
}

/// Whether a sector of the frame at `offset` never reached the disk.
pub(super) fn has_unwritten_sector(frame: &[u8], offset: usize) -> bool {
    sector_shares(frame, offset).any(is_zero)
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| u64::from_le_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// The first mask under which every share is dense. The share with the end of the header needs no
/// look: it holds two checksums. One always exists: a share excludes only masks that agree with its
/// bytes almost everywhere, a few thousand of 2^32 for each of at most 2^21 shares.
fn choose_mask(body: &[u8], offset: usize) -> u32 {
    let in_header_sector = (offset.next_multiple_of(SECTOR_BYTES) - offset).min(body.len());
    let (shares, offset) = (&body[in_header_sector..], offset + in_header_sector);
    if is_dense(shares, offset, 0) {
        return 0;
    }
    // Multiples of an odd constant: every 32-bit value comes once, the bytes of each look random.
    (1..=u32::MAX)
        .map(|step| step.wrapping_mul(0x9e37_79b1))
        .find(|mask| is_dense(shares, offset, *mask))
        .expect("fewer masks are excluded than exist")
}

fn is_dense(body: &[u8], offset: usize, mask: u32) -> bool {
    sector_shares(body, offset).all(|share| share_is_dense(share, mask))
}

fn share_is_dense(share: &[u8], mask: u32) -> bool {
    let mask = mask.to_le_bytes();
    let mut nonzero = 0;
    // Almost always the first words decide, so this costs little for usual payloads.
    for word in share.chunks(4) {
        nonzero += word
            .iter()
            .zip(mask)
            .filter(|(byte, mask)| **byte != *mask)
            .count();
        if nonzero >= DENSITY_MIN {
            return true;
        }
    }
    false
}

fn header_checksum(segment: SegmentId, offset: usize, header: &[u8]) -> u32 {
    let mut seed = [0; 24];
    seed[0..8].copy_from_slice(&segment.nonce.to_le_bytes());
    seed[8..16].copy_from_slice(&segment.number.to_le_bytes());
    let offset = u64::try_from(offset).expect("offsets fit 64 bits");
    seed[16..24].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), &header[..28])
}
