//! `lock` and `elect`: what is held as long as a session lives.

use std::ffi::OsString;

use clap::Args;

/// `lock`.
#[derive(Args, Debug)]
pub struct Lock {
    /// The lock's name
    pub name: String,
    /// What is executed while it is held
    pub command: Vec<OsString>,
    /// Timeout for the session, in seconds
    #[arg(long, default_value_t = 10)]
    pub ttl: i64,
}

/// `elect`.
#[derive(Args, Debug)]
pub struct Elect {
    /// The election's name
    pub name: String,
    /// What is proclaimed once elected
    pub proposal: Option<OsString>,
    /// Observation mode
    #[arg(short, long)]
    pub listen: bool,
}
