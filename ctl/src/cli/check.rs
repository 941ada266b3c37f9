//! `check`: how a cluster does under a load.

use clap::{Args, Subcommand, ValueEnum};

/// `check`.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// Check the performance of the cluster
    Perf(Load),
    /// Check the memory usage of holding data for different workloads on a given server endpoint
    Datascale(Load),
}

/// The load, and what is done afterwards.
#[derive(Args, Debug)]
pub struct Load {
    /// The workload: how many clients, and how much they write
    #[arg(long, default_value = "s")]
    pub load: Workload,
    /// The prefix for writing the check's keys
    #[arg(long)]
    pub prefix: Option<String>,
    /// Compact storage with last revision after test is finished
    #[arg(long)]
    pub auto_compact: bool,
    /// Defragment storage after test is finished
    #[arg(long)]
    pub auto_defrag: bool,
}

/// How large a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Small
    #[value(name = "s", alias = "small")]
    Small,
    /// Medium
    #[value(name = "m", alias = "medium")]
    Medium,
    /// Large
    #[value(name = "l", alias = "large")]
    Large,
    /// Very large
    #[value(name = "xl", alias = "xLarge")]
    VeryLarge,
}
