//! The apply thread: committed entries in, applied one after the other ([`applier`]), and between them
//! what compaction superseded reclaimed ([`reclaim`]).
//!
//! It is a thread of its own so that a transaction over a million keys, or an engine that stalls,
//! stops no heartbeat. In a cluster of one the log's writer applies what is short itself: one wake less
//! for who waits.

mod applier;
mod kinds;
mod reclaim;
mod stats;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use openraft::EntryPayload;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Entry, Later};
use crate::codec::entry::BatchHeader;
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::snapshot::install::Prepared;
use crate::state::{Change, Event};
use crate::store::Store;
use crate::threads::{
    self,
    steps::{self, Step, Stepping, Steps},
};
use crate::types::Revision;
use crate::types::request::Op;
use crate::types::result::Outcome;
use applier::Applier;
use reclaim::Reclaim;
pub use stats::ApplyStats;

/// Tasks that may wait for the thread. openraft has at most a few under way.
const QUEUE_MAX: usize = 16;
/// How long an idle thread waits, and how often the engine is asked for its health.
const IDLE: Duration = Duration::from_secs(1);

/// Who wants to know what was applied.
pub trait Applied: Send + Sync + 'static {
    /// A snapshot took the store's place: it may have gone over many entries at once, whose events
    /// and outcomes nobody is told one by one.
    fn replaced(&self, store: &Store);

    /// A batch was applied, its data written and shown: the revision before and after it, the entry's
    /// index, and what it left behind in order.
    fn written(&self, _before: Revision, _after: Revision, _index: u64, _changes: &[Change]) {}

    /// A batch was applied and its data written: events for the watchers, at the store's revision.
    fn events(&self, revision: Revision, events: Vec<Event>);

    /// A batch that changes users, or lets them in, was applied, and is not shown yet.
    fn users(&self, _ops: &[Op], _outcomes: &[Outcome]) {}

    /// It is shown now.
    fn users_shown(&self) {}

    /// A Raft configuration was applied: the member table is that of it.
    fn members_changed(&self);

    /// The outcomes of a batch's operations, in order.
    fn outcomes(&self, header: &BatchHeader, ops: &[Op], outcomes: Vec<Outcome>);
}

/// What the thread can be asked.
pub enum Task {
    /// Apply these entries, in order.
    Apply {
        /// The entries.
        entries: Vec<Entry>,
        /// Told when done.
        done: oneshot::Sender<()>,
    },
    /// Put a snapshot in the store's place.
    Install {
        /// It, ready.
        prepared: Box<Prepared>,
        /// Told when done.
        done: oneshot::Sender<()>,
    },
}

/// The way to the thread.
#[derive(Clone)]
pub struct ApplyHandle {
    tasks: SyncSender<Task>,
    applier: Arc<Mutex<Applier>>,
}

impl ApplyHandle {
    /// Hands over a task and waits until it is done.
    pub async fn run(&self, task: impl FnOnce(oneshot::Sender<()>) -> Task) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.send(task(done))?;
        finished.await.map_err(|_| stopped())
    }

    /// Hands over a task.
    pub fn send(&self, task: Task) -> io::Result<()> {
        self.tasks.try_send(task).map_err(|_| stopped())
    }

    /// Applies entries on the calling thread, the log's writer, where that spares a wake and holds up
    /// nobody (`Applier::may_apply_in_passing`); else hands them over. openraft hands on entries only
    /// once those before them are applied: nothing is overtaken.
    ///
    /// # Errors
    /// The apply thread has stopped.
    pub fn apply_in_passing(
        &self,
        entries: Vec<Entry>,
        done: oneshot::Sender<()>,
        later: &Later,
    ) -> io::Result<()> {
        let applier = self.applier.try_lock();
        let Some(mut applier) = applier.filter(|applier| applier.may_apply_in_passing(&entries))
        else {
            return self.send(Task::Apply { entries, done });
        };
        applier.asked();
        let is_answered = entries.iter().all(is_answered_when_applied);
        for entry in entries {
            applier.apply(entry);
        }
        drop(applier);
        // Whoever asked is gone only when openraft is shutting down.
        let tell = move || {
            let _ = done.send(());
        };
        match is_answered {
            true => later.keep(tell),
            false => tell(),
        }
        Ok(())
    }
}

/// Whether nobody waits for anything of an entry once it is applied.
fn is_answered_when_applied(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.is_answered_when_applied(),
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    }
}

/// Nobody applies any more.
pub(super) fn stopped() -> io::Error {
    io::Error::other("the apply thread has stopped")
}

/// The running thread. Dropping the handles of it ends it.
pub struct ApplyThread {
    handle: ApplyHandle,
    thread: Stepping,
    stats: Arc<ApplyStats>,
}

impl ApplyThread {
    /// Starts the thread over a store. An entry that takes longer than `warning` to apply is logged
    /// and counted as slow.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        store: Arc<Store>,
        applied: Arc<dyn Applied>,
        metrics: Arc<Metrics>,
        warning: Duration,
    ) -> io::Result<ApplyThread> {
        let (tasks, queue) = sync_channel(QUEUE_MAX);
        let stats = Arc::new(ApplyStats::default());
        let mark = store.engine().applied().map_err(io::Error::other)?;
        let reclaim = Reclaim::new(store.clone(), metrics.clone());
        let applier = Applier::new(
            store.clone(),
            applied,
            metrics,
            stats.clone(),
            mark,
            warning,
        )
        .map_err(io::Error::other)?;
        let applier = Arc::new(Mutex::new(applier));
        let handle = ApplyHandle {
            tasks,
            applier: applier.clone(),
        };
        let worker = Worker {
            queue,
            store,
            applier,
            reclaim,
            left: None,
            checked: Instant::now(),
        };
        let thread = steps::start("engram-apply", worker)?;
        Ok(ApplyThread {
            handle,
            thread,
            stats,
        })
    }

    /// Its way in.
    pub fn handle(&self) -> ApplyHandle {
        self.handle.clone()
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<ApplyStats> {
        self.stats.clone()
    }

    /// Waits for the thread to end, once every handle is gone.
    pub fn join(self) {
        drop(self.handle);
        self.thread.join();
    }
}

struct Worker {
    queue: Receiver<Task>,
    store: Arc<Store>,
    applier: Arc<Mutex<Applier>>,
    reclaim: Reclaim,
    /// What is left of a task that found no room, on a stage: nobody can wait there.
    left: Option<Task>,
    /// When the engine was asked last whether it has failed.
    checked: Instant,
}

impl Steps for Worker {
    /// Does the next task, if there is one, then a step of what compaction left to reclaim.
    fn step(&mut self, may_wait: bool) -> Step {
        self.check_engine();
        let pending = self.store.read().compact_pending();
        threads::idle();
        let Ok(task) = self.next_task(self.wait_max(may_wait, pending)) else {
            return Step::Ended;
        };
        let is_idle = task.is_none();
        threads::turn();
        match task.map_or(Ok(()), |task| self.run_task(task)) {
            Ok(()) => {}
            Err(NoRoom::Stopping) => return Step::Ended,
            Err(NoRoom::Staged) => return Step::Nothing,
        }
        // On a stage nobody else wants the processor.
        let may_reclaim = pending && (!may_wait || self.reclaim.rest().is_zero());
        match may_reclaim.then(|| self.wait_for_room()) {
            None | Some(Ok(())) => {}
            Some(Err(NoRoom::Stopping)) => return Step::Ended,
            Some(Err(NoRoom::Staged)) => return Step::Nothing,
        }
        let has_reclaimed =
            may_reclaim && self.reclaim.step(&threads::on_disk(|| self.applier.lock()));
        match is_idle && !has_reclaimed && !may_wait {
            true => Step::Nothing,
            false => Step::Worked,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.store.compaction_hashes().stop();
    }
}

/// Nobody is left who could ask for anything.
struct Unasked;

/// There is no room to apply anything, and it is not waited for any longer.
enum NoRoom {
    /// The member stops: what is left is in the log.
    Stopping,
    /// On a stage a step that waited would never end.
    Staged,
}

impl Worker {
    /// Ends the process where the engine has failed in the background, whether there is much to do or nothing.
    fn check_engine(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.checked) >= IDLE && !is_planted("engine-unasked") {
            self.checked = now;
            // It flushes where one failed.
            threads::on_disk(|| self.store.engine().check_background_errors());
        }
    }

    /// How long to wait for a task.
    fn wait_max(&self, may_wait: bool, pending: bool) -> Duration {
        match (may_wait, pending) {
            (false, _) => Duration::ZERO,
            (true, false) => IDLE,
            (true, true) => self.reclaim.rest(),
        }
    }

    /// The next task. None where there was none for so long.
    fn next_task(&mut self, wait_max: Duration) -> Result<Option<Task>, Unasked> {
        if let Some(task) = self.left.take() {
            return Ok(Some(task));
        }
        match self.queue.recv_timeout(wait_max) {
            Ok(task) => Ok(Some(task)),
            Err(RecvTimeoutError::Disconnected) => Err(Unasked),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    /// Waits until there is room for what is written next.
    fn wait_for_room(&self) -> Result<(), NoRoom> {
        let headroom = self.store.headroom();
        if steps::is_on_stage() {
            return headroom.may_apply().then_some(()).ok_or(NoRoom::Staged);
        }
        headroom
            .wait_to_apply()
            .then_some(())
            .ok_or(NoRoom::Stopping)
    }

    /// Whoever asked is gone only when openraft is shutting down.
    fn run_task(&mut self, task: Task) -> Result<(), NoRoom> {
        let applier = self.applier.clone();
        // Who holds it works for milliseconds, or waits for the disk.
        let mut applier = threads::on_disk(|| applier.lock());
        applier.asked();
        let done = match task {
            Task::Apply { entries, done } => {
                let mut entries = entries.into_iter();
                while let Some(entry) = entries.next() {
                    // Only a stop ends the wait without room: the log keeps the entry.
                    if let Err(no_room) = self.wait_for_room() {
                        let entries = std::iter::once(entry).chain(entries).collect();
                        self.left = Some(Task::Apply { entries, done });
                        return Err(no_room);
                    }
                    applier.apply(entry);
                }
                done
            }
            Task::Install { prepared, done } => {
                applier.install(*prepared);
                done
            }
        };
        // Whoever hears of it may pass the next at once.
        drop(applier);
        let _ = done.send(());
        Ok(())
    }
}
