//! Compaction's physical part: dropping exactly the versions that nobody can read any more.
//!
//! Every version that has been superseded waits in a queue, in the order in which compaction frees
//! it, so that a compaction costs what it frees and not what the store holds. A put is free once the
//! store is compacted at the revision that superseded it; a tombstone only above its own revision,
//! for reads and watches at that revision still see the deletion (as etcd has kept it since 3.5.16).
//!
//! Versions of a key leave oldest first, and a tombstone after the puts before it: whenever the
//! process stops in between, what is left in storage never brings a deleted key back.

use std::collections::VecDeque;

use crate::types::{Revision, RevisionPair, Stored};

use super::super::effects::{Change, Effects};
use super::entry::Entry;
use super::{Mvcc, Version};

/// A superseded version, free once the store is compacted at `due`.
#[derive(Debug)]
struct Garbage {
    due: Revision,
    pair: RevisionPair,
    key: Stored,
}

/// The superseded versions still held. Both queues ascend by `due`.
#[derive(Debug, Default)]
pub(super) struct Superseded {
    puts: VecDeque<Garbage>,
    tombstones: VecDeque<Garbage>,
}

impl Superseded {
    /// A version was superseded by one at `by`.
    pub(super) fn supersede(&mut self, version: Version, by: Revision, key: Stored) {
        // A tombstone has been waiting since it was written.
        if !version.is_tombstone() {
            self.puts.push_back(Garbage {
                due: by,
                pair: version.pair(),
                key,
            });
        }
    }

    /// Room for so many deletions more.
    pub(super) fn reserve(&mut self, deletions: usize) {
        self.puts.reserve(deletions);
        self.tombstones.reserve(deletions);
    }

    /// A tombstone was written.
    pub(super) fn bury(&mut self, pair: RevisionPair, key: Stored) {
        self.tombstones.push_back(Garbage {
            due: pair.main.next(),
            pair,
            key,
        });
    }

    /// Takes the next version that is free at `limit`; a put before a tombstone of the same time.
    fn pop(&mut self, limit: Revision) -> Option<Garbage> {
        let due = |queue: &VecDeque<Garbage>| queue.front().map(|garbage| garbage.due);
        let queue = match (due(&self.puts), due(&self.tombstones)) {
            (Some(put), Some(tombstone)) if tombstone < put => &mut self.tombstones,
            (Some(_), _) => &mut self.puts,
            (None, _) => &mut self.tombstones,
        };
        queue.pop_front_if(|garbage| garbage.due <= limit)
    }

    fn has_due(&self, limit: Revision) -> bool {
        let due = |queue: &VecDeque<Garbage>| queue.front().is_some_and(|it| it.due <= limit);
        due(&self.puts) || due(&self.tombstones)
    }
}

impl Mvcc {
    pub(crate) fn compact_step(&mut self, max: usize, effects: &mut Effects) -> bool {
        if self.reclaimed == self.compacted {
            return true;
        }
        let limit = self.reclaim_limit();
        let mut some_went = false;
        for _ in 0..max {
            let Some(garbage) = self.superseded.pop(limit) else {
                break;
            };
            self.reclaim(&garbage);
            effects.changes.push(Change::DeleteRevision(garbage.pair));
            some_went = true;
        }
        let is_over = !self.superseded.has_due(self.compacted);
        let nobody_holds = is_over && limit == self.compacted;
        if (some_went || nobody_holds) && limit > self.whole_after {
            // With the deletions, in one batch: no crash leaves the one without the other.
            self.whole_after = limit;
            effects
                .changes
                .push(Change::SetWholeAfter(self.whole_mark()));
        }
        if !is_over {
            return false;
        }
        self.reclaimed = self.compacted;
        effects
            .changes
            .push(Change::SetCompactFinished(self.compacted));
        true
    }

    /// What storage says of after where history is whole.
    pub(super) fn whole_mark(&self) -> Option<Revision> {
        (self.whole_after < self.compacted).then_some(self.whole_after)
    }

    pub(crate) fn compact_pending(&self) -> bool {
        self.reclaimed != self.compacted
            && (self.superseded.has_due(self.reclaim_limit())
                || !self.superseded.has_due(self.compacted))
    }

    /// How many superseded versions are held.
    #[cfg(any(test, feature = "fixtures"))]
    pub(crate) fn superseded_len(&self) -> usize {
        self.superseded.puts.len() + self.superseded.tombstones.len()
    }

    /// Up to which revision versions may go: what a pinned revision sees, stays.
    pub(super) fn reclaim_limit(&self) -> Revision {
        self.lowest_pin()
            .map_or(self.compacted, |pin| pin.min(self.compacted))
    }

    fn reclaim(&mut self, garbage: &Garbage) {
        let key = garbage.key.key();
        let dropped = self
            .tree
            .update(key, |entry| entry.drop_older(garbage.pair))
            .expect("a superseded version's key is in the index");
        if let Some(version) = dropped {
            self.logical_bytes -= u64::from(version.bytes());
            return;
        }
        let entry = self.tree.remove(key).expect("found just now");
        self.assert_removable(&entry, garbage);
        self.logical_bytes -= u64::from(entry.newest().bytes());
    }

    /// A key leaves the index with its last tombstone, after everything before it.
    fn assert_removable(&self, entry: &Entry, garbage: &Garbage) {
        let newest = entry.newest();
        assert!(newest.is_tombstone(), "only a deleted key leaves the index");
        assert!(
            newest.pair() == garbage.pair,
            "the tombstone waiting is the key's newest version"
        );
        assert!(
            !entry.has_history(),
            "a tombstone goes after the puts before it"
        );
    }
}
