//! Deadlines of leases: the leader's own table, never replicated, never stored, rebuilt when a
//! member becomes leader. Pure: time is an argument, milliseconds on any monotonic clock.
//!
//! Must never revoke a lease by itself: it names those that have expired, and a revocation goes
//! through the log like any other write.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::LeaseId;

use super::Leases;

/// How long a named lease is left alone before it is named again, should its revocation have
/// failed (etcd's 3 s).
const RETRY_MS: u64 = 3_000;

/// How many leases may expire within one second after a promotion: three quarters of the 1000 that
/// etcd revokes a second, so that a pile does not take the whole rate.
const PROMOTED_EXPIRIES_PER_SECOND: u64 = 750;

/// Promotions spread deadlines only where this many leases could pile up.
const PILE_UP_LEASES: usize = 1_000;

#[derive(Clone, Copy, Debug)]
struct Deadline {
    ttl_seconds: i64,
    /// When the lease expires.
    at_ms: u64,
    /// When [`Deadlines::expired`] looks at it next; later than `at_ms` once it has been named.
    due_ms: u64,
}

/// When each lease expires.
#[derive(Debug, Default)]
pub struct Deadlines {
    table: BTreeMap<LeaseId, Deadline>,
    due: BTreeSet<(u64, LeaseId)>,
}

impl Deadlines {
    /// The table of a new leader: every lease gets its full time to live, plus `extend_ms` for the
    /// time the cluster was without a leader.
    pub fn promote(leases: &Leases, now_ms: u64, extend_ms: u64) -> Deadlines {
        let mut deadlines = Deadlines::default();
        for (id, ttl_seconds) in leases.iter() {
            let at_ms = now_ms
                .saturating_add(extend_ms)
                .saturating_add(ttl_ms(ttl_seconds));
            deadlines.set(id, ttl_seconds, at_ms);
        }
        if deadlines.table.len() >= PILE_UP_LEASES {
            deadlines.spread();
        }
        deadlines
    }

    /// Moves deadlines that fall into the same second apart, later only.
    fn spread(&mut self) {
        let order: Vec<(u64, LeaseId)> = self.due.iter().copied().collect();
        let mut floor_ms = 0;
        for (rank, (at_ms, id)) in (0u64..).zip(order) {
            // Each lease takes its share of a second after the one before it.
            let step_ms = if rank == 0 {
                0
            } else {
                rank * 1_000 / PROMOTED_EXPIRIES_PER_SECOND
                    - (rank - 1) * 1_000 / PROMOTED_EXPIRIES_PER_SECOND
            };
            let spread_ms = at_ms.max(floor_ms + step_ms);
            floor_ms = spread_ms;
            if spread_ms != at_ms {
                let ttl_seconds = self.table[&id].ttl_seconds;
                self.set(id, ttl_seconds, spread_ms);
            }
        }
    }

    /// A lease has been granted.
    pub fn granted(&mut self, id: LeaseId, ttl_seconds: i64, now_ms: u64) {
        self.set(id, ttl_seconds, now_ms.saturating_add(ttl_ms(ttl_seconds)));
    }

    /// The seconds that a lease was granted; none where it is unknown.
    pub fn ttl(&self, id: LeaseId) -> Option<i64> {
        self.table.get(&id).map(|deadline| deadline.ttl_seconds)
    }

    /// Gives a lease its full time to live from `asked_ms` on, unless it lives longer already. It
    /// must not have expired ([`Deadlines::is_expired`]). False: it is unknown.
    pub fn renew_as_of(&mut self, id: LeaseId, asked_ms: u64) -> bool {
        let Some(deadline) = self.table.get(&id).copied() else {
            return false;
        };
        let at_ms = asked_ms.saturating_add(ttl_ms(deadline.ttl_seconds));
        if at_ms > deadline.at_ms {
            self.set(id, deadline.ttl_seconds, at_ms);
        }
        true
    }

    /// A lease is gone.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(deadline) = self.table.remove(&id) {
            self.due.remove(&(deadline.due_ms, id));
        }
    }

    /// Whether the lease is known and past its deadline. An expired lease must not be renewed: its
    /// revocation may be under way.
    pub fn is_expired(&self, id: LeaseId, now_ms: u64) -> bool {
        self.table
            .get(&id)
            .is_some_and(|deadline| deadline.at_ms <= now_ms)
    }

    /// The whole seconds a lease has left, rounded toward zero (0 or less: it has expired). None
    /// where it is unknown.
    pub fn remaining(&self, id: LeaseId, now_ms: u64) -> Option<i64> {
        let deadline = self.table.get(&id)?;
        let left = i128::from(deadline.at_ms) - i128::from(now_ms);
        Some(i64::try_from(left / 1_000).expect("a difference of two u64 in seconds fits"))
    }

    /// At most `max` leases that have expired, soonest first. Each is named once, and again after
    /// some seconds if it has not been revoked by then.
    pub fn expired(&mut self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let expired: Vec<(u64, LeaseId)> = self
            .due
            .iter()
            .take_while(|(due_ms, _)| *due_ms <= now_ms)
            .take(max)
            .copied()
            .collect();
        let retry_ms = now_ms.saturating_add(RETRY_MS);
        for (due_ms, id) in &expired {
            self.due.remove(&(*due_ms, *id));
            self.due.insert((retry_ms, *id));
            self.table
                .get_mut(id)
                .expect("due leases are in the table")
                .due_ms = retry_ms;
        }
        expired.into_iter().map(|(_, id)| id).collect()
    }

    /// When [`Deadlines::expired`] has something to name next.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Every lease, soonest to expire first.
    pub fn by_expiry(&self) -> Vec<LeaseId> {
        let mut order: Vec<(u64, LeaseId)> = self
            .table
            .iter()
            .map(|(id, deadline)| (deadline.at_ms, *id))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }

    fn set(&mut self, id: LeaseId, ttl_seconds: i64, at_ms: u64) {
        self.revoked(id);
        self.table.insert(
            id,
            Deadline {
                ttl_seconds,
                at_ms,
                due_ms: at_ms,
            },
        );
        self.due.insert((at_ms, id));
    }
}

/// A time to live in milliseconds; a negative one, which no proposer lets through, is none at all.
fn ttl_ms(ttl_seconds: i64) -> u64 {
    u64::try_from(ttl_seconds)
        .unwrap_or(0)
        .saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LeaseId = LeaseId(1);
    const B: LeaseId = LeaseId(-2);

    fn leases(granted: &[(LeaseId, i64)]) -> Leases {
        Leases::load(granted)
    }

    #[test]
    fn a_promoted_leader_gives_every_lease_its_full_time_and_the_extension() {
        let deadlines = Deadlines::promote(&leases(&[(A, 10), (B, 5)]), 1_000, 2_000);
        assert_eq!(deadlines.remaining(A, 1_000), Some(12));
        assert_eq!(deadlines.by_expiry(), vec![B, A]);
        assert_eq!(deadlines.next_due(), Some(8_000));
    }

    #[test]
    fn remaining_time_is_cut_to_whole_seconds() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(A, 100, 0);
        assert_eq!(deadlines.remaining(A, 1), Some(99));
        assert_eq!(deadlines.remaining(A, 100_000), Some(0));
        assert_eq!(deadlines.remaining(A, 102_500), Some(-2));
        assert_eq!(deadlines.remaining(B, 0), None);
    }

    #[test]
    fn a_renewed_lease_expires_a_full_time_to_live_later() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(A, 5, 0);
        assert!(deadlines.renew_as_of(A, 4_999) && !deadlines.renew_as_of(B, 4_999));
        // One that was asked for earlier and comes later shortens nothing.
        assert!(deadlines.renew_as_of(A, 3_000));
        assert!(deadlines.expired(9_998, 10).is_empty());
        assert_eq!(deadlines.expired(9_999, 10), vec![A]);
    }

    #[test]
    fn a_lease_has_expired_from_its_deadline_on() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(A, 5, 0);
        assert!(!deadlines.is_expired(A, 4_999) && deadlines.ttl(A) == Some(5));
        assert!(deadlines.is_expired(A, 5_000) && !deadlines.is_expired(B, 5_000));
    }

    #[test]
    fn an_expired_lease_is_named_once_and_again_after_the_retry() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(A, 1, 0);
        deadlines.granted(B, 2, 0);
        assert_eq!(deadlines.expired(2_000, 1), vec![A]);
        assert_eq!(deadlines.expired(2_000, 9), vec![B]);
        assert!(deadlines.expired(4_999, 9).is_empty());
        assert_eq!(deadlines.expired(5_000, 1).len(), 1);
        deadlines.revoked(A);
        deadlines.revoked(B);
        assert!(deadlines.expired(u64::MAX, 9).is_empty());
        assert_eq!(deadlines.next_due(), None);
    }

    #[test]
    fn a_pile_of_leases_is_spread_after_a_promotion() {
        let pile: Vec<(LeaseId, i64)> = (1..=3_000).map(|id| (LeaseId(id), 10)).collect();
        let mut deadlines = Deadlines::promote(&leases(&pile), 0, 0);
        let first_second = deadlines.expired(10_999, usize::MAX).len();
        assert!(
            (700..=800).contains(&first_second),
            "{first_second} in the first second"
        );
        assert_eq!(
            deadlines.expired(13_998, usize::MAX).len() + first_second,
            3_000
        );
    }
}
