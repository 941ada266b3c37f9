//! Counting keys at older revisions, so that a list that goes on page by page over a moving store
//! costs no more at its end than at its start.
//!
//! The count at the newest revision comes from the tree. An older one is that count corrected by the
//! creations and deletions since, from a bounded log; below the log's reach the range is walked. A
//! bounded cache carries what is left of a list from each page to the next.

use std::collections::VecDeque;

use crate::types::{KeyRange, RangeEnd, Revision};

use super::Mvcc;
use super::read::bounds;

/// Creations and deletions remembered.
const CHANGES_MAX: usize = 100_000;

/// Of these, how many are looked at while others wait.
const CHANGES_QUICK: usize = 4096;

/// Lists carried from page to page.
const PAGES_MAX: usize = 64;

#[derive(Debug)]
struct KeyChange {
    main: Revision,
    key: Box<[u8]>,
    created: bool,
}

/// Which keys came and went, in order, since some revision.
#[derive(Debug)]
pub(super) struct ChangeLog {
    changes: VecDeque<KeyChange>,
    /// Every change above this revision is in the log.
    complete_above: Revision,
}

impl ChangeLog {
    /// A log that begins after `revision`.
    pub(super) fn since(revision: Revision) -> ChangeLog {
        ChangeLog {
            changes: VecDeque::new(),
            complete_above: revision,
        }
    }

    pub(super) fn created(&mut self, main: Revision, key: &[u8]) {
        self.push(KeyChange {
            main,
            key: key.into(),
            created: true,
        });
    }

    pub(super) fn deleted(&mut self, main: Revision, key: &[u8]) {
        self.push(KeyChange {
            main,
            key: key.into(),
            created: false,
        });
    }

    fn push(&mut self, change: KeyChange) {
        if self.changes.len() == CHANGES_MAX
            && let Some(oldest) = self.changes.pop_front()
        {
            self.complete_above = oldest.main;
        }
        self.changes.push_back(change);
    }

    /// Forgets changes that no read at `revision` or above needs.
    pub(super) fn forget_before(&mut self, revision: Revision) {
        while self
            .changes
            .pop_front_if(|change| change.main <= revision)
            .is_some()
        {}
        self.complete_above = self.complete_above.max(revision);
    }

    /// Whether few enough changes came since `at` to be looked at, and all are here.
    fn is_short_since(&self, at: Revision) -> bool {
        at >= self.complete_above && {
            let first = self.changes.partition_point(|change| change.main <= at);
            self.changes.len() - first <= CHANGES_QUICK
        }
    }

    /// How many more keys of `range` exist now than at `at`; none where the log does not reach.
    fn growth_since(&self, range: &KeyRange, at: Revision) -> Option<i64> {
        if at < self.complete_above {
            return None;
        }
        let first = self.changes.partition_point(|change| change.main <= at);
        let growth = self
            .changes
            .range(first..)
            .filter(|change| range.contains(&change.key))
            .map(|change| if change.created { 1 } else { -1 })
            .sum();
        Some(growth)
    }
}

/// What is left of a list after a page of it.
#[derive(Debug)]
struct PageCount {
    at: Revision,
    end: RangeEnd,
    /// The first key the next page can start with.
    next: Vec<u8>,
    remaining: i64,
}

/// The lists under way, the oldest overwritten first.
#[derive(Debug, Default)]
pub(super) struct PageCounts {
    pages: Vec<PageCount>,
    oldest: usize,
}

impl PageCounts {
    fn find(&self, range: &KeyRange, at: Revision) -> Option<i64> {
        self.pages
            .iter()
            .find(|page| page.at == at && page.next == range.start && page.end == range.end)
            .map(|page| page.remaining)
    }

    /// A page of `range` at `at` has been answered, up to `last`; `remaining` keys follow it.
    fn remember(&mut self, range: &KeyRange, at: Revision, last: &[u8], remaining: i64) {
        let mut next = Vec::with_capacity(last.len() + 1);
        next.extend_from_slice(last);
        next.push(0);
        let carried = PageCount {
            at,
            end: range.end.clone(),
            next,
            remaining,
        };
        // A list takes the place of its own page before: however many pages, one place.
        let place = self
            .pages
            .iter()
            .position(|page| page.at == at && page.next == range.start && page.end == range.end);
        match place {
            Some(place) => self.pages[place] = carried,
            None if self.pages.len() < PAGES_MAX => self.pages.push(carried),
            None => {
                self.pages[self.oldest] = carried;
                self.oldest = (self.oldest + 1) % PAGES_MAX;
            }
        }
    }
}

impl Mvcc {
    /// How many keys of `range` exist with all that was applied.
    fn count_newest(&self, range: &KeyRange) -> i64 {
        if range.is_single() {
            return i64::from(self.exists(&range.start));
        }
        let (start, end) = bounds(range);
        i64::try_from(self.tree.weight_in(start, end)).expect("the tree counts in u32")
    }

    /// How many keys of `range` exist at `at`, the newest revision or one that is readable.
    pub fn count_when(&self, range: &KeyRange, at: Revision) -> i64 {
        match self.is_tip(at) {
            true => self.count_newest(range),
            false => self.count_at(range, at),
        }
    }

    /// How many keys of `range` exist at `at`, where nothing above that is in the index.
    pub fn count_at_tip(&self, range: &KeyRange, at: Revision) -> Option<i64> {
        self.is_tip(at).then(|| self.count_newest(range))
    }

    /// Whether the index holds nothing above `at`. Not so of what readers see while a batch is
    /// applied.
    fn is_tip(&self, at: Revision) -> bool {
        at >= self.tip
    }

    /// How many keys of `range` existed at `at`, a revision that is readable.
    fn count_at(&self, range: &KeyRange, at: Revision) -> i64 {
        if range.is_single() {
            let entry = self.tree.get(&range.start);
            return i64::from(entry.is_some_and(|entry| entry.at(at).is_some()));
        }
        if let Some(remaining) = self.page_counts.lock().find(range, at) {
            return remaining;
        }
        if let Some(growth) = self.changes.growth_since(range, at) {
            return self.count_newest(range) - growth;
        }
        let (start, end) = bounds(range);
        let there = self
            .tree
            .range(start, end)
            .filter(|entry| entry.at(at).is_some())
            .count();
        i64::try_from(there).expect("the tree counts in u32")
    }

    /// Whether [`Mvcc::count_when`] has little to do: it looks at no more than about `keys_max` keys.
    pub fn counts_quickly(&self, range: &KeyRange, at: Revision, keys_max: usize) -> bool {
        self.is_tip(at)
            || self.keys_to_look_at(range) <= keys_max
            || self.changes.is_short_since(at)
            || self.page_counts.lock().find(range, at).is_some()
    }

    /// Remembers, for the next page, what follows a page that ended with `last`.
    pub(super) fn carry_count(&self, range: &KeyRange, at: Revision, last: &[u8], remaining: i64) {
        if at > self.seen.revision {
            // Within a transaction, which may go on to change it.
            return;
        }
        self.page_counts.lock().remember(range, at, last, remaining);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn from(start: &'static [u8]) -> KeyRange {
        KeyRange {
            start: Bytes::from_static(start),
            end: RangeEnd::Unbounded,
        }
    }

    #[test]
    fn a_full_log_reaches_back_only_as_far_as_it_is_complete() {
        let mut log = ChangeLog::since(Revision(1));
        let more = i64::try_from(CHANGES_MAX).unwrap() + 5;
        for main in 2..2 + more {
            log.created(Revision(main), b"k");
        }
        assert_eq!(log.changes.len(), CHANGES_MAX);
        assert_eq!(log.growth_since(&from(b"a"), Revision(5)), None);
        assert_eq!(log.growth_since(&from(b"a"), Revision(6)), Some(more - 5));
        assert_eq!(log.growth_since(&from(b"z"), Revision(6)), Some(0));
        log.deleted(Revision(2 + more), b"k");
        assert_eq!(log.growth_since(&from(b"a"), Revision(more)), Some(0));
        log.forget_before(Revision(more));
        assert_eq!(log.changes.len(), 2);
        assert_eq!(log.growth_since(&from(b"a"), Revision(more - 1)), None);
    }

    #[test]
    fn a_list_takes_one_place_however_many_pages_it_has_and_lists_are_bounded() {
        let mut pages = PageCounts::default();
        pages.remember(&from(b"a"), Revision(9), b"k1", 50);
        pages.remember(&from(b"k1\0"), Revision(9), b"k2", 40);
        assert_eq!(pages.pages.len(), 1);
        assert_eq!(pages.find(&from(b"k2\0"), Revision(9)), Some(40));
        assert_eq!(pages.find(&from(b"k2\0"), Revision(8)), None);
        assert_eq!(pages.find(&from(b"k1\0"), Revision(9)), None);
        for at in 10..200 {
            pages.remember(&from(b"a"), Revision(at), b"k", at);
        }
        assert_eq!(pages.pages.len(), PAGES_MAX);
        assert_eq!(pages.find(&from(b"k\0"), Revision(199)), Some(199));
        assert_eq!(pages.find(&from(b"k2\0"), Revision(9)), None);
    }
}
