//! The value cache: which keys have their newest value beside them.
//!
//! Every write puts its value beside its key; when a batch has been stored, a clock hand goes round
//! the index and takes values away until the budget holds, sparing once what a reader has used.

use super::entry::Entry;
use super::tree::OrderTree;

/// Entries looked at per call while the cache is over its budget by little.
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

    /// Brings the cache toward its budget. A little over it, the work is bounded and the next batch
    /// goes on; more than an eighth over it, values go whether used or not, until that bound holds.
    pub(super) fn shrink(&mut self, tree: &mut OrderTree<Entry>) {
        let limit = self.budget + self.budget / 8;
        let turn = tree.len().saturating_mul(2);
        let mut visits = 0;
        while self.bytes > self.budget && visits <= turn {
            let pressed = self.bytes > limit;
            if !pressed && visits >= VISITS_MAX {
                return;
            }
            self.sweep(tree, pressed);
            visits += STRIDE;
        }
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
