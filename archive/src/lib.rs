//! The log archive: every revision of a cluster, in segments that follow each other.
//!
//! ```text
//! segment   records, notes, moments ──► one object, every byte under a checksum; and back
//! chain     names, creation where there is none of that name, heads, the end of a chain
//! lineage   whether a store's history goes on where a chain ends; pure
//! keys      which keys segments need, by their first bytes
//! verify    reading a chain whole, and removing what nobody needs of it
//! span      what can be restored of a chain, its gaps, and where a revision or a time lies
//! ```
//!
//! `docs/backup-format.md` describes the bytes. Who writes (`engram-archiver`) and who restores
//! (`engram-backup`) share what is here.
//!
//! Invariants
//! - A1: a segment is one object, created under a name that says only its place, where there is none
//!   of that name: of two that think they write, one is refused, and reads what the other wrote.
//! - A2: a segment names its predecessor by the hash of its header, which names the hash of every
//!   byte: a chain that is not whole is noticed.
//! - A3: every revision that a segment's range claims has its records in it.

#![forbid(unsafe_code)]

mod chain;
mod keys;
mod lineage;
mod segment;
mod span;
mod verify;

pub use chain::{Appended, Archive, ArchiveError, Head, Place};
pub use keys::Needed;
pub use lineage::{Continuity, History, continuity};
pub use segment::{Builder, Built, Cut, FORMAT, Header, Segment, SegmentError, Writer, digest};
pub use span::{Span, Spans, Target};
pub use verify::Verified;
