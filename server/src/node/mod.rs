//! The composition root: opens a data directory, starts the threads, joins the rooms, serves, and
//! takes it all down again in the opposite order.
//!
//! Boot: data directory and its lock → engine → log (recovery) → state loaded → TLS files → apply
//! thread → Raft (what was committed is replayed) → leader → first entries of a new cluster →
//! listeners last.
//! Must never decide anything about data: whatever it starts does.

mod edge;
mod lead;
mod life;
mod members;
mod own;
mod room;

pub(crate) use edge::{
    ask, backend, barrier, fence, gauges, memory, pages, read_index, reads, renew, route, sink,
    users,
};
pub(crate) use lead::{
    compactor, contacts, corruption, duties, growth, held_up, late, leadership, lessor, no_space,
    successor, verdict,
};
#[cfg(feature = "fixtures")]
pub use life::staged;
pub(crate) use life::{
    announce, archive, beginning, joined, options, parts, raft_thread, serve, signals, spans, tls,
    token, told,
};
pub(crate) use members::{counted_dial, directory, door, drift, membership, peer_service, peers};
pub(crate) use own::{adoption, boot, etcd_directory, identity, join, member_id, own_log};
pub use own::{discovery, offline};
pub(crate) use room::{defragment, reclaim, space};

pub use edge::backend::Core;
pub use own::boot::BootError;

use std::io::Write as _;
use std::sync::Arc;

use crate::config::Config;
use crate::peer::Refusal;
use crate::threads::Watchdog;
use engram_spans::Exporter;
use joined::Outside;
use raft_thread::RaftThread;
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
    told::life::starting(config);
    let asking = tls::PeerDial::before_start(config)?;
    let booted = boot::open(config, &asking).inspect_err(told::life::bootstrap_failed)?;
    let tls = tls::Tls::open(config)?;
    tls.register(booted.metrics.registry());
    let tracing = spans::start(config, booted.metrics.registry())?;
    let (homes, inboxes) = crate::home::Homes::new(serve::thread_count(config));
    let outside = Outside {
        homes,
        listeners: serve::bind_peers(config, &tls)?,
        dial: tls.dial(),
        arrivals: None,
    };
    let (core, raft) = RaftThread::start(config, booted, outside)?;
    let is_no_member = *raft.expelled().borrow();
    if let Some(refusal) = is_no_member {
        raft.announce_stop();
        drop(core);
        raft.stop();
        return ended_by(refusal);
    }
    let core = Arc::new(core);
    let spans = tracing.as_ref().map(Exporter::spans);
    let serving = match serve::start(config, &core, inboxes, &tls, spans) {
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
    told::life::serving(config, core.member);
    announce::ready();
    let stop = signals.wait(raft.expelled());
    if let Stop::Quit = stop {
        crate::log!(error, "received SIGQUIT: ending at once");
        let text = format!("SIGQUIT: quit\n{}", engram_profile::threads::text());
        // Nobody may read it any more.
        let _ = std::io::stderr().write_all(text.as_bytes());
        crate::exit::leave(signals::QUIT_STATUS);
    }
    announce::stopping();
    told::life::closing(config);
    if let Stop::Signal(signal) = stop {
        crate::log!(info, "received signal; shutting down", signal = signal);
        raft.hand_over();
    }
    raft.announce_stop();
    serving.stop();
    drop(core);
    raft.stop();
    // The last, with the spans of the last calls.
    if let Some(tracing) = tracing {
        tracing.stop();
    }
    told::life::closed(config);
    match stop {
        Stop::Signal(signal) => Ok(Ended::Signal(signal)),
        Stop::Quit => unreachable!("it has ended the process"),
        Stop::Expelled(refusal) => ended_by(refusal),
    }
}

/// What a run comes to where the others say that this is no member of theirs.
fn ended_by(refusal: Refusal) -> Result<Ended, BootError> {
    match refusal {
        Refusal::SenderRemoved => Ok(Ended::Removed),
        refusal => Err(BootError::Replaced(refusal)),
    }
}
