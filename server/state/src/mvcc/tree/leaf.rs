//! The lowest level of the tree: a short sorted array of items.
//!
//! Invariants: keys strictly ascend; at most `LEAF_MAX` items; at least `LEAF_MIN` unless the leaf
//! is the root; the heads are those of the items' keys.

use super::Item;
use super::capacity::{make_room, release_room, snug_len, split_array};
use super::heads::{Heads, shared_prefix_len};
use super::node::{Node, Split, Sum};

/// Items a leaf holds at most: an insertion moves half of that (under 2 KiB at 56 bytes an item),
/// and what a leaf costs beyond its items (some 130 bytes) is spread over 32 to 64 of them.
pub(super) const LEAF_MAX: usize = 64;

/// Fewer items than this and the leaf joins its sibling. A quarter, not half, of the maximum:
/// arrays fit their contents, so a thin leaf wastes little, and merging late spares work under
/// churn.
pub(super) const LEAF_MIN: usize = LEAF_MAX / 4;

/// Two siblings become one only if they leave room for insertions, lest the next one split them
/// again.
const LEAF_MERGED_MAX: usize = LEAF_MAX / 4 * 3;

/// A sorted array of items.
pub(super) struct Leaf<T> {
    items: Vec<T>,
    heads: Heads,
}

impl<T> Default for Leaf<T> {
    fn default() -> Leaf<T> {
        Leaf {
            items: Vec::new(),
            heads: Heads::default(),
        }
    }
}

impl<T: Item> Leaf<T> {
    /// A leaf of items whose keys strictly ascend.
    pub(super) fn of(items: Vec<T>) -> Leaf<T> {
        let heads = Heads::of(items.len(), |at| items[at].key());
        Leaf { items, heads }
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// The items for a change in place, which must leave their keys as they are.
    pub(super) fn items_mut(&mut self) -> &mut [T] {
        &mut self.items
    }

    /// Where `key` is (`Ok`), or where it belongs (`Err`).
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(key, |at| self.items[at].key())
    }

    pub(super) fn sum(&self) -> Sum {
        self.sum_before(self.items.len())
    }

    /// The sum of the first `at` items.
    pub(super) fn sum_before(&self, at: usize) -> Sum {
        self.items[..at].iter().map(Sum::of).sum()
    }

    pub(super) fn is_underfull(&self) -> bool {
        self.items.len() < LEAF_MIN
    }

    /// Inserts at the place that `search` told. A full leaf is split first.
    pub(super) fn insert(&mut self, at: usize, item: T) -> Option<Split<T>> {
        if self.items.len() < LEAF_MAX {
            self.insert_with_room(at, item);
            return None;
        }
        let middle = Self::split_place(at);
        let mut right = self.split_off(middle);
        let separator = self.separator_to(&right);
        if at < middle || (at == middle && item.key() < &*separator) {
            self.insert_with_room(at, item);
        } else {
            right.insert_with_room(at - middle, item);
        }
        Some(Split {
            separator,
            right: Node::Leaf(right),
        })
    }

    /// Takes out the item at `at`.
    pub(super) fn remove(&mut self, at: usize) -> T {
        let item = self.items.remove(at);
        release_room(&mut self.items);
        self.heads.remove(at);
        item
    }

    /// Takes in the right sibling's items; splits evenly if they are too many for one leaf.
    pub(super) fn absorb(&mut self, right: Leaf<T>) -> Option<Split<T>> {
        let len = self.items.len() + right.items.len();
        self.items.reserve_exact(right.items.len());
        self.items.extend(right.items);
        if len <= LEAF_MERGED_MAX {
            self.rebuild_heads();
            return None;
        }
        let right = self.split_off(len / 2);
        let separator = self.separator_to(&right);
        Some(Split {
            separator,
            right: Node::Leaf(right),
        })
    }

    /// The shortest key above every key of this leaf and not above any of `right`.
    pub(super) fn separator_to(&self, right: &Leaf<T>) -> Box<[u8]> {
        let below = self
            .items
            .last()
            .expect("a leaf beside another is not empty")
            .key();
        let above = right
            .items
            .first()
            .expect("a leaf beside another is not empty")
            .key();
        assert!(below < above, "keys ascend from leaf to leaf");
        let len = shared_prefix_len(below, above) + 1;
        Box::from(&above[..len])
    }

    /// Whether the leaf's own invariants hold, the minimum aside.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        self.items.len() <= LEAF_MAX
            && self
                .items
                .is_sorted_by(|left, right| left.key() < right.key())
            && self.heads.fits(self.items.len(), |at| self.items[at].key())
    }

    /// Where to split a full leaf for an insertion at `at`. Keys that arrive in order leave behind
    /// leaves that stay full, instead of half empty ones.
    fn split_place(at: usize) -> usize {
        match at {
            0 => LEAF_MIN,
            LEAF_MAX => snug_len::<T>(LEAF_MAX - LEAF_MIN),
            _ => LEAF_MAX / 2,
        }
    }

    fn insert_with_room(&mut self, at: usize, item: T) {
        make_room(&mut self.items);
        self.items.insert(at, item);
        self.heads.insert(at, |at| self.items[at].key());
    }

    fn split_off(&mut self, at: usize) -> Leaf<T> {
        let right = Leaf::of(split_array(&mut self.items, at));
        self.rebuild_heads();
        right
    }

    fn rebuild_heads(&mut self) {
        self.heads = Heads::of(self.items.len(), |at| self.items[at].key());
    }
}
