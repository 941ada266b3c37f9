//! What is done with files, without a member: etcdutl's verbs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ClusterScope, duration};

/// `defrag`.
#[derive(Args, Debug)]
pub struct Defrag {
    /// Which endpoints.
    #[command(flatten)]
    pub scope: ClusterScope,
    /// Defragment a data directory that no member uses
    #[arg(long, conflicts_with = "cluster")]
    pub data_dir: Option<PathBuf>,
    /// Time to wait for the directory's lock, 0 to wait for ever
    #[arg(long, default_value = "10s", value_parser = duration, requires = "data_dir")]
    pub timeout: Duration,
}

/// `hashkv`.
#[derive(Args, Debug)]
pub struct HashKv {
    /// A snapshot file, or the database of an etcd
    pub filename: PathBuf,
    /// Maximum revision to hash (default: latest revision)
    #[arg(long, default_value_t = 0)]
    pub rev: i64,
}

/// `migrate`.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Path to the data directory
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.
    #[arg(long)]
    pub target_version: String,
    /// Ignore migration failure and forcefully override storage version
    #[arg(long)]
    pub force: bool,
}
