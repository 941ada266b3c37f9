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

pub mod api;
pub mod budget;
pub mod codec;
pub mod config;
pub mod exit;
pub mod fatal;
pub mod fs;
pub mod home;
pub mod metrics;
pub mod net;
pub mod node;
pub mod peer;
pub mod propose;
pub mod raft;
pub mod read;
pub mod snapshot;
pub mod state;
pub mod storage;
pub mod store;
pub mod threads;
pub mod trace;
pub mod types;
pub mod wal;
pub mod watch;
