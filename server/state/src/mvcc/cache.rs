//! The value cache: which keys have their newest value beside them.
//!
//! Every write puts its value beside its key; when a batch has been stored, a clock hand goes round
//! the index and takes values away until the budget holds, sparing once what a reader has used.

use super::entry::Entry;
use super::tree::OrderTree;

/// Entries looked at per step: about a millisecond.
const VISITS_MAX: usize = 16_384;

/// Entries looked at between two looks at the budget.
const STRIDE: usize = 512;

/// The budget, what is used of it, and where the hand stands.
#[derive(Debug)]
pub(super) struct ValueCache {
    budget: usize,
    bytes: usize,
    /// The key the hand comes to next; none is the first.
    hand: Option<Box<[u8]>>,
}

impl ValueCache {
    pub(super) fn new(budget: usize) -> ValueCache {
        ValueCache {
            budget,
            bytes: 0,
            hand: None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// A key's charge has changed.
    pub(super) fn recharge(&mut self, before: usize, after: usize) {
        assert!(self.bytes >= before, "what is given back was charged");
        self.bytes = self.bytes - before + after;
    }

    /// Brings the cache toward its budget, by a bounded step. A little over it, the next batch goes
    /// on; more than an eighth over it, values go whether used or not, and there is need of another
    /// step until that bound holds: then this returns true.
    pub(super) fn shrink(&mut self, tree: &mut OrderTree<Entry>) -> bool {
        let limit = self.budget + self.budget / 8;
        let mut visits = 0;
        while self.bytes > self.budget && visits < VISITS_MAX {
            self.sweep(tree, self.bytes > limit);
            visits += STRIDE;
        }
        self.bytes > limit
    }

    fn sweep(&mut self, tree: &mut OrderTree<Entry>, pressed: bool) {
        let (bytes, budget) = (&mut self.bytes, self.budget);
        let next = tree.sweep(self.hand.as_deref(), STRIDE, |entry| {
            if *bytes <= budget || !entry.is_cached() {
                return;
            }
            if !entry.take_used() || pressed {
                *bytes -= entry.evict();
            }
        });
        self.hand = next;
    }
}
