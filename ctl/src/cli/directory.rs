//! `inspect` and `force-new-cluster`: a member's data directory, while nobody serves from it.

use std::path::PathBuf;

use clap::Args;

/// What a data directory holds. It may be mounted read-only, and its member may run.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Path to the data directory
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Path to the log, where the member has --wal-dir
    #[arg(long)]
    pub wal_dir: Option<PathBuf>,
}

/// What `engram --force-new-cluster` does at a start, done before it, and once.
#[derive(Args, Debug)]
pub struct ForceNewCluster {
    /// Path to the data directory
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Path to the log, where the member has --wal-dir
    #[arg(long)]
    pub wal_dir: Option<PathBuf>,
    /// A word for this occasion: what was done for it is not done again
    #[arg(long)]
    pub once: String,
}
