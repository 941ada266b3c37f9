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
pub use engram_applied::{storage, store};
pub use engram_codec as codec;
pub use engram_disk::{fs, wal};
pub use engram_process::{budget, exit, fatal, log, threads, trace};
pub use engram_state as state;
pub use engram_types as types;
pub use engram_watch as watch;

pub mod adopt;
pub mod api;
pub mod auth;
pub mod config;
pub mod home;
pub mod metrics;
pub mod net;
pub mod node;
pub mod peer;
pub mod propose;
pub mod raft;
pub mod read;
pub mod snapshot;
