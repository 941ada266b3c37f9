//! Searching a node's sorted keys without touching most of them.
//!
//! A key lives behind a pointer, so each comparison of a plain binary search is a cache miss.
//! `Heads` keeps, side by side, the four bytes of each key that follow the prefix all keys of the
//! node share. A search runs over these heads and reads one key to confirm, more only where heads
//! are equal.
//!
//! Invariants: one head for each key, in key order; every key of the node starts with the same
//! `prefix_len` bytes. The prefix may be shorter than the longest possible one (after removals),
//! never longer. The keys themselves belong to the node and are passed in through `key_at`.

use std::cmp::Ordering;

use super::capacity::{make_room, release_room, stepped_capacity};

/// The heads of one node's keys. The default is that of a node without keys.
#[derive(Default)]
pub(super) struct Heads {
    heads: Vec<u32>,
    /// Bytes shared by all keys of the node and left out of the heads.
    prefix_len: u32,
}

impl Heads {
    /// Computes the heads of `len` sorted keys, with the longest shared prefix.
    pub(super) fn of<'k>(len: usize, key_at: impl Fn(usize) -> &'k [u8]) -> Heads {
        if len == 0 {
            return Heads::default();
        }
        let shared = shared_prefix_len(key_at(0), key_at(len - 1));
        // A prefix too long for the field is cut short, which is always allowed.
        let prefix_len = u32::try_from(shared).unwrap_or(u32::MAX);
        let mut heads = Vec::with_capacity(stepped_capacity::<u32>(len));
        heads.extend((0..len).map(|at| head(key_at(at), prefix_len)));
        Heads { heads, prefix_len }
    }

    /// Where `key` is (`Ok`), or where it belongs (`Err`).
    pub(super) fn search<'k>(
        &self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        let Some(last) = self.heads.len().checked_sub(1) else {
            return Err(0);
        };
        let low = self.first_not_below(head(key, self.prefix_len));
        // This key has to be read anyway if it is the one looked for, so it serves as the witness
        // of the prefix too.
        let candidate = key_at(low.min(last));
        if !self.has_prefix_of(key, candidate) {
            return Err(if key < candidate { 0 } else { self.heads.len() });
        }
        self.search_from(low, key, key_at)
    }

    /// The same as [`Heads::search`] where the node has its prefix at hand: mostly without reading
    /// any key.
    pub(super) fn search_after_prefix<'k>(
        &self,
        prefix: &[u8],
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        if !key.starts_with(prefix) {
            return Err(if key < prefix { 0 } else { self.heads.len() });
        }
        self.search_from(
            self.first_not_below(head(key, self.prefix_len)),
            key,
            key_at,
        )
    }

    /// How many leading bytes of its keys the heads leave out.
    pub(super) fn prefix_len(&self) -> usize {
        prefix_usize(self.prefix_len)
    }

    fn first_not_below(&self, wanted: u32) -> usize {
        self.heads.partition_point(|head| *head < wanted)
    }

    /// Settles the place of a key that has the prefix, where `low` is the first head not below its
    /// own.
    fn search_from<'k>(
        &self,
        low: usize,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        let wanted = head(key, self.prefix_len);
        if self.heads.get(low) != Some(&wanted) {
            return Err(low);
        }
        match key_at(low).cmp(key) {
            Ordering::Equal => return Ok(low),
            Ordering::Greater => return Err(low),
            Ordering::Less => {}
        }
        let first = low + 1;
        let equal = self.heads[first..].partition_point(|head| *head == wanted);
        search_keys(key, first, first + equal, key_at)
    }

    /// Adds the head of the key that the node now holds at `at`; `key_at` sees the node with it.
    pub(super) fn insert<'k>(&mut self, at: usize, key_at: impl Fn(usize) -> &'k [u8]) {
        let key = key_at(at);
        let neighbour = match self.heads.len() {
            0 => None,
            len if at < len => Some(key_at(at + 1)),
            _ => Some(key_at(at - 1)),
        };
        if neighbour.is_some_and(|neighbour| self.has_prefix_of(key, neighbour)) {
            make_room(&mut self.heads);
            self.heads.insert(at, head(key, self.prefix_len));
        } else {
            *self = Heads::of(self.heads.len() + 1, key_at);
        }
    }

    /// Forgets the head at `at`. The shared prefix stays as it was.
    pub(super) fn remove(&mut self, at: usize) {
        self.heads.remove(at);
        release_room(&mut self.heads);
    }

    /// Whether the heads are those of exactly these keys.
    #[cfg(test)]
    pub(super) fn fits<'k>(&self, len: usize, key_at: impl Fn(usize) -> &'k [u8]) -> bool {
        self.heads.len() == len
            && (0..len).all(|at| {
                self.heads[at] == head(key_at(at), self.prefix_len)
                    && self.has_prefix_of(key_at(at), key_at(0))
            })
    }

    /// Whether `key` starts with the prefix of the node that `member` is a key of.
    fn has_prefix_of(&self, key: &[u8], member: &[u8]) -> bool {
        let len = self.prefix_len();
        match (key.get(..len), member.get(..len)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

/// Binary search among the keys at `low..high`, which have equal heads.
fn search_keys<'k>(
    key: &[u8],
    mut low: usize,
    mut high: usize,
    key_at: impl Fn(usize) -> &'k [u8],
) -> Result<usize, usize> {
    while low < high {
        let middle = low.midpoint(high);
        match key_at(middle).cmp(key) {
            Ordering::Equal => return Ok(middle),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// The four bytes after the prefix as a big-endian number, so that numbers order as keys do. A key
/// that ends earlier is filled up with zeros; the tie with real zeros is settled by the whole keys.
fn head(key: &[u8], prefix_len: u32) -> u32 {
    let rest = key.get(prefix_usize(prefix_len)..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk::<4>() {
        return u32::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 4];
    bytes[..rest.len()].copy_from_slice(rest);
    u32::from_be_bytes(bytes)
}

fn prefix_usize(prefix_len: u32) -> usize {
    usize::try_from(prefix_len).expect("a usize holds 32 bits on every supported platform")
}

/// How many leading bytes two keys share.
pub(super) fn shared_prefix_len(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(ours, theirs)| ours == theirs)
        .count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Heads;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        // Few letters and a long shared stem make equal heads, zero padding and prefix misses
        // common.
        let tail = prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 255]), 0..8);
        (0usize..3, tail).prop_map(|(stem, tail)| [&b"stem/"[..stem * 2], tail.as_slice()].concat())
    }

    proptest! {
        #[test]
        fn a_search_over_heads_finds_what_a_binary_search_over_keys_finds(
            keys in prop::collection::btree_set(key(), 0..40),
            probes in prop::collection::vec(key(), 1..40),
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let heads = Heads::of(keys.len(), |at| &keys[at]);
            for probe in probes.iter().chain(&keys) {
                let expected = keys.binary_search(probe);
                prop_assert_eq!(heads.search(probe, |at| &keys[at]), expected);
                let prefix = keys.first().map_or(&[][..], |first| &first[..heads.prefix_len()]);
                let found = heads.search_after_prefix(prefix, probe, |at| &keys[at]);
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn heads_stay_true_while_keys_come_and_go(
            steps in prop::collection::vec((key(), any::<bool>()), 1..120),
        ) {
            let mut keys: Vec<Vec<u8>> = Vec::new();
            let mut heads = Heads::default();
            for (key, keep) in steps {
                match (heads.search(&key, |at| &keys[at]), keep) {
                    (Err(at), true) => {
                        keys.insert(at, key);
                        heads.insert(at, |at| &keys[at]);
                    }
                    (Ok(at), false) => {
                        keys.remove(at);
                        heads.remove(at);
                    }
                    _ => {}
                }
                prop_assert!(keys.is_sorted());
                prop_assert!(heads.fits(keys.len(), |at| &keys[at]));
            }
        }
    }
}
