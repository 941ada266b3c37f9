//! Which leases are being revoked: the leader has handed it to Raft, and it is neither applied here nor known
//! not to happen. Others may have applied it, and told their clients so, long before this member has.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Batch;
use crate::types::LeaseId;
use crate::types::request::Op;

/// See the module. Clones are one. Bounded by what is proposed and not applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoking {
    /// How often each.
    leases: Arc<Mutex<BTreeMap<LeaseId, usize>>>,
}

impl Revoking {
    /// Takes note of what a batch revokes, until what is returned is dropped; none: nothing.
    pub fn begin(&self, batch: &Batch) -> Option<UnderWay> {
        let (_, ops) = batch.at_hand()?;
        let revoked = ops.iter().filter_map(|op| match op.bare() {
            Op::LeaseRevoke(id) => Some(*id),
            _ => None,
        });
        let leases: Vec<LeaseId> = revoked.collect();
        if leases.is_empty() {
            return None;
        }
        let mut counts = self.leases.lock();
        for id in &leases {
            *counts.entry(*id).or_default() += 1;
        }
        let revoking = self.clone();
        Some(UnderWay { revoking, leases })
    }

    /// Whether a lease is being revoked.
    pub fn has(&self, id: LeaseId) -> bool {
        self.leases.lock().contains_key(&id)
    }
}

/// Leases as long as they are being revoked.
#[derive(Debug)]
pub(super) struct UnderWay {
    revoking: Revoking,
    leases: Vec<LeaseId>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut counts = self.revoking.leases.lock();
        for id in &self.leases {
            let left = counts.get(id).map_or(0, |count| count - 1);
            match left {
                0 => drop(counts.remove(id)),
                left => drop(counts.insert(*id, left)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::entry::BatchHeader;
    use crate::types::MemberId;

    fn batch(ids: &[i64]) -> Batch {
        let header = BatchHeader {
            proposer: MemberId(1),
            sequence: 1,
            wall_ms: 0,
        };
        let revoke = |id: &i64| Op::LeaseRevoke(LeaseId(*id));
        Batch::new(header, ids.iter().map(revoke).collect())
    }

    #[test]
    fn a_lease_is_being_revoked_as_long_as_one_of_those_who_do_is_under_way() {
        let revoking = Revoking::default();
        assert!(revoking.begin(&batch(&[])).is_none());
        let first = revoking.begin(&batch(&[1, 2]));
        let second = revoking.begin(&batch(&[2, 2]));
        assert!(first.is_some() && second.is_some());
        drop(first);
        assert_eq!(
            [1, 2, 3].map(|id| revoking.has(LeaseId(id))),
            [false, true, false]
        );
        drop(second);
        assert!(!revoking.has(LeaseId(2)));
        assert!(revoking.leases.lock().is_empty());
    }
}
