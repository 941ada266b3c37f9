//! Walking over items in key order, from both ends.
//!
//! A walk knows the ranks still ahead of it and fetches one leaf's run of items at a time by rank,
//! so it needs no stack of parents, and its length is known exactly.

use std::iter::FusedIterator;
use std::slice;

use super::{Item, OrderTree};

/// The items of a key range, ascending; reversed, descending.
pub struct Range<'a, T: Item> {
    tree: &'a OrderTree<T>,
    /// Items already fetched for `next`.
    front: slice::Iter<'a, T>,
    /// The rank of the first item not fetched yet.
    low: usize,
    /// The rank after the last item not fetched yet; never below `low`.
    high: usize,
    /// Items already fetched for `next_back`.
    back: slice::Iter<'a, T>,
}

impl<'a, T: Item> Range<'a, T> {
    /// The items of ranks `low..high`; none if the bounds cross.
    pub(super) fn new(tree: &'a OrderTree<T>, low: usize, high: usize) -> Range<'a, T> {
        let high = high.max(low);
        Range {
            tree,
            front: [].iter(),
            low,
            high,
            back: [].iter(),
        }
    }
}

impl<'a, T: Item> Iterator for Range<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        if let Some(item) = self.front.next() {
            return Some(item);
        }
        if self.low == self.high {
            return self.back.next();
        }
        let (leaf, at) = self.tree.leaf_at_rank(self.low);
        let run = &leaf[at..leaf.len().min(at + (self.high - self.low))];
        self.low += run.len();
        self.front = run.iter();
        self.front.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.front.len() + (self.high - self.low) + self.back.len();
        (len, Some(len))
    }
}

impl<T: Item> DoubleEndedIterator for Range<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.back.next_back() {
            return Some(item);
        }
        if self.low == self.high {
            return self.front.next_back();
        }
        let (leaf, last) = self.tree.leaf_at_rank(self.high - 1);
        let run = &leaf[last.saturating_sub(self.high - 1 - self.low)..=last];
        self.high -= run.len();
        self.back = run.iter();
        self.back.next_back()
    }
}

impl<T: Item> ExactSizeIterator for Range<'_, T> {}
impl<T: Item> FusedIterator for Range<'_, T> {}
