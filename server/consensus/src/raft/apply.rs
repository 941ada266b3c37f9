//! The apply thread: committed entries in, state changed, engine written, watchers told, callers
//! answered, in that order.
//!
//! It is a thread of its own so that a transaction over a million keys, or an engine that stalls,
//! stops no heartbeat. Between entries it reclaims what compaction superseded, a bounded step at a
//! time, so that compaction never holds up a write for longer than one step.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openraft::EntryPayload;
use tokio::sync::oneshot;

use super::{ApplyStats, Batch, Entry, entry, planted};
use crate::codec::entry::BatchHeader;
use crate::fatal::end_process;
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::snapshot::install::Prepared;
use crate::state::{self, Change, Effects, Event, Hold as _, MemberNode, State};
use crate::storage::Applied as AppliedMark;
use crate::store::Store;
use crate::threads::{
    self,
    steps::{self, Step, Stepping, Steps},
};
use crate::types::Revision;
use crate::types::request::Op;
use crate::types::result::{self, Kept, Outcome};

/// Tasks that may wait for the thread. openraft has at most a few under way.
const QUEUE_MAX: usize = 16;
/// Revisions reclaimed a step: some tenths of a millisecond of work under the lock, which is what a
/// write waits at most.
const RECLAIM_STEP: usize = 64;
/// After a step of reclaiming, those who write have the processor and the engine for so many times as
/// long as it took: a quarter of the time frees more than any of them leaves behind.
const RECLAIM_RESTS: u32 = 3;
/// Who has asked for nothing for so long is not waited for.
const RECLAIM_ALONE_AFTER: Duration = Duration::from_millis(100);
/// Operations of a batch between two looks at whether readers wait.
const OPS_A_BREATH: usize = 64;
/// How long an idle thread waits before it looks at the engine's health.
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
    /// Make everything applied durable.
    Flush {
        /// Told when done.
        done: oneshot::Sender<()>,
    },
}

/// The way to the thread.
#[derive(Clone)]
pub struct ApplyHandle {
    tasks: SyncSender<Task>,
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
}

/// Nobody applies any more.
pub(super) fn stopped() -> io::Error {
    io::Error::other("the apply thread has stopped")
}

/// The running thread. Dropping the handles of it ends it.
pub struct ApplyThread {
    tasks: SyncSender<Task>,
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
        let worker = Worker {
            queue,
            store,
            applied,
            mark,
            stats: stats.clone(),
            metrics,
            warning,
            reclaiming_since: None,
            rests_until: Instant::now(),
            last_task: Instant::now(),
        };
        let thread = steps::start("engram-apply", worker)?;
        Ok(ApplyThread {
            tasks,
            thread,
            stats,
        })
    }

    /// Its way in.
    pub fn handle(&self) -> ApplyHandle {
        ApplyHandle {
            tasks: self.tasks.clone(),
        }
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<ApplyStats> {
        self.stats.clone()
    }

    /// Waits for the thread to end, once every handle is gone.
    pub fn join(self) {
        drop(self.tasks);
        self.thread.join();
    }
}

struct Worker {
    queue: Receiver<Task>,
    store: Arc<Store>,
    applied: Arc<dyn Applied>,
    mark: AppliedMark,
    stats: Arc<ApplyStats>,
    metrics: Arc<Metrics>,
    warning: Duration,
    /// When the compaction under way began to be reclaimed.
    reclaiming_since: Option<Instant>,
    /// When the next step of it may be made.
    rests_until: Instant,
    /// When somebody asked for something last.
    last_task: Instant,
}

impl Steps for Worker {
    /// Does the next task, if there is one, then a step of what compaction left to reclaim.
    fn step(&mut self, may_wait: bool) -> Step {
        let pending = self.store.read().compact_pending();
        threads::idle();
        let Ok(task) = self.next_task(self.wait_max(may_wait, pending)) else {
            return Step::Ended;
        };
        let is_idle = task.is_none();
        threads::turn();
        if task.is_some_and(|task| self.run_task(task).is_err()) {
            return Step::Ended;
        }
        // On a stage nobody else wants the processor.
        let may_reclaim = pending && (!may_wait || self.rest().is_zero());
        if may_reclaim && !self.store.headroom().wait_to_apply() {
            return Step::Ended;
        }
        let has_reclaimed = may_reclaim && self.reclaim(may_wait);
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

/// The member stops: what is left is in the log.
struct Stopping;

impl Worker {
    /// How long to wait for a task.
    fn wait_max(&self, may_wait: bool, pending: bool) -> Duration {
        match (may_wait, pending) {
            (false, _) => Duration::ZERO,
            (true, false) => IDLE,
            (true, true) => self.rest(),
        }
    }

    /// How long until the next step of reclaiming.
    fn rest(&self) -> Duration {
        self.rests_until.saturating_duration_since(Instant::now())
    }

    /// The next task. None where there was none for so long.
    fn next_task(&mut self, wait_max: Duration) -> Result<Option<Task>, Unasked> {
        match self.queue.recv_timeout(wait_max) {
            Ok(task) => {
                self.last_task = Instant::now();
                Ok(Some(task))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Unasked),
            Err(RecvTimeoutError::Timeout) => {
                if wait_max == IDLE {
                    self.store.engine().check_background_errors();
                }
                Ok(None)
            }
        }
    }

    /// Whoever asked is gone only when openraft is shutting down.
    fn run_task(&mut self, task: Task) -> Result<(), Stopping> {
        let done = match task {
            Task::Apply { entries, done } => {
                for entry in entries {
                    // Only a stop ends the wait without room: the log keeps the entry.
                    if !self.store.headroom().wait_to_apply() {
                        return Err(Stopping);
                    }
                    self.apply(entry);
                }
                done
            }
            Task::Install { prepared, done } => {
                self.install(*prepared);
                done
            }
            Task::Flush { done } => {
                // Without room it would fail, and a failed flush ends the process.
                if !self.store.headroom().wait_to_apply() {
                    return Err(Stopping);
                }
                threads::on_disk(|| self.store.engine().flush());
                done
            }
        };
        let _ = done.send(());
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        threads::turn();
        let started = Instant::now();
        let position = entry::position(&entry.log_id);
        let before = self.mark.log_position.map_or(0, |last| last.index);
        assert!(
            self.mark.log_position.is_none() || position.index == before + 1,
            "I2: entry {} follows {before}",
            position.index
        );
        self.mark.log_position = Some(position);
        match entry.payload {
            EntryPayload::Blank => self.write_mark(position.index),
            EntryPayload::Membership(membership) => {
                self.mark.membership_position = Some(position);
                self.mark.membership = entry::encode_membership(&membership);
                self.reconfigure(&entry::members(&membership), position.index);
            }
            EntryPayload::Normal(batch) => self.apply_batch(&batch, position.index),
        }
        self.count(started, position.index);
    }

    fn reconfigure(&self, nodes: &[MemberNode], index: u64) {
        let mut effects = Effects::default();
        let mut writing = self.store.begin();
        writing.state().reconfigure(nodes, &mut effects);
        writing.commit(&self.store.engine(), &effects.changes, &self.mark, index);
        self.applied.members_changed();
    }

    /// What was applied until now is in the snapshot, and more: the store becomes the snapshot, and
    /// everybody who follows the store is told.
    fn install(&mut self, prepared: Prepared) {
        let started = Instant::now();
        let position = prepared.position();
        let before = self.mark.log_position.map_or(0, |last| last.index);
        assert!(
            position.index > before,
            "I2: a snapshot that ends with {position} does not follow {before}"
        );
        let mark = prepared.applied().clone();
        let installing = &self.metrics.operations.snapshots_installing;
        installing.set(1);
        let old = match prepared.install(&self.store) {
            Ok(old) => old,
            Err(error) => end_process(
                error,
                "once the disk is healthy, start again: nothing acknowledged is lost",
            ),
        };
        self.mark = mark;
        self.applied.replaced(&self.store);
        self.metrics.operations.snapshots_installing.set(0);
        crate::log!(
            info,
            "installed a snapshot from the leader",
            index = position.index,
            term = position.term,
            before = before,
            revision = self.store.revision().0,
            took = started.elapsed()
        );
        drop(old);
    }

    fn write_mark(&self, index: u64) {
        let engine = self.store.engine();
        let bytes = threads::on_disk(|| engine.write(&[], &self.mark));
        self.store.headroom().take(bytes);
        self.store.passed(index);
    }

    fn apply_batch(&mut self, batch: &Batch, index: u64) {
        let decoded = match batch.decoded() {
            Ok(decoded) => decoded,
            Err(error) => end_process(
                format_args!("entry {index} of the log cannot be applied: {error}"),
                "if a newer engram wrote it, start that version; else restore this member",
            ),
        };
        let (header, ops) = &*decoded;
        let planted;
        let ops = match planted::in_place_of(ops) {
            Some(changed) => {
                planted = changed;
                &planted
            }
            None => ops,
        };
        let mut effects = Effects::default();
        let mut outcomes = Vec::with_capacity(ops.len());
        // Dropped after the lock, whatever happens.
        let mut hashing = Vec::new();
        let engine = self.store.engine();
        let mut writing = self.store.begin();
        for (n, op) in ops.iter().enumerate() {
            let begun = self.store.begin_compaction_hash(writing.state(), op);
            let mut outcome = state::apply(&mut writing, op, &engine, &mut effects);
            // Before anything after it can be reclaimed.
            outcome.kept = outcome.later.map(|at| self.keep(writing.state(), at));
            if let Ok(result::Applied::Token(token)) = &mut outcome.result {
                // Every member makes the same token of it.
                token.0.extend(format!(".{index}").bytes());
            }
            outcomes.push(outcome);
            hashing.extend(begun.map(|begun| (n, begun)));
            if n % OPS_A_BREATH == OPS_A_BREATH - 1 {
                writing.breathe();
            }
        }
        let has_users = ops.iter().any(|op| matches!(op.bare(), Op::Auth(_)));
        if has_users {
            self.applied.users(ops, &outcomes);
        }
        let started = Instant::now();
        let before = self.store.revision();
        let mark = match is_planted("mark-late") {
            true => &planted::late(&self.mark),
            false if is_planted("mark-early") => &planted::early(&self.mark),
            false => &self.mark,
        };
        let revision = writing.commit(&engine, &effects.changes, mark, index);
        self.metrics
            .backend_commit
            .observe(started.elapsed().as_secs_f64());
        for (place, begun) in hashing {
            if outcomes[place].result.is_ok() {
                self.store.hash_compaction(begun);
            }
        }
        self.stats.applied(ops, &outcomes);
        if has_users {
            self.applied.users_shown();
        }
        self.applied
            .written(before, revision, index, &effects.changes);
        self.applied.events(revision, effects.events);
        self.applied.outcomes(header, ops, outcomes);
    }

    /// Keeps what a read needs that is left for later. It goes with the outcome.
    fn keep(&self, state: &State, needed: Revision) -> Kept {
        Kept(Arc::new(self.store.pin_found(state, needed)))
    }

    /// Whether anything went.
    fn reclaim(&mut self, may_wait: bool) -> bool {
        let started = Instant::now();
        let since = *self.reclaiming_since.get_or_insert(started);
        let mut effects = Effects::default();
        let mut state = self.store.write();
        let done = state.compact_step(RECLAIM_STEP, &mut effects);
        drop(state);
        // The index names it no more: a reader who planned before plans anew.
        let engine = self.store.engine();
        if is_planted("reclaim-too-much") {
            planted::more_of(&mut effects.changes);
        }
        let bytes = threads::on_disk(|| engine.write_unlogged(&effects.changes));
        self.store.headroom().take(bytes);
        let took = started.elapsed();
        self.count_reclaimed(&effects.changes, took);
        if self.last_task.elapsed() < RECLAIM_ALONE_AFTER {
            self.rests_until = Instant::now() + took * RECLAIM_RESTS;
        }
        if done {
            self.finish_reclaiming(since.elapsed());
        } else if effects.changes.is_empty() && may_wait {
            // A reader has pinned an old revision: look again in a while rather than spin.
            std::thread::sleep(Duration::from_millis(10));
        }
        !effects.changes.is_empty()
    }

    fn count_reclaimed(&self, changes: &[Change], paused: Duration) {
        let operations = &self.metrics.operations;
        let dropped = |change: &&Change| matches!(change, Change::DeleteRevision(_));
        let keys = changes.iter().filter(dropped).count();
        operations.compaction_keys.inc_by(keys as u64);
        operations.compaction_pause_ms.observe(millis(paused));
    }

    fn finish_reclaiming(&mut self, took: Duration) {
        crate::log!(info, "finished scheduled compaction", took = took);
        self.reclaiming_since = None;
        let operations = &self.metrics.operations;
        operations.compaction_total_ms.observe(millis(took));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs());
        operations.compaction_last.set(now.unwrap_or(i64::MAX));
    }

    fn count(&self, started: Instant, index: u64) {
        let took = started.elapsed();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.stats.apply_micros.fetch_add(micros, Ordering::Relaxed);
        self.stats.entries.fetch_add(1, Ordering::Relaxed);
        if took > self.warning {
            self.stats.slow.fetch_add(1, Ordering::Relaxed);
            crate::log!(
                warn,
                "apply request took too long",
                took = took,
                "expected-duration" = self.warning,
                prefix = "",
                index = index
            );
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
