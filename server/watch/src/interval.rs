//! An augmented search tree of key ranges: which of them hold a key, in O(log m + hits).
//!
//! A treap ordered by (start, end); every node knows the furthest end below it. Priorities come
//! from a generator that no client can steer, so that no order of registrations unbalances it.
//! Recursion is as deep as the tree is high: logarithmic.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::types::{KeyRange, RangeEnd};

type Tree = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    range: KeyRange,
    /// The furthest end in this subtree.
    reach: RangeEnd,
    priority: u64,
    members: BTreeSet<usize>,
    left: Tree,
    right: Tree,
}

/// Ranges with the members registered on each.
#[derive(Debug)]
pub(super) struct IntervalTree {
    root: Tree,
    random: u64,
}

impl Default for IntervalTree {
    fn default() -> IntervalTree {
        IntervalTree {
            root: None,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

impl IntervalTree {
    /// Registers a member on a range that is neither a single key nor empty.
    pub fn insert(&mut self, range: &KeyRange, member: usize) {
        assert!(
            !range.is_single() && !range.is_empty(),
            "only true ranges are kept as intervals"
        );
        if let Some(node) = find(&mut self.root, range) {
            assert!(node.members.insert(member), "a member is registered once");
            return;
        }
        let node = Node {
            range: range.clone(),
            reach: range.end.clone(),
            priority: self.next_priority(),
            members: BTreeSet::from([member]),
            left: None,
            right: None,
        };
        insert(&mut self.root, Box::new(node));
    }

    /// Takes a member off a range.
    pub fn remove(&mut self, range: &KeyRange, member: usize) {
        let node = find(&mut self.root, range).expect("the range of a registered member is kept");
        assert!(
            node.members.remove(&member),
            "only registered members are removed"
        );
        if node.members.is_empty() {
            remove(&mut self.root, range);
        }
    }

    /// Appends the members of every range that holds `key`.
    pub fn collect(&self, key: &[u8], out: &mut Vec<usize>) {
        collect(&self.root, key, out);
    }

    fn next_priority(&mut self) -> u64 {
        // xorshift64: the state is never zero.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Node {
    fn refresh(&mut self) {
        let mut reach = &self.range.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if later(&child.reach, reach) {
                reach = &child.reach;
            }
        }
        let reach = reach.clone();
        self.reach = reach;
    }
}

fn later(end: &RangeEnd, than: &RangeEnd) -> bool {
    match (end, than) {
        (_, RangeEnd::Unbounded) => false,
        (RangeEnd::Unbounded, _) => true,
        (RangeEnd::Before(end), RangeEnd::Before(than)) => end > than,
        (RangeEnd::SingleKey, _) | (_, RangeEnd::SingleKey) => unreachable!("refused by insert"),
    }
}

fn ends_after(end: &RangeEnd, key: &[u8]) -> bool {
    match end {
        RangeEnd::Unbounded => true,
        RangeEnd::Before(end) => end.as_ref() > key,
        RangeEnd::SingleKey => unreachable!("refused by insert"),
    }
}

fn find<'a>(tree: &'a mut Tree, range: &KeyRange) -> Option<&'a mut Node> {
    let mut tree = tree;
    while let Some(node) = tree {
        match range.cmp(&node.range) {
            Ordering::Equal => return Some(node),
            Ordering::Less => tree = &mut node.left,
            Ordering::Greater => tree = &mut node.right,
        }
    }
    None
}

fn insert(tree: &mut Tree, mut new: Box<Node>) {
    let Some(node) = tree else {
        *tree = Some(new);
        return;
    };
    if new.priority > node.priority {
        (new.left, new.right) = split(tree.take(), &new.range);
        new.refresh();
        *tree = Some(new);
        return;
    }
    let child = if new.range < node.range {
        &mut node.left
    } else {
        &mut node.right
    };
    insert(child, new);
    node.refresh();
}

fn split(tree: Tree, range: &KeyRange) -> (Tree, Tree) {
    let Some(mut node) = tree else {
        return (None, None);
    };
    if node.range < *range {
        let (less, more) = split(node.right.take(), range);
        node.right = less;
        node.refresh();
        (Some(node), more)
    } else {
        let (less, more) = split(node.left.take(), range);
        node.left = more;
        node.refresh();
        (less, Some(node))
    }
}

fn merge(less: Tree, more: Tree) -> Tree {
    match (less, more) {
        (None, tree) | (tree, None) => tree,
        (Some(mut less), Some(mut more)) => {
            if less.priority > more.priority {
                less.right = merge(less.right.take(), Some(more));
                less.refresh();
                Some(less)
            } else {
                more.left = merge(Some(less), more.left.take());
                more.refresh();
                Some(more)
            }
        }
    }
}

fn remove(tree: &mut Tree, range: &KeyRange) {
    let Some(node) = tree else { return };
    match range.cmp(&node.range) {
        Ordering::Equal => {
            *tree = merge(node.left.take(), node.right.take());
            return;
        }
        Ordering::Less => remove(&mut node.left, range),
        Ordering::Greater => remove(&mut node.right, range),
    }
    node.refresh();
}

fn collect(tree: &Tree, key: &[u8], out: &mut Vec<usize>) {
    let Some(node) = tree else { return };
    if !ends_after(&node.reach, key) {
        return;
    }
    collect(&node.left, key, out);
    if node.range.start.as_ref() > key {
        return;
    }
    if ends_after(&node.range.end, key) {
        out.extend(&node.members);
    }
    collect(&node.right, key, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn range(start: u8, end: u8) -> KeyRange {
        let end = if end == 0 {
            RangeEnd::Unbounded
        } else {
            RangeEnd::Before(vec![end].into())
        };
        KeyRange {
            start: Bytes::from(vec![start]),
            end,
        }
    }

    fn height(tree: &Tree) -> usize {
        tree.as_ref()
            .map_or(0, |node| 1 + height(&node.left).max(height(&node.right)))
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_linear_search_finds(
            steps in prop::collection::vec((any::<bool>(), 1u8..24, 0u8..24, 0usize..40), 1..200),
        ) {
            let mut tree = IntervalTree::default();
            let mut model = BTreeSet::new();
            for (add, start, end, member) in steps {
                let range = range(start, end);
                if range.is_empty() {
                    continue;
                }
                let entry = (range.clone(), member);
                if add && !model.contains(&entry) {
                    tree.insert(&range, member);
                    model.insert(entry);
                } else if !add && let Some((range, member)) = model.pop_first() {
                    tree.remove(&range, member);
                }
                for key in 0u8..26 {
                    let mut found = Vec::new();
                    tree.collect(&[key], &mut found);
                    found.sort_unstable();
                    let mut wanted: Vec<usize> = model
                        .iter()
                        .filter(|(range, _)| range.contains(&[key]))
                        .map(|(_, member)| *member)
                        .collect();
                    wanted.sort_unstable();
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }

    #[test]
    fn ascending_registrations_leave_the_tree_flat() {
        let mut tree = IntervalTree::default();
        for index in 0..10_000u32 {
            let start = Bytes::copy_from_slice(&index.to_be_bytes());
            let end = RangeEnd::Before(Bytes::copy_from_slice(&(index + 1).to_be_bytes()));
            tree.insert(&KeyRange { start, end }, 0);
        }
        assert!(height(&tree.root) < 50, "height {}", height(&tree.root));
        let mut found = Vec::new();
        tree.collect(&5000u32.to_be_bytes(), &mut found);
        assert_eq!(found, [0]);
    }
}
