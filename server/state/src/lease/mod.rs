//! Leases: id, time to live, attached keys. What replicates of a lease, and nothing else.
//!
//! Must never know a deadline or the time: those are the leader's alone ([`expiry`]).
//!
//! Invariant: a key is attached to at most one lease, and then that lease exists and lists the key.

pub mod expiry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use bytes::Bytes;

use crate::types::LeaseId;
use crate::types::result::ApplyError;

pub use expiry::Deadlines;

/// The leases of the store.
#[derive(Debug, Default)]
pub struct Leases {
    table: BTreeMap<LeaseId, Lease>,
    /// Which lease a key is attached to. Looked up only, never iterated: its order is random.
    attached: HashMap<Bytes, LeaseId>,
}

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    keys: BTreeSet<Bytes>,
}

impl Leases {
    pub(super) fn load(leases: &[(LeaseId, i64)]) -> Leases {
        let table = leases
            .iter()
            .map(|(id, ttl_seconds)| {
                (
                    *id,
                    Lease {
                        ttl_seconds: *ttl_seconds,
                        keys: BTreeSet::new(),
                    },
                )
            })
            .collect();
        Leases {
            table,
            attached: HashMap::new(),
        }
    }

    /// A lease's time to live in seconds and its keys in ascending order.
    pub fn get(&self, id: LeaseId) -> Option<(i64, impl Iterator<Item = &Bytes>)> {
        self.table
            .get(&id)
            .map(|lease| (lease.ttl_seconds, lease.keys.iter()))
    }

    /// The first key of a lease at `from` or behind it.
    pub fn key_from(&self, id: LeaseId, from: &[u8]) -> Option<&Bytes> {
        let from = (Bound::Included(from), Bound::Unbounded);
        self.table.get(&id)?.keys.range::<[u8], _>(from).next()
    }

    /// Every lease with its time to live in seconds, ascending by id.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.table
            .iter()
            .map(|(id, lease)| (*id, lease.ttl_seconds))
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether the lease exists.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.table.contains_key(&id)
    }

    /// The lease `key` is attached to, or none.
    pub fn lease_of(&self, key: &[u8]) -> LeaseId {
        // Most stores use leases for a few keys or for none: spare them the hash.
        if self.attached.is_empty() {
            return LeaseId::NONE;
        }
        self.attached.get(key).copied().unwrap_or(LeaseId::NONE)
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl_seconds: i64) -> Result<(), ApplyError> {
        if id == LeaseId::NONE {
            return Err(ApplyError::LeaseNotFound);
        }
        if self.table.contains_key(&id) {
            return Err(ApplyError::LeaseExists);
        }
        self.table.insert(
            id,
            Lease {
                ttl_seconds,
                keys: BTreeSet::new(),
            },
        );
        Ok(())
    }

    /// The keys of a lease, which its revocation deletes.
    pub(super) fn keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ApplyError> {
        let lease = self.table.get(&id).ok_or(ApplyError::LeaseNotFound)?;
        Ok(lease.keys.iter().cloned().collect())
    }

    /// Forgets a lease whose keys are detached.
    pub(super) fn remove(&mut self, id: LeaseId) {
        let lease = self
            .table
            .remove(&id)
            .expect("revoked leases were looked up first");
        assert!(
            lease.keys.is_empty(),
            "a revoked lease's keys are deleted first"
        );
    }

    /// Attaches `key` to `id`, away from the lease it was attached to; [`LeaseId::NONE`] detaches.
    ///
    /// A lease that does not exist attaches nothing. Apply has checked that before; only a store
    /// restored from elsewhere can hold such a key, and etcd leaves it unattached as well.
    pub(super) fn attach(&mut self, key: &[u8], id: LeaseId) {
        let old = self.lease_of(key);
        if old == id {
            return;
        }
        if old != LeaseId::NONE {
            self.attached.remove(key);
            let lease = self.table.get_mut(&old).expect("a key's lease exists");
            lease.keys.remove(key);
        }
        let Some(lease) = self.table.get_mut(&id) else {
            return;
        };
        // A copy: the request's bytes are a slice of a whole batch, which the lease would pin.
        let key = Bytes::copy_from_slice(key);
        lease.keys.insert(key.clone());
        self.attached.insert(key, id);
    }
}
