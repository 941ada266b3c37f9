//! The lessor: leases' deadlines, kept by the leader alone, with the clock that the core lacks.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::state::Leases;
use crate::state::lease::Deadlines;
use crate::types::LeaseId;
use crate::types::request::Op;
use crate::types::result::{Applied, Outcome};

/// See the module.
pub struct Lessor {
    metrics: Arc<Metrics>,
    started: Instant,
    deadlines: Mutex<Option<Deadlines>>,
}

impl Lessor {
    /// A lessor that does not lead yet.
    pub fn new(metrics: Arc<Metrics>) -> Lessor {
        Lessor {
            metrics,
            started: Instant::now(),
            deadlines: Mutex::new(None),
        }
    }

    /// Milliseconds since this lessor was made: a clock that no one can set back.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// This member leads now: every lease starts over, and lives `extend_ms` longer than granted,
    /// because nobody knows when it was last renewed.
    pub fn promote(&self, leases: &Leases, extend_ms: u64) {
        let deadlines = Deadlines::promote(leases, self.now_ms(), extend_ms);
        *self.deadlines.lock() = Some(deadlines);
    }

    /// Another member leads: the deadlines are its matter.
    pub fn demote(&self) {
        *self.deadlines.lock() = None;
    }

    /// A snapshot took the place of the leases that the table was made of. Only a leader has a table,
    /// and a leader gets no snapshots, so there is none by now, or it belongs to a term that is over.
    pub fn replaced(&self, leases: &Leases) {
        let mut guard = self.deadlines.lock();
        if guard.is_some() {
            *guard = Some(Deadlines::promote(leases, self.now_ms(), 0));
        }
    }

    /// Takes note of what was applied.
    pub fn applied(&self, op: &Op, outcome: &Outcome) {
        let operations = &self.metrics.operations;
        match (op, &outcome.result) {
            (_, Ok(Applied::LeaseGrant { id, ttl_seconds })) => {
                operations.leases_granted.inc();
                operations.lease_ttl_seconds.observe(*ttl_seconds as f64);
                self.change(|deadlines| deadlines.granted(*id, *ttl_seconds, self.now_ms()));
            }
            (Op::LeaseRevoke(id), Ok(_)) => {
                operations.leases_revoked.inc();
                self.change(|deadlines| deadlines.revoked(*id));
            }
            _ => {}
        }
    }

    /// Changes the deadlines, where this member keeps them.
    fn change(&self, change: impl FnOnce(&mut Deadlines)) {
        if let Some(deadlines) = self.deadlines.lock().as_mut() {
            change(deadlines);
        }
    }

    /// A lease that had expired was revoked.
    pub fn count_expired(&self) {
        self.metrics.operations.leases_expired.inc();
    }

    /// Renews a lease: its time to live, or none where there is no such lease (any more).
    pub fn renew(&self, id: LeaseId) -> Option<i64> {
        let now = self.now_ms();
        let renewed = self.deadlines.lock().as_mut()?.renew(id, now);
        if renewed.is_some() {
            self.metrics.operations.leases_renewed.inc();
        }
        renewed
    }

    /// Seconds that a lease has left.
    pub fn remaining(&self, id: LeaseId) -> Option<i64> {
        let now = self.now_ms();
        self.deadlines.lock().as_ref()?.remaining(id, now)
    }

    /// Leases that have expired, at most `max`.
    pub fn expired(&self, max: usize) -> Vec<LeaseId> {
        let now = self.now_ms();
        self.deadlines
            .lock()
            .as_mut()
            .map_or_else(Vec::new, |table| table.expired(now, max))
    }

    /// Every lease, the soonest to expire first.
    pub fn by_expiry(&self) -> Vec<LeaseId> {
        self.deadlines
            .lock()
            .as_ref()
            .map_or_else(Vec::new, Deadlines::by_expiry)
    }
}
