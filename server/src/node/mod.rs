//! The composition root: opens a data directory, starts the threads, joins the rooms, serves, and
//! takes it all down again in the opposite order.
//!
//! Boot: data directory and its lock → engine → log (recovery) → state loaded → TLS files → apply
//! thread → Raft (what was committed is replayed) → leader → first entries of a new cluster →
//! listeners last.
//! Must never decide anything about data: whatever it starts does.

mod backend;
mod boot;
mod compactor;
mod defragment;
mod gauges;
mod lessor;
mod member_id;
mod memory;
mod pages;
mod raft_thread;
mod read_index;
mod serve;
mod sink;
mod space;
mod tls;

pub use backend::Core;
pub use boot::BootError;

use std::sync::Arc;

use crate::config::Config;
use raft_thread::RaftThread;

/// Runs a member until it is told to stop by SIGTERM or SIGINT, whose number it returns.
///
/// # Errors
/// It could not start: the error says what is in the way and what to do.
pub fn run(config: &Config) -> Result<i32, BootError> {
    let booted = boot::open(config)?;
    let tls = tls::Tls::open(config)?;
    tls.register(booted.metrics.registry());
    let (homes, inboxes) = crate::home::Homes::new(serve::thread_count(config));
    let (core, raft) = RaftThread::start(config, booted, homes.clone())?;
    let core = Arc::new(core);
    let serving = serve::start(config, &core, inboxes, &tls)?;
    crate::log!(info, "ready to serve client requests");
    let signal = serve::wait_for_signal()?;
    crate::log!(info, "received signal; shutting down", signal = signal);
    raft.announce_stop();
    serving.stop();
    drop(core);
    raft.stop();
    Ok(signal)
}
