//! An ordered map that also counts: a B+tree in memory over byte-string keys, in which every inner
//! node knows how many items, and how much weight, lie under each child.
//!
//! It owns its items and their order. It knows nothing of revisions, storage or the meaning of a
//! weight: whoever builds on it decides what counts (a live key weighs 1, a deleted one 0).
//!
//! Costs, for n items: point operations, [`OrderTree::weight_in`] and positioning a range are O(log
//! n); each further item of a range is O(1). Memory beyond the items themselves: about a quarter
//! after insertions in random order, less after a bulk load.
//!
//! Invariants (asserted where cheap, checked in full by the tests):
//! - keys are unique and strictly ascend from the first leaf to the last;
//! - all leaves are at one depth, and every node but the root is at least a quarter full;
//! - each sum equals what its subtree holds;
//! - an item never changes its key while it is in the tree.
//!
//! The tree is plain data: no interior mutability, no unsafe code, so readers may share it under a
//! reader-writer lock.

mod capacity;
mod heads;
mod inner;
mod leaf;
mod load;
mod node;
mod range;
#[cfg(test)]
mod tests;

use inner::Inner;
use leaf::Leaf;
use node::{Node, Split, Sum};

pub use range::Range;

/// Levels above the leaves at most. A quarter-full tree of `u32::MAX` items has seven.
const HEIGHT_MAX: usize = 8;

/// What the tree holds: something with a key, that counts or does not.
pub trait Item {
    /// The key: unique in the tree, never changing while the item is in it. Any bytes, any length.
    fn key(&self) -> &[u8];
    /// 1 if the item counts, 0 if not. Changes only within [`OrderTree::update`] and
    /// [`OrderTree::update_or_insert`].
    fn weight(&self) -> u32;
}

/// An ordered set of items by key, with subtree counts.
pub struct OrderTree<T: Item> {
    root: Node<T>,
    /// Levels of inner nodes above the leaves.
    height: usize,
    total: Sum,
}

/// The way to a place in a leaf: which child to take at each level.
struct Place {
    path: [u8; HEIGHT_MAX],
    /// The key's index in the leaf, or the index where it belongs.
    found: Result<usize, usize>,
}

impl<T: Item> Default for OrderTree<T> {
    fn default() -> OrderTree<T> {
        OrderTree::new()
    }
}

impl<T: Item> OrderTree<T> {
    /// An empty tree.
    pub fn new() -> OrderTree<T> {
        OrderTree {
            root: Node::Leaf(Leaf::default()),
            height: 0,
            total: Sum::default(),
        }
    }

    /// Builds the tree from items in order, in O(n), with leaves about 85 % full.
    ///
    /// # Panics
    /// The keys do not strictly ascend.
    pub fn from_sorted(items: impl Iterator<Item = T>) -> OrderTree<T> {
        load::load(items)
    }

    /// How many items there are, counted ones or not. At most `u32::MAX`.
    pub fn len(&self) -> usize {
        self.total.len()
    }

    /// Whether there are no items at all.
    pub fn is_empty(&self) -> bool {
        self.total.items == 0
    }

    /// The weight of all items.
    pub fn weight(&self) -> u64 {
        u64::from(self.total.weight)
    }

    /// The item with this key.
    pub fn get(&self, key: &[u8]) -> Option<&T> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = inner.child(inner.child_for(key)),
                Node::Leaf(leaf) => return leaf.search(key).ok().map(|at| &leaf.items()[at]),
            }
        }
    }

    /// Changes the item with this key in place, its weight too if wished, and returns what `change`
    /// does; `None`, without calling it, if there is no such item.
    ///
    /// # Panics
    /// `change` has changed the key.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let place = self.locate(key);
        let at = place.found.ok()?;
        Some(self.update_at(&place, at, key, change))
    }

    /// Puts the item in; an item with an equal key is replaced and returned.
    ///
    /// # Panics
    /// The tree holds `u32::MAX` items already.
    pub fn insert(&mut self, item: T) -> Option<T> {
        let place = self.locate(item.key());
        match place.found {
            Ok(at) => Some(self.replace_at(&place, at, item)),
            Err(at) => {
                self.insert_at(&place, at, item);
                None
            }
        }
    }

    /// Changes the item with this key as [`OrderTree::update`] does, or puts in the one that
    /// `insert` makes: one search in either case.
    ///
    /// # Panics
    /// `update` has changed the key, `insert` has made an item with another key, or the tree holds
    /// `u32::MAX` items already.
    pub fn update_or_insert<R>(
        &mut self,
        key: &[u8],
        update: impl FnOnce(&mut T) -> R,
        insert: impl FnOnce() -> (T, R),
    ) -> R {
        let place = self.locate(key);
        match place.found {
            Ok(at) => self.update_at(&place, at, key, update),
            Err(at) => {
                let (item, answer) = insert();
                assert!(
                    item.key() == key,
                    "the new item has the key that was asked for"
                );
                self.insert_at(&place, at, item);
                answer
            }
        }
    }

    /// Takes out the item with this key.
    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        let place = self.locate(key);
        let at = place.found.ok()?;
        let item = self.node_at_mut(&place, self.height).leaf_mut().remove(at);
        let removed = Sum::of(&item);
        self.change_sums(&place, |sum| *sum -= removed);
        self.mend(&place);
        Some(item)
    }

    /// The weight of all items with a key below `key`.
    pub fn weight_before(&self, key: &[u8]) -> u64 {
        u64::from(self.sum_before(key).weight)
    }

    /// The weight of all items with a key in `start..end`; `None` is beyond the last key. 0 if the
    /// bounds cross.
    pub fn weight_in(&self, start: &[u8], end: Option<&[u8]>) -> u64 {
        let high = end.map_or(self.total, |end| self.sum_before(end));
        u64::from(high.weight.saturating_sub(self.sum_before(start).weight))
    }

    /// The items with a key in `start..end`, ascending; `None` is beyond the last key. Empty if the
    /// bounds cross. The length is exact and free; `rev()` walks down from the end.
    pub fn range(&self, start: &[u8], end: Option<&[u8]>) -> Range<'_, T> {
        let high = end.map_or(self.total, |end| self.sum_before(end));
        Range::new(self, self.sum_before(start).len(), high.len())
    }

    /// All items, ascending.
    pub fn iter(&self) -> Range<'_, T> {
        Range::new(self, 0, self.len())
    }

    /// Visits up to `max` items in order, from the first whose key is not below `from` (`None`:
    /// from the first of all), for changes that concern neither key nor weight. Returns the key of
    /// the next item, to go on from there another time; `None` when the last item has been visited.
    ///
    /// # Panics
    /// `visit` has changed a weight. A changed key is not noticed here, and is a bug.
    pub fn sweep(
        &mut self,
        from: Option<&[u8]>,
        max: usize,
        mut visit: impl FnMut(&mut T),
    ) -> Option<Box<[u8]>> {
        let mut rank = from.map_or(0, |from| self.sum_before(from).len());
        let end = self.len().min(rank.saturating_add(max));
        while rank < end {
            let (leaf, at) = self.leaf_at_rank_mut(rank);
            let run_end = leaf.len().min(at + (end - rank));
            for item in &mut leaf[at..run_end] {
                let weight = item.weight();
                visit(item);
                assert!(
                    item.weight() == weight,
                    "a sweep leaves weights as they are"
                );
            }
            rank += run_end - at;
        }
        (end < self.len()).then(|| {
            let (leaf, at) = self.leaf_at_rank(end);
            Box::from(leaf[at].key())
        })
    }

    fn with_root(root: Node<T>, height: usize) -> OrderTree<T> {
        assert!(height <= HEIGHT_MAX, "the tree is too high");
        let total = root.sum();
        OrderTree {
            root,
            height,
            total,
        }
    }

    /// The sum of all items with a key below `key`.
    fn sum_before(&self, key: &[u8]) -> Sum {
        if key.is_empty() {
            return Sum::default();
        }
        let mut sum = Sum::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_for(key);
                    sum += inner.sum_before(child);
                    node = inner.child(child);
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.search(key);
                    return sum + leaf.sum_before(at);
                }
            }
        }
    }

    /// The leaf that holds the item of this rank (which must exist), and the item's index in it.
    fn leaf_at_rank(&self, rank: usize) -> (&[T], usize) {
        let mut node = &self.root;
        let mut rest = rank;
        loop {
            match node {
                Node::Inner(inner) => {
                    let (child, child_rank) = inner.child_at_rank(rest);
                    rest = child_rank;
                    node = inner.child(child);
                }
                Node::Leaf(leaf) => return (leaf.items(), rest),
            }
        }
    }

    fn leaf_at_rank_mut(&mut self, rank: usize) -> (&mut [T], usize) {
        let mut node = &mut self.root;
        let mut rest = rank;
        loop {
            match node {
                Node::Inner(inner) => {
                    let (child, child_rank) = inner.child_at_rank(rest);
                    rest = child_rank;
                    node = inner.child_mut(child);
                }
                Node::Leaf(leaf) => return (leaf.items_mut(), rest),
            }
        }
    }

    fn locate(&self, key: &[u8]) -> Place {
        let mut path = [0; HEIGHT_MAX];
        let mut node = &self.root;
        let mut level = 0;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.child_for(key);
                    path[level] = u8::try_from(child).expect("a node has few children");
                    level += 1;
                    node = inner.child(child);
                }
                Node::Leaf(leaf) => {
                    return Place {
                        path,
                        found: leaf.search(key),
                    };
                }
            }
        }
    }

    /// The node on the way to `place` with `level` levels above it: `height` means the leaf.
    fn node_at_mut(&mut self, place: &Place, level: usize) -> &mut Node<T> {
        let mut node = &mut self.root;
        for child in &place.path[..level] {
            node = node.inner_mut().child_mut(usize::from(*child));
        }
        node
    }

    /// Changes the total and every sum on the way to `place`.
    fn change_sums(&mut self, place: &Place, change: impl Fn(&mut Sum)) {
        change(&mut self.total);
        let mut node = &mut self.root;
        for child in &place.path[..self.height] {
            let inner = node.inner_mut();
            change(inner.sum_mut(usize::from(*child)));
            node = inner.child_mut(usize::from(*child));
        }
    }

    fn reweigh(&mut self, place: &Place, before: Sum, after: Sum) {
        if before == after {
            return;
        }
        self.change_sums(place, |sum| {
            *sum -= before;
            *sum += after;
        });
    }

    fn update_at<R>(
        &mut self,
        place: &Place,
        at: usize,
        key: &[u8],
        change: impl FnOnce(&mut T) -> R,
    ) -> R {
        let item = &mut self.node_at_mut(place, self.height).leaf_mut().items_mut()[at];
        let before = Sum::of(item);
        let answer = change(item);
        assert!(item.key() == key, "an update leaves the key as it is");
        let after = Sum::of(item);
        self.reweigh(place, before, after);
        answer
    }

    fn replace_at(&mut self, place: &Place, at: usize, item: T) -> T {
        let after = Sum::of(&item);
        let slot = &mut self.node_at_mut(place, self.height).leaf_mut().items_mut()[at];
        let replaced = std::mem::replace(slot, item);
        self.reweigh(place, Sum::of(&replaced), after);
        replaced
    }

    fn insert_at(&mut self, place: &Place, at: usize, item: T) {
        assert!(self.total.items < u32::MAX, "the tree is full");
        let added = Sum::of(&item);
        self.change_sums(place, |sum| *sum += added);
        if let Some(split) = self
            .node_at_mut(place, self.height)
            .leaf_mut()
            .insert(at, item)
        {
            self.grow(place, split);
        }
    }

    /// Hands the right half of the leaf at `place` to its parent, which may have to split in turn.
    fn grow(&mut self, place: &Place, split: Split<T>) {
        let mut pending = split;
        for level in (0..self.height).rev() {
            let parent = self.node_at_mut(place, level).inner_mut();
            match parent.accept(usize::from(place.path[level]), pending) {
                Some(next) => pending = next,
                None => return,
            }
        }
        assert!(self.height < HEIGHT_MAX, "the tree is too high");
        let left = std::mem::replace(&mut self.root, Node::Leaf(Leaf::default()));
        let root = Inner::of(vec![pending.separator], vec![left, pending.right]);
        self.root = Node::Inner(Box::new(root));
        self.height += 1;
    }

    /// Mends the nodes on the way to `place` that a removal has left underfull, from the leaf up.
    fn mend(&mut self, place: &Place) {
        for level in (0..self.height).rev() {
            let parent = self.node_at_mut(place, level).inner_mut();
            let child = usize::from(place.path[level]);
            if !parent.child(child).is_underfull() {
                return;
            }
            parent.mend(child);
        }
        self.drop_idle_root();
    }

    /// A root with a single child gives its place to it.
    fn drop_idle_root(&mut self) {
        self.root = match std::mem::replace(&mut self.root, Node::Leaf(Leaf::default())) {
            Node::Inner(root) => match root.into_only_child() {
                Ok(child) => {
                    self.height -= 1;
                    child
                }
                Err(root) => Node::Inner(root),
            },
            leaf => leaf,
        };
    }
}

impl<'a, T: Item> IntoIterator for &'a OrderTree<T> {
    type Item = &'a T;
    type IntoIter = Range<'a, T>;

    fn into_iter(self) -> Range<'a, T> {
        self.iter()
    }
}
