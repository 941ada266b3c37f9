//! Log lines that installers and runbooks look for in etcd's log, in its words: who leads, who came
//! and went, the cluster's version, whether authentication is on.
//!
//! Every member tells what it has applied, whoever asked for it. What the store held when the process
//! began is told by nobody.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::config::{Config, ETCD_VERSION, ListenUrl};
use crate::state::MemberRecord;
use crate::store::Cluster;
use crate::types::{ClusterId, MemberId};

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
    /// Tells what differs from `known` from now on.
    pub fn new(cluster: ClusterId, local: MemberId, known: &Cluster) -> Told {
        Told {
            cluster,
            local,
            known: Mutex::new(Known::of(known)),
        }
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
        for id in ids {
            if let Some(change) = change(known.members.get(&id), now.members.get(&id)) {
                self.tell(id, &change);
            }
        }
        *known = now;
    }

    fn tell(&self, id: MemberId, change: &Change<'_>) {
        let (cluster, local) = (self.cluster, self.local);
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
            _ => {}
        }
    }
}

/// Tells where the member serves, once it does.
pub fn serving(config: &Config, local: MemberId) {
    let (listen, advertise) = (&config.listen, &config.advertise);
    crate::log!(
        info, "now serving peer/client/metrics",
        "local-member-id" = %local,
        "initial-advertise-peer-urls" = urls(&advertise.peer),
        "listen-peer-urls" = urls(&listen.peer),
        "advertise-client-urls" = urls(&advertise.client),
        "listen-client-urls" = urls(&listen.client),
        "listen-metrics-urls" = urls(&listen.metrics)
    );
}

/// Tells that the member stops.
pub fn closing(config: &Config) {
    tell_end("closing etcd server", config);
}

/// Tells that it has stopped: everything is closed.
pub fn closed(config: &Config) {
    tell_end("closed etcd server", config);
}

fn tell_end(what: &'static str, config: &Config) {
    crate::log!(
        info, what,
        name = config.name.as_str(),
        "data-dir" = %config.data_dir.display(),
        "advertise-peer-urls" = urls(&config.advertise.peer),
        "advertise-client-urls" = urls(&config.advertise.client)
    );
}

fn urls(urls: &[ListenUrl]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

/// Tells of a change of leader, in the words of etcd's Raft.
pub fn leader_changed(local: MemberId, before: Option<MemberId>, now: Option<MemberId>, term: u64) {
    if now == Some(local) {
        crate::log!(info, format!("{local} became leader at term {term}"));
    }
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
