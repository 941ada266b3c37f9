//! What the process is doing, and what its memory is: for whoever looks at a member that is slow, large or
//! silent.
//!
//! Owns the processor's profile, and what the system tells of threads and memory, in the form that
//! `go tool pprof` reads. Must never cost anything while nobody asks, and knows nothing of keys or members.

#![forbid(unsafe_code)]

pub mod cpu;
mod format;
pub mod memory;
pub mod threads;

use engram_disk::fs;
