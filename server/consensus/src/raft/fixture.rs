//! What tests of whole members, a floor above, look into: they stand for openraft over the log, the
//! apply thread and the snapshots, and for a peer that sends what it should not.

pub use super::apply::{ApplyHandle, Task};
pub use super::snapshot::Snapshots;
pub use super::*;

/// A log's position, as openraft names it.
pub type LogId = super::LogId;
/// An entry of the log.
pub type Entry = super::Entry;
/// What a member has promised.
pub type Vote = super::Vote;
/// Who votes and who learns.
pub type Membership = super::Membership;
/// The same with the entry that said so.
pub type StoredMembership = super::StoredMembership;

/// Entries as bytes.
pub mod entry {
    pub use super::super::entry::*;
}
/// Which appends are answered at once.
pub mod following {
    pub use super::super::following::stands;
}
/// A snapshot that comes in.
pub mod incoming {
    pub use super::super::incoming::*;
}
/// What a snapshot is said to be.
pub mod snapshot {
    pub use super::super::snapshot::*;
}
/// Messages between members.
pub mod wire {
    pub use super::super::wire::snapshot_begin;
}

impl Consensus {
    /// openraft itself.
    #[must_use]
    pub fn openraft(&self) -> &Raft {
        &self.raft
    }
}
