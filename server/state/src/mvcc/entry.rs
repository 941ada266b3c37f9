//! One key of the index: its newest version and the older ones still readable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::types::{Revision, RevisionPair, Stored};

use super::tree::Item;

/// One version of a key. 32 bytes: a store has at least one of these for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    main: i64,
    create: i64,
    /// 0 in a tombstone.
    version: i64,
    sub: u32,
    /// The size of the stored record, for the count of logical bytes.
    bytes: u32,
}

impl Version {
    /// A put.
    pub(super) fn put(pair: RevisionPair, create: Revision, version: i64, bytes: u32) -> Version {
        assert!(version > 0, "a put has a version of 1 or more");
        Version {
            main: pair.main.0,
            create: create.0,
            version,
            sub: pair.sub,
            bytes,
        }
    }

    /// A deletion.
    pub(super) fn tombstone(pair: RevisionPair, bytes: u32) -> Version {
        Version {
            main: pair.main.0,
            create: 0,
            version: 0,
            sub: pair.sub,
            bytes,
        }
    }

    pub(super) fn pair(&self) -> RevisionPair {
        RevisionPair {
            main: Revision(self.main),
            sub: self.sub,
        }
    }

    pub(super) fn main(&self) -> Revision {
        Revision(self.main)
    }

    pub(super) fn create(&self) -> Revision {
        Revision(self.create)
    }

    pub(super) fn version(&self) -> i64 {
        self.version
    }

    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// What a key was before, oldest first. Boxed: most keys have no past once compacted.
#[derive(Debug)]
struct History {
    older: VecDeque<Version>,
    /// The key, shared by the queue of superseded versions, so that the values need not stay.
    key: Stored,
}

/// One key. 56 bytes.
#[derive(Debug)]
pub(super) struct Entry {
    stored: Stored,
    newest: Version,
    history: Option<Box<History>>,
    /// Whether `stored` holds the value; kept here to spare the sweep a pointer to follow.
    cached: bool,
    /// Whether a reader has used the value since the sweep last came by.
    used: AtomicBool,
}

// A store of many small keys is mostly these.
const _: () = assert!(size_of::<Version>() == 32 && size_of::<Entry>() == 56);

impl Item for Entry {
    fn key(&self) -> &[u8] {
        self.stored.key()
    }

    fn weight(&self) -> u32 {
        u32::from(!self.newest.is_tombstone())
    }
}

impl Entry {
    pub(super) fn new(stored: Stored, newest: Version) -> Entry {
        let cached = stored.encoded().is_some();
        Entry {
            stored,
            newest,
            history: None,
            cached,
            used: AtomicBool::new(false),
        }
    }

    pub(super) fn stored(&self) -> &Stored {
        &self.stored
    }

    pub(super) fn newest(&self) -> &Version {
        &self.newest
    }

    /// Whether the newest version's value is at hand.
    pub(super) fn is_cached(&self) -> bool {
        self.cached
    }

    /// The bytes the value cache is charged for this key.
    pub(super) fn cached_bytes(&self) -> usize {
        if self.cached {
            self.stored.heap_bytes()
        } else {
            0
        }
    }

    /// Remembers that a reader took the value.
    pub(super) fn touch(&self) {
        // Written only when it changes, so that readers of a hot key do not fight over its line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the value was used since this was last asked.
    pub(super) fn take_used(&mut self) -> bool {
        std::mem::take(self.used.get_mut())
    }

    /// Lets go of the value and returns the bytes freed.
    pub(super) fn evict(&mut self) -> usize {
        let freed = self.cached_bytes();
        if self.cached {
            self.stored = self.stored.without_value();
            self.cached = false;
        }
        freed
    }

    /// The version that readers at `at` see, if the key existed then. `at` may be below what has
    /// been reclaimed only if nobody asks.
    pub(super) fn at(&self, at: Revision) -> Option<&Version> {
        self.last_at(at).filter(|version| !version.is_tombstone())
    }

    /// The version that a reader sees to whom the store is as it was before the change at `bound`.
    pub(super) fn below(&self, bound: RevisionPair) -> Option<&Version> {
        let last = match self.newest.pair() < bound {
            true => &self.newest,
            false => {
                let older = &self.history.as_ref()?.older;
                let after = older.partition_point(|version| version.pair() < bound);
                &older[after.checked_sub(1)?]
            }
        };
        Some(last).filter(|version| !version.is_tombstone())
    }

    /// The last version not above `at`, be it a tombstone.
    pub(super) fn last_at(&self, at: Revision) -> Option<&Version> {
        if self.newest.main() <= at {
            return Some(&self.newest);
        }
        let older = &self.history.as_ref()?.older;
        let after = older.partition_point(|version| version.main() <= at);
        after.checked_sub(1).map(|place| &older[place])
    }

    /// Whether the key was deleted in the revision `main`, be it put again in it.
    pub(super) fn is_deleted_in(&self, main: Revision) -> bool {
        let is_it = |version: &Version| version.is_tombstone() && version.main() == main;
        if is_it(&self.newest) {
            return true;
        }
        let Some(history) = self.history.as_ref() else {
            return false;
        };
        let from = history
            .older
            .partition_point(|version| version.main() < main);
        let then = history.older.range(from..);
        then.take_while(|version| version.main() == main).any(is_it)
    }

    /// Puts a newer version on top and returns what was stored, and the key for the queue of the
    /// superseded.
    pub(super) fn push(&mut self, stored: Stored, newest: Version) -> (Stored, Stored) {
        assert!(
            newest.pair() > self.newest.pair(),
            "a key's versions ascend"
        );
        self.cached = stored.encoded().is_some();
        let before = std::mem::replace(&mut self.stored, stored);
        let superseded = std::mem::replace(&mut self.newest, newest);
        let history = self.history.get_or_insert_with(|| {
            let key = match before.encoded() {
                Some(_) => before.without_value(),
                None => before.clone(),
            };
            Box::new(History {
                older: VecDeque::with_capacity(1),
                key,
            })
        });
        history.older.push_back(superseded);
        (before, history.key.clone())
    }

    /// Drops the superseded version at `pair` and returns it.
    pub(super) fn drop_older(&mut self, pair: RevisionPair) -> Option<Version> {
        let history = self.history.as_mut()?;
        let place = history
            .older
            .binary_search_by_key(&pair, Version::pair)
            .ok()?;
        let dropped = history.older.remove(place);
        if history.older.is_empty() {
            self.history = None;
        }
        dropped
    }

    /// Whether the newest version is the only one.
    pub(super) fn has_history(&self) -> bool {
        self.history.is_some()
    }
}
