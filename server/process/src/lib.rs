//! What every process of Engram does, whatever it serves: it logs, runs threads, keeps within budgets
//! and ends.
//!
//! The lowest floor beside `engram-types`: it knows nothing of keys, members or files of data.

#![forbid(unsafe_code)]

pub mod budget;
pub mod exit;
pub mod fatal;
pub mod first;
pub mod home;
pub mod mutants;
pub mod threads;
pub mod trace;
