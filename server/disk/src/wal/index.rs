//! Where every entry is: in memory while it waits or is recent, in a segment once it is written.
//!
//! Plain data under the log's mutex; it does no IO.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::record::EntryId;

/// Where an entry's record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment; 0 while the entry is not written.
    pub(super) segment: u64,
    /// Offset of the record's header.
    pub(super) offset: u32,
    pub(super) payload_bytes: u32,
    /// The mask of its frame.
    pub(super) mask: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    /// Tells this entry from a truncated one of the same index that the writer still works on.
    stamp: u64,
    place: Place,
}

/// What an entry takes in a segment beside its payload, about. Bytes.
const KEPT_OVERHEAD: u64 = 64;

/// How much of a log is kept for members that lag: its newest entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// As many as have this many bytes,
    pub bytes: u64,
    /// but at least so many entries,
    pub entries_least: u64,
    /// unless they have more than this many bytes,
    pub bytes_most: u64,
    /// and never more entries than this: each takes memory in the index.
    pub entries_most: u64,
}

/// An entry that `find` found.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) id: EntryId,
    pub(super) place: Place,
    /// Present if the entry is in memory.
    pub(super) payload: Option<Bytes>,
}

/// The entries of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Payloads of the newest entries: the last `recent.len()` slots.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
    recent_bytes_max: usize,
    purged: Option<(u64, Bytes)>,
    stamp: u64,
}

impl Index {
    /// An index whose first entry will have the index `first`; 0 also stands for 1.
    pub(super) fn new(first: u64, recent_bytes_max: usize) -> Self {
        Self {
            first,
            recent_bytes_max,
            ..Self::default()
        }
    }

    /// The same limits, no entries, and `first` as the next index.
    pub(super) fn starting_at(self, first: u64) -> Self {
        Self::new(first, self.recent_bytes_max)
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first + u64::try_from(self.slots.len()).expect("a length fits 64 bits")
    }

    pub(super) fn last(&self) -> Option<EntryId> {
        let slot = self.slots.back()?;
        Some(EntryId {
            index: self.next() - 1,
            term: slot.term,
        })
    }

    pub(super) fn purged(&self) -> Option<&(u64, Bytes)> {
        self.purged.as_ref()
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        Some(self.slots.get(self.position(index)?)?.term)
    }

    /// Whether an entry with this index may come next.
    pub(super) fn accepts(&self, index: u64) -> bool {
        index == self.next() || (self.next() == 0 && index == 1)
    }

    /// Adds an entry that is in memory only, and returns its stamp.
    pub(super) fn push(&mut self, index: u64, term: u64, payload: Bytes) -> u64 {
        let place = Place {
            segment: 0,
            offset: 0,
            payload_bytes: 0,
            mask: 0,
        };
        let place = Place {
            payload_bytes: payload_bytes(&payload),
            ..place
        };
        self.recent_bytes += payload.len();
        self.recent.push_back(payload);
        self.push_slot(index, term, place)
    }

    /// Adds an entry that is in a segment only.
    pub(super) fn push_written(&mut self, index: u64, term: u64, place: Place) {
        assert!(
            self.recent.is_empty(),
            "recovery keeps no entries in memory"
        );
        self.push_slot(index, term, place);
    }

    fn push_slot(&mut self, index: u64, term: u64, place: Place) -> u64 {
        assert!(
            self.accepts(index),
            "W4: entry {index} does not follow {}",
            self.next()
        );
        if self.slots.is_empty() {
            self.first = index;
        }
        self.stamp += 1;
        self.slots.push_back(Slot {
            term,
            stamp: self.stamp,
            place,
        });
        self.stamp
    }

    /// Forgets the entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        let keep = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        while self.slots.len() > keep {
            self.slots.pop_back();
            if let Some(payload) = self.recent.pop_back() {
                self.recent_bytes -= payload.len();
            }
        }
        self.first = self.first.min(from);
    }

    /// Forgets the entries up to `index`. A purge point only moves up.
    pub(super) fn purge(&mut self, index: u64, payload: Bytes) {
        if self
            .purged
            .as_ref()
            .is_some_and(|(purged, _)| *purged >= index)
        {
            return;
        }
        self.purged = Some((index, payload));
        let gone = usize::try_from((index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        for _ in 0..gone.min(self.slots.len()) {
            if self.recent.len() == self.slots.len()
                && let Some(payload) = self.recent.pop_front()
            {
                self.recent_bytes -= payload.len();
            }
            self.slots.pop_front();
        }
        self.first = self.first.max(index + 1);
    }

    /// Notes where an entry was written, unless it is gone by now.
    pub(super) fn written(&mut self, index: u64, stamp: u64, place: Place) {
        let Some(position) = self.position(index) else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(position)
            && slot.stamp == stamp
        {
            slot.place = place;
        }
    }

    /// Lets go of the oldest payloads in memory that are written, down to the limit.
    pub(super) fn shrink_recent(&mut self) {
        while self.recent_bytes > self.recent_bytes_max && !self.recent.is_empty() {
            let oldest = self.slots.len() - self.recent.len();
            if self.slots[oldest].place.segment == 0 {
                return;
            }
            if let Some(payload) = self.recent.pop_front() {
                self.recent_bytes -= payload.len();
            }
        }
    }

    /// The entries of a range, clipped to what there is and to `max_bytes` of payload, at least one.
    pub(super) fn find(&self, indexes: Range<u64>, max_bytes: usize) -> Vec<Located> {
        let end = indexes.end.min(self.next());
        let mut found = Vec::new();
        let mut bytes = 0usize;
        for index in indexes.start.max(self.first)..end {
            let position = self.position(index).expect("clipped to the slots");
            let slot = self.slots[position];
            bytes = bytes.saturating_add(widened(slot.place.payload_bytes));
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            let in_memory = (position + self.recent.len()).checked_sub(self.slots.len());
            let payload = in_memory.map(|at| self.recent[at].clone());
            found.push(Located {
                id: EntryId {
                    index,
                    term: slot.term,
                },
                place: slot.place,
                payload,
            });
        }
        found
    }

    /// The first of the newest entries that fit `keep`; the next index where none does.
    pub(super) fn kept_from(&self, keep: Keep) -> u64 {
        let mut bytes = 0u64;
        let mut entries = 0u64;
        for slot in self.slots.iter().rev() {
            bytes += u64::from(slot.place.payload_bytes) + KEPT_OVERHEAD;
            let is_wanted = bytes <= keep.bytes || entries < keep.entries_least;
            if !is_wanted || bytes > keep.bytes_most || entries >= keep.entries_most {
                break;
            }
            entries += 1;
        }
        self.next() - entries
    }

    fn position(&self, index: u64) -> Option<usize> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (position < self.slots.len()).then_some(position)
    }
}

fn payload_bytes(payload: &Bytes) -> u32 {
    u32::try_from(payload.len()).expect("append checked the size")
}

/// A 32-bit size as a size in memory.
pub(super) fn widened(bytes: u32) -> usize {
    usize::try_from(bytes).expect("usize has at least 32 bits here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(sizes: &[u32]) -> Index {
        let mut index = Index::new(1, 0);
        for (at, size) in (1..).zip(sizes) {
            let place = Place {
                segment: 1,
                offset: 0,
                payload_bytes: *size - 64,
                mask: 0,
            };
            index.push_written(at, 1, place);
        }
        index
    }

    #[test]
    fn the_log_is_kept_by_bytes_with_a_least_and_a_most() {
        let index = index(&[100, 100, 1000, 100, 100]);
        let keep = Keep {
            bytes: 300,
            entries_least: 0,
            bytes_most: 10_000,
            entries_most: 100,
        };
        assert_eq!(index.kept_from(keep), 4);
        let least = Keep {
            entries_least: 4,
            ..keep
        };
        assert_eq!(index.kept_from(least), 2);
        let bounded = Keep {
            bytes_most: 250,
            ..least
        };
        assert_eq!(index.kept_from(bounded), 4);
        let few = Keep {
            entries_most: 1,
            ..keep
        };
        assert_eq!(index.kept_from(few), 5);
        assert_eq!(index.kept_from(Keep::default()), 6, "nothing is kept");
    }
}
