//! The lessor: leases' deadlines, kept by the leader alone, with the clock that the core lacks.
//!
//! A table belongs to one term. Between two terms of this member another one may have led and
//! renewed what has expired here, so the next term begins with full lives, and whoever asks names
//! the term in which a quorum confirmed, after he asked, that this member leads.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::state::Leases;
use crate::state::lease::Deadlines;
use crate::types::LeaseId;
use crate::types::request::Op;
use crate::types::result::{Applied, Outcome};

/// See the module.
pub struct Lessor {
    metrics: Arc<Metrics>,
    started: Instant,
    table: Mutex<Option<Table>>,
}

/// The deadlines of the term that this member leads.
struct Table {
    term: u64,
    deadlines: Deadlines,
}

/// A moment on the lessor's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives so many seconds from when the renewal was asked for.
    Lives(i64),
    /// There is no such lease, or it had expired when the renewal was asked for.
    Gone,
    /// This member cannot say: it leads another term, or was away until the lease may have
    /// expired. Ask again.
    Unsure,
}

/// Leases that had expired when this member looked, and the term whose leader may revoke them.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    pub term: u64,
    pub leases: Vec<LeaseId>,
}

impl Lessor {
    /// A lessor that does not lead yet.
    pub fn new(metrics: Arc<Metrics>) -> Lessor {
        Lessor {
            metrics,
            started: Instant::now(),
            table: Mutex::new(None),
        }
    }

    /// Now: to be read before leadership is confirmed for a renewal.
    pub fn now(&self) -> Moment {
        Moment(self.now_ms())
    }

    /// Milliseconds since this lessor was made: a clock that no one can set back.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The term whose deadlines are kept here.
    pub fn term(&self) -> Option<u64> {
        self.table.lock().as_ref().map(|table| table.term)
    }

    /// This member leads `term` now: every lease starts over, and lives `extend_ms` longer than
    /// granted, because nobody knows when it was last renewed.
    pub fn promote(&self, term: u64, leases: &Leases, extend_ms: u64) {
        if is_planted("lease-untied")
            && let Some(table) = self.table.lock().as_mut()
        {
            table.term = term;
            return;
        }
        let extend_ms = match is_planted("lease-lives-on") {
            true => extend_ms + 3_600_000,
            false => extend_ms,
        };
        let deadlines = Deadlines::promote(leases, self.now_ms(), extend_ms);
        *self.table.lock() = Some(Table { term, deadlines });
    }

    /// Another member leads: the deadlines are its matter.
    pub fn demote(&self) {
        if is_planted("lease-untied") {
            return;
        }
        *self.table.lock() = None;
    }

    /// A snapshot took the place of the leases that the table was made of. Only a leader has a table,
    /// and a leader gets no snapshots, so there is none by now, or it belongs to a term that is over.
    pub fn replaced(&self, leases: &Leases) {
        let now = self.now_ms();
        self.change(|deadlines| *deadlines = Deadlines::promote(leases, now, 0));
    }

    /// Takes note of what was applied.
    pub fn applied(&self, op: &Op, outcome: &Outcome) {
        let operations = &self.metrics.operations;
        match (op, &outcome.result) {
            (_, Ok(Applied::LeaseGrant { id, ttl_seconds })) => {
                operations.leases_granted.inc();
                operations.lease_ttl_seconds.observe(*ttl_seconds as f64);
                let early_ms = if is_planted("lease-early") { 500 } else { 0 };
                let now = self.now_ms().saturating_sub(early_ms);
                self.change(|deadlines| deadlines.granted(*id, *ttl_seconds, now));
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
        if let Some(table) = self.table.lock().as_mut() {
            change(&mut table.deadlines);
        }
    }

    /// Reads the deadlines of `term`; none where this member does not keep them.
    fn of_term<T>(&self, term: u64, read: impl FnOnce(&mut Deadlines) -> T) -> Option<T> {
        let mut table = self.table.lock();
        let table = table.as_mut().filter(|table| table.term == term)?;
        Some(read(&mut table.deadlines))
    }

    /// A lease that had expired was revoked.
    pub fn count_expired(&self) {
        self.metrics.operations.leases_expired.inc();
    }

    /// Renews a lease as of `asked`. Leadership of `term` was confirmed after that: until then
    /// nobody else can have renewed it, and whoever leads next lets it live as long from a later
    /// moment on.
    pub fn renew(&self, term: u64, id: LeaseId, asked: Moment) -> Renewal {
        let now = self.now_ms();
        let renewal = self
            .of_term(term, |deadlines| renewal(deadlines, id, asked.0, now))
            .unwrap_or(Renewal::Unsure);
        if matches!(renewal, Renewal::Lives(_)) {
            self.metrics.operations.leases_renewed.inc();
        }
        renewal
    }

    /// Seconds that a lease has left, none where it is not known (any more), as the leader of
    /// `term` knows. None where this member does not keep the deadlines of that term.
    pub fn remaining(&self, term: u64, id: LeaseId) -> Option<Option<i64>> {
        let now = self.now_ms();
        self.of_term(term, |deadlines| deadlines.remaining(id, now))
    }

    /// Leases that have expired, at most `max`; none where this member leads nobody. Only a leader
    /// of that term whom a quorum confirms from now on may revoke them.
    pub fn expired(&self, max: usize) -> Option<Expired> {
        let now = self.now_ms();
        let mut table = self.table.lock();
        let Table { term, deadlines } = table.as_mut()?;
        let leases = deadlines.expired(now, max);
        (!leases.is_empty()).then_some(Expired {
            term: *term,
            leases,
        })
    }

    /// Every lease, the soonest to expire first. None where this member does not keep the deadlines
    /// of `term`.
    pub fn by_expiry(&self, term: u64) -> Option<Vec<LeaseId>> {
        self.of_term(term, |deadlines| deadlines.by_expiry())
    }
}

/// See [`Lessor::renew`]; `asked` and `now` in milliseconds.
fn renewal(deadlines: &mut Deadlines, id: LeaseId, asked: u64, now: u64) -> Renewal {
    let Some(ttl) = deadlines.ttl(id) else {
        return Renewal::Gone;
    };
    if deadlines.is_expired(id, asked) {
        return Renewal::Gone;
    }
    // It expired meanwhile, or would be over by now: another member may have led since.
    let late = now.saturating_sub(asked);
    let left = ttl.saturating_sub(i64::try_from(late / 1_000).unwrap_or(i64::MAX));
    if deadlines.is_expired(id, now) || left <= 0 {
        return Renewal::Unsure;
    }
    // A renewal that was asked for later may have come first.
    let renewed = deadlines.renew_as_of(id, asked);
    debug_assert!(renewed, "it was looked up under the same lock");
    Renewal::Lives(left)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::Revision;
    use crate::types::request::LeaseGrant;

    const LEASE: LeaseId = LeaseId(7);

    fn lessor() -> Lessor {
        Lessor::new(Arc::new(Metrics::new()))
    }

    /// A lease of a second that this member granted as the leader of `term`.
    fn granted(lessor: &Lessor, term: u64) {
        lessor.promote(term, &Leases::default(), 0);
        grant(lessor);
    }

    fn grant(lessor: &Lessor) {
        let (id, ttl_seconds) = (LEASE, 1);
        let granted = Applied::LeaseGrant { id, ttl_seconds };
        let outcome = Outcome::new(Revision(1), Ok(granted));
        lessor.applied(&Op::LeaseGrant(LeaseGrant { id, ttl_seconds }), &outcome);
    }

    #[test]
    fn what_expired_in_a_term_is_not_revoked_in_a_later_one_of_the_same_leader() {
        let lessor = lessor();
        granted(&lessor, 3);
        std::thread::sleep(Duration::from_millis(1_050));
        // Another member led term 4, unseen, and renewed the lease; this one leads again.
        lessor.promote(5, &Leases::default(), 0);
        grant(&lessor);
        assert_eq!(lessor.expired(10), None);
        assert_eq!(lessor.renew(3, LEASE, lessor.now()), Renewal::Unsure);
        assert_eq!(lessor.renew(5, LEASE, lessor.now()), Renewal::Lives(1));
        assert_eq!(lessor.remaining(3, LEASE), None);
        assert_eq!(lessor.remaining(5, LeaseId(9)), Some(None));
    }

    #[test]
    fn the_expired_are_named_with_the_term_that_may_revoke_them() {
        let lessor = lessor();
        granted(&lessor, 3);
        assert_eq!(lessor.expired(10), None);
        std::thread::sleep(Duration::from_millis(1_050));
        let found = lessor.expired(10).unwrap();
        assert_eq!((found.term, found.leases), (3, vec![LEASE]));
        assert_eq!(lessor.renew(3, LEASE, lessor.now()), Renewal::Gone);
        lessor.demote();
        assert_eq!((lessor.expired(10), lessor.term()), (None, None));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_asked_for_and_says_nothing_after_a_pause() {
        let lessor = lessor();
        granted(&lessor, 3);
        let asked = lessor.now();
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(lessor.renew(3, LEASE, asked), Renewal::Lives(1));
        // As of `asked` it is over: whether somebody else has led since, nobody here knows.
        std::thread::sleep(Duration::from_millis(450));
        assert_eq!(lessor.renew(3, LEASE, asked), Renewal::Unsure);
        assert_eq!(lessor.renew(3, LEASE, lessor.now()), Renewal::Gone);
        assert_eq!(lessor.renew(3, LeaseId(9), lessor.now()), Renewal::Gone);
    }
}
