//! The tree against `BTreeMap`, with every invariant checked as the tree changes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::inner::INNER_MIN;
use super::leaf::LEAF_MIN;
use super::node::{Node, Sum};
use super::{Item, OrderTree};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Box<[u8]>,
    live: bool,
    value: u32,
}

impl Item for Entry {
    fn key(&self) -> &[u8] {
        &self.key
    }
    fn weight(&self) -> u32 {
        u32::from(self.live)
    }
}

type Model = BTreeMap<Vec<u8>, Entry>;

fn entry(key: &[u8], live: bool, value: u32) -> Entry {
    Entry {
        key: Box::from(key),
        live,
        value,
    }
}

fn numbered(number: u32) -> Entry {
    entry(
        format!("/registry/pods/{number:08}").as_bytes(),
        number.is_multiple_of(3),
        number,
    )
}

/// Checks order, fill, depth, separators, heads and sums of the whole tree.
fn check(tree: &OrderTree<Entry>) {
    let mut keys = Vec::new();
    let sum = check_node(&tree.root, tree.height, (None, None), &mut keys);
    assert_eq!(sum, tree.total);
    assert!(
        keys.is_sorted_by(|left, right| left < right),
        "keys strictly ascend"
    );
    assert_eq!(keys.len(), tree.len());
}

fn check_node<'a>(
    node: &'a Node<Entry>,
    levels_below: usize,
    bounds: (Option<&[u8]>, Option<&[u8]>),
    keys: &mut Vec<&'a [u8]>,
) -> Sum {
    match node {
        Node::Leaf(leaf) => {
            assert_eq!(levels_below, 0, "all leaves are at one depth");
            assert!(leaf.is_sound());
            for item in leaf.items() {
                assert!(bounds.0.is_none_or(|low| low <= item.key()));
                assert!(bounds.1.is_none_or(|high| item.key() < high));
                keys.push(item.key());
            }
            leaf.sum()
        }
        Node::Inner(inner) => {
            assert!(inner.is_sound());
            let mut sum = Sum::default();
            for (low, child, high) in inner.bounded_children() {
                assert!(
                    !child.is_underfull(),
                    "fewer than {LEAF_MIN} items, {INNER_MIN} children"
                );
                let bounds = (low.or(bounds.0), high.or(bounds.1));
                sum += check_node(child, levels_below - 1, bounds, keys);
            }
            sum
        }
    }
}

fn model_range<'m>(
    model: &'m Model,
    start: &[u8],
    end: Option<&[u8]>,
) -> impl DoubleEndedIterator<Item = &'m Entry> {
    let (start, end) = (start.to_vec(), end.map(<[u8]>::to_vec));
    model.values().filter(move |entry| {
        *entry.key >= *start && end.as_ref().is_none_or(|end| *entry.key < **end)
    })
}

fn compare_range(tree: &OrderTree<Entry>, model: &Model, start: &[u8], end: Option<&[u8]>) {
    let expected: Vec<&Entry> = model_range(model, start, end).collect();
    assert_eq!(tree.range(start, end).len(), expected.len());
    assert!(tree.range(start, end).eq(expected.iter().copied()));
    assert!(
        tree.range(start, end)
            .rev()
            .eq(expected.iter().rev().copied())
    );
    let weight: u64 = expected.iter().map(|entry| u64::from(entry.weight())).sum();
    assert_eq!(tree.weight_in(start, end), weight);
    let before: u64 = model_range(model, b"", Some(start))
        .map(|e| u64::from(e.weight()))
        .sum();
    assert_eq!(tree.weight_before(start), before);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, bool, u32),
    Upsert(Vec<u8>, bool, u32),
    Update(Vec<u8>, bool, u32),
    Remove(Vec<u8>),
    /// Removes up to this many items from a place on, so that nodes are merged.
    RemoveRun(Vec<u8>, usize),
    Get(Vec<u8>),
    Range(Vec<u8>, Option<Vec<u8>>),
    Sweep(Option<Vec<u8>>, usize),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0u32..3_000).prop_map(|n| format!("/registry/pods/ns-{}/{n:05}", n % 3).into_bytes()),
        2 => prop::collection::vec(prop::sample::select(vec![0u8, b'/', b'r', 255]), 0..6),
        1 => (0u32..40).prop_map(|n| format!("/registry/{n}").into_bytes()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let parts = || (key(), any::<bool>(), any::<u32>());
    prop_oneof![
        8 => parts().prop_map(|(key, live, value)| Step::Insert(key, live, value)),
        8 => parts().prop_map(|(key, live, value)| Step::Upsert(key, live, value)),
        3 => parts().prop_map(|(key, live, value)| Step::Update(key, live, value)),
        6 => key().prop_map(Step::Remove),
        1 => (key(), 0usize..300).prop_map(|(key, max)| Step::RemoveRun(key, max)),
        3 => key().prop_map(Step::Get),
        1 => (key(), prop::option::of(key())).prop_map(|(start, end)| Step::Range(start, end)),
        1 => (prop::option::of(key()), 0usize..200).prop_map(|(from, max)| Step::Sweep(from, max)),
    ]
}

fn take_step(tree: &mut OrderTree<Entry>, model: &mut Model, step: Step) {
    match step {
        Step::Insert(key, live, value) => {
            let expected = model.insert(key.clone(), entry(&key, live, value));
            assert_eq!(tree.insert(entry(&key, live, value)), expected);
        }
        Step::Upsert(key, live, value) => {
            let expected = model.insert(key.clone(), entry(&key, live, value));
            let replaced = tree.update_or_insert(
                &key,
                |item| Some(std::mem::replace(item, entry(&key, live, value))),
                || (entry(&key, live, value), None),
            );
            assert_eq!(replaced, expected);
        }
        Step::Update(key, live, value) => {
            let expected = model.get_mut(&key).map(|item| {
                item.live = live;
                std::mem::replace(&mut item.value, value)
            });
            let updated = tree.update(&key, |item| {
                item.live = live;
                std::mem::replace(&mut item.value, value)
            });
            assert_eq!(updated, expected);
        }
        Step::Remove(key) => assert_eq!(tree.remove(&key), model.remove(&key)),
        Step::RemoveRun(from, max) => {
            let doomed: Vec<Vec<u8>> = model
                .range(from..)
                .take(max)
                .map(|(k, _)| k.clone())
                .collect();
            for key in doomed {
                assert_eq!(tree.remove(&key), model.remove(&key));
            }
        }
        Step::Get(key) => assert_eq!(tree.get(&key), model.get(&key)),
        Step::Range(start, end) => compare_range(tree, model, &start, end.as_deref()),
        Step::Sweep(from, max) => sweep_both(tree, model, from.as_deref(), max),
    }
}

fn sweep_both(tree: &mut OrderTree<Entry>, model: &mut Model, from: Option<&[u8]>, max: usize) {
    let start = from.unwrap_or_default().to_vec();
    let mut expected = model.range_mut(start..);
    let mut visited = 0;
    let next = tree.sweep(from, max, |item| {
        visited += 1;
        item.value = item.value.wrapping_add(1);
        let (_, twin) = expected
            .next()
            .expect("the sweep goes no further than the model");
        twin.value = twin.value.wrapping_add(1);
        assert_eq!(item, twin);
    });
    assert_eq!(
        next.as_deref(),
        expected.next().map(|(key, _)| key.as_slice())
    );
    assert!(visited == max || (visited < max && next.is_none()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_of_operations_agrees_with_a_btree_map(
        loaded in prop::collection::btree_map(key(), any::<bool>(), 0..1_500),
        steps in prop::collection::vec(step(), 1..1_200),
    ) {
        let mut model: Model =
            loaded.into_iter().map(|(key, live)| (key.clone(), entry(&key, live, 0))).collect();
        let mut tree = OrderTree::from_sorted(model.values().cloned());
        check(&tree);
        for (number, step) in steps.into_iter().enumerate() {
            take_step(&mut tree, &mut model, step);
            if number.is_multiple_of(50) {
                check(&tree);
            }
        }
        check(&tree);
        compare_range(&tree, &model, b"", None);
    }

    #[test]
    fn a_range_may_be_walked_from_both_ends_at_once(
        count in 0u32..700,
        bounds in (0u32..700, 0u32..700),
        turns in prop::collection::vec(any::<bool>(), 0..800),
    ) {
        let tree = OrderTree::from_sorted((0..count).map(numbered));
        let all: Vec<Entry> = (0..count).map(numbered).collect();
        let (start, end) = (numbered(bounds.0).key, numbered(bounds.1).key);
        let mut expected = all.iter().filter(|item| item.key >= start && item.key < end);
        let mut range = tree.range(&start, Some(&end));
        for front in turns {
            let (ours, theirs) = if front {
                (range.next(), expected.next())
            } else {
                (range.next_back(), expected.next_back())
            };
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(range.len(), expected.clone().count());
        }
    }

    #[test]
    fn a_bulk_load_of_any_length_is_sound_and_complete(count in 0u32..9_000) {
        let tree = OrderTree::from_sorted((0..count).map(numbered));
        check(&tree);
        prop_assert!(tree.iter().map(|item| item.value).eq(0..count));
        prop_assert_eq!(tree.weight(), u64::from(count.div_ceil(3)));
    }
}

/// Numbers below `count` in a scattered order, each once.
fn scattered(count: u32) -> impl Iterator<Item = u32> {
    // 7919 is prime and `count` no multiple of it, so the products are distinct modulo `count`.
    (0..count).map(move |n| u32::try_from(u64::from(n) * 7_919 % u64::from(count)).unwrap())
}

#[test]
fn a_tree_grown_in_any_order_and_emptied_in_another_is_sound_all_the_way() {
    const COUNT: u32 = 20_000;
    let orders: [Vec<u32>; 3] = [
        (0..COUNT).collect(),
        (0..COUNT).rev().collect(),
        scattered(COUNT).collect(),
    ];
    for grow in &orders {
        for empty in &orders {
            let mut tree = OrderTree::new();
            for (turn, number) in grow.iter().enumerate() {
                assert_eq!(tree.insert(numbered(*number)), None);
                if turn.is_multiple_of(2_500) {
                    check(&tree);
                }
            }
            assert_eq!(
                tree.height, 2,
                "the test reaches inner nodes under the root"
            );
            check(&tree);
            for (turn, number) in empty.iter().enumerate() {
                assert_eq!(tree.remove(&numbered(*number).key), Some(numbered(*number)));
                if turn.is_multiple_of(2_500) {
                    check(&tree);
                }
            }
            check(&tree);
            assert!(tree.is_empty());
            assert_eq!(tree.height, 0);
        }
    }
}

#[test]
fn keys_that_arrive_in_order_leave_leaves_two_thirds_full() {
    let mut tree = OrderTree::new();
    (0..10_000)
        .map(numbered)
        .for_each(|item| assert_eq!(tree.insert(item), None));
    let mut rank = 0;
    let mut leaves = 0;
    while rank < tree.len() {
        rank += tree.leaf_at_rank(rank).0.len();
        leaves += 1;
    }
    assert!(tree.len() / leaves >= 42, "{leaves} leaves");
}

#[test]
fn an_update_that_changes_the_weight_changes_the_counts() {
    let mut tree = OrderTree::from_sorted((0..5_000).map(numbered));
    let before = tree.weight();
    assert_eq!(
        tree.update(&numbered(4_000).key, |item| item.live = true),
        Some(())
    );
    assert_eq!(tree.weight(), before + 1);
    assert_eq!(
        tree.weight_in(&numbered(4_000).key, Some(&numbered(4_001).key)),
        1
    );
    assert_eq!(tree.update(b"absent", |item| item.live = true), None);
    assert_eq!(tree.weight(), before + 1);
    check(&tree);
}

#[test]
fn crossing_bounds_hold_nothing() {
    let tree = OrderTree::from_sorted((0..500).map(numbered));
    let (low, high) = (numbered(100).key, numbered(400).key);
    assert_eq!(tree.range(&high, Some(&low)).next(), None);
    assert_eq!(tree.range(&high, Some(&low)).next_back(), None);
    assert_eq!(tree.range(&high, Some(&low)).len(), 0);
    assert_eq!(tree.weight_in(&high, Some(&low)), 0);
}

#[test]
fn a_sweep_goes_on_where_the_last_one_stopped_and_meets_every_item_once() {
    let mut tree = OrderTree::from_sorted((0..1_000).map(numbered));
    let mut seen = Vec::new();
    let mut from: Option<Box<[u8]>> = None;
    let mut sweeps = 0;
    loop {
        from = tree.sweep(from.as_deref(), 70, |item| seen.push(item.value));
        sweeps += 1;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(sweeps, 15);
    assert!(seen.into_iter().eq(0..1_000));
}

fn panics(action: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(action)).is_err()
}

#[test]
fn changing_a_key_or_breaking_the_order_is_caught() {
    let tree = || OrderTree::from_sorted((0..200).map(numbered));
    let key = numbered(7).key;
    assert!(panics(|| {
        tree().update(&key, |item| item.key = Box::from(&b"other"[..]));
    }));
    assert!(panics(|| {
        tree().update_or_insert(b"absent", |_| (), || (numbered(900), ()));
    }));
    assert!(panics(|| {
        tree().sweep(None, 10, |item| item.live = !item.live);
    }));
    for disorder in [[1, 0], [1, 1]] {
        assert!(panics(|| {
            OrderTree::from_sorted(disorder.into_iter().map(numbered));
        }));
    }
    // The disorder lies between two leaves.
    assert!(panics(|| {
        OrderTree::from_sorted((0..54).chain(0..200).map(numbered));
    }));
}
