//! Which watchers an event concerns: a hash of exact keys, an interval tree of ranges.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::interval::IntervalTree;
use crate::types::KeyRange;

/// Members (places in the registry) by the keys they watch.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, BTreeSet<usize>>,
    ranges: IntervalTree,
}

impl Index {
    /// Registers a member. The range must not be empty.
    pub fn insert(&mut self, range: &KeyRange, member: usize) {
        if !range.is_single() {
            return self.ranges.insert(range, member);
        }
        let added = self
            .keys
            .entry(range.start.clone())
            .or_default()
            .insert(member);
        assert!(added, "a member is registered once");
    }

    /// Takes a member off.
    pub fn remove(&mut self, range: &KeyRange, member: usize) {
        if !range.is_single() {
            return self.ranges.remove(range, member);
        }
        let members = self
            .keys
            .get_mut(&range.start)
            .expect("the key of a member is kept");
        assert!(
            members.remove(&member),
            "only registered members are removed"
        );
        if members.is_empty() {
            self.keys.remove(&range.start);
        }
    }

    /// Appends every member whose range holds `key`, each once.
    pub fn collect(&self, key: &[u8], out: &mut Vec<usize>) {
        if let Some(members) = self.keys.get(key) {
            out.extend(members);
        }
        self.ranges.collect(key, out);
    }
}
