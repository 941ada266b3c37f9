//! Kubernetes: nodes, volumes, the scheduler and the kubelets.

use super::raft::{Peer, Raft};
use super::{Broken, Kept, TICK, World, claim_name};
use crate::plan::Lack;

/// Seconds until pods of a node that is not ready are deleted, and those of one that is gone.
const EVICTED_AFTER: i64 = 40;
/// Seconds that a pod takes to start.
const START: i64 = 2 * TICK;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Whether its object is there.
    pub exists: bool,
    /// Whether its kubelet says so.
    pub kubelet: bool,
    /// Whether the machine runs: what it was told last goes on without a kubelet.
    pub machine: bool,
    pub cordoned: bool,
    /// Since when it is not ready, or gone.
    pub lost_since: Option<i64>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            exists: true,
            kubelet: true,
            machine: true,
            cordoned: false,
            lost_since: None,
        }
    }
}

impl Node {
    fn works(&self) -> bool {
        self.exists && self.kubelet && self.machine
    }
}

/// What is on a volume.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub applied: u64,
    /// It differs from the others'.
    pub corrupt: bool,
    /// No member starts on it.
    pub damaged: bool,
}

/// A volume and its claim.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub data: Option<Data>,
    /// The node that a local volume is on.
    pub home: Option<usize>,
    /// It is being deleted.
    pub condemned: bool,
    /// Its volume is gone.
    pub lost: bool,
    pub small: bool,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Pending {
        since: i64,
        lack: Lack,
    },
    Starting {
        since: i64,
    },
    Running {
        since: i64,
        ready: Option<i64>,
        hangs: bool,
    },
    Broken {
        since: i64,
        starved: bool,
    },
    Over {
        since: i64,
    },
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: u64,
    pub made: i64,
    pub node: Option<usize>,
    pub template: u32,
    pub founds: bool,
    /// Whether its container has ever run.
    pub ran: bool,
    pub life: Life,
    /// When it should have ended.
    pub ending: Option<i64>,
}

impl World {
    pub(super) fn nodes_turn(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            node.lost_since = match node.works() {
                true => None,
                false => node.lost_since.or(Some(now)),
            };
        }
        let nodes = &self.nodes;
        let away = |pod: &Pod| pod.node.and_then(|node| nodes[node].lost_since);
        // Nothing is asked of a kubelet whose node has no object: its pods are cleared away.
        self.pods.retain(|_, pod| {
            let gone = pod.node.is_some_and(|node| !nodes[node].exists);
            !(gone && away(pod).is_some_and(|since| now - since >= EVICTED_AFTER))
        });
        for pod in self.pods.values_mut() {
            let Some(since) = away(pod) else { continue };
            if let Life::Running { ready, .. } = &mut pod.life {
                *ready = None;
            }
            if now - since >= EVICTED_AFTER {
                pod.ending = pod.ending.or(Some(now));
            }
        }
    }

    /// What the kubelets do: end, start, find ready.
    pub(super) fn kubelets_turn(&mut self) -> Kept {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            let pod = self.pods[&name].clone();
            let Some(node) = pod.node else {
                if pod.ending.is_some() {
                    self.pods.remove(&name);
                }
                continue;
            };
            let node = &self.nodes[node];
            if !node.machine && !matches!(pod.life, Life::Over { .. }) {
                // What ran there begins anew when the machine is back.
                self.pods.get_mut(&name).expect("it is there").life =
                    Life::Starting { since: self.now };
                continue;
            }
            if !node.works() {
                continue;
            }
            if pod.ending.is_some_and(|ending| ending <= self.now) {
                self.pods.remove(&name);
                continue;
            }
            let life = self.next_life(&name, &pod)?;
            if let Some(pod) = self.pods.get_mut(&name) {
                pod.life = life;
            }
        }
        Ok(())
    }

    fn next_life(&mut self, name: &str, pod: &Pod) -> Result<Life, Broken> {
        let now = self.now;
        match pod.life {
            Life::Starting { since } if now - since >= START => self.start(name, pod),
            Life::Running {
                since,
                ready,
                hangs,
            } => {
                let serves = !hangs && self.answers(name);
                let raft = self.raft.as_ref();
                let votes = raft
                    .and_then(|raft| raft.of(name))
                    .is_some_and(|one| !one.learner);
                if let Some(object) = self.object_mut(name).filter(|_| serves && votes) {
                    object.had_data = true;
                }
                let ready = ready.or(Some(now)).filter(|_| serves);
                Ok(Life::Running {
                    since,
                    ready,
                    hangs,
                })
            }
            // It is tried again, and may come up once what it lacked is there.
            Life::Broken { since, .. } => match self.start(name, pod)? {
                Life::Broken { starved, .. } => Ok(Life::Broken { since, starved }),
                other => Ok(other),
            },
            life => Ok(life),
        }
    }

    /// A container starts.
    fn start(&mut self, name: &str, pod: &Pod) -> Result<Life, Broken> {
        let now = self.now;
        let Some(object) = self.object(name).cloned() else {
            return Ok(pod.life);
        };
        let usable = self.claim_of(&object).is_some_and(|claim| !claim.lost);
        if !usable || object.starts_never || self.lacking {
            let since = match pod.life {
                Life::Starting { since } | Life::Broken { since, .. } => since,
                _ => now,
            };
            return Ok(Life::Starting { since });
        }
        let bad = pod.template == self.template.0 && !self.template.1;
        let damaged = self.claim_of(&object).and_then(|claim| claim.data.as_ref());
        let damaged = damaged.is_some_and(|data| data.damaged);
        if bad || damaged || object.starved {
            let starved = object.starved && !bad && !damaged;
            return Ok(Life::Broken {
                since: now,
                starved,
            });
        }
        self.begin(name, pod)?;
        if let Some(pod) = self.pods.get_mut(name) {
            pod.ran = true;
        }
        Ok(Life::Running {
            since: now,
            ready: None,
            hangs: false,
        })
    }

    /// A member's process begins, on whatever its volume holds.
    fn begin(&mut self, name: &str, pod: &Pod) -> Kept {
        let object = self.object(name).expect("it has a pod").clone();
        let empty = self
            .claim_of(&object)
            .is_some_and(|claim| claim.data.is_none());
        if !empty {
            return Ok(());
        }
        // What a cluster that nobody saw serve has lost with its volume nobody can know of.
        let unseen = pod.founds && !self.status.founded;
        if object.had_data && !unseen {
            return Err(Broken(format!(
                "{name} starts on an empty volume and has voted before"
            )));
        }
        if pod.founds {
            // One that never served has promised nothing.
            let mut others = self.objects.iter().filter(|object| object.name != name);
            if self.raft.is_some() && others.any(|object| object.had_data) {
                return Err(Broken(format!("{name} founds a second cluster")));
            }
            let first = Peer {
                id: 1,
                member: name.to_owned(),
                learner: false,
            };
            self.raft = Some(Raft {
                peers: vec![first],
                ids: 1,
                ..Raft::default()
            });
        }
        let claim = self
            .claims
            .get_mut(&claim_name(&object))
            .expect("it has one");
        claim.data = Some(Data::default());
        Ok(())
    }

    /// A claim that is being deleted goes once no pod uses it.
    pub(super) fn claims_turn(&mut self) {
        let used: Vec<String> = self
            .objects
            .iter()
            .filter(|object| self.pods.contains_key(&object.name))
            .map(claim_name)
            .collect();
        self.claims
            .retain(|name, claim| !claim.condemned || used.contains(name));
    }

    pub(super) fn scheduler_turn(&mut self) {
        let waiting: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| matches!(pod.life, Life::Pending { .. }) && pod.ending.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            let place = self.place(&name);
            let (now, local) = (self.now, self.local);
            let claim = self.object(&name).map(claim_name);
            let pod = self.pods.get_mut(&name).expect("it waits");
            match place {
                Ok(node) => {
                    pod.node = Some(node);
                    pod.life = Life::Starting { since: now };
                    let claim = claim.and_then(|claim| self.claims.get_mut(&claim));
                    if let Some(claim) = claim.filter(|_| local) {
                        claim.home = Some(node);
                    }
                }
                Err(why) => {
                    if let Life::Pending { lack, .. } = &mut pod.life {
                        *lack = why;
                    }
                }
            }
        }
    }

    /// The node that takes a member's pod.
    fn place(&self, name: &str) -> Result<usize, Lack> {
        let Some(claim) = self.object(name).and_then(|object| self.claim_of(object)) else {
            return Err(Lack::Volume);
        };
        if claim.lost {
            return Err(Lack::Volume);
        }
        if claim.condemned {
            return Err(Lack::Other);
        }
        let open = |node: &&usize| self.nodes[**node].works() && !self.nodes[**node].cordoned;
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let open: Vec<usize> = all.iter().filter(open).copied().collect();
        let reach: Vec<usize> = match claim.home {
            Some(home) => open.iter().copied().filter(|node| *node == home).collect(),
            None => open.clone(),
        };
        if reach.is_empty() {
            return Err(if open.is_empty() {
                Lack::Other
            } else {
                Lack::Volume
            });
        }
        let held = |node: &usize| {
            let others = self.pods.iter().filter(|(other, _)| *other != name);
            // A new member keeps away from whoever stays; one that has run, from everybody.
            let mut there = others.filter(|(_, pod)| pod.node == Some(*node));
            there.any(|(other, _)| !self.leaves(other))
        };
        let mut free = reach.iter().copied().filter(|node| !held(node));
        match free.next() {
            Some(node) => Ok(node),
            // In the scheduler's words the other nodes have a "volume node affinity conflict".
            None if self.apart && reach.len() < open.len() => Err(Lack::Volume),
            None if self.apart => Err(Lack::Distance),
            None => Ok(reach[0]),
        }
    }

    fn leaves(&self, name: &str) -> bool {
        self.object(name).is_some_and(|object| object.deleting)
    }

    /// Whether one more pod that is ready may be evicted.
    pub(super) fn budget_allows(&self, name: &str) -> bool {
        let voters = self.raft.as_ref().map_or(0, |raft| raft.voters().count());
        let voters = match voters {
            0 | 1 => voters.max(self.wanted.replicas),
            some => some,
        };
        if voters < 2 || self.wanted.replicas == 0 {
            return true;
        }
        let ready = |pod: &&Pod| matches!(pod.life, Life::Running { ready: Some(_), .. });
        let votes = |name: &str| {
            let peer = self.raft.as_ref().and_then(|raft| raft.of(name));
            peer.is_some_and(|peer| !peer.learner)
        };
        // What does not vote is wanted on top.
        let pods = self.pods.iter().filter(|(name, _)| votes(name));
        let count = pods.filter(|(_, pod)| ready(pod)).count();
        let own = self.pods.get(name).is_some_and(|pod| ready(&pod));
        if !own {
            return count > voters / 2;
        }
        count > voters / 2 + 1
    }

    /// A pod is asked to end.
    pub(super) fn end_pod(&mut self, name: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name) {
            pod.ending = pod.ending.or(Some(now));
            if let Life::Running { ready, .. } = &mut pod.life {
                *ready = None;
            }
        }
        // What ends serves nobody from now on.
        let works = |pod: &Pod| pod.node.is_none_or(|node| self.nodes[node].works());
        if self.pods.get(name).is_some_and(works) {
            self.pods.remove(name);
        }
    }
}
