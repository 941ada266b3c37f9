//! Ships every revision of the store to the log archive (`engram-archive`), as long as this member
//! leads.
//!
//! ```text
//! apply thread ──► journal: moments, and changes without a revision; bounded, in memory
//! store ─────────► the records themselves: the history it keeps anyway, held from compaction (hold)
//!                  shipper, on a thread of its own ──► segments ──► the store of objects
//! ```
//!
//! What waits to be shipped is nothing but history that is not reclaimed yet: a store of objects that
//! is slow or dead costs a write nothing, and what it costs on disk is bounded (`hold`). Beyond that
//! history is let go, which makes a gap: it is said, counted, and a new chain begins.
//!
//! Every member notes and holds, since any may lead next; the leader writes, and the others read how far
//! the archive is. Only what is committed and applied is written, so whoever writes, writes the same
//! history; a segment's name admits one writer (`engram-archive`, A1).
//!
//! Must never: make the apply thread wait, propose anything, or read the store under its lock.

#![forbid(unsafe_code)]

mod hold;
mod journal;
mod meters;
mod progress;
mod segments;
mod shipper;
#[cfg(test)]
mod tests;

pub use hold::Holding;
pub use journal::{Journal, Moment};
pub use shipper::{Member, Settings, start};

use engram_applied::store;
use engram_process::{log, threads};
