//! Keys, values and their history (multi-version concurrency control).
//!
//! Owns an index in memory over every key that a readable revision holds: an order-statistics tree
//! with, for each key, its newest version (the value beside it while the cache has room) and the
//! older ones that are still readable. Values not at hand are in `storage`, by revision.
//!
//! Must never read storage but through [`Values`], nor drop a revision that a readable or pinned
//! revision needs.
//!
//! Invariants: the store's revision rises by one with every transaction that changes something; a
//! key's versions ascend; the tree's weight is the number of keys that exist at the newest revision.

mod cache;
mod count;
mod entry;
mod hash;
mod horizon;
mod key_order;
mod load;
mod read;
mod reclaim;
pub mod tree;
mod walk;
mod within;
mod write;

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::types::result::ApplyError;
use crate::types::{Revision, RevisionPair};

use super::effects::{Change, Effects, RevisionRecord, Values};
use cache::ValueCache;
use count::{ChangeLog, PageCounts};
use entry::{Entry, Version};
use reclaim::Superseded;
use tree::OrderTree;

pub use hash::{CompactionHash, HashPlan, Hashing, KeyValueHash, RecordHash};
pub(crate) use horizon::Horizon;
pub(crate) use load::Loader;
pub use load::{Loaded, NUMBER_MAX, is_sound};
pub(crate) use read::Found;
pub use read::{Plan, Slot};
pub use walk::{Sighting, Walk};
pub(crate) use write::Writer;

/// What etcd reports as the compact revision of a store that was never compacted.
const NEVER_COMPACTED: Revision = Revision(-1);

/// The versioned key space.
pub struct Mvcc {
    tree: OrderTree<Entry>,
    revision: Revision,
    /// Reads below it are refused. [`NEVER_COMPACTED`] at first.
    compacted: Revision,
    /// The newest revision that the index holds anything of: the store's, or one above it while a
    /// transaction writes.
    tip: Revision,
    /// What readers see: behind revision and compaction while a batch is applied.
    seen: Horizon,
    /// Everything that the compaction at this revision superseded is gone.
    reclaimed: Revision,
    /// Nothing that was superseded after this revision is gone.
    whole_after: Revision,
    superseded: Superseded,
    /// What the current batch wrote and storage does not hold yet, ascending.
    unwritten: Vec<RevisionRecord>,
    changes: ChangeLog,
    page_counts: Mutex<PageCounts>,
    pins: Mutex<BTreeMap<Revision, usize>>,
    cache: ValueCache,
    logical_bytes: u64,
}

impl Mvcc {
    pub(super) fn new(value_cache_bytes: usize) -> Mvcc {
        Mvcc {
            tree: OrderTree::new(),
            revision: Revision::EMPTY_STORE,
            compacted: NEVER_COMPACTED,
            tip: Revision::EMPTY_STORE,
            seen: Horizon {
                revision: Revision::EMPTY_STORE,
                compacted: NEVER_COMPACTED,
            },
            reclaimed: NEVER_COMPACTED,
            whole_after: NEVER_COMPACTED,
            superseded: Superseded::default(),
            unwritten: Vec::new(),
            changes: ChangeLog::since(Revision::EMPTY_STORE),
            page_counts: Mutex::new(PageCounts::default()),
            pins: Mutex::new(BTreeMap::new()),
            cache: ValueCache::new(value_cache_bytes),
            logical_bytes: 0,
        }
    }

    /// The newest revision, as readers see it.
    pub fn revision(&self) -> Revision {
        self.seen.revision
    }

    /// What readers see.
    pub(super) fn seen(&self) -> Horizon {
        self.seen
    }

    /// What is applied: what the next operation sees.
    pub(super) fn newest(&self) -> Horizon {
        Horizon {
            revision: self.revision,
            compacted: self.compacted,
        }
    }

    /// See [`super::State::show`].
    pub(super) fn show(&mut self) {
        if self.seen.compacted != self.compacted {
            self.changes.forget_before(self.compacted);
        }
        self.seen = self.newest();
    }

    /// The revision last compacted at; reads at it still work, below it they fail. 0 if the store
    /// was never compacted ([`HashPlan`] alone reports etcd's -1 then).
    pub fn compact_revision(&self) -> Revision {
        self.seen.compacted.max(Revision(0))
    }

    /// The revision up to which compaction has also reclaimed what it superseded; 0 if none.
    /// [`Mvcc::compact_revision`] once a compaction is physically done.
    pub fn compact_finished(&self) -> Revision {
        self.reclaimed.max(Revision(0))
    }

    /// After where history is whole, compacted or not: no version that was superseded after this revision is
    /// reclaimed. [`Mvcc::compact_revision`] at most; below it where somebody pins an earlier one, or did before
    /// a crash.
    pub fn whole_after(&self) -> Revision {
        self.whole_after.max(Revision(0))
    }

    /// How many keys exist at the newest revision.
    pub fn keys_total(&self) -> u64 {
        self.tree.weight()
    }

    /// The bytes of every revision still held, keys and values as stored: what a store without any
    /// overhead would need.
    pub fn logical_bytes(&self) -> u64 {
        self.logical_bytes
    }

    /// The bytes of values kept in memory.
    pub fn value_cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Keeps `revision` readable through [`Mvcc::walk`] until [`Mvcc::unpin`], whatever is
    /// compacted in the meantime. Pins are counted. New requests are still refused below the
    /// compact revision.
    ///
    /// # Errors
    /// The revision is compacted already (and not pinned), or in the future.
    pub fn pin(&self, revision: Revision) -> Result<(), ApplyError> {
        if revision > self.revision {
            return Err(ApplyError::FutureRevision);
        }
        let mut pins = self.pins.lock();
        if revision < self.seen.compacted && !pins.contains_key(&revision) {
            return Err(ApplyError::Compacted);
        }
        *pins.entry(revision).or_insert(0) += 1;
        Ok(())
    }

    /// As [`Mvcc::pin`], for a revision that was found readable since this state was last let go of:
    /// nothing of it is reclaimed yet, whatever was compacted meanwhile.
    pub fn pin_found(&self, revision: Revision) {
        *self.pins.lock().entry(revision).or_insert(0) += 1;
    }

    /// How many pins there are.
    pub fn pins(&self) -> usize {
        self.pins.lock().values().sum()
    }

    /// Gives up one pin of `revision`. Panics if it has none.
    pub fn unpin(&self, revision: Revision) {
        let mut pins = self.pins.lock();
        let held = pins
            .get_mut(&revision)
            .expect("only a pinned revision is unpinned");
        *held -= 1;
        if *held == 0 {
            pins.remove(&revision);
        }
    }

    /// Whether any revision is pinned.
    pub fn has_pins(&self) -> bool {
        !self.pins.lock().is_empty()
    }

    /// The bytes of current values that are kept beside their keys at most.
    pub fn value_cache_budget(&self) -> usize {
        self.cache.budget()
    }

    /// Whether somebody keeps `revision` from being reclaimed.
    pub fn is_pinned(&self, revision: Revision) -> bool {
        self.pins.lock().contains_key(&revision)
    }

    fn lowest_pin(&self) -> Option<Revision> {
        self.pins.lock().keys().next().copied()
    }

    /// Whether the key exists at the newest revision.
    pub(super) fn exists(&self, key: &[u8]) -> bool {
        self.tree
            .get(key)
            .is_some_and(|entry| !entry.newest().is_tombstone())
    }

    /// Refuses reads below `revision` from now on, and schedules the reclaim.
    ///
    /// A never compacted store accepts a compaction at 0, as etcd does: it drops nothing, but the
    /// store is no longer one that was never compacted.
    pub(super) fn compact(
        &mut self,
        revision: Revision,
        effects: &mut Effects,
    ) -> Result<(), ApplyError> {
        if revision <= self.compacted {
            return Err(ApplyError::Compacted);
        }
        if revision > self.revision {
            return Err(ApplyError::FutureRevision);
        }
        let told = self.whole_mark();
        self.compacted = revision;
        effects.changes.push(Change::SetCompactScheduled(revision));
        if self.reclaim_limit() == revision {
            // Nobody holds anything: what may go counts as gone, and nothing need be written of it. (A
            // release that does not know what is written could not read the store.)
            self.whole_after = revision;
        }
        if self.whole_mark() != told {
            effects
                .changes
                .push(Change::SetWholeAfter(self.whole_mark()));
        }
        Ok(())
    }

    pub(super) fn take_unwritten(&mut self) -> Vec<RevisionRecord> {
        std::mem::take(&mut self.unwritten)
    }

    pub(super) fn shrink_cache(&mut self) -> bool {
        self.cache.shrink(&mut self.tree)
    }

    /// The encoded key-value at `pair`, which the index says exists.
    fn stored_at(&self, pair: RevisionPair, values: &dyn Values) -> Bytes {
        match self.unwritten_at(pair) {
            Some(record) => record.encoded.clone(),
            None => present(pair, values.get(pair)),
        }
    }

    fn unwritten_at(&self, pair: RevisionPair) -> Option<&RevisionRecord> {
        let place = self
            .unwritten
            .binary_search_by_key(&pair, |record| record.pair)
            .ok()?;
        Some(&self.unwritten[place])
    }
}

/// What storage answered for a revision that the index needs. There is nothing to serve instead of
/// it, and a guess would be a lie: the process ends.
fn present(pair: RevisionPair, record: Option<RevisionRecord>) -> Bytes {
    let Some(record) = record else {
        panic!(
            "revision {}.{} is in the index but not in storage: the data directory is damaged. \
             Replace this member, or restore it from a snapshot",
            pair.main, pair.sub
        );
    };
    record.encoded
}
