//! Data on the disk: durable files and directories, and the write-ahead log made of them.
//!
//! It knows nothing of what the bytes mean.

#![forbid(unsafe_code)]

pub mod fs;
pub mod wal;

use engram_process::{log, mutants, threads};
