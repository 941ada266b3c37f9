//! When this member last heard from a leader: openraft keeps that to itself, and goes on naming a
//! leader that it has not heard from for long.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Vote;

/// The last word from a leader. Written with every append that arrives, before it is looked at.
#[derive(Debug, Default)]
pub(super) struct Contact(Mutex<Option<Heard>>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    term: u64,
    leader: u64,
    at: Instant,
}

impl Contact {
    /// Takes note of a word that came under `vote`. One that no quorum granted is no leader's.
    pub(super) fn note(&self, vote: &Vote) {
        if vote.committed {
            *self.0.lock() = Some(Heard {
                term: vote.leader_id.term,
                leader: vote.leader_id.voted_for,
                at: Instant::now(),
            });
        }
    }

    /// Whether the leader of a term was heard from within `limit`.
    pub(super) fn is_with(&self, leader: u64, term: u64, limit: Duration) -> bool {
        let heard = *self.0.lock();
        heard.is_some_and(|heard| {
            (heard.leader, heard.term) == (leader, term) && heard.at.elapsed() < limit
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_counts_as_long_as_it_is_heard_from_in_its_own_term() {
        let (contact, limit) = (Contact::default(), Duration::from_millis(50));
        assert!(!contact.is_with(1, 3, limit), "nobody was heard from");
        contact.note(&Vote::new(3, 1));
        assert!(!contact.is_with(1, 3, limit), "a candidate does not lead");
        contact.note(&Vote::new_committed(3, 1));
        assert!(contact.is_with(1, 3, limit));
        assert!(!contact.is_with(1, 4, limit) && !contact.is_with(2, 3, limit));
        std::thread::sleep(limit);
        assert!(!contact.is_with(1, 3, limit));
    }
}
