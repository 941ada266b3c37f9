//! What leaves and inner nodes have in common: the sums kept over a subtree, the node itself, and
//! the two halves that a full node leaves behind.

use std::ops::{Add, AddAssign, SubAssign};

use super::Item;
use super::inner::Inner;
use super::leaf::Leaf;

/// Items and their weight in a subtree. 32 bits suffice: a tree refuses more than `u32::MAX` items
/// (their bare array would be over 200 GB) and an item weighs at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Items in the subtree.
    pub(super) items: u32,
    /// The items' weights, added up.
    pub(super) weight: u32,
}

impl Sum {
    /// The sum of one item.
    pub(super) fn of<T: Item>(item: &T) -> Sum {
        Sum {
            items: 1,
            weight: weight_of(item),
        }
    }

    /// The number of items as an index.
    pub(super) fn len(self) -> usize {
        usize::try_from(self.items).expect("a usize holds 32 bits on every supported platform")
    }
}

impl Add for Sum {
    type Output = Sum;
    fn add(self, other: Sum) -> Sum {
        Sum {
            items: self.items + other.items,
            weight: self.weight + other.weight,
        }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        *self = *self + other;
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Sum) {
        self.items -= other.items;
        self.weight -= other.weight;
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(sums: I) -> Sum {
        sums.fold(Sum::default(), Sum::add)
    }
}

/// The item's weight, checked: sums of 32 bits rely on it.
pub(super) fn weight_of<T: Item>(item: &T) -> u32 {
    let weight = item.weight();
    assert!(weight <= 1, "an item weighs 0 or 1, not {weight}");
    weight
}

/// A subtree. Leaves lie inside their parent's array, which saves a pointer on the way to an item.
pub(super) enum Node<T> {
    /// The lowest level: items.
    Leaf(Leaf<T>),
    /// A level above: children.
    Inner(Box<Inner<T>>),
}

/// What splitting a node leaves to its parent: the new right half, and the least key that goes
/// there.
pub(super) struct Split<T> {
    /// Keys from here on are in `right`, keys below it in the node that was split.
    pub(super) separator: Box<[u8]>,
    /// The new right sibling.
    pub(super) right: Node<T>,
}

impl<T: Item> Node<T> {
    pub(super) fn sum(&self) -> Sum {
        match self {
            Node::Leaf(leaf) => leaf.sum(),
            Node::Inner(inner) => inner.sum(),
        }
    }

    /// Whether the node holds too little to stand beside siblings.
    pub(super) fn is_underfull(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.is_underfull(),
            Node::Inner(inner) => inner.is_underfull(),
        }
    }

    /// Takes in all of the right sibling. A split is returned if both together are too much for one
    /// node: then each half has its fair share.
    pub(super) fn absorb(&mut self, separator: Box<[u8]>, right: Node<T>) -> Option<Split<T>> {
        match (self, right) {
            (Node::Leaf(leaf), Node::Leaf(right)) => leaf.absorb(right),
            (Node::Inner(inner), Node::Inner(right)) => inner.absorb(separator, *right),
            _ => unreachable!("all leaves of the tree are at one depth"),
        }
    }

    /// The leaf, where the depth says that it is one.
    pub(super) fn leaf_mut(&mut self) -> &mut Leaf<T> {
        match self {
            Node::Leaf(leaf) => leaf,
            Node::Inner(_) => unreachable!("all leaves of the tree are at one depth"),
        }
    }

    /// The inner node, where the depth says that it is one.
    pub(super) fn inner_mut(&mut self) -> &mut Inner<T> {
        match self {
            Node::Inner(inner) => inner,
            Node::Leaf(_) => unreachable!("all leaves of the tree are at one depth"),
        }
    }
}
