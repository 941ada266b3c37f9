//! Reading the past for one watcher: bounded batches that end between transactions.

use std::sync::Arc;

use super::event::{Before, Published};
use super::watcher::Watcher;
use super::{Config, Store};
use crate::state::RevisionRecord;
use crate::types::{KeyRange, KeyValue, Revision, RevisionPair};

/// Records one read of storage looks at. Bounds how long it keeps a blocking thread.
const STORAGE_LOOKED_MAX: usize = 16_384;

/// Events one read of the ring looks at. Bounds how long it holds the registry's lock.
pub(super) const RING_LOOKED_MAX: usize = 1024;

/// A batch in the making: says when it is full, which it can only be at the first event of a
/// revision.
#[derive(Debug)]
pub(super) struct Gathering {
    events: Vec<Arc<Published>>,
    revisions: usize,
    bytes: usize,
    looked: usize,
    revision_looked: Revision,
    revisions_max: usize,
    bytes_max: usize,
    looked_max: usize,
}

impl Gathering {
    /// An empty batch.
    pub fn new(config: &Config, looked_max: usize) -> Gathering {
        Gathering {
            events: Vec::new(),
            revisions: 0,
            bytes: 0,
            looked: 0,
            revision_looked: Revision(0),
            revisions_max: config.history_revisions_max,
            bytes_max: config.history_bytes_max,
            looked_max,
        }
    }

    /// Looks at an event of `revision`. False: the batch is full and ends before that revision.
    pub fn look(&mut self, revision: Revision) -> bool {
        let begins = revision > self.revision_looked;
        let full = self.revisions >= self.revisions_max
            || self.bytes >= self.bytes_max
            || self.looked >= self.looked_max;
        if begins && full {
            return false;
        }
        self.revision_looked = revision;
        self.looked += 1;
        true
    }

    /// Adds the event just looked at.
    pub fn add(&mut self, event: Arc<Published>) {
        if self
            .events
            .last()
            .is_none_or(|last| last.pair.main < event.pair.main)
        {
            self.revisions += 1;
        }
        self.bytes += event.memory_bytes();
        self.events.push(event);
    }

    /// What was gathered.
    pub fn finish(self) -> Vec<Arc<Published>> {
        self.events
    }
}

/// What a read of storage found.
#[derive(Debug)]
pub(super) enum Past {
    /// These events, and where to go on.
    Events {
        /// Ascending.
        events: Vec<Arc<Published>>,
        /// The first revision not looked at.
        next: Revision,
    },
    /// The start was compacted, before or meanwhile: what was read may have gaps.
    Compacted,
}

/// Reads one batch for `watcher` from storage: revisions `from..=to`. Blocks.
pub(super) fn read_storage(
    store: &dyn Store,
    watcher: &Watcher,
    from: Revision,
    to: Revision,
    config: &Config,
) -> Past {
    let mut gathering = Gathering::new(config, STORAGE_LOOKED_MAX);
    let mut next = to.next();
    store.scan(RevisionPair { main: from, sub: 0 }, &mut |record| {
        if record.pair.main > to {
            return false;
        }
        if !gathering.look(record.pair.main) {
            next = record.pair.main;
            return false;
        }
        if let Some(event) = matching(record, &watcher.range, watcher) {
            gathering.add(event);
        }
        true
    });
    if from < store.compact_revision() {
        return Past::Compacted;
    }
    let mut events = gathering.finish();
    if watcher.prev_kv {
        events
            .iter_mut()
            .for_each(|event| *event = with_before(store, event));
    }
    Past::Events { events, next }
}

/// The record as an event, if the watcher wants it. The value before it is not read yet.
fn matching(record: RevisionRecord, range: &KeyRange, watcher: &Watcher) -> Option<Arc<Published>> {
    let key = KeyValue::key_of(&record.encoded)
        .expect("a stored record begins with its key: storage checks what it reads");
    if !range.contains(key) || !watcher.filter.admits(record.tombstone) {
        return None;
    }
    let key = record.encoded.slice_ref(key);
    let encoded = if record.tombstone {
        // A tombstone is stored as its key alone; the event tells its revision too.
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: record.pair.main,
            ..KeyValue::default()
        };
        kv.encode()
    } else {
        record.encoded
    };
    Some(Published::new(
        record.pair,
        record.tombstone,
        key,
        encoded,
        Before::Nothing,
    ))
}

fn with_before(store: &dyn Store, event: &Published) -> Arc<Published> {
    event.preceded_by(store.previous(&event.key, event.pair.main))
}
