//! Raised alarms. NOSPACE refuses what grows the store; CORRUPT refuses every write, unless the
//! members it is raised for are known to be fewer than half: those serve nobody then, the others go
//! on (in etcd one bad member stops all).
//!
//! Owns the set; must never decide when to raise one (that is `propose`'s and the checks' matter).

use std::collections::BTreeSet;

use crate::types::MemberId;
use crate::types::request::{self, AlarmType};
use crate::types::result::{Alarm, ApplyError};

use super::{Change, Effects, Members};

/// The alarms raised, by member and kind.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: BTreeSet<Alarm>,
}

impl Alarms {
    pub(super) fn load(raised: Vec<Alarm>) -> Alarms {
        Alarms {
            raised: raised.into_iter().collect(),
        }
    }

    /// The raised alarms, ascending by member, then kind.
    pub fn iter(&self) -> impl Iterator<Item = Alarm> {
        self.raised.iter().copied()
    }

    /// Whether any member has raised this kind.
    pub fn is_raised(&self, alarm: AlarmType) -> bool {
        self.raised.iter().any(|raised| raised.alarm == alarm)
    }

    /// Whether `member` has raised this kind.
    pub fn is_raised_by(&self, member: MemberId, alarm: AlarmType) -> bool {
        self.raised.contains(&Alarm { member, alarm })
    }

    /// Whether the voters without a CORRUPT alarm are no quorum, or one was raised for nobody known.
    fn has_corrupt_quorum(&self, members: &Members) -> bool {
        let corrupt = self
            .raised
            .iter()
            .filter(|raised| raised.alarm == AlarmType::Corrupt);
        let corrupt: Vec<MemberId> = corrupt.map(|raised| raised.member).collect();
        if corrupt.is_empty() {
            return false;
        }
        let voters = members.iter().filter(|member| !member.learner);
        let voters: Vec<MemberId> = voters.map(|member| member.id).collect();
        let sound = voters.iter().filter(|id| !corrupt.contains(id)).count();
        sound < voters.len() / 2 + 1 || corrupt.iter().any(|id| members.get(*id).is_none())
    }

    /// Whether the alarms let `op` through. Alarm and membership changes always pass, so that an
    /// operator can get out; CORRUPT wins over NOSPACE, as in etcd.
    pub(super) fn admit(&self, op: &request::Op, members: &Members) -> Result<(), ApplyError> {
        use request::Op;
        let (writes, grows) = match op {
            Op::Put(_) | Op::LeaseGrant(_) => (true, true),
            Op::Txn(txn) => (true, txn.has_put()),
            Op::DeleteRange(_) | Op::Compact(_) | Op::LeaseRevoke(_) => (true, false),
            Op::Alarm(_) | Op::PublishMember { .. } | Op::SetClusterVersion(_) => (false, false),
        };
        if writes && self.has_corrupt_quorum(members) {
            return Err(ApplyError::Corrupt);
        }
        if grows && self.is_raised(AlarmType::NoSpace) {
            return Err(ApplyError::NoSpace);
        }
        Ok(())
    }

    /// Raises or clears. Answers the alarm concerned, as etcd does: raising one that is raised
    /// already names it again, clearing one that is not raised names none.
    pub(super) fn change(&mut self, change: request::Alarm, effects: &mut Effects) -> Vec<Alarm> {
        match change {
            request::Alarm::Activate(member, alarm) => {
                if self.raised.insert(Alarm { member, alarm }) {
                    effects.changes.push(Change::PutAlarm(member, alarm));
                }
                vec![Alarm { member, alarm }]
            }
            request::Alarm::Deactivate(member, alarm) => self.clear(member, alarm, effects),
        }
    }

    fn clear(&mut self, member: MemberId, alarm: AlarmType, effects: &mut Effects) -> Vec<Alarm> {
        if !self.raised.remove(&Alarm { member, alarm }) {
            return Vec::new();
        }
        effects.changes.push(Change::DeleteAlarm(member, alarm));
        vec![Alarm { member, alarm }]
    }
}
