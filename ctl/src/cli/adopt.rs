//! `adopt`.

use std::path::PathBuf;

use clap::Args;

/// What engram adopted of an etcd's data directory.
#[derive(Args, Debug)]
pub struct Adopt {
    /// Path to the data directory
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Remove etcd's files, which lie beside engram's until then; there is no way back by them after that
    #[arg(long)]
    pub finish: bool,
}
