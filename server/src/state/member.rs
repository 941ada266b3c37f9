//! The member table: ids, peer URLs, what each member tells of itself, and the ids that are gone
//! for good.
//!
//! Owns what the log says of members; who votes is Raft's matter, not this table's.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::MemberId;
use crate::types::request::MemberAttributes;

use super::{Change, Effects, MemberRecord};

/// The cluster's members.
#[derive(Debug, Default)]
pub struct Members {
    table: BTreeMap<MemberId, MemberRecord>,
    removed: BTreeSet<MemberId>,
}

impl Members {
    pub(super) fn load(members: Vec<MemberRecord>, removed: Vec<MemberId>) -> Members {
        Members {
            table: members
                .into_iter()
                .map(|member| (member.id, member))
                .collect(),
            removed: removed.into_iter().collect(),
        }
    }

    /// The member, if the cluster has it.
    pub fn get(&self, id: MemberId) -> Option<&MemberRecord> {
        self.table.get(&id)
    }

    /// The members, ascending by id.
    pub fn iter(&self) -> impl Iterator<Item = &MemberRecord> {
        self.table.values()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the cluster has not been bootstrapped yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether the id once was a member; such an id is never used again.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// Writes the first members. A second bootstrap changes nothing: whoever proposed it lost the
    /// race, and the table is already that of the winner.
    pub(super) fn bootstrap(
        &mut self,
        members: &[(MemberId, Vec<String>, bool)],
        effects: &mut Effects,
    ) {
        if !self.table.is_empty() {
            return;
        }
        for (id, peer_urls, learner) in members {
            let record = MemberRecord {
                id: *id,
                peer_urls: peer_urls.clone(),
                learner: *learner,
                ..MemberRecord::default()
            };
            effects.changes.push(Change::PutMember(record.clone()));
            self.table.insert(*id, record);
        }
    }

    /// Records what a member tells of itself. The first incarnation published stays: a directory
    /// wiped since then carries another one, and its word is ignored. So is that of a member which
    /// is not, or no longer, in the table.
    pub(super) fn publish(
        &mut self,
        id: MemberId,
        incarnation: u64,
        attributes: &MemberAttributes,
        effects: &mut Effects,
    ) {
        let Some(member) = self.table.get_mut(&id) else {
            return;
        };
        if member.incarnation != 0 && member.incarnation != incarnation {
            return;
        }
        member.incarnation = incarnation;
        member.attributes = attributes.clone();
        effects.changes.push(Change::PutMember(member.clone()));
    }
}
