//! The applied state: the engine that keeps it (`storage`), and the index beside it with the lock
//! between the two (`store`).
//!
//! The only crate of the server that names RocksDB.

#![forbid(unsafe_code)]

pub mod storage;
pub mod store;

use engram_disk::fs;
use engram_process::{fatal, log, threads};
use engram_state as state;
use engram_types as types;
