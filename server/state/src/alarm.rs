//! Raised alarms. NOSPACE refuses what grows the store; CORRUPT refuses every write, unless the
//! voters it is raised for are fewer than half: those serve nobody then, the others go on (in etcd
//! one bad member stops all).
//!
//! An alarm is a member's: it is raised for members only, goes with its member, and counts only as
//! long as the cluster has the member (stores of earlier versions may hold others).
//!
//! Owns the set; must never decide when to raise one (that is `propose`'s and the checks' matter).

use std::collections::BTreeSet;

use crate::types::MemberId;
use crate::types::request::{self, AlarmType};
use crate::types::result::{Alarm, ApplyError};

use super::{Change, Effects, Members};

/// The alarms raised, by member and kind.
#[derive(Clone, Debug, Default)]
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

    /// Whether this kind is raised for any of `members`.
    pub fn is_raised(&self, alarm: AlarmType, members: &Members) -> bool {
        self.raised_for(alarm, members).next().is_some()
    }

    /// The members that have raised this kind.
    fn raised_for(&self, alarm: AlarmType, members: &Members) -> impl Iterator<Item = MemberId> {
        let of_kind = self
            .raised
            .iter()
            .filter(move |raised| raised.alarm == alarm);
        of_kind
            .map(|raised| raised.member)
            .filter(|id| members.get(*id).is_some())
    }

    /// Whether `member` has raised this kind.
    pub fn is_raised_by(&self, member: MemberId, alarm: AlarmType) -> bool {
        self.raised.contains(&Alarm { member, alarm })
    }

    /// Whether the voters without a CORRUPT alarm are no quorum.
    fn has_corrupt_quorum(&self, members: &Members) -> bool {
        let corrupt: Vec<MemberId> = self.raised_for(AlarmType::Corrupt, members).collect();
        if corrupt.is_empty() {
            return false;
        }
        let voters = members.iter().filter(|member| !member.learner);
        let voters: Vec<MemberId> = voters.map(|member| member.id).collect();
        let sound = voters.iter().filter(|id| !corrupt.contains(id)).count();
        sound < voters.len() / 2 + 1
    }

    /// Whether the alarms let `op` through. Alarm and membership changes always pass, so that an
    /// operator can get out; CORRUPT wins over NOSPACE, as in etcd.
    pub(super) fn admit(&self, op: &request::Op, members: &Members) -> Result<(), ApplyError> {
        use request::Op;
        let (writes, grows) = match op {
            Op::Put(_) | Op::LeaseGrant(_) => (true, true),
            Op::Txn(txn) => (true, txn.has_put()),
            Op::DeleteRange(_) | Op::Compact(_) | Op::LeaseRevoke(_) => (true, false),
            Op::Alarm(_) | Op::PublishMember { .. } | Op::SetClusterVersion(_) | Op::Auth(_) => {
                (false, false)
            }
            Op::By(asked) => return self.admit(&asked.op, members),
        };
        if writes && self.has_corrupt_quorum(members) {
            return Err(ApplyError::Corrupt);
        }
        if grows && self.is_raised(AlarmType::NoSpace, members) {
            return Err(ApplyError::NoSpace);
        }
        Ok(())
    }

    /// Raises or clears. Answers the alarm concerned, as etcd does: raising one that is raised
    /// already names it again, clearing one that is not raised names none.
    ///
    /// # Errors
    /// One is to be raised for somebody who is no member: nobody could be asked to put it right.
    pub(super) fn change(
        &mut self,
        change: request::Alarm,
        members: &Members,
        effects: &mut Effects,
    ) -> Result<Vec<Alarm>, ApplyError> {
        match change {
            request::Alarm::Activate(member, _) if members.get(member).is_none() => {
                Err(ApplyError::MemberNotFound)
            }
            request::Alarm::Activate(member, alarm) => {
                if self.raised.insert(Alarm { member, alarm }) {
                    effects.changes.push(Change::PutAlarm(member, alarm));
                }
                Ok(vec![Alarm { member, alarm }])
            }
            request::Alarm::Deactivate(member, alarm) => Ok(self.clear(member, alarm, effects)),
        }
    }

    /// Clears what is raised for others than `members`: what a member raised goes with it.
    pub(super) fn keep_members(&mut self, members: &Members, effects: &mut Effects) {
        let gone = self.raised.iter().copied();
        let gone: Vec<Alarm> = gone
            .filter(|raised| members.get(raised.member).is_none())
            .collect();
        for Alarm { member, alarm } in gone {
            self.clear(member, alarm, effects);
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
