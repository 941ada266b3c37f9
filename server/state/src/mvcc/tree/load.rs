//! Building a tree from items that are in order already: leaf by leaf, then level by level upwards.

use super::capacity::snug_len;
use super::inner::{INNER_MAX, Inner};
use super::leaf::{LEAF_MAX, LEAF_MIN, Leaf};
use super::node::Node;
use super::{Item, OrderTree};

/// Items of a loaded leaf at most: nine tenths, so that the first insertions do not split every
/// leaf.
const LEAF_LOADED_MAX: usize = LEAF_MAX * 9 / 10;

/// Children of a loaded inner node at most.
const INNER_LOADED_MAX: usize = INNER_MAX * 9 / 10;

/// The nodes of one level: each with the separator to its left, empty for the first.
type Level<T> = Vec<(Box<[u8]>, Node<T>)>;

pub(super) fn load<T: Item>(items: impl Iterator<Item = T>) -> OrderTree<T> {
    let mut level: Level<T> = Vec::new();
    let mut below: Option<Leaf<T>> = None;
    let mut low_separator = Box::default();
    for leaf in leaves(items) {
        let separator = below.as_ref().map(|below| below.separator_to(&leaf));
        if let (Some(below), Some(separator)) = (below.replace(leaf), separator) {
            level.push((
                std::mem::replace(&mut low_separator, separator),
                Node::Leaf(below),
            ));
        }
    }
    level.extend(below.map(|last| (low_separator, Node::Leaf(last))));
    let mut height = 0;
    while level.len() > 1 {
        level = parents(level);
        height += 1;
    }
    let root = level
        .pop()
        .map_or_else(|| Node::Leaf(Leaf::default()), |(_, root)| root);
    OrderTree::with_root(root, height)
}

/// Cuts the items into leaves; only a single leaf may hold fewer than the minimum.
fn leaves<T: Item>(items: impl Iterator<Item = T>) -> impl Iterator<Item = Leaf<T>> {
    let len = snug_len::<T>(LEAF_LOADED_MAX);
    let mut items = items.peekable();
    let mut held: Option<Vec<T>> = None;
    std::iter::from_fn(move || {
        let mut taken = held.take().unwrap_or_else(|| take(&mut items, len));
        if taken.is_empty() {
            return None;
        }
        let mut next = take(&mut items, len);
        if !next.is_empty() && next.len() < LEAF_MIN {
            // Too few for a last leaf of their own: share evenly with the one before.
            let keep = (taken.len() + next.len()) / 2;
            next.splice(..0, taken.drain(keep..));
        }
        held = Some(next);
        assert_ascending(&taken);
        Some(Leaf::of(taken))
    })
}

fn take<T>(items: &mut impl Iterator<Item = T>, len: usize) -> Vec<T> {
    let Some(first) = items.next() else {
        return Vec::new();
    };
    let mut taken = Vec::with_capacity(len);
    taken.push(first);
    taken.extend(items.take(len - 1));
    taken
}

fn assert_ascending<T: Item>(items: &[T]) {
    let ascending = items.is_sorted_by(|left, right| left.key() < right.key());
    assert!(
        ascending,
        "items must be loaded in strictly ascending key order"
    );
}

/// Groups a level's nodes under as few parents as hold them, evenly, so that none is underfull.
fn parents<T: Item>(level: Level<T>) -> Level<T> {
    let groups = level.len().div_ceil(INNER_LOADED_MAX);
    let (least, larger) = (level.len() / groups, level.len() % groups);
    let mut nodes = level.into_iter();
    let parent = |group: usize| {
        let len = least + usize::from(group < larger);
        let (low, first) = nodes.next().expect("every group has nodes");
        let mut children = Vec::with_capacity(len);
        children.push(first);
        let mut separators = Vec::with_capacity(len - 1);
        for (separator, child) in nodes.by_ref().take(len - 1) {
            separators.push(separator);
            children.push(child);
        }
        (low, Node::Inner(Box::new(Inner::of(separators, children))))
    };
    (0..groups).map(parent).collect()
}
