//! The levels above the leaves: children, the keys that separate them, and what each child holds.
//!
//! Invariants: between two neighbouring children lies one separator, above every key of the left
//! one and not above any key of the right one; `sums[i]` is the sum of child `i`; `prefix` is what
//! the heads leave out of every separator; at most `INNER_MAX` children; at least `INNER_MIN`, the
//! root at least two. A separator need not be a key of the tree.

use super::Item;
use super::capacity::{make_room, split_array};
use super::heads::Heads;
use super::node::{Node, Split, Sum};

/// Children of an inner node at most: a million items take three levels above the leaves.
pub(super) const INNER_MAX: usize = 64;

/// Fewer children than this and the node joins its sibling.
pub(super) const INNER_MIN: usize = INNER_MAX / 4;

/// Two siblings become one only if they leave room for further children.
const INNER_MERGED_MAX: usize = INNER_MAX / 4 * 3;

/// Children and what is known about them.
pub(super) struct Inner<T> {
    separators: Vec<Box<[u8]>>,
    heads: Heads,
    /// What all separators start with, up to the heads: spares a search the reading of a separator.
    prefix: Box<[u8]>,
    sums: Vec<Sum>,
    children: Vec<Node<T>>,
}

impl<T: Item> Inner<T> {
    /// A node of children in order, with the separators between them.
    pub(super) fn of(separators: Vec<Box<[u8]>>, children: Vec<Node<T>>) -> Inner<T> {
        assert!(
            separators.len() + 1 == children.len(),
            "one separator between two children"
        );
        let sums = children.iter().map(Node::sum).collect();
        let (heads, prefix) = (Heads::default(), Box::default());
        let mut inner = Inner {
            separators,
            heads,
            prefix,
            sums,
            children,
        };
        inner.rebuild_heads();
        inner
    }

    /// The child whose subtree holds `key`, if any does.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self
            .heads
            .search_after_prefix(&self.prefix, key, |at| &self.separators[at])
        {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The child that holds the item of this rank, and the item's rank in it.
    pub(super) fn child_at_rank(&self, rank: usize) -> (usize, usize) {
        let mut rest = rank;
        for (at, sum) in self.sums.iter().enumerate() {
            if rest < sum.len() {
                return (at, rest);
            }
            rest -= sum.len();
        }
        unreachable!("rank {rank} is beyond the subtree's items");
    }

    pub(super) fn child(&self, at: usize) -> &Node<T> {
        &self.children[at]
    }

    pub(super) fn child_mut(&mut self, at: usize) -> &mut Node<T> {
        &mut self.children[at]
    }

    /// What is known of child `at`; whoever changes the child's items changes it too.
    pub(super) fn sum_mut(&mut self, at: usize) -> &mut Sum {
        &mut self.sums[at]
    }

    pub(super) fn sum(&self) -> Sum {
        self.sum_before(self.sums.len())
    }

    /// The sum of the first `at` children.
    pub(super) fn sum_before(&self, at: usize) -> Sum {
        self.sums[..at].iter().copied().sum()
    }

    pub(super) fn is_underfull(&self) -> bool {
        self.children.len() < INNER_MIN
    }

    /// Takes in the right half of child `at`, which has just been split. A full node is split
    /// first.
    pub(super) fn accept(&mut self, at: usize, split: Split<T>) -> Option<Split<T>> {
        if self.children.len() < INNER_MAX {
            self.accept_with_room(at, split);
            return None;
        }
        let middle = if at == INNER_MAX - 1 {
            INNER_MAX - INNER_MIN
        } else {
            INNER_MAX / 2
        };
        let (separator, mut right) = self.split_off(middle);
        if at < middle {
            self.accept_with_room(at, split);
        } else {
            right.accept_with_room(at - middle, split);
        }
        Some(Split {
            separator,
            right: Node::Inner(Box::new(right)),
        })
    }

    /// Joins the underfull child `at` with a sibling, or evens the two out.
    pub(super) fn mend(&mut self, at: usize) {
        assert!(
            self.children.len() >= 2,
            "a node below the root has a sibling"
        );
        let left = at.saturating_sub(1);
        let right = self.children.remove(left + 1);
        let separator = self.separators.remove(left);
        self.heads.remove(left);
        self.sums.remove(left + 1);
        match self.children[left].absorb(separator, right) {
            Some(split) => self.accept_with_room(left, split),
            None => self.sums[left] = self.children[left].sum(),
        }
    }

    /// Takes in the right sibling's children; splits evenly if they are too many for one node.
    pub(super) fn absorb(&mut self, separator: Box<[u8]>, right: Inner<T>) -> Option<Split<T>> {
        self.separators.push(separator);
        self.separators.extend(right.separators);
        self.sums.extend(right.sums);
        self.children.extend(right.children);
        let len = self.children.len();
        if len <= INNER_MERGED_MAX {
            self.rebuild_heads();
            return None;
        }
        let (separator, right) = self.split_off(len / 2);
        Some(Split {
            separator,
            right: Node::Inner(Box::new(right)),
        })
    }

    /// The only child, of a root that is no longer needed; else the node itself.
    pub(super) fn into_only_child(mut self: Box<Self>) -> Result<Node<T>, Box<Self>> {
        if self.children.len() > 1 {
            return Err(self);
        }
        Ok(self.children.pop().expect("an inner node has children"))
    }

    /// Whether the node's own invariants hold, the minimum aside.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        self.children.len() <= INNER_MAX
            && self.children.len() >= 2
            && self.separators.len() + 1 == self.children.len()
            && self.separators.is_sorted_by(|left, right| left < right)
            && self
                .heads
                .fits(self.separators.len(), |at| &self.separators[at])
            && self.sums.iter().eq(self
                .children
                .iter()
                .map(Node::sum)
                .collect::<Vec<_>>()
                .iter())
    }

    /// The children, each with the separators on its two sides.
    #[cfg(test)]
    pub(super) fn bounded_children(
        &self,
    ) -> impl Iterator<Item = (Option<&[u8]>, &Node<T>, Option<&[u8]>)> {
        self.children.iter().enumerate().map(|(at, child)| {
            let below = at.checked_sub(1).map(|below| &*self.separators[below]);
            (below, child, self.separators.get(at).map(|above| &**above))
        })
    }

    fn accept_with_room(&mut self, at: usize, split: Split<T>) {
        make_room(&mut self.children);
        self.sums[at] = self.children[at].sum();
        self.sums.insert(at + 1, split.right.sum());
        self.children.insert(at + 1, split.right);
        self.separators.insert(at, split.separator);
        self.heads.insert(at, |at| &self.separators[at]);
        self.refresh_prefix();
    }

    /// Keeps the first `at` children; the others go to a new node, and the separator between the
    /// two nodes goes up.
    fn split_off(&mut self, at: usize) -> (Box<[u8]>, Inner<T>) {
        let children = split_array(&mut self.children, at);
        let separators = split_array(&mut self.separators, at);
        let separator = self
            .separators
            .pop()
            .expect("a split leaves children on the left");
        self.sums.truncate(at);
        self.rebuild_heads();
        (separator, Inner::of(separators, children))
    }

    fn rebuild_heads(&mut self) {
        self.heads = Heads::of(self.separators.len(), |at| &self.separators[at]);
        self.refresh_prefix();
    }

    fn refresh_prefix(&mut self) {
        let first = self.separators.first().map_or(&[][..], |first| &**first);
        let prefix = &first[..self.heads.prefix_len()];
        if *self.prefix != *prefix {
            self.prefix = Box::from(prefix);
        }
    }
}
