//! What the operator sees of all that, by the rules of `observe`, and what it writes down of it.

use std::collections::BTreeMap;

use super::kube::{Life, Pod};
use super::raft::Raft;
use super::{Object, Sighted, World};
use crate::plan::{Entry, Member, Node, Observed, Pod as PodView, PodState, Roster, Volume};

/// How many entries a voter may be behind.
const LAG: u64 = 100;
/// How often a learner's progress is written.
const PROGRESS: i64 = 30;

impl World {
    /// Whether a member answers the operator, and for this cluster.
    pub(super) fn heard(&self, object: &Object) -> bool {
        let foreign = self.foreign.as_ref() == Some(&object.name);
        self.runs(&object.name) && !object.unreachable && !foreign
    }

    /// Whether a member that runs knows who leads, and serves.
    pub(super) fn answers(&self, name: &str) -> bool {
        let listed = self
            .raft
            .as_ref()
            .is_some_and(|raft| raft.of(name).is_some());
        let forked = self.raft.as_ref().is_some_and(|raft| raft.forked);
        let right = self
            .object(name)
            .is_some_and(|object| !self.is_corrupt(object));
        self.runs(name) && right && (forked || (listed && self.has_quorum()))
    }

    pub(super) fn view(&self) -> Observed {
        let raft = self.raft.as_ref();
        let heard = self.objects.iter().any(|object| {
            let listed = raft.is_some_and(|raft| raft.of(&object.name).is_some());
            listed && self.heard(object)
        });
        let roster = raft.filter(|_| heard && self.has_quorum()).map(list);
        let in_force = self.objects.iter().filter(|object| !self.is_aside(object));
        let members = in_force.map(|object| self.member(object, roster.as_ref()));
        let hour_ago = self.now - 3600;
        let recent = self.status.replacements.iter();
        Observed {
            now: self.now,
            fresh: true,
            bootstrapped: self.status.founded || roster.is_some(),
            deleting: false,
            members: members.collect(),
            replacements: recent.filter(|time| **time > hour_ago).count(),
            learners_out: self.status.learners_out.clone(),
            lacking: self.lacking,
            foreign: self.foreign.iter().cloned().collect(),
            roster,
            strangers: Vec::new(),
            aside: self.asides(),
            aside_goes: self.aside_goes(),
            held: self.is_held(),
        }
    }

    fn member(&self, object: &Object, roster: Option<&Roster>) -> Member {
        let name = &object.name;
        let listed = roster.and_then(|roster| roster.of(name));
        let heard = self.heard(object);
        let answers = heard && self.answers(name);
        let pod = self.pods.get(name);
        let claim = self.claim_of(object);
        let applied = self.applied(name).filter(|_| heard);
        let committed = self.raft.as_ref().map_or(0, |raft| raft.committed);
        let away = object.away_since.unwrap_or(self.now);
        let away = away.max(pod.map_or(away, |pod| pod.made));
        let corrupt = listed.is_some() && self.is_corrupt(object);
        let healthy = answers && !corrupt;
        let ready = pod.is_some_and(|pod| matches!(pod.life, Life::Running { ready: Some(_), .. }));
        let learns = listed.is_some_and(|entry| entry.learner);
        let stalled = match object.catching_up {
            Some((before, since)) if applied.is_none_or(|now| now <= before) => since,
            _ => self.now,
        };
        Member {
            name: name.clone(),
            number: object.number,
            deleting: object.deleting,
            listed_before: object.listed_before || listed.is_some(),
            initialized: object.initialized || heard || ready,
            // The first pod that was made, as long as its container has not run.
            ran: pod.is_none_or(|pod| pod.ran) && object.begun > 0 || object.begun > 1,
            votes: match (listed, object.votes) {
                (Some(entry), _) => !entry.learner,
                (None, known) => known.unwrap_or(object.initialized),
            },
            runs_since: pod.and_then(|pod| match pod.life {
                Life::Running { since, .. } if pod.ending.is_none() => Some(since),
                _ => None,
            }),
            pod: pod.map(|pod| self.pod(pod)),
            volume: match claim {
                None => Volume::None,
                Some(claim) if claim.condemned => Volume::Terminating,
                Some(claim) if claim.lost => Volume::None,
                Some(_) => Volume::Present,
            },
            node: self.node(object, pod),
            shares_node: pod.is_some_and(|pod| {
                let others = self.pods.iter().filter(|(other, _)| *other != name);
                let mut nodes = others.map(|(_, other)| other.node);
                pod.node.is_some() && nodes.any(|node| node == pod.node)
            }),
            healthy,
            caught_up: applied.is_some_and(|applied| match learns {
                false => applied + LAG >= committed,
                true => applied >= committed / 10 * 9,
            }),
            volume_small: claim.is_some_and(|claim| claim.small),
            corrupt,
            away_since: (!healthy).then_some(away),
            stalled_since: learns.then_some(stalled),
        }
    }

    fn pod(&self, pod: &Pod) -> PodView {
        let over = matches!(pod.life, Life::Over { .. });
        let state = match pod.life {
            _ if pod.ending.is_some() => PodState::Terminating {
                since: pod.ending.unwrap_or_default(),
            },
            Life::Pending { since, lack } => PodState::Unplaced { since, lack },
            Life::Starting { since } => PodState::Starting { since },
            Life::Running { ready, .. } => PodState::Running { ready_since: ready },
            Life::Broken { since, starved } => PodState::Broken { since, starved },
            Life::Over { since } => PodState::Broken {
                since,
                starved: true,
            },
        };
        PodView {
            state,
            outdated: over || pod.template != self.template.0,
            spent: over,
        }
    }

    fn node(&self, object: &Object, pod: Option<&Pod>) -> Node {
        let scheduled = pod.and_then(|pod| pod.node);
        let Some(index) = scheduled.or(object.node) else {
            return Node::None;
        };
        let node = &self.nodes[index];
        if !node.exists {
            let known = object
                .node_lost_since
                .filter(|_| object.node == Some(index));
            let since = known.unwrap_or(self.now);
            let waits = pod.filter(|_| scheduled.is_none()).map(|pod| pod.made);
            return Node::Lost {
                since: waits.map_or(since, |made| made.max(since)),
            };
        }
        match node.lost_since {
            Some(since) => Node::Lost { since },
            None => Node::Ready,
        }
    }

    /// What a pass writes into statuses before it does anything.
    pub(super) fn remember(&mut self, seen: &Observed) {
        self.status.founded |= seen.roster.is_some();
        let nodes: BTreeMap<String, Option<usize>> = self
            .pods
            .iter()
            .map(|(name, pod)| (name.clone(), pod.node))
            .collect();
        let applied: BTreeMap<String, u64> = self
            .objects
            .iter()
            .filter_map(|object| Some((object.name.clone(), self.applied(&object.name)?)))
            .collect();
        for object in &mut self.objects {
            let Some(member) = seen.member(&object.name) else {
                continue;
            };
            object.initialized |= member.initialized;
            object.listed_before |= member.listed_before;
            if seen.roster.is_some() {
                object.votes = Some(member.votes);
            }
            object.node = nodes.get(&object.name).copied().flatten().or(object.node);
            object.away_since = member.away_since;
            object.node_lost_since = match member.node {
                Node::Lost { since } => Some(since),
                Node::None | Node::Ready => None,
            };
            object.catching_up = member.stalled_since.map(|since| match object.catching_up {
                Some((before, at)) if since - at < PROGRESS => (before, at),
                _ => (
                    applied.get(&object.name).copied().unwrap_or_default(),
                    since,
                ),
            });
        }
    }

    /// Pods as they are now.
    pub(super) fn seen_pods(&self) -> Sighted {
        let pods = self.pods.iter();
        pods.map(|(name, pod)| (name.clone(), (pod.uid, pod.life)))
            .collect()
    }
}

fn list(raft: &Raft) -> Roster {
    let entry = |peer: &super::raft::Peer| Entry {
        id: peer.id,
        member: peer.member.clone(),
        ours: true,
        learner: peer.learner,
    };
    Roster {
        entries: raft.peers.iter().map(entry).collect(),
        leader: raft.leader,
    }
}
