//! The member table: ids, peer URLs, what each member tells of itself, and the ids that are gone
//! for good.
//!
//! Owns what the log says of members; who votes is Raft's matter, not this table's.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::MemberId;
use crate::types::request::MemberAttributes;

use super::{Change, Effects, MemberNode, MemberRecord};

/// The cluster's members.
#[derive(Clone, Debug, Default)]
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

    /// The ids that were members once.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// Whether the cluster has not been bootstrapped yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether the id once was a member; such an id is never used again.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// Takes over the members that a Raft configuration names. Who is named no more is removed for
    /// good.
    pub(super) fn reconfigure(&mut self, nodes: &[MemberNode], effects: &mut Effects) {
        let named: BTreeSet<MemberId> = nodes.iter().map(|node| node.id).collect();
        let gone: Vec<MemberId> = self.table.keys().copied().collect();
        for id in gone.into_iter().filter(|id| !named.contains(id)) {
            self.table.remove(&id);
            self.removed.insert(id);
            effects.changes.push(Change::RemoveMember(id));
        }
        for node in nodes {
            self.name(node, effects);
        }
    }

    fn name(&mut self, node: &MemberNode, effects: &mut Effects) {
        let before = self.table.get(&node.id);
        let record = MemberRecord {
            id: node.id,
            peer_urls: node.peer_urls.clone(),
            learner: node.learner,
            ..before.cloned().unwrap_or_default()
        };
        if before != Some(&record) {
            effects.changes.push(Change::PutMember(record.clone()));
            self.table.insert(node.id, record);
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
