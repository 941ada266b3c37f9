//! Holds history from being reclaimed until it is archived, within bounds.
//!
//! What is held is a pin, in memory. How far reclaiming has come, though, is written down with what it deletes
//! (`Mvcc::whole_after`): a member that starts again holds from there before anything goes.

use std::sync::Arc;

use bytes::Bytes;
use engram_types::request::Range;
use engram_types::{KeyRange, Revision};
use parking_lot::Mutex;

use crate::journal::{Journal, Moment};
use crate::shipper::Member;
use crate::store::{Pin, Store};

/// What a member notes and holds from its start on, before anything is applied or reclaimed: a crash may have come
/// between a compaction and the archive's having what it frees.
pub struct Holding {
    journal: Arc<Journal>,
    pin: Pin,
    replacements: u64,
}

impl Holding {
    /// Of a store that nothing is applied to yet, which is here.
    pub fn new(store: &Arc<Store>, at: Moment) -> Holding {
        Holding::with(store, Arc::new(Journal::new(at)))
    }

    pub(crate) fn with(store: &Arc<Store>, journal: Arc<Journal>) -> Holding {
        Holding {
            pin: store.pin_whole(),
            replacements: journal.replacements(),
            journal,
        }
    }

    /// Where is noted what is applied.
    pub fn journal(&self) -> Arc<Journal> {
        self.journal.clone()
    }
}

/// See the module.
pub(crate) struct Hold {
    store: Arc<Store>,
    journal: Arc<Journal>,
    member: Arc<dyn Member>,
    /// Bytes of the log that may be written while one revision is held.
    bytes_max: u64,
    held: Mutex<Option<Held>>,
}

struct Held {
    pin: Pin,
    /// What the log had written in all when this revision was the newest.
    written: u64,
    /// The store that it was pinned in.
    replacements: u64,
}

impl Hold {
    /// Holds everything that was not reclaimed at the start, until it is known how far the archive is.
    pub(crate) fn new(
        store: Arc<Store>,
        holding: Holding,
        member: Arc<dyn Member>,
        bytes_max: u64,
    ) -> Hold {
        let Holding {
            journal,
            pin,
            replacements,
        } = holding;
        let held = Held {
            pin,
            written: member.written_bytes(),
            replacements,
        };
        Hold {
            store,
            journal,
            member,
            bytes_max,
            held: Mutex::new(Some(held)),
        }
    }

    /// Holds everything after `revision`, and lets go of what was held before; `written` is what the
    /// log had written in all when it was the newest. Holds nothing where that is reclaimed already.
    pub(crate) fn move_to(&self, revision: i64, written: u64) {
        let replacements = self.journal.replacements();
        let revision = revision.min(self.store.revision().0).max(1);
        let mut held = self.held.lock();
        // A pin of a store that was replaced keeps that one, and nothing of this one.
        let before = held.take_if(|held| held.replacements == replacements);
        let pin = match before {
            Some(before) if before.pin.revision().0 < revision => {
                Some(self.advance(&before.pin, Revision(revision)))
            }
            Some(before) => self.pin(revision).or(Some(before.pin)),
            None => self.pin(revision),
        };
        *held = pin.map(|pin| Held {
            pin,
            written,
            replacements,
        });
    }

    fn pin(&self, revision: i64) -> Option<Pin> {
        let query = Range {
            revision,
            ..Range::all(KeyRange::single(Bytes::from_static(b"\0")))
        };
        self.store.pin(&query).ok()
    }

    /// Compacted or not: what comes after a held revision is there.
    fn advance(&self, from: &Pin, to: Revision) -> Pin {
        from.with(|state, _| from.also(state, to))
    }

    /// Whether everything after `revision` is there, and was since it was held.
    pub(crate) fn has_all_after(&self, revision: i64) -> bool {
        let replacements = self.journal.replacements();
        let held = self.held.lock();
        let is_held = held.as_ref().is_some_and(|held| {
            held.replacements == replacements && held.pin.revision().0 <= revision
        });
        is_held || self.store.compact_revision().0 <= revision
    }

    /// Bytes that the log has written since the revision held was the newest.
    pub(crate) fn backlog_bytes(&self) -> u64 {
        let held = self.held.lock();
        let written = held.as_ref().map(|held| held.written);
        written.map_or(0, |before| {
            self.member.written_bytes().saturating_sub(before)
        })
    }

    /// Lets go where holding costs too much; whether it did so because of what has piled up.
    pub(crate) fn look(&self) -> bool {
        let has_piled_up = self.backlog_bytes() > self.bytes_max;
        // What is held counts against the quota, and no write may be refused for the archive's sake.
        let has_no_room = self.store.headroom().is_short() || self.member.is_filling();
        let lets_go = has_piled_up || has_no_room;
        lets_go && self.held.lock().take().is_some() && has_piled_up
    }
}
