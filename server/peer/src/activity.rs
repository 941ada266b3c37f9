//! Whether a peer is in touch, as its connections show, and since when. Told in etcd's words: tools
//! and runbooks look for the lines.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::types::MemberId;

/// See the module. A peer is in touch from the first answer on a connection until one ends, or cannot
/// be made.
#[derive(Debug)]
pub(super) struct Activity {
    peer: MemberId,
    since: Mutex<Option<Instant>>,
    lost: AtomicU64,
}

/// What was seen of a peer, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is in touch.
    pub is_active: bool,
    /// How often it was lost since the process began.
    pub lost: u64,
}

impl Activity {
    /// Of a peer that was not heard of yet.
    pub fn of(peer: MemberId) -> Activity {
        Activity {
            peer,
            since: Mutex::new(None),
            lost: AtomicU64::new(0),
        }
    }

    /// It has answered.
    pub fn heard(&self) {
        let mut since = self.since.lock();
        if since.is_some() {
            return;
        }
        *since = Some(Instant::now());
        if self.is_named() {
            crate::log!(info, "peer became active", "peer-id" = %self.peer);
            crate::log!(info, "established TCP streaming connection with remote peer",
                "remote-peer-id" = %self.peer);
        }
    }

    /// A connection to it ended, or could not be made.
    pub fn lost(&self, why: &dyn fmt::Display) {
        let was = self.since.lock().take();
        if was.is_some() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        if was.is_some() && self.is_named() {
            crate::log!(warn, "peer became inactive (message send to peer failed)",
                "peer-id" = %self.peer, error = %why);
            crate::log!(warn, "lost TCP streaming connection with remote peer",
                "remote-peer-id" = %self.peer, error = %why);
        }
    }

    /// Since when it is in touch without a break; none where it is not.
    pub fn since(&self) -> Option<Instant> {
        *self.since.lock()
    }

    /// For metrics.
    pub fn seen(&self) -> Seen {
        Seen {
            is_active: self.since().is_some(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Whoever answers at a URL has no name yet: there are no peers before there is a cluster.
    fn is_named(&self) -> bool {
        self.peer != MemberId(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_in_touch_from_its_first_answer_until_a_connection_is_lost() {
        let activity = Activity::of(MemberId(7));
        assert_eq!(activity.since(), None);
        activity.heard();
        let since = activity.since();
        assert!(since.is_some());
        activity.heard();
        assert_eq!(activity.since(), since, "it was in touch all the while");
        activity.lost(&"gone");
        assert_eq!(activity.since(), None);
        activity.lost(&"still gone");
        let seen = Seen {
            is_active: false,
            lost: 1,
        };
        assert_eq!(activity.seen(), seen);
        activity.heard();
        assert!(activity.since() > since);
    }
}
