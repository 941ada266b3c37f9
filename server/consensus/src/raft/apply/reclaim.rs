//! Reclaiming what compaction superseded, a bounded step at a time, so that compaction never holds up a
//! write for longer than one step.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::applier::Applier;
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::raft::planted;
use crate::state::{Change, Effects};
use crate::store::Store;
use crate::threads;

/// Revisions reclaimed a step: some tenths of a millisecond of work under the lock, which is what a
/// write waits at most.
const RECLAIM_STEP: usize = 64;
/// After a step of reclaiming, those who write have the processor and the engine for so many times as
/// long as it took: a quarter of the time frees more than any of them leaves behind.
const RECLAIM_RESTS: u32 = 3;
/// Who has asked for nothing for so long is not waited for.
const RECLAIM_ALONE_AFTER: Duration = Duration::from_millis(100);
/// A reader has pinned an old revision: the next look comes so much later.
const PINNED_REST: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Reclaim {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    /// When the compaction under way began to be reclaimed.
    since: Option<Instant>,
    /// What has gone since.
    keys: u64,
    /// When the next step of it may be made.
    rests_until: Instant,
}

impl Reclaim {
    /// Nothing is being reclaimed yet.
    pub fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Reclaim {
        Reclaim {
            store,
            metrics,
            since: None,
            keys: 0,
            rests_until: Instant::now(),
        }
    }

    /// How long until the next step.
    pub fn rest(&self) -> Duration {
        self.rests_until.saturating_duration_since(Instant::now())
    }

    /// Makes a step, while nobody applies. Whether anything went.
    pub fn step(&mut self, applier: &Applier) -> bool {
        let started = Instant::now();
        let since = *self.since.get_or_insert(started);
        let mut effects = Effects::default();
        let mut state = self.store.write();
        let done = state.compact_step(RECLAIM_STEP, &mut effects);
        drop(state);
        let locked = started.elapsed();
        // The index names it no more: a reader who planned before plans anew.
        let engine = self.store.engine();
        if is_planted("reclaim-too-much") {
            planted::more_of(&mut effects.changes);
        }
        let bytes = threads::on_disk(|| engine.write_unlogged(&effects.changes));
        self.store.headroom().take(bytes);
        let took = started.elapsed();
        let parts = &self.metrics.parts;
        parts.index_compaction_pause_ms.observe(millis(locked));
        self.count_reclaimed(&effects.changes, took);
        if applier.unasked_for() < RECLAIM_ALONE_AFTER {
            self.rests_until = Instant::now() + took * RECLAIM_RESTS;
        }
        if done {
            self.finish(since.elapsed());
        } else if effects.changes.is_empty() {
            self.rests_until = Instant::now() + PINNED_REST;
        }
        !effects.changes.is_empty()
    }

    fn count_reclaimed(&mut self, changes: &[Change], paused: Duration) {
        let operations = &self.metrics.operations;
        let dropped = |change: &&Change| matches!(change, Change::DeleteRevision(_));
        let keys = changes.iter().filter(dropped).count();
        operations.compaction_keys.inc_by(keys as u64);
        self.keys += keys as u64;
        operations.compaction_pause_ms.observe(millis(paused));
    }

    fn finish(&mut self, took: Duration) {
        let (size, in_use) = self.store.size_and_in_use_bytes();
        crate::log!(
            info,
            "finished scheduled compaction",
            "compact-revision" = self.store.compact_revision().0,
            took = took,
            "number-of-keys-compacted" = std::mem::take(&mut self.keys),
            "current-db-size-bytes" = size,
            "current-db-size-in-use-bytes" = in_use
        );
        self.since = None;
        let operations = &self.metrics.operations;
        operations.compaction_total_ms.observe(millis(took));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs());
        operations.compaction_last.set(now.unwrap_or(i64::MAX));
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
