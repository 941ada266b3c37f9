//! The composition root: opens a data directory, starts the threads, joins the rooms, serves, and
//! takes it all down again in the opposite order.
//!
//! Boot: data directory and its lock → engine → log (recovery) → state loaded → TLS files → apply
//! thread → Raft (what was committed is replayed) → leader → first entries of a new cluster →
//! listeners last.
//! Must never decide anything about data: whatever it starts does.

mod adoption;
mod announce;
mod archive;
mod ask;
pub(crate) mod backend;
mod barrier;
pub(crate) mod boot;
mod changes;
mod compactor;
mod contacts;
mod corruption;
mod counted_dial;
mod defragment;
pub(crate) mod directory;
pub mod discovery;
mod door;
mod drift;
mod dump;
mod duties;
mod etcd_directory;
pub(crate) mod fence;
mod gauges;
mod identity;
mod join;
mod late;
pub(crate) mod leadership;
pub(crate) mod lessor;
mod member_id;
mod membership;
mod memory;
pub mod offline;
mod options;
mod own_log;
mod pages;
mod peer_service;
mod peers;
mod raft_thread;
mod read_index;
mod reads;
mod reclaim;
mod route;
mod serve;
mod signals;
pub(crate) mod sink;
mod space;
#[cfg(feature = "fixtures")]
pub mod staged;
mod tls;
mod token;
pub(crate) mod told;
mod users;
pub(crate) mod verdict;

pub use backend::Core;
pub use boot::BootError;

use std::io::Write as _;
use std::sync::Arc;

use crate::config::Config;
use crate::peer::Refusal;
use crate::threads::Watchdog;
use raft_thread::{Outside, RaftThread};
use serve::Stop;

/// How a member's run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, by this signal.
    Signal(i32),
    /// It was removed from the cluster.
    Removed,
}

/// Runs a member until it is told to stop by SIGTERM or SIGINT, or until it is removed. SIGQUIT ends the
/// process at once.
///
/// # Errors
/// It could not start, or is no member: the error says what is in the way and what to do.
pub fn run(config: &Config) -> Result<Ended, BootError> {
    let _watchdog = Watchdog::start().map_err(|source| BootError::System {
        what: "the watchdog".into(),
        source,
    })?;
    let quit = signals::arrange().map_err(serve::of_signals)?;
    let asking = tls::PeerDial::before_start(config)?;
    let booted = boot::open(config, &asking)?;
    let tls = tls::Tls::open(config)?;
    tls.register(booted.metrics.registry());
    let (homes, inboxes) = crate::home::Homes::new(serve::thread_count(config));
    let outside = Outside {
        homes,
        listeners: serve::bind_peers(config, &tls)?,
        dial: tls.dial(),
        arrivals: None,
    };
    let (core, raft) = RaftThread::start(config, booted, outside)?;
    let core = Arc::new(core);
    let serving = match serve::start(config, &core, inboxes, &tls) {
        Ok(serving) => serving,
        Err(error) => {
            // What runs is closed in its order, as at any other stop.
            raft.announce_stop();
            drop(core);
            raft.stop();
            return Err(error);
        }
    };
    // Before anybody is told that it serves.
    let signals = serve::Signals::hear(&quit)?;
    crate::log!(info, "ready to serve client requests");
    told::serving(config, core.member);
    announce::ready();
    let stop = signals.wait(raft.expelled());
    if let Stop::Quit = stop {
        crate::log!(error, "received SIGQUIT: ending at once");
        // Nobody may read it any more.
        let _ = std::io::stderr().write_all(dump::threads().as_bytes());
        crate::exit::leave(signals::QUIT_STATUS);
    }
    announce::stopping();
    told::closing(config);
    if let Stop::Signal(signal) = stop {
        crate::log!(info, "received signal; shutting down", signal = signal);
        raft.hand_over();
    }
    raft.announce_stop();
    serving.stop();
    drop(core);
    raft.stop();
    told::closed(config);
    match stop {
        Stop::Signal(signal) => Ok(Ended::Signal(signal)),
        Stop::Quit => unreachable!("it has ended the process"),
        Stop::Expelled(Refusal::SenderRemoved) => Ok(Ended::Removed),
        Stop::Expelled(refusal) => Err(BootError::Replaced(refusal)),
    }
}
