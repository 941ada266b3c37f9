//! The first of many in an order that is not the keys': a bounded heap.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps the `max` first of what it is offered. Equal ones stay in the order they came.
pub(super) struct Selection<K, P> {
    heap: BinaryHeap<Ranked<K, P>>,
    max: usize,
    descending: bool,
    offered: u64,
}

struct Ranked<K, P> {
    key: K,
    descending: bool,
    place: u64,
    payload: P,
}

impl<K: Ord, P> Selection<K, P> {
    pub fn new(max: usize, descending: bool) -> Selection<K, P> {
        Selection {
            heap: BinaryHeap::new(),
            max,
            descending,
            offered: 0,
        }
    }

    /// Offers one more; `payload` is made only if it is kept for now.
    pub fn offer(&mut self, key: K, payload: impl FnOnce() -> P) {
        self.offered += 1;
        if self.heap.len() == self.max && !self.beats_last(&key) {
            return;
        }
        self.heap.push(Ranked {
            key,
            descending: self.descending,
            place: self.offered,
            payload: payload(),
        });
        if self.heap.len() > self.max {
            self.heap.pop();
        }
    }

    fn beats_last(&self, key: &K) -> bool {
        let Some(last) = self.heap.peek() else {
            return false;
        };
        match self.descending {
            true => *key > last.key,
            false => *key < last.key,
        }
    }

    /// What was kept, in order.
    pub fn into_sorted(self) -> Vec<P> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|ranked| ranked.payload).collect()
    }
}

impl<K: Ord, P> Ord for Ranked<K, P> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = self.key.cmp(&other.key);
        let by_key = match self.descending {
            true => by_key.reverse(),
            false => by_key,
        };
        by_key.then(self.place.cmp(&other.place))
    }
}

impl<K: Ord, P> PartialOrd for Ranked<K, P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, P> PartialEq for Ranked<K, P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, P> Eq for Ranked<K, P> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_kept_and_equal_ones_stay_in_order() {
        let keys = [5, 1, 4, 1, 5, 9, 2, 6, 5, 3];
        for max in 0..12 {
            for descending in [false, true] {
                let mut selection = Selection::new(max, descending);
                for (place, key) in keys.into_iter().enumerate() {
                    selection.offer(key, || (key, place));
                }
                let mut wanted: Vec<_> = keys.into_iter().zip(0..).collect();
                match descending {
                    true => wanted.sort_by_key(|(key, _)| std::cmp::Reverse(*key)),
                    false => wanted.sort_by_key(|(key, _)| *key),
                }
                wanted.truncate(max);
                assert_eq!(selection.into_sorted(), wanted, "{max} {descending}");
            }
        }
    }
}
