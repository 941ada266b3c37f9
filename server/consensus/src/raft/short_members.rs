//! Which members said, with their last heartbeats, that their disks are short of room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::types::MemberId;

/// How long what a member said counts: it says it again with every heartbeat.
const COUNTS_FOR: Duration = Duration::from_secs(5);

/// See the module. Clones are one. Bounded by the members that are sent heartbeats.
#[derive(Clone, Debug, Default)]
pub(super) struct ShortMembers {
    said: Arc<Mutex<BTreeMap<MemberId, Instant>>>,
}

impl ShortMembers {
    /// A member said whether it is short of room.
    pub fn note(&self, member: MemberId, short: bool) {
        let mut said = self.said.lock();
        match short {
            true => drop(said.insert(member, Instant::now())),
            false => drop(said.remove(&member)),
        }
    }

    /// Who is.
    pub fn all(&self) -> Vec<MemberId> {
        let said = self.said.lock();
        let lately = said.iter().filter(|(_, at)| at.elapsed() < COUNTS_FOR);
        lately.map(|(member, _)| *member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_said_last_counts() {
        let short = ShortMembers::default();
        short.note(MemberId(1), true);
        short.note(MemberId(2), true);
        short.note(MemberId(1), false);
        assert_eq!(short.clone().all(), [MemberId(2)]);
    }
}
