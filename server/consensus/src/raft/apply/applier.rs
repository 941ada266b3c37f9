//! What applying an entry is: state changed, engine written, watchers told, callers answered, in that
//! order. Whoever holds the applier is the one who applies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::EntryPayload;

use super::Applied;
use super::kinds;
use super::stats::ApplyStats;
use crate::fatal::end_process;
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::raft::entry::{self, EntryError};
use crate::raft::{Batch, Entry, Membership, planted};
use crate::snapshot::install::Prepared;
use crate::state::{self, Effects, Hold as _, MemberNode, State};
use crate::storage::Applied as AppliedMark;
use crate::store::Store;
use crate::threads;
use crate::types::Revision;
use crate::types::request::Op;
use crate::types::result::{self, Kept};

/// Operations of a batch between two looks at whether readers wait.
const OPS_A_BREATH: usize = 64;
/// The most operations of a batch that is applied in passing: about a millisecond of work.
const PASSING_OPS_MAX: usize = 128;
/// The most bytes of such a batch: what the engine's memtable takes in about as long.
const PASSING_BYTES_MAX: usize = 256 << 10;

/// See the module.
pub(super) struct Applier {
    store: Arc<Store>,
    applied: Arc<dyn Applied>,
    mark: AppliedMark,
    stats: Arc<ApplyStats>,
    metrics: Arc<Metrics>,
    warning: Duration,
    /// Whether one member alone votes, as of what was applied.
    has_one_voter: bool,
    /// When somebody asked for something last.
    last_asked: Instant,
}

impl Applier {
    /// An applier that goes on where the store's engine ended. `warning`: what is slow.
    ///
    /// # Errors
    /// The membership in the engine cannot be read.
    pub fn new(
        store: Arc<Store>,
        applied: Arc<dyn Applied>,
        metrics: Arc<Metrics>,
        stats: Arc<ApplyStats>,
        mark: AppliedMark,
        warning: Duration,
    ) -> Result<Applier, EntryError> {
        Ok(Applier {
            has_one_voter: has_one_voter(&members_of(&mark)?),
            store,
            applied,
            mark,
            stats,
            metrics,
            warning,
            last_asked: Instant::now(),
        })
    }

    /// How long nobody has asked for anything.
    pub fn unasked_for(&self) -> Duration {
        self.last_asked.elapsed()
    }

    /// Somebody asks for something.
    pub fn asked(&mut self) {
        self.last_asked = Instant::now();
    }

    /// Whether these entries may be applied by the log's writer in passing, which spares waking another
    /// thread: what it writes next can be applied only after them anyway, nobody but this member counts
    /// on its log (that of a member beside another voter is never kept waiting for an engine; a learner's
    /// beside one is counted by nobody), there is room, and they are short.
    pub fn may_apply_in_passing(&self, entries: &[Entry]) -> bool {
        let [entry] = entries else { return false };
        self.has_one_voter && is_short(entry) && self.store.headroom().may_apply()
    }

    /// Applies the next entry.
    pub fn apply(&mut self, entry: Entry) {
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

    fn reconfigure(&mut self, nodes: &[MemberNode], index: u64) {
        self.has_one_voter = has_one_voter(nodes);
        let mut effects = Effects::default();
        let mut writing = self.store.begin();
        writing.state().reconfigure(nodes, &mut effects);
        writing.commit(&self.store.engine(), &effects.changes, &self.mark, index);
        self.applied.members_changed();
    }

    /// What was applied until now is in the snapshot, and more: the store becomes the snapshot, and
    /// everybody who follows the store is told.
    pub fn install(&mut self, prepared: Prepared) {
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
        // A member that was sent a snapshot is not the only one.
        self.has_one_voter = false;
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
        let taken_up = Instant::now();
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
        kinds::applied(&self.metrics.parts, ops, &outcomes, taken_up.elapsed());
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

/// The members as of a mark; none before the first.
fn members_of(mark: &AppliedMark) -> Result<Vec<MemberNode>, EntryError> {
    let membership: Membership = entry::decode_membership(mark.membership.clone())?;
    Ok(entry::members(&membership))
}

/// Whether one of them alone votes, and no other is about to.
fn has_one_voter(members: &[MemberNode]) -> bool {
    members.iter().filter(|member| !member.learner).count() == 1
}

/// Whether an entry is a few operations on a few keys.
fn is_short(entry: &Entry) -> bool {
    let batch = match &entry.payload {
        EntryPayload::Normal(batch) => batch,
        EntryPayload::Blank => return true,
        EntryPayload::Membership(_) => return false,
    };
    batch.encoded().len() <= PASSING_BYTES_MAX
        && batch.at_hand().is_some_and(|(_, ops)| {
            ops.len() <= PASSING_OPS_MAX && ops.iter().all(Op::is_of_few_keys)
        })
}
