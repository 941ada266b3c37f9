//! The applied state on disk.
//!
//! Owns the engine (RocksDB, its own write-ahead log off: the Raft log is the log; a simulator has one in
//! memory) and the bytes of its keys and values. One `write` is one atomic batch of data, the applied log position, the
//! membership and the revision: a crash leaves all of it or none. Nothing written is durable before
//! a flush; the Raft log is purged only below what [`Engine::persisted`] reads back.
//!
//! Must never: decide anything (what to write is `state`'s decision), hold the only copy of
//! something the log no longer has, or go on after an error of the engine (the process ends).

mod checkpoint;
mod engine;
mod handle;
mod identity;
#[cfg(any(test, feature = "fixtures"))]
mod memory;
pub mod place;
mod rocksdb;
mod rows;
pub mod schema;

pub use checkpoint::{
    Checkpoint, CheckpointError, Checkpoints, FileKind, Offer, StoreFile, Wanted,
};
#[cfg(any(test, feature = "fixtures"))]
pub use engine::Stall;
pub use engine::{Engine, EngineOptions, Filling, OpenError, Scanner};
pub use identity::{FILE as IDENTITY_FILE, Identity, IdentityError};
#[cfg(any(test, feature = "fixtures"))]
pub use memory::keep_in_memory;
pub use place::{Place, PlaceError};
pub use rocksdb::Part;
pub use rows::EngineError;

use bytes::Bytes;

use crate::types::Revision;

/// A place in the Raft log, free of openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The entry's index.
    pub index: u64,
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "entry {} of term {}", self.index, self.term)
    }
}

/// How far the log has been applied, and the membership in force there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied; none in an empty store.
    pub log_position: Option<LogPosition>,
    /// Where the membership was set.
    pub membership_position: Option<LogPosition>,
    /// The membership, encoded as `engram.raft.v1.Membership`; empty before the first.
    pub membership: Bytes,
}

/// What a store holds, in two words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How far the log is applied in it.
    pub applied: Applied,
    /// Its revision; 0 in an empty store.
    pub revision: Revision,
}
