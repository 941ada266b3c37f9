//! The index walked in bounded steps, for reads that are too much work for one hold of the lock.
//!
//! A walk sees the store as it was before a change ([`Walk::below`]), be it one within a
//! transaction. Whoever walks over several holds keeps that revision pinned.

use bytes::Bytes;

use crate::types::request::{Range, SortTarget};
use crate::types::result::ApplyError;
use crate::types::{KeyRange, RangeEnd, Revision, RevisionPair};

use super::Mvcc;
use super::read::{Found, Slot, bounds};
use super::write::RECORD_KEY_BYTES;

/// How a step goes over the index.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Every change before this one is seen.
    pub below: RevisionPair,
    /// From the last key to the first.
    pub backwards: bool,
    /// Keys looked at in this step, whether they exist or not.
    pub looked_max: usize,
}

/// A key that a walk came by.
pub struct Sighting<'a> {
    mvcc: &'a Mvcc,
    found: Found<'a>,
}

impl Sighting<'_> {
    pub(crate) fn found(&self) -> &Found<'_> {
        &self.found
    }

    /// Whether the query's bounds of revisions let it through.
    pub fn passes(&self, query: &Range) -> bool {
        self.found.passes(query)
    }

    /// The bytes of its encoded key-value, as the query has it answered.
    pub fn encoded_bytes(&self, keys_only: bool) -> usize {
        if keys_only {
            return self.found.meta().len();
        }
        let record = usize::try_from(self.found.record_bytes()).expect("a u32 fits");
        record - RECORD_KEY_BYTES
    }

    /// Where its key-value is.
    pub fn slot(&self, keys_only: bool) -> Slot {
        self.mvcc.slot(&self.found, keys_only)
    }

    /// What it is sorted by, where the index knows that; 0 for the key and the value.
    pub fn rank(&self, target: SortTarget) -> i64 {
        match target {
            SortTarget::Version => self.found.version(),
            SortTarget::Create => self.found.create_revision().0,
            SortTarget::Mod => self.found.mod_revision().0,
            SortTarget::Key | SortTarget::Value => 0,
        }
    }
}

impl Mvcc {
    /// Visits the keys of `range` in order, until `visit` returns false or enough were looked at.
    /// Returns what is left of the range; none at its end.
    pub fn walk(
        &self,
        walk: &Walk,
        range: &KeyRange,
        visit: &mut dyn FnMut(&Sighting<'_>) -> bool,
    ) -> Option<KeyRange> {
        let mut entries = self.entries(range);
        for _ in 0..walk.looked_max {
            let entry = match walk.backwards {
                true => entries.next_back(),
                false => entries.next(),
            }?;
            let Some(version) = entry.below(walk.below) else {
                continue;
            };
            let found = Found::new(entry, version);
            let sighting = Sighting { mvcc: self, found };
            if !visit(&sighting) {
                return rest(range, entry.stored().key(), walk.backwards);
            }
        }
        let entry = match walk.backwards {
            true => entries.next_back(),
            false => entries.next(),
        }?;
        rest_with(range, entry.stored().key(), walk.backwards)
    }

    /// How many keys reading `range` looks at, those that are deleted and not reclaimed included.
    pub fn keys_to_look_at(&self, range: &KeyRange) -> usize {
        if range.is_single() {
            return 1;
        }
        let (start, end) = bounds(range);
        self.tree.range(start, end).len()
    }

    /// The revision a query reads at: the one it names, else the newest.
    ///
    /// # Errors
    /// It is compacted or in the future.
    pub fn revision_read(&self, query: &Range) -> Result<Revision, ApplyError> {
        self.seen.readable(query.revision)
    }
}

/// What is left beyond `key`.
fn rest(range: &KeyRange, key: &[u8], backwards: bool) -> Option<KeyRange> {
    if range.is_single() {
        return None;
    }
    if backwards {
        return rest_before(range, Bytes::copy_from_slice(key));
    }
    let mut start = Vec::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.push(0);
    Some(KeyRange {
        start: start.into(),
        end: range.end.clone(),
    })
}

/// What is left from `key` on, `key` included.
fn rest_with(range: &KeyRange, key: &[u8], backwards: bool) -> Option<KeyRange> {
    if backwards {
        let mut end = Vec::with_capacity(key.len() + 1);
        end.extend_from_slice(key);
        end.push(0);
        return rest_before(range, end.into());
    }
    Some(KeyRange {
        start: Bytes::copy_from_slice(key),
        end: range.end.clone(),
    })
}

fn rest_before(range: &KeyRange, end: Bytes) -> Option<KeyRange> {
    Some(KeyRange {
        start: range.start.clone(),
        end: RangeEnd::Before(end),
    })
}
