//! What one member's faults cost the others: in some clusters nothing goes wrong but at one member, the victim.
//! Clients of all others are served then, whatever that one does, but for the time that it takes to elect another
//! leader; and nobody else's process ends.

use crate::history::Call;

/// How long clients of the others may be without an answer to any write: until a leader that stands still has been
/// missed, or has handed over, and another one was elected. Virtual nanoseconds.
const UNSERVED_MAX_NS: u64 = 4_000_000_000;

/// See the module.
#[derive(Debug)]
pub struct Service {
    /// Whom everything happens to, in such a cluster.
    victim: Option<usize>,
    /// When the clients of a member were last told of a write that it was done, by place.
    served_ns: Vec<u64>,
    /// The longest that they had to wait for one.
    longest_ns: u64,
}

impl Service {
    /// In a cluster of so many members, from a moment on.
    pub fn of(victim: Option<usize>, members: usize, from_ns: u64) -> Service {
        Service {
            victim,
            served_ns: vec![from_ns; members],
            longest_ns: 0,
        }
    }

    /// Whom everything happens to.
    pub fn victim(&self) -> Option<usize> {
        self.victim
    }

    /// The longest that clients of others than the victim were not served. Virtual milliseconds.
    pub fn longest_ms(&self) -> u64 {
        self.longest_ns / 1_000_000
    }

    /// Takes note of a call that has ended at a member.
    pub fn note(&mut self, place: usize, call: &Call) {
        if !call.is_done_write() || self.victim.is_none_or(|victim| victim == place) {
            return;
        }
        if let Some(served_ns) = self.served_ns.get_mut(place) {
            self.longest_ns = self
                .longest_ns
                .max(call.ended_ns.saturating_sub(*served_ns));
            *served_ns = call.ended_ns.max(*served_ns);
        }
    }

    /// A turn in which clients make calls.
    ///
    /// # Errors
    /// Somebody is not served.
    pub fn look(&self, now_ns: u64) -> Result<(), String> {
        let Some(victim) = self.victim else {
            return Ok(());
        };
        let others = self.served_ns.iter().enumerate();
        let mut others = others.filter(|(place, _)| *place != victim);
        match others.find(|(_, served_ns)| *served_ns + UNSERVED_MAX_NS < now_ns) {
            None => Ok(()),
            Some((place, _)) => Err(format!(
                "no write at m{place} was done for {} ms, and m{victim} alone is at fault",
                UNSERVED_MAX_NS / 1_000_000
            )),
        }
    }

    /// A member's process has ended by itself.
    ///
    /// # Errors
    /// It is not the victim's.
    pub fn ended(&self, place: usize) -> Result<(), String> {
        match self.victim {
            Some(victim) if victim != place => {
                Err(format!("m{place} ends, and m{victim} alone is at fault"))
            }
            _ => Ok(()),
        }
    }
}
