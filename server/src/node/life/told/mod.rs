//! Log lines that installers and runbooks look for in etcd's log, in its words: who leads, who came
//! and went, the cluster's version, whether authentication is on.
//!
//! Every member tells what it has applied, whoever asked for it, and at its start what the store held.
//! [`life`] tells how the process begins and ends, [`users`] what becomes of users and roles.

pub mod life;
mod users;

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::config::ETCD_VERSION;
use crate::state::MemberRecord;
use crate::store::Cluster;
use crate::types::request::{MemberAttributes, Op};
use crate::types::{ClusterId, MemberId};

/// Tells of an operation that was applied, by itself: after that, where nobody waits for the store.
pub fn applied(op: &Op) {
    match op {
        Op::Auth(op) => users::tell(op),
        Op::Compact(compact) => {
            crate::log!(info, "compact tree index", revision = compact.revision);
        }
        _ => {}
    }
}

/// See the module.
pub struct Told {
    cluster: ClusterId,
    local: MemberId,
    known: Mutex<Known>,
}

/// What was told last.
struct Known {
    members: BTreeMap<MemberId, Shown>,
    version: Option<String>,
    downgrade: Option<String>,
    auth_enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    peer_urls: Vec<String>,
    learner: bool,
}

impl Known {
    fn of(cluster: &Cluster) -> Known {
        Known {
            members: cluster.members.iter().map(shown).collect(),
            version: cluster.version.clone(),
            downgrade: cluster.downgrade.clone(),
            auth_enabled: cluster.auth.is_enabled(),
        }
    }

    /// Those with a vote.
    fn with_vote(&self) -> impl Iterator<Item = &MemberId> {
        let with_vote = self.members.iter().filter(|(_, shown)| !shown.learner);
        with_vote.map(|(id, _)| id)
    }

    /// Who votes and who learns, as etcd's Raft says it.
    fn configuration(&self, local: MemberId) -> String {
        let list = |ids: Vec<String>| ids.join(" ");
        let voters = list(self.with_vote().map(ToString::to_string).collect());
        let learners = self.members.iter().filter(|(_, shown)| shown.learner);
        let learners = list(learners.map(|(id, _)| id.to_string()).collect());
        let line = format!("{local} switched to configuration voters=({voters})");
        match learners.is_empty() {
            true => line,
            false => format!("{line} learners=({learners})"),
        }
    }
}

fn shown(member: &MemberRecord) -> (MemberId, Shown) {
    let shown = Shown {
        peer_urls: member.peer_urls.clone(),
        learner: member.learner,
    };
    (member.id, shown)
}

/// What happened to a member.
#[derive(Debug, PartialEq, Eq)]
enum Change<'a> {
    Added(&'a Shown),
    Removed(&'a Shown),
    Promoted,
    Updated(&'a Shown),
}

fn change<'a>(before: Option<&'a Shown>, now: Option<&'a Shown>) -> Option<Change<'a>> {
    match (before, now) {
        (None, Some(now)) => Some(Change::Added(now)),
        (Some(before), None) => Some(Change::Removed(before)),
        (Some(before), Some(now)) if before.learner && !now.learner => Some(Change::Promoted),
        (Some(before), Some(now)) if before != now => Some(Change::Updated(now)),
        _ => None,
    }
}

impl Told {
    /// Tells what is `known`, and from now on what differs from it.
    pub fn new(cluster: ClusterId, local: MemberId, known: &Cluster) -> Told {
        let told = Told {
            cluster,
            local,
            known: Mutex::new(Known::of(known)),
        };
        told.tell_recovered(&told.known.lock());
        told
    }

    fn tell_recovered(&self, known: &Known) {
        let (cluster, local) = (self.cluster, self.local);
        for (id, shown) in &known.members {
            crate::log!(
                info, "recovered/added member from store",
                "cluster-id" = %cluster, "local-member-id" = %local, "recovered-remote-peer-id" = %id,
                "recovered-remote-peer-urls" = shown.peer_urls,
                "recovered-remote-peer-is-learner" = shown.learner
            );
            if *id != local {
                self.tell_remote(*id, shown);
            }
        }
        if let Some(version) = &known.version {
            crate::log!(
                info,
                "set cluster version from store",
                "cluster-version" = version
            );
        }
        if let Some(target) = &known.downgrade {
            crate::log!(
                info,
                "cluster is downgrading to target version",
                "target-cluster-version" = target,
                "current-server-version" = ETCD_VERSION
            );
        }
    }

    fn tell_remote(&self, id: MemberId, shown: &Shown) {
        crate::log!(
            info, "added remote peer",
            "local-member-id" = %self.local, "remote-peer-id" = %id,
            "remote-peer-urls" = shown.peer_urls
        );
    }

    /// Tells what is new. Called with every change of the members, the version or the users.
    pub fn look(&self, now: &Cluster) {
        let now = Known::of(now);
        let mut known = self.known.lock();
        self.tell_version(known.version.as_deref(), now.version.as_deref());
        if let Some(target) = now
            .downgrade
            .as_deref()
            .filter(|_| known.downgrade.is_none())
        {
            self.tell_downgrade(target);
        }
        match (known.auth_enabled, now.auth_enabled) {
            (false, true) => crate::log!(info, "enabled authentication"),
            (true, false) => crate::log!(info, "disabled authentication"),
            _ => {}
        }
        let mut ids: Vec<MemberId> = known
            .members
            .keys()
            .chain(now.members.keys())
            .copied()
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let same_voters = known.with_vote().eq(now.with_vote());
        if !same_voters || known.members.len() != now.members.len() {
            crate::log!(info, now.configuration(self.local));
        }
        for id in ids {
            if let Some(change) = change(known.members.get(&id), now.members.get(&id)) {
                self.tell(id, &change);
            }
        }
        *known = now;
    }

    fn tell(&self, id: MemberId, change: &Change<'_>) {
        let (cluster, local) = (self.cluster, self.local);
        self.tell_configured(id, change);
        match change {
            Change::Added(shown) => crate::log!(
                info, "added member",
                "cluster-id" = %cluster, "local-member-id" = %local, "added-peer-id" = %id,
                "added-peer-peer-urls" = shown.peer_urls.join(","),
                "added-peer-is-learner" = shown.learner
            ),
            Change::Removed(shown) => crate::log!(
                info, "removed member",
                "cluster-id" = %cluster, "local-member-id" = %local, "removed-remote-peer-id" = %id,
                "removed-remote-peer-urls" = shown.peer_urls.join(","),
                "removed-remote-peer-is-learner" = shown.learner
            ),
            Change::Promoted => crate::log!(
                info, "promote member",
                "cluster-id" = %cluster, "local-member-id" = %local, "promoted-member-id" = %id
            ),
            Change::Updated(shown) => crate::log!(
                info, "updated member",
                "cluster-id" = %cluster, "local-member-id" = %local, "updated-remote-peer-id" = %id,
                "updated-remote-peer-urls" = shown.peer_urls.join(","),
                "updated-remote-peer-is-learner" = shown.learner
            ),
        }
    }

    /// The same again, as etcd's Raft and its transport tell it.
    fn tell_configured(&self, id: MemberId, change: &Change<'_>) {
        let local = self.local;
        match change {
            Change::Added(shown) if id != local => self.tell_remote(id, shown),
            Change::Removed(_) if id != local => crate::log!(
                info, "removed remote peer",
                "local-member-id" = %local, "removed-remote-peer-id" = %id
            ),
            Change::Updated(shown) if id != local => crate::log!(
                info, "updated remote peer",
                "local-member-id" = %local, "updated-remote-peer-id" = %id,
                "updated-remote-peer-urls" = shown.peer_urls
            ),
            _ => {}
        }
        let how = match change {
            Change::Added(shown) if shown.learner => "ConfChangeAddLearnerNode",
            Change::Added(_) | Change::Promoted => "ConfChangeAddNode",
            Change::Removed(_) => "ConfChangeRemoveNode",
            Change::Updated(_) => "ConfChangeUpdateNode",
        };
        crate::log!(
            info, "applied a configuration change through raft",
            "local-member-id" = %local, "raft-conf-change" = how, "raft-conf-change-node-id" = %id
        );
    }

    fn tell_downgrade(&self, target: &str) {
        crate::log!(
            info, "The server is ready to downgrade",
            "local-member-id" = %self.local, "target-version" = %target, "server-version" = ETCD_VERSION
        );
    }

    fn tell_version(&self, before: Option<&str>, now: Option<&str>) {
        let (cluster, local) = (self.cluster, self.local);
        match (before, now) {
            (None, Some(now)) => crate::log!(
                info, "set initial cluster version",
                "cluster-id" = %cluster, "local-member-id" = %local, "cluster-version" = %now
            ),
            (Some(before), Some(now)) if before != now => crate::log!(
                info, "updated cluster version",
                "cluster-id" = %cluster, "local-member-id" = %local, from = %before, to = %now
            ),
            _ => return,
        }
        let now = now.unwrap_or_default();
        crate::log!(
            info,
            "enabled capabilities for version",
            "cluster-version" = now
        );
    }
}

/// What a member tells of itself, as Go prints it.
pub fn attributes(attributes: &MemberAttributes) -> String {
    let MemberAttributes {
        name, client_urls, ..
    } = attributes;
    format!("{{Name:{name} ClientURLs:[{}]}}", client_urls.join(" "))
}

/// Tells of a change of leader, in the words of etcd's Raft.
pub fn leader_changed(local: MemberId, before: Option<MemberId>, now: Option<MemberId>, term: u64) {
    let role = match now {
        Some(leader) if leader == local => "leader",
        _ => "follower",
    };
    crate::log!(info, format!("{local} became {role} at term {term}"));
    crate::log!(info, leader_line(local, before, now, term));
}

fn leader_line(
    local: MemberId,
    before: Option<MemberId>,
    now: Option<MemberId>,
    term: u64,
) -> String {
    let what = match (before, now) {
        (None, Some(leader)) => format!("elected leader {leader}"),
        (Some(before), Some(leader)) => format!("changed leader from {before} to {leader}"),
        (Some(before), None) => format!("lost leader {before}"),
        (None, None) => "has no leader".to_owned(),
    };
    format!("raft.node: {local} {what} at term {term}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_printed_as_by_go() {
        let told = |urls: &[&str]| {
            let urls = urls.iter().map(|url| (*url).to_owned());
            attributes(&MemberAttributes {
                name: "m1".to_owned(),
                client_urls: urls.collect(),
                apply_version: 2,
            })
        };
        assert_eq!(told(&[]), "{Name:m1 ClientURLs:[]}");
        assert_eq!(
            told(&["http://a", "http://b"]),
            "{Name:m1 ClientURLs:[http://a http://b]}"
        );
    }

    #[test]
    fn what_changed_of_a_member_is_told_once() {
        let of = |url: &str, learner| Shown {
            peer_urls: vec![url.to_owned()],
            learner,
        };
        let (learner, voter, moved) = (
            of("http://a", true),
            of("http://a", false),
            of("http://b", false),
        );
        assert_eq!(change(None, Some(&learner)), Some(Change::Added(&learner)));
        assert_eq!(change(Some(&learner), Some(&voter)), Some(Change::Promoted));
        assert_eq!(change(Some(&voter), Some(&voter)), None);
        assert_eq!(
            change(Some(&voter), Some(&moved)),
            Some(Change::Updated(&moved))
        );
        assert_eq!(change(Some(&moved), None), Some(Change::Removed(&moved)));
    }

    #[test]
    fn who_votes_is_said_in_the_words_of_etcds_raft() {
        let of = |learner| Shown {
            peer_urls: Vec::new(),
            learner,
        };
        let mut known = Known {
            members: BTreeMap::from([(MemberId(0xa), of(false)), (MemberId(0xb), of(false))]),
            version: None,
            downgrade: None,
            auth_enabled: false,
        };
        let said = known.configuration(MemberId(0xa));
        assert_eq!(said, "a switched to configuration voters=(a b)");
        known.members.insert(MemberId(0xc), of(true));
        let said = known.configuration(MemberId(0xa));
        assert_eq!(
            said,
            "a switched to configuration voters=(a b) learners=(c)"
        );
    }

    #[test]
    fn who_leads_is_said_in_the_words_of_etcds_raft() {
        let (me, other) = (MemberId(0xa), MemberId(0xb));
        let elected = leader_line(me, None, Some(other), 3);
        assert_eq!(elected, "raft.node: a elected leader b at term 3");
        let lost = leader_line(me, Some(other), None, 3);
        assert_eq!(lost, "raft.node: a lost leader b at term 3");
        let changed = leader_line(me, Some(other), Some(me), 4);
        assert_eq!(changed, "raft.node: a changed leader from b to a at term 4");
    }
}
