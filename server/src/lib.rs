//! The engram server: etcd's v3 API over Raft, a write-ahead log and RocksDB.
//!
//! The house has rooms, and a request walks through them in one direction:
//!
//! ```text
//! net → api → codec → propose → raft → wal      a write, until it is durable and committed
//!                                 └──→ state → storage → watch → the callers
//! net → api → codec → read → state, storage     a read
//! net → api → codec → watch                     a watch
//! ```
//!
//! `ARCHITECTURE.md` says what each room owns and must never do.

#![forbid(unsafe_code)]

// The lower floors are crates of their own; above them they go by the names of their rooms.
pub use engram_adopt as adopt;
pub use engram_api as api;
pub use engram_applied::{storage, store};
pub use engram_auth as auth;
pub use engram_codec as codec;
pub use engram_config as config;
pub use engram_consensus::{propose, raft};
pub use engram_disk::{fs, wal};
pub use engram_metrics as metrics;
pub use engram_net as net;
pub use engram_peer as peer;
pub use engram_process::{budget, exit, fatal, first, home, log, mutants, threads, trace};
pub use engram_read as read;
pub use engram_snapshot as snapshot;
pub use engram_state as state;
pub use engram_types as types;
pub use engram_watch as watch;

pub mod node;

#[cfg(test)]
mod tests;
