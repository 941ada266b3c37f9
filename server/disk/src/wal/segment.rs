//! Segment files: their names and the header page that every one begins with.
//!
//! ```text
//!  0 magic 8 │ 8 format u32 │ 12 header bytes u32 │ 16 segment bytes u64 │ 24 number u64 │
//! 32 nonce u64 │ 40 first sequence u64 │ 48 next index u64 │ 56 chain before u32 │ 60 zero u32 │
//! 64 born bytes u64 │ 72 cluster u64 │ 80 member u64 │ 88 incarnation u64 │ 96 zeros │
//! 4092 checksum u32
//! ```
//! Format 1 has zeros from 72 on: it does not say whose log it is. It is read, and no more written.

use std::fmt;
use std::path::{Path, PathBuf};

use super::record::{u32_at, u64_at};

/// Bytes of the header page; frames begin behind it. A page of its own, so that no write of a frame
/// ever rewrites the header's sector.
pub(super) const HEADER_BYTES: usize = 4096;
/// The format that this program writes.
pub(super) const FORMAT: u32 = 2;
/// The one before, which names no owner.
pub(super) const FORMAT_UNOWNED: u32 = 1;
const MAGIC: [u8; 8] = *b"ENGRMWAL";
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

const SEGMENT_SUFFIX: &str = ".wal";
const SPARE_PREFIX: &str = "spare-";
const SPARE_SUFFIX: &str = ".zero";
const UNFINISHED_SUFFIX: &str = ".tmp";

/// What tells a use of a file from every other use of it or of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentId {
    /// 1 for the first segment of a log, then counting up without a gap.
    pub(super) number: u64,
    /// Chosen at random when the segment was begun.
    pub(super) nonce: u64,
}

/// Whose log a segment belongs to. The log compares, and knows no more of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: u64,
    /// The member in it.
    pub member: u64,
    /// Which data directory of that member.
    pub incarnation: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "member {:x} of cluster {:x} (incarnation {:x})",
            self.member, self.cluster, self.incarnation
        )
    }
}

/// The header page's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: SegmentId,
    /// Whose it is; none in a segment of format 1.
    pub(super) owner: Option<Owner>,
    /// Length of the file.
    pub(super) segment_bytes: u64,
    /// Sequence of the segment's first frame.
    pub(super) sequence: u64,
    /// The index after the last entry when the segment was begun.
    pub(super) next_index: u64,
    /// Chain value of the frame before, in the segment before.
    pub(super) chain_before: u32,
    /// Bytes that were durable before the file got its name: the header and the frame that restates
    /// vote, commit mark and purge point. A crash cannot tear anything below.
    pub(super) born_bytes: u64,
}

/// Why a page is not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Another format number, and a sound magic.
    UnknownFormat(u32),
    /// Anything else.
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; HEADER_BYTES];
        page[0..8].copy_from_slice(&MAGIC);
        let format = self.owner.map_or(FORMAT_UNOWNED, |_| FORMAT);
        page[8..12].copy_from_slice(&format.to_le_bytes());
        let header_bytes = u32::try_from(HEADER_BYTES).expect("one page");
        page[12..16].copy_from_slice(&header_bytes.to_le_bytes());
        page[16..24].copy_from_slice(&self.segment_bytes.to_le_bytes());
        page[24..32].copy_from_slice(&self.id.number.to_le_bytes());
        page[32..40].copy_from_slice(&self.id.nonce.to_le_bytes());
        page[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        page[48..56].copy_from_slice(&self.next_index.to_le_bytes());
        page[56..60].copy_from_slice(&self.chain_before.to_le_bytes());
        page[64..72].copy_from_slice(&self.born_bytes.to_le_bytes());
        if let Some(owner) = self.owner {
            page[72..80].copy_from_slice(&owner.cluster.to_le_bytes());
            page[80..88].copy_from_slice(&owner.member.to_le_bytes());
            page[88..96].copy_from_slice(&owner.incarnation.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&page[..CHECKSUM_AT]);
        page[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    pub(super) fn decode(file: &[u8]) -> Result<Self, HeaderFault> {
        let page = file.get(..HEADER_BYTES).ok_or(HeaderFault::Damaged)?;
        if page[0..8] != MAGIC {
            return Err(HeaderFault::Damaged);
        }
        // Before the checksum: a later format may place that elsewhere.
        let format = u32_at(page, 8);
        if format != FORMAT && format != FORMAT_UNOWNED {
            return Err(HeaderFault::UnknownFormat(format));
        }
        if u32_at(page, CHECKSUM_AT) != crc32c::crc32c(&page[..CHECKSUM_AT]) {
            return Err(HeaderFault::Damaged);
        }
        let owner = Owner {
            cluster: u64_at(page, 72),
            member: u64_at(page, 80),
            incarnation: u64_at(page, 88),
        };
        Ok(Self {
            owner: (format == FORMAT).then_some(owner),
            id: SegmentId {
                number: u64_at(page, 24),
                nonce: u64_at(page, 32),
            },
            segment_bytes: u64_at(page, 16),
            sequence: u64_at(page, 40),
            next_index: u64_at(page, 48),
            chain_before: u32_at(page, 56),
            born_bytes: u64_at(page, 64),
        })
    }

    /// The chain value that the segment's first frame continues: it covers the whole header.
    pub(super) fn chain(&self) -> u32 {
        crc32c::crc32c_append(self.chain_before, &self.encode())
    }
}

/// What a name in the log's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A segment, by its number.
    Segment(u64),
    /// A zeroed file that waits to become a segment.
    Spare(u64),
    /// A file that was being zeroed.
    Unfinished(u64),
}

impl Name {
    /// `None` for names that this log does not make (the lock, `lost+found`).
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(number) = name.strip_suffix(SEGMENT_SUFFIX) {
            return Some(Self::Segment(parse_number(number)?));
        }
        let number = name.strip_prefix(SPARE_PREFIX)?;
        if let Some(number) = number.strip_suffix(SPARE_SUFFIX) {
            return Some(Self::Spare(parse_number(number)?));
        }
        Some(Self::Unfinished(parse_number(
            number.strip_suffix(UNFINISHED_SUFFIX)?,
        )?))
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Segment(number) => format!("{number:016x}{SEGMENT_SUFFIX}"),
            Self::Spare(number) => format!("{SPARE_PREFIX}{number:016x}{SPARE_SUFFIX}"),
            Self::Unfinished(number) => {
                format!("{SPARE_PREFIX}{number:016x}{UNFINISHED_SUFFIX}")
            }
        })
    }
}

fn parse_number(text: &str) -> Option<u64> {
    // Exactly what `path` writes, so that no two names mean the same segment.
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(is_hex) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}
