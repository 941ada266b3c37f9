//! The lessor: leases' deadlines, kept by the leader alone, with the clock that the core lacks.

use std::time::Instant;

use parking_lot::Mutex;

use crate::state::Leases;
use crate::state::lease::Deadlines;
use crate::types::LeaseId;
use crate::types::request::Op;
use crate::types::result::{Applied, Outcome};

/// See the module.
pub struct Lessor {
    started: Instant,
    deadlines: Mutex<Option<Deadlines>>,
}

impl Lessor {
    /// A lessor that does not lead yet.
    pub fn new() -> Lessor {
        Lessor {
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
        let mut guard = self.deadlines.lock();
        let Some(deadlines) = guard.as_mut() else {
            return;
        };
        match (op, &outcome.result) {
            (_, Ok(Applied::LeaseGrant { id, ttl_seconds })) => {
                deadlines.granted(*id, *ttl_seconds, self.now_ms());
            }
            (Op::LeaseRevoke(id), Ok(_)) => deadlines.revoked(*id),
            _ => {}
        }
    }

    /// Renews a lease: its time to live, or none where there is no such lease (any more).
    pub fn renew(&self, id: LeaseId) -> Option<i64> {
        let now = self.now_ms();
        self.deadlines.lock().as_mut()?.renew(id, now)
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
