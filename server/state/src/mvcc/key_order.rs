//! Sorting many keys that begin alike, as keys of a store do, without following a pointer for every
//! comparison.
//!
//! Each run of keys is sorted by the eight bytes after what the run shares; keys equal there make a
//! run of their own, which shares more.

/// Runs this short are compared key by key.
const SHORT_RUN: usize = 8;

/// The places `0..count` in the order of their keys, which are distinct.
pub(super) fn sorted_places<'k>(count: u32, key_at: impl Fn(u32) -> &'k [u8]) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = (0..count).map(|place| (0, place)).collect();
    let mut runs = vec![(0, order.len())];
    while let Some((start, end)) = runs.pop() {
        let run = &mut order[start..end];
        if run.len() <= SHORT_RUN {
            run.sort_unstable_by(|a, b| key_at(a.1).cmp(key_at(b.1)));
            continue;
        }
        let shared = shared_prefix(run.iter().map(|(_, place)| key_at(*place)));
        for (head, place) in run.iter_mut() {
            *head = head_of(&key_at(*place)[shared..]);
        }
        run.sort_unstable();
        if run[0].0 == run[run.len() - 1].0 {
            // Keys that differ in trailing zero bytes only, which a head does not show.
            run.sort_unstable_by(|a, b| key_at(a.1).cmp(key_at(b.1)));
            continue;
        }
        let mut at = start;
        for equal in run.chunk_by(|a, b| a.0 == b.0) {
            if equal.len() > 1 {
                runs.push((at, at + equal.len()));
            }
            at += equal.len();
        }
    }
    order.into_iter().map(|(_, place)| place).collect()
}

/// How many bytes all of the keys begin with alike.
fn shared_prefix<'k>(mut keys: impl Iterator<Item = &'k [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |shared, key| {
        first[..shared]
            .iter()
            .zip(key)
            .take_while(|(a, b)| a == b)
            .count()
    })
}

/// The first eight bytes as a number that sorts alike.
fn head_of(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn check(keys: &BTreeSet<Vec<u8>>, reversed: bool) {
        let mut given: Vec<&Vec<u8>> = keys.iter().collect();
        if reversed {
            given.reverse();
        }
        let count = u32::try_from(given.len()).unwrap();
        let order = sorted_places(count, |place| given[place as usize]);
        let sorted = order.iter().map(|place| given[*place as usize]);
        assert!(sorted.eq(keys.iter()));
    }

    proptest! {
        #[test]
        fn keys_come_out_in_order(
            keys in btree_set(vec(0u8..3, 0..24), 0..200),
            reversed in any::<bool>(),
        ) {
            check(&keys, reversed);
        }
    }

    #[test]
    fn keys_that_differ_in_trailing_zeros_alone_come_out_in_order() {
        check(&(0..40).map(|zeros| vec![0; zeros]).collect(), true);
    }
}
