//! What happens: losses, people, time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kube::{Claim, Life, Node};
use super::raft::Peer;
use super::{Object, World, claim_name};

impl World {
    fn anyone(&mut self) -> Option<String> {
        let names: Vec<String> = self
            .objects
            .iter()
            .map(|object| object.name.clone())
            .collect();
        self.dice.pick(&names)
    }

    /// Whether a member's volume can be had and used.
    fn is_whole(&self, object: &Object) -> bool {
        self.claim_of(object).is_some_and(|claim| {
            let data = claim.data.as_ref();
            let right = data.is_some_and(|data| !data.corrupt && !data.damaged);
            let reach = claim.home.is_none_or(|home| self.nodes[home].exists);
            let pod = self.pods.get(&object.name);
            let goes = pod.is_none_or(|pod| pod.ending.is_some());
            let stays = !claim.condemned || (self.answers(&object.name) && !goes);
            right && reach && stays && !claim.lost && !object.starts_never
        })
    }

    /// Whether a majority of the voters can be had without this one: more than that nobody can heal.
    fn can_lose(&self, name: &str) -> bool {
        let Some(raft) = &self.raft else {
            return true;
        };
        let whole = |member: &str| {
            let object = self.object(member);
            object.is_some_and(|object| {
                let there = self.applied(member) >= Some(raft.committed);
                member != name && there && !object.deleting && self.is_whole(object)
            })
        };
        raft.voters().filter(|peer| whole(&peer.member)).count() >= raft.needs()
    }

    /// Whether what is there can be healed without a person.
    pub(super) fn is_healable(&self) -> bool {
        let Some(raft) = &self.raft else {
            // Whether one that does not start again has ever served only a person knows.
            let kept = |object: &Object| {
                let stays = |claim: &Claim| {
                    let gone = claim.home.is_some_and(|home| !self.nodes[home].exists);
                    !claim.lost && !claim.condemned && (gone || object.starts_never)
                };
                object.begun > 0 && self.claim_of(object).is_some_and(stays)
            };
            return !self.objects.iter().any(kept);
        };
        let whole = |member: &str| {
            let object = self.object(member);
            object.is_some_and(|object| self.is_whole(object))
        };
        let whole = raft.voters().filter(|peer| whole(&peer.member));
        // Two that have to keep apart and whose volumes are on one node cannot both run.
        let home = |peer: &Peer| {
            let claim = self
                .object(&peer.member)
                .and_then(|object| self.claim_of(object));
            claim.and_then(|claim| claim.home).filter(|_| self.apart)
        };
        let is_on = |name: &str, node: usize| {
            let pod = self.pods.get(name);
            pod.is_some_and(|pod| pod.node == Some(node))
        };
        let whole = whole.filter(|peer| {
            home(peer).is_none_or(|node| {
                let mut others = raft.voters().filter(|other| other.member != peer.member);
                is_on(&peer.member, node) || !others.any(|other| is_on(&other.member, node))
            })
        });
        let mut homes = BTreeSet::new();
        let count = whole
            .filter(|peer| home(peer).is_none_or(|home| homes.insert(home)))
            .count();
        // Of members that somebody took out of the list as it may be made anew by hand only they know.
        let unlisted = |object: &&Object| {
            let aside = self.is_aside(object);
            object.listed_before && !object.deleting && !aside && raft.of(&object.name).is_none()
        };
        let unlisted = self.objects.iter().filter(unlisted).count();
        let voters = raft.voters().count();
        count >= raft.needs() && !raft.forked && (unlisted == 0 || voters > (voters + unlisted) / 2)
    }

    /// One of these, most of the time one that leaves a majority of the data.
    pub(super) fn misfortune(&mut self) {
        let careless = match self.recovers {
            true => self.dice.one_in(4),
            false => self.dice.one_in(60),
        };
        let Some(name) = self.anyone() else {
            return self.of_the_whole();
        };
        if !careless && !self.can_lose(&name) {
            return self.of_the_whole();
        }
        match self.dice.below(20) {
            0..=2 => self.lose_machine(&name),
            3 => self.lose_volume(&name),
            4 => self.condemn_volume(&name),
            5 => self.damage(&name),
            6 => self.differ(&name),
            7..=8 => self.hang(&name),
            9 => self.wedge(&name),
            10 => self.delete_member(&name),
            11 => self.remove_by_hand(&name),
            12 if careless => self.force_new(&name),
            13 => self.fail_pod(&name),
            14 => self.starve(&name),
            15..=16 => self.delete_pod(&name),
            _ => self.of_the_whole(),
        }
    }

    fn of_the_whole(&mut self) {
        match self.dice.below(16) {
            0 => self.scale(),
            1 => self.change(),
            2 => {
                self.template.1 = true;
                self.tell(|| "the template starts after all".into());
            }
            3 => self.wanted.paused = self.dice.one_in(3),
            4 => self.wanted.rolling = !self.dice.one_in(4),
            5 => self.wanted.healing = !self.dice.one_in(4),
            6 => self.learners_stall = self.dice.one_in(2),
            7 => self.lacking = self.dice.one_in(3),
            8 => self.foreign = self.anyone().filter(|_| self.dice_is_kind()),
            9 => self.outage = self.dice.below(10),
            10 => self.drain(),
            11..=12 => self.nodes_return(),
            13 => self.reach_again(),
            14 => {
                for claim in self.claims.values_mut() {
                    claim.small = true;
                }
            }
            _ => self.cut_off(),
        }
    }

    fn dice_is_kind(&self) -> bool {
        self.now % 3 == 0
    }

    fn lose_machine(&mut self, name: &str) {
        let Some(node) = self.pods.get(name).and_then(|pod| pod.node) else {
            return;
        };
        let kind = self.dice.below(4);
        self.tell(|| format!("node {node} of {name} is lost ({kind})"));
        let lost = &mut self.nodes[node];
        lost.kubelet = false;
        // Without its kubelet alone what runs there goes on.
        lost.machine &= kind == 0;
        lost.exists &= kind != 3;
    }

    fn lose_volume(&mut self, name: &str) {
        let Some(claim) = self.object(name).map(claim_name) else {
            return;
        };
        self.tell(|| format!("the volume of {name} is lost"));
        if let Some(claim) = self.claims.get_mut(&claim) {
            (claim.lost, claim.data) = (true, None);
            self.pods.remove(name);
        }
    }

    fn condemn_volume(&mut self, name: &str) {
        let Some(claim) = self.object(name).map(claim_name) else {
            return;
        };
        self.tell(|| format!("somebody deletes the claim of {name}"));
        if let Some(claim) = self.claims.get_mut(&claim) {
            claim.condemned = true;
        }
    }

    fn damage(&mut self, name: &str) {
        let Some(claim) = self.object(name).map(claim_name) else {
            return;
        };
        self.tell(|| format!("the data of {name} is damaged, and it ends"));
        let data = self
            .claims
            .get_mut(&claim)
            .and_then(|claim| claim.data.as_mut());
        if let Some(data) = data {
            data.damaged = true;
        }
        self.crash(name);
    }

    fn differ(&mut self, name: &str) {
        let Some(claim) = self.object(name).map(claim_name) else {
            return;
        };
        self.tell(|| format!("the data of {name} differs"));
        let data = self
            .claims
            .get_mut(&claim)
            .and_then(|claim| claim.data.as_mut());
        if let Some(data) = data {
            data.corrupt = true;
        }
    }

    fn crash(&mut self, name: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name)
            && matches!(pod.life, Life::Running { .. })
        {
            pod.life = Life::Starting { since: now };
        }
    }

    fn hang(&mut self, name: &str) {
        self.tell(|| format!("{name} hangs"));
        if let Some(pod) = self.pods.get_mut(name)
            && let Life::Running { ready, hangs, .. } = &mut pod.life
        {
            (*ready, *hangs) = (None, true);
        }
    }

    fn wedge(&mut self, name: &str) {
        self.tell(|| format!("{name} ends, and starts no more"));
        self.crash(name);
        if let Some(object) = self.object_mut(name) {
            object.starts_never = true;
        }
    }

    fn starve(&mut self, name: &str) {
        self.tell(|| format!("{name} lacks memory"));
        self.crash(name);
        if let Some(object) = self.object_mut(name) {
            object.starved = true;
        }
    }

    fn delete_member(&mut self, name: &str) {
        self.tell(|| format!("somebody deletes the member {name}"));
        if let Some(object) = self.object_mut(name) {
            (object.deleting, object.by_hand) = (true, true);
        }
    }

    fn remove_by_hand(&mut self, name: &str) {
        self.tell(|| format!("somebody takes {name} out of the list"));
        let Some(raft) = &self.raft else { return };
        let rest = raft.peers.iter().filter(|peer| peer.member != name);
        let peers: Vec<_> = rest.cloned().collect();
        if self.agrees(&peers) {
            self.enact(peers);
        }
    }

    fn force_new(&mut self, name: &str) {
        if !self.runs(name) {
            return;
        }
        self.tell(|| format!("somebody makes {name} a cluster of its own"));
        if let Some(raft) = &mut self.raft
            && raft.voters().count() > 1
        {
            raft.peers.retain(|peer| peer.member == name);
            raft.forked = true;
            // Whoever was going anyhow goes.
            let others = self.objects.iter_mut();
            let others = others.filter(|object| object.name != name && !object.deleting);
            others.for_each(|object| object.disowned = true);
        }
    }

    fn fail_pod(&mut self, name: &str) {
        self.tell(|| format!("the node throws {name} out"));
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(name)
            && pod.node.is_some()
        {
            pod.life = Life::Over { since: now };
        }
    }

    fn delete_pod(&mut self, name: &str) {
        self.tell(|| format!("somebody deletes the pod {name}"));
        self.end_pod(name);
    }

    /// Someone drains a node, as far as the budget lets them.
    fn drain(&mut self) {
        let node = self.dice.below(self.nodes.len());
        self.tell(|| format!("node {node} is drained"));
        self.nodes[node].cordoned = true;
        let there = self.pods.iter().filter(|(_, pod)| pod.node == Some(node));
        let there: Vec<String> = there.map(|(name, _)| name.clone()).collect();
        for name in there {
            if self.budget_allows(&name) {
                self.end_pod(&name);
            }
        }
    }

    fn nodes_return(&mut self) {
        self.tell(|| "nodes return".into());
        for node in self.nodes.iter_mut().filter(|node| node.exists) {
            (node.kubelet, node.machine, node.cordoned) = (true, true, false);
        }
    }

    fn cut_off(&mut self) {
        let Some(name) = self.anyone() else { return };
        self.tell(|| format!("the operator does not reach {name}"));
        if let Some(object) = self.object_mut(&name) {
            object.unreachable = true;
        }
    }

    fn reach_again(&mut self) {
        for object in &mut self.objects {
            (object.unreachable, object.starved) = (false, false);
        }
    }

    fn scale(&mut self) {
        let replicas = self.dice.pick(&[0, 1, 3, 3, 5]).expect("one of them");
        self.tell(|| format!("{replicas} members are wanted"));
        self.wanted.replicas = replicas;
    }

    fn change(&mut self) {
        let good = !self.dice.one_in(3);
        self.template = (self.template.0 + 1, good);
        self.tell(|| format!("another template, which starts: {good}"));
    }

    /// Nothing hinders any more: what is left is the operator's to put right.
    pub(super) fn calm(&mut self) {
        self.nodes_return();
        self.reach_again();
        // A container that hangs is started again by its probe.
        let since = self.now;
        for pod in self.pods.values_mut() {
            if matches!(pod.life, Life::Running { hangs: true, .. }) {
                pod.life = Life::Starting { since };
            }
        }
        let wanted = self.dice.pick(&[1, 3, 5]).expect("one of them");
        let changed = self.dice.one_in(2) || !self.template.1;
        let current = self.template.0 + u32::from(changed);
        // Where people restart members, they have: what has ended by itself is the operator's.
        if !self.wanted.rolling {
            let pods = self.pods.values_mut();
            let theirs = pods.filter(|pod| !matches!(pod.life, Life::Over { .. }));
            theirs.for_each(|pod| pod.template = current);
        }
        self.wanted = super::Wanted {
            replicas: wanted,
            paused: false,
            healing: true,
            min_ready: Duration::ZERO,
            ..self.wanted.clone()
        };
        self.template = (current, true);
        (self.learners_stall, self.lacking, self.outage) = (false, false, 0);
        self.foreign = None;
        if self.is_held() {
            self.tell(|| "the recovery is given up".into());
            self.recovery = None;
        }
        // Members that are being replaced need a place as well.
        let works = self.nodes.iter().filter(|node| node.exists).count();
        let most = wanted.max(self.objects.len()) + 1;
        let more = most.saturating_sub(works);
        self.nodes.extend(vec![Node::default(); more]);
        self.tell(|| format!("calm: {wanted} members are wanted"));
    }
}
