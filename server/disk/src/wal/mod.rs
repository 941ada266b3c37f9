//! The write-ahead log: every Raft vote, entry and commit mark, in the order in which they were
//! appended, durable before anybody is told so.
//!
//! Owns the segment files of one directory, the thread that writes them and the thread that makes
//! and recycles them. It knows nothing of Raft's rules, of openraft or of protobuf: payloads are
//! opaque bytes. It must never tell a caller "durable" before `fdatasync` returned, never guess at
//! damaged bytes, and never retry a failed write or sync.
//!
//! ```text
//!  append ──► queue (no wait) ──► writer thread: one frame = one write + one fdatasync ──► done()
//!                │                      │ rotation: takes a zeroed spare
//!                ▼                      ▼
//!  read ◄── index (in memory)     spares thread: makes, zeroes, recycles segments
//! ```
//!
//! Invariants:
//! - W1: a frame is written only after the frame before it is durable, so at most one frame can
//!   be torn by a crash, and it is the last one.
//! - W2: behind the last frame a segment holds only zeros, durably, before a frame is written there.
//! - W3: every 512-byte sector that a frame touches holds bytes of it that are not zero, so a
//!   sector that did not reach the disk is told apart from one that did and was damaged later.
//! - W4: entry indexes are consecutive; a segment is given up only when all its entries are purged
//!   and a younger segment restates vote, commit mark and purge point.
//! - W5: segments leave the directory oldest first, each durably, so the ids that remain have no gap.
//!
//! The bytes are described in `docs/wal-format.md`.

mod birth;
mod dump;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod frame;
mod index;
mod look;
mod open;
mod options;
mod read;
mod record;
mod recovery;
mod scan;
mod segment;
mod spares;
mod writer;

#[cfg(test)]
mod tests;

pub use dump::{DumpError, dump};
pub use index::Keep;
pub use look::{LookError, Seen, look};
pub use open::{Wal, check_owner, exists, open};
pub use options::{FatalError, Options, Space};
pub use read::{Entries, ReadError};
pub use record::{Entry, EntryId, Record};
pub use recovery::{RecoverError, Recovered, TornTail};
pub use scan::Damage;
pub use segment::Owner;
