//! Consensus, which is openraft behind a narrow door, and the batches that are proposed to it.

#![forbid(unsafe_code)]

pub mod propose;
pub mod raft;

use engram_applied::{storage, store};
use engram_codec as codec;
use engram_disk::{fs, wal};
use engram_metrics as metrics;
use engram_peer as peer;
use engram_process::{fatal, home, log, mutants, threads};
use engram_snapshot as snapshot;
use engram_state as state;
use engram_types as types;
