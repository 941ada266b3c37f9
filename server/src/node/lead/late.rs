//! Why a request timed out, as far as this member can tell.
//!
//! Source: `parseProposeCtxErr` of etcd's server.go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::leadership::LeadershipCell;
use crate::node::peers::PeerCalls;
use crate::propose::Late;
use crate::types::MemberId;

/// Tells why. Clones look at the same.
#[derive(Clone)]
pub struct Lateness {
    own: MemberId,
    leadership: Arc<LeadershipCell>,
    election_timeout: Duration,
    peers: PeerCalls,
}

impl Lateness {
    /// Of what is asked of member `own`.
    pub fn new(
        own: MemberId,
        leadership: Arc<LeadershipCell>,
        election_timeout: Duration,
        peers: PeerCalls,
    ) -> Lateness {
        Lateness {
            own,
            leadership,
            election_timeout,
            peers,
        }
    }

    /// Why what was asked for at `began` was not answered in time.
    pub fn why(&self, began: Instant) -> Late {
        let seen = Seen {
            own: self.own,
            leader: self.leadership.leader(),
            elected_at: self.leadership.elected_at(),
            election_timeout: self.election_timeout,
            members: &self.peers.members(),
            in_touch_since: |id| self.peers.active_since(id),
        };
        seen.why(began)
    }
}

/// What this member knows of who leads and who is in touch.
struct Seen<'a, Since> {
    own: MemberId,
    leader: Option<MemberId>,
    /// When that one was seen to lead.
    elected_at: Option<Instant>,
    election_timeout: Duration,
    members: &'a [MemberId],
    /// Since when another member is in touch without a break.
    in_touch_since: Since,
}

impl<Since: Fn(MemberId) -> Option<Instant>> Seen<'_, Since> {
    fn why(&self, began: Instant) -> Late {
        if self.leader_failed(began) {
            return Late::LeaderFailed;
        }
        let is_connected = match self.leader {
            // Nobody leads: that is all there is to say, and etcd says no more either.
            None => true,
            Some(leader) if leader == self.own => self.quorum_since(began),
            Some(leader) => self.was_in_touch(leader, began),
        };
        match is_connected {
            true => Late::Unknown,
            false => Late::ConnectionLost,
        }
    }

    /// Whether it was asked of a leader that was lost: it takes up to two election timeouts until
    /// another one leads.
    fn leader_failed(&self, began: Instant) -> bool {
        let Some(elected_at) = self.elected_at else {
            return false;
        };
        let lost_at = elected_at.checked_sub(self.election_timeout * 2);
        began < elected_at && lost_at.is_none_or(|lost_at| began > lost_at)
    }

    fn quorum_since(&self, began: Instant) -> bool {
        let in_touch = |id: &&MemberId| **id == self.own || self.was_in_touch(**id, began);
        self.members.iter().filter(in_touch).count() > self.members.len() / 2
    }

    fn was_in_touch(&self, member: MemberId, began: Instant) -> bool {
        (self.in_touch_since)(member).is_some_and(|since| since < began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
    const MEMBERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];

    /// Seconds after a moment long ago.
    fn at(seconds: u64) -> Instant {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    /// What member 1 says of what began at second 10.
    fn why(leader: Option<u64>, elected: u64, in_touch: &[(u64, u64)]) -> Late {
        let seen = Seen {
            own: MemberId(1),
            leader: leader.map(MemberId),
            elected_at: Some(at(elected)),
            election_timeout: ELECTION_TIMEOUT,
            members: &MEMBERS,
            in_touch_since: |id: MemberId| {
                let found = in_touch.iter().find(|(of, _)| *of == id.0);
                found.map(|(_, since)| at(*since))
            },
        };
        seen.why(at(10))
    }

    #[test]
    fn a_leader_elected_soon_after_means_that_one_was_lost() {
        assert_eq!(why(Some(2), 11, &[(2, 3)]), Late::LeaderFailed);
        assert_eq!(why(None, 11, &[]), Late::LeaderFailed);
        assert_eq!(why(Some(2), 12, &[(2, 3)]), Late::Unknown, "too long after");
        assert_eq!(why(Some(2), 9, &[(2, 3)]), Late::Unknown, "before");
    }

    #[test]
    fn a_break_of_the_connection_to_who_leads_is_said() {
        assert_eq!(why(Some(2), 5, &[(2, 11)]), Late::ConnectionLost);
        assert_eq!(why(Some(2), 5, &[(3, 3)]), Late::ConnectionLost);
        assert_eq!(why(Some(2), 5, &[(2, 3)]), Late::Unknown);
    }

    #[test]
    fn the_leader_itself_must_have_been_in_touch_with_a_quorum() {
        assert_eq!(why(Some(1), 5, &[(2, 3)]), Late::Unknown);
        assert_eq!(why(Some(1), 5, &[(2, 11), (3, 12)]), Late::ConnectionLost);
        assert_eq!(why(Some(1), 5, &[]), Late::ConnectionLost);
        assert_eq!(why(None, 5, &[]), Late::Unknown, "nobody leads");
    }
}
