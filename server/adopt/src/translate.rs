//! Entries of etcd's log into entries of ours, of the same term and index.
//!
//! What etcd decides when it applies an entry, and engram's store does not, is decided here: which
//! change of the members is refused, and what an alarm refuses. Both follow from the store at the
//! beginning and the entries before, so that every member translates an entry alike.
//!
//! Source: `ValidateConfigurationChange` of etcd's `membership/cluster.go`, `apply/capped.go` and
//! `apply/corrupt.go`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;

use super::AdoptError;
use super::log::LogEntry;
use super::request::{self, Unfit};
use crate::raft::{Carried, Payload};
use crate::state::{MemberNode, MemberRecord};
use crate::types::MemberId;
use crate::types::request::{self as ops, AlarmType, MemberAttributes, Op};
use crate::types::result;

/// An entry's kind: a request, a change of the members.
const REQUEST: i32 = 0;
const MEMBER_CHANGE: i32 = 1;

/// `raftpb.ConfChange`.
#[derive(Clone, PartialEq, prost::Message)]
struct MemberChange {
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    member: u64,
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

/// What stands in its context: a member, and whether it shall only get its vote.
#[derive(serde::Deserialize)]
struct Context {
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    learner: bool,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "isPromote")]
    promote: bool,
}

/// What a translation needs to know beside the log.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The least time to live of a lease, seconds.
    pub lease_ttl_min: i64,
    /// The most learners (`--max-learners`).
    pub learners_max: usize,
}

/// The members, the removed ones and the alarms, as far as the entries have come.
#[derive(Clone, Debug, Default)]
pub(super) struct Translation {
    members: BTreeMap<MemberId, MemberRecord>,
    removed: BTreeSet<MemberId>,
    alarms: BTreeSet<result::Alarm>,
}

impl Translation {
    /// Begins with what a store holds.
    pub fn of(members: &[MemberRecord], removed: &[MemberId], alarms: &[result::Alarm]) -> Self {
        Translation {
            members: members.iter().map(|m| (m.id, m.clone())).collect(),
            removed: removed.iter().copied().collect(),
            alarms: alarms.iter().copied().collect(),
        }
    }

    /// The members by now.
    pub fn members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values()
    }

    /// Takes the changes of the members that a log begins with: every first member wrote them itself,
    /// committed, when the cluster was made. How many they are.
    ///
    /// # Errors
    /// One of them is damaged.
    pub fn take_first(&mut self, entries: &[LogEntry]) -> Result<usize, AdoptError> {
        let is_first = |entry: &&LogEntry| entry.kind == MEMBER_CHANGE && entry.position.term == 1;
        let first: Vec<&LogEntry> = entries.iter().take_while(is_first).collect();
        for entry in &first {
            self.change(&entry.data).map_err(unfit(entry))?;
        }
        Ok(first.len())
    }

    /// Translates the next entry.
    ///
    /// # Errors
    /// It is damaged, or asks for what this engram does not know.
    pub fn entry(&mut self, entry: &LogEntry, rules: Rules) -> Result<Carried, AdoptError> {
        let payload = match entry.kind {
            REQUEST => self.request(&entry.data, rules),
            MEMBER_CHANGE => self.limited_change(&entry.data, rules),
            _ => Err(Unfit::Unknown),
        };
        Ok(Carried {
            position: entry.position,
            payload: payload.map_err(unfit(entry))?,
        })
    }

    fn request(&mut self, data: &Bytes, rules: Rules) -> Result<Payload, Unfit> {
        let op = request::operation(data, rules.lease_ttl_min)?;
        let Some(op) = op.filter(|op| self.admits(op.bare())) else {
            return Ok(Payload::Nothing);
        };
        if let Op::Alarm(change) = &op {
            self.note(*change);
        }
        Ok(Payload::Operation(op))
    }

    /// Whether etcd's alarms let it through: any member's stops the whole cluster.
    fn admits(&self, op: &Op) -> bool {
        let raised = |kind| self.alarms.iter().any(|alarm| alarm.alarm == kind);
        let (writes, grows) = match op {
            Op::Put(_) | Op::LeaseGrant(_) => (true, true),
            Op::Txn(txn) => (true, txn.has_put()),
            Op::DeleteRange(_) | Op::Compact(_) | Op::LeaseRevoke(_) => (true, false),
            _ => (false, false),
        };
        !(writes && raised(AlarmType::Corrupt) || grows && raised(AlarmType::NoSpace))
    }

    fn note(&mut self, change: ops::Alarm) {
        match change {
            ops::Alarm::Activate(member, alarm) => {
                self.alarms.insert(result::Alarm { member, alarm })
            }
            ops::Alarm::Deactivate(member, alarm) => {
                self.alarms.remove(&result::Alarm { member, alarm })
            }
        };
    }

    fn limited_change(&mut self, data: &Bytes, rules: Rules) -> Result<Payload, Unfit> {
        let before = self.clone();
        let learners = |members: &BTreeMap<MemberId, MemberRecord>| {
            members.values().filter(|member| member.learner).count()
        };
        let is_made = self.change(data)?;
        let (had, has) = (learners(&before.members), learners(&self.members));
        if has > had && has > rules.learners_max {
            *self = before;
            return Ok(Payload::Nothing);
        }
        let voters = self.members.values().any(|member| !member.learner);
        match (is_made, voters) {
            (false, _) => Ok(Payload::Nothing),
            (true, true) => Ok(Payload::Members(self.members().map(node).collect())),
            (true, false) => Err(Unfit::Damaged("a cluster without a voter")),
        }
    }

    /// Makes a change of the members; whether etcd did not refuse it.
    fn change(&mut self, data: &Bytes) -> Result<bool, Unfit> {
        const ADD: i32 = 0;
        const REMOVE: i32 = 1;
        const UPDATE: i32 = 2;
        const ADD_LEARNER: i32 = 3;
        let damaged = |_| Unfit::Damaged("a change of the members");
        let change = MemberChange::decode(data.clone()).map_err(damaged)?;
        let id = MemberId(change.member);
        if self.removed.contains(&id) {
            return Ok(false);
        }
        let kind = change.kind;
        if kind == REMOVE {
            let removed = self.members.remove(&id).is_some();
            self.removed.extend(removed.then_some(id));
            return Ok(removed);
        }
        let context: Context =
            serde_json::from_slice(&change.context).map_err(|_| Unfit::Damaged("a member"))?;
        Ok(match kind {
            ADD | ADD_LEARNER if context.promote => self.promote(id),
            ADD | ADD_LEARNER => self.add(id, context),
            UPDATE => self.update(id, context.peer_urls),
            _ => return Err(Unfit::Unknown),
        })
    }

    fn promote(&mut self, id: MemberId) -> bool {
        let learner = self.members.get_mut(&id).filter(|member| member.learner);
        learner.map(|member| member.learner = false).is_some()
    }

    fn add(&mut self, id: MemberId, context: Context) -> bool {
        if self.members.contains_key(&id) || self.is_taken(id, &context.peer_urls) {
            return false;
        }
        let record = MemberRecord {
            id,
            incarnation: 0,
            peer_urls: context.peer_urls,
            learner: context.learner,
            attributes: MemberAttributes {
                name: context.name,
                ..MemberAttributes::default()
            },
        };
        self.members.insert(id, record);
        true
    }

    fn update(&mut self, id: MemberId, peer_urls: Vec<String>) -> bool {
        if self.is_taken(id, &peer_urls) {
            return false;
        }
        let member = self.members.get_mut(&id);
        member.map(|member| member.peer_urls = peer_urls).is_some()
    }

    /// Whether another member has one of these URLs.
    fn is_taken(&self, id: MemberId, peer_urls: &[String]) -> bool {
        let others = self.members.values().filter(|member| member.id != id);
        let mut urls = others.flat_map(|member| &member.peer_urls);
        urls.any(|url| peer_urls.contains(url))
    }
}

/// A member as a configuration names it.
pub(super) fn node(member: &MemberRecord) -> MemberNode {
    MemberNode {
        id: member.id,
        peer_urls: member.peer_urls.clone(),
        learner: member.learner,
    }
}

fn unfit(entry: &LogEntry) -> impl Fn(Unfit) -> AdoptError {
    let index = entry.position.index;
    move |unfit| match unfit {
        Unfit::Damaged(what) => AdoptError::DamagedEntry { index, what },
        Unfit::Unknown => AdoptError::UnknownEntry(index),
    }
}
