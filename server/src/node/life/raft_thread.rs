//! The Raft thread: consensus, the connections to peers, the proposer's batches, and the member's
//! periodic duties.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::sync::watch::{Receiver, Sender};

use crate::config::Config;
use crate::node::archive;
use crate::node::backend::Core;
use crate::node::beginning::{Beginning, Begun};
use crate::node::boot::{BootError, Booted, Locks};
use crate::node::door::Door;
use crate::node::joined::{Outside, Ready};
use crate::node::leadership::LeadershipCell;
use crate::node::successor;
use crate::peer::Refusal;
use crate::propose::Proposer;
use crate::raft::ApplyThread;
use crate::store::Store;
use crate::threads;
use crate::types::MemberId;

/// How long consensus may take to stop. It waits with a vote for the log's disk, which may be full;
/// nothing that waits so was promised to anybody.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The running thread.
pub struct RaftThread {
    thread: JoinHandle<()>,
    store: Arc<Store>,
    stop: Sender<bool>,
    proposer: Proposer,
    door: Door,
    leadership: Arc<LeadershipCell>,
    expelled: Receiver<Option<Refusal>>,
    election_timeout: Duration,
    _locks: Locks,
}

impl RaftThread {
    /// Starts consensus. Returns once this member has published itself and applied what is committed:
    /// at once where it is alone, else when a leader has said so, or after [`READY_TIMEOUT`].
    ///
    /// # Errors
    /// See [`BootError`].
    pub fn start(
        config: &Config,
        booted: Booted,
        outside: Outside,
    ) -> Result<(Core, RaftThread), BootError> {
        let Ready {
            started,
            seeds,
            holding,
        } = Ready::new(config, booted, outside)?;
        let directory = started.beginning.roads.directory.clone();
        let local = started.beginning.parts.local;
        let (thread, begun) = spawn(started.beginning, started.apply, seeds.stopping.clone())?;
        let core = seeds.core(begun);
        if let Some((to, holding)) = config.archive.as_ref().zip(holding) {
            let asked = archive::Asked {
                leadership: core.leadership.clone(),
                barrier: core.barrier.clone(),
                log: core.log.clone(),
                proposer: core.proposer.clone(),
            };
            let (store, stopping) = (core.store.clone(), core.stopping.clone());
            archive::start(to, local, store, holding, asked, &core.metrics, stopping).map_err(
                |source| BootError::System {
                    what: "the log archive's thread".into(),
                    source,
                },
            )?;
        }
        let thread = RaftThread {
            thread,
            store: core.store.clone(),
            stop: started.stop,
            proposer: core.proposer.clone(),
            door: core.door.clone(),
            leadership: core.leadership.clone(),
            expelled: directory.expelled(),
            election_timeout: config.raft.election_timeout,
            _locks: started.locks,
        };
        Ok((core, thread))
    }

    /// Tells when this member is one no more, and why.
    pub fn expelled(&self) -> Receiver<Option<Refusal>> {
        self.expelled.clone()
    }

    /// Hands leadership to another voter where this member leads, and waits until that one leads:
    /// an election timeout at most. Clients are still served meanwhile.
    pub fn hand_over(&self) {
        let Some(to) = self.successor() else {
            let why = match (self.leadership.leads(), self.door.consensus.is_sole_voter()) {
                (false, _) => "skipped leadership transfer; local server is not leader",
                (true, true) => "skipped leadership transfer for single voting member cluster",
                (true, false) => "leadership transfer failed",
            };
            crate::log!(info, why);
            return;
        };
        crate::log!(info, "leadership transfer starting", "transferee-member-id" = %to);
        let (sender, handed) = mpsc::channel();
        let (door, leadership) = (self.door.clone(), self.leadership.clone());
        drop(self.door.spawn(async move {
            if door.consensus.hand_over(to).await.is_ok() {
                leadership.led_by(to).await;
            }
            // Whoever waited may have given up.
            let _ = sender.send(());
        }));
        match handed.recv_timeout(self.election_timeout) {
            Ok(()) => {
                crate::log!(info, "leadership transfer finished", "transferee-member-id" = %to);
            }
            Err(_) => crate::log!(warn, "leadership was not taken over in time", to = %to),
        }
    }

    fn successor(&self) -> Option<MemberId> {
        match self.leadership.leads() {
            true => successor::anyone(&self.door, self.election_timeout),
            false => None,
        }
    }

    /// Tells streams to end and refuses new proposals.
    pub fn announce_stop(&self) {
        self.stop.send_replace(true);
        self.proposer.stop();
    }

    /// Stops consensus, waits for what is committed to be applied, closes the log, and flushes the
    /// store: the process may end while a reader still has it open.
    pub fn stop(self) {
        self.announce_stop();
        if self.thread.join().is_err() {
            crate::log!(error, "the raft thread panicked");
        }
        self.store.engine().flush_for_stop();
    }
}

fn spawn(
    beginning: Beginning,
    apply: ApplyThread,
    stopping: Receiver<bool>,
) -> Result<(JoinHandle<()>, Begun), BootError> {
    let system = |source| BootError::System {
        what: "the raft thread".into(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    let (started, starting) = oneshot::channel();
    let work = move || {
        run(&runtime, beginning, &apply, stopping, started);
        drop(runtime);
        apply.join();
    };
    let thread = threads::spawn("engram-raft", work).map_err(system)?;
    match starting.blocking_recv() {
        Ok(Ok(begun)) => Ok((thread, begun)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(BootError::FirstEntries(
            "the raft thread ended early".into(),
        )),
    }
}

fn run(
    runtime: &Runtime,
    beginning: Beginning,
    apply: &ApplyThread,
    mut stopping: Receiver<bool>,
    started: oneshot::Sender<Result<Begun, BootError>>,
) {
    runtime.block_on(async {
        threads::spawn_endless(threads::beat());
        let duties = match beginning.begin(apply, &stopping).await {
            Ok(duties) => duties,
            Err(error) => {
                // The starter waits for this; it cannot be gone.
                drop(started.send(Err(error)));
                return;
            }
        };
        drop(started.send(Ok((duties.door.clone(), duties.membership.clone()))));
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {}
            never = duties.attend() => match never {},
        }
        duties.parts.store.headroom().close();
        duties.parts.proposer.stop();
        duties.reclaimer.end();
        let stopped = tokio::time::timeout(STOP_MAX, duties.door.consensus.stop()).await;
        if stopped.is_err() {
            crate::log!(
                warn,
                "consensus waits for the log's disk: stopping all the same",
                waited = STOP_MAX
            );
        }
    });
}
