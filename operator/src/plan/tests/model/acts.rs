//! One step of a plan as `act` does it, with its preconditions, and what members and Kubernetes refuse.

use std::collections::BTreeMap;

use super::kube::{Claim, Life, Pod};
use super::raft::Peer;
use super::{Broken, Kept, Object, World, claim_name};
use crate::plan::{Action, Cause, Lack, Observed};

/// Pods as they were seen: their UIDs, and how far they were.
pub(super) type Sighted = BTreeMap<String, (u64, Life)>;

/// Beyond this a pod of a member that is out of the list is not waited for.
const FORCE_AFTER: i64 = 30;

impl World {
    /// Does it. Whether it was done, or refused.
    pub(super) fn act(
        &mut self,
        action: &Action,
        seen: &Observed,
        pods: &Sighted,
    ) -> Result<bool, Broken> {
        // That a quorum came together after the look, with one that it did not reach, it cannot know.
        let unheard = match action {
            Action::RestartPod { member } => {
                !self.object(member).is_some_and(|one| self.heard(one))
            }
            _ => false,
        };
        let served = self.serves() && (self.served || !unheard);
        let alone = self
            .raft
            .as_ref()
            .is_none_or(|raft| raft.voters().count() <= 1);
        let done = self.carry_out(action, seen, pods)?;
        self.tell(|| format!("{action:?} {}", if done { "done" } else { "refused" }));
        if done && action.is_disruptive() {
            self.steps.push(self.now);
        }
        // Who was to rest when that was decided rests.
        let rests = matches!(action, Action::StopPod { .. });
        if served && !self.serves() && !alone && !rests {
            return Err(Broken(format!("{action:?} cost the quorum")));
        }
        Ok(done)
    }

    fn carry_out(
        &mut self,
        action: &Action,
        seen: &Observed,
        pods: &Sighted,
    ) -> Result<bool, Broken> {
        let same = |world: &Self, name: &str| {
            let now = world.pods.get(name).map(|pod| pod.uid);
            now.is_some() && now == pods.get(name).map(|(uid, _)| *uid)
        };
        match action {
            Action::CreateMember { seed } => Ok(self.create(*seed)),
            Action::AddLearner { member } => Ok(self.add_learner(member)),
            Action::StartPod { member } => Ok(self.start_pod(member, seen)),
            Action::StopPod { member } => {
                if same(self, member) {
                    self.end_pod(member);
                }
                Ok(true)
            }
            Action::RestartPod { member } => Ok(match same(self, member) {
                true => self.restart(member, seen, pods),
                false => true,
            }),
            Action::Promote { id, member } => {
                // Written before it is done.
                if let Some(object) = self.object_mut(member) {
                    object.votes = Some(true);
                }
                Ok(self.promote(*id))
            }
            Action::MoveLeader { id, to } => {
                let able = self.runs(to) && self.has_quorum();
                if let Some(raft) = self.raft.as_mut().filter(|_| able) {
                    raft.leader = Some(*id);
                }
                Ok(able)
            }
            Action::RemoveMember { id, .. } => Ok(self.remove(*id)),
            Action::DeleteMember { member, cause } => self.give_up(member, *cause, seen),
            Action::FinishRemoval { member } => self.finish(member, pods),
            Action::ExpandVolume { member } => {
                let claim = self.object(member).map(claim_name);
                if let Some(claim) = claim.and_then(|claim| self.claims.get_mut(&claim)) {
                    claim.small = false;
                }
                Ok(true)
            }
        }
    }

    fn create(&mut self, seed: bool) -> bool {
        // The number is spent before it is used.
        let highest = self.objects.iter().map(|object| object.number).max();
        self.status.last_number = self.status.last_number.max(highest.unwrap_or(0)) + 1;
        if self.dice.one_in(50) {
            return false;
        }
        let number = self.status.last_number;
        let uid = self.uid();
        self.objects.push(Object {
            name: format!("demo-{number}"),
            number,
            uid,
            seed,
            ..Object::default()
        });
        true
    }

    fn add_learner(&mut self, member: &str) -> bool {
        let quorum = self.has_quorum();
        let Some(raft) = self.raft.as_mut().filter(|_| quorum) else {
            return false;
        };
        if raft.peers.iter().any(|peer| peer.learner) || raft.of(member).is_some() {
            return false;
        }
        raft.ids += 1;
        raft.peers.push(Peer {
            id: raft.ids,
            member: member.to_owned(),
            learner: true,
        });
        true
    }

    fn start_pod(&mut self, name: &str, seen: &Observed) -> bool {
        let Some(object) = self.object(name).cloned() else {
            return false;
        };
        let founds = !seen.bootstrapped && object.seed;
        if self.claim_of(&object).is_none() {
            if seen.member(name).is_some_and(|member| member.initialized) {
                return false;
            }
            self.claims.insert(claim_name(&object), Claim::default());
            self.object_mut(name).expect("it is there").begun = 0;
        }
        if self.pods.contains_key(name) {
            return true;
        }
        if founds {
            // Counted before it is made.
            self.object_mut(name).expect("it is there").begun += 1;
        }
        let pod = Pod {
            uid: self.uid(),
            made: self.now,
            node: None,
            template: self.template.0,
            founds,
            ran: false,
            life: Life::Pending {
                since: self.now,
                lack: Lack::Other,
            },
            ending: None,
        };
        self.pods.insert(name.to_owned(), pod);
        true
    }

    /// One that works is evicted, after the others have said again that they are there.
    fn restart(&mut self, name: &str, seen: &Observed, pods: &Sighted) -> bool {
        let works = seen.member(name).is_some_and(|member| member.healthy);
        if works {
            let voters: Vec<&str> = seen
                .roster
                .iter()
                .flat_map(|roster| roster.voters().map(|entry| entry.member.as_str()))
                .collect();
            let others = voters.iter().filter(|voter| **voter != name);
            let there = others.filter(|voter| {
                let object = self.object(voter);
                self.answers(voter) && object.is_some_and(|object| !object.unreachable)
            });
            let alone = voters == [name];
            let few = there.count() < voters.len() / 2 + 1;
            if !alone && (few || !self.budget_allows(name)) {
                return false;
            }
        }
        // Of one that served nobody the very pod that was seen, as it was.
        let was = pods.get(name).map(|(_, life)| *life);
        let now = self.pods.get(name).map(|pod| pod.life);
        if !works && now != was {
            return false;
        }
        // One that runs is asked once more.
        let heard = self.object(name).is_some_and(|object| self.heard(object));
        if !works && heard && self.answers(name) {
            return false;
        }
        self.end_pod(name);
        true
    }

    fn promote(&mut self, id: u64) -> bool {
        let Some(raft) = self.raft.clone() else {
            return false;
        };
        let mut peers = raft.peers.clone();
        let Some(peer) = peers.iter_mut().find(|peer| peer.id == id) else {
            return false;
        };
        peer.learner = false;
        // It is asked once more: with others away the new list may need it at once.
        let object = self.object(&peer.member);
        if !object.is_some_and(|object| self.heard(object) && !self.is_corrupt(object)) {
            return false;
        }
        let has = self.applied(&peer.member).unwrap_or_default();
        let agreed = has >= raft.committed / 10 * 9 && self.agrees(&peers);
        if agreed {
            self.enact(peers);
            self.status.learners_out.clear();
        }
        agreed
    }

    fn remove(&mut self, id: u64) -> bool {
        let Some(raft) = self.raft.clone() else {
            return false;
        };
        let Some(gone) = raft.peers.iter().find(|peer| peer.id == id) else {
            return true;
        };
        let rest = raft.peers.iter().filter(|peer| peer.id != id);
        let peers: Vec<Peer> = rest.cloned().collect();
        // A learner that goes changes no majority.
        let agreed = match gone.learner {
            true => self.has_quorum(),
            false => self.agrees(&peers),
        };
        if agreed {
            self.enact(peers);
        }
        agreed
    }

    fn give_up(&mut self, name: &str, cause: Cause, seen: &Observed) -> Result<bool, Broken> {
        let now = self.now;
        if cause.is_limited() {
            // Counted before it is done: an operator that dies forgets none.
            self.status.replacements.push(now);
        }
        let Some(object) = self.object(name).cloned() else {
            return Ok(true);
        };
        self.hold_loss(&object, cause)?;
        if cause.is_limited() && !object.deleting {
            self.given_up.push(now);
        }
        let object = self.object_mut(name).expect("it is there");
        object.keeps_volume |= cause == Cause::Corrupt;
        // That it goes was decided before somebody cut it off.
        let listed = seen
            .roster
            .as_ref()
            .is_some_and(|roster| roster.of(name).is_some());
        object.disowned &= !listed;
        object.deleting = true;
        if cause == Cause::NeverCaughtUp {
            self.status.learners_out.push(now);
        }
        self.hold_limit()?;
        Ok(true)
    }

    fn finish(&mut self, name: &str, pods: &Sighted) -> Result<bool, Broken> {
        let Some(object) = self.object(name).cloned() else {
            return Ok(true);
        };
        if let Some(pod) = self.pods.get(name).filter(|_| pods.contains_key(name)) {
            match pod.ending {
                None => self.end_pod(name),
                Some(since) if self.now - since > FORCE_AFTER => drop(self.pods.remove(name)),
                Some(_) => {}
            }
            return Ok(true);
        }
        if !object.keeps_volume {
            self.hold_volume(&object)?;
            let claim = claim_name(&object);
            match self.pods.contains_key(name) {
                true => {
                    if let Some(claim) = self.claims.get_mut(&claim) {
                        claim.condemned = true;
                    }
                }
                false => drop(self.claims.remove(&claim)),
            }
        }
        self.objects.retain(|one| one.uid != object.uid);
        Ok(true)
    }

    /// No volume goes that holds what no other one does.
    fn hold_volume(&self, object: &Object) -> Kept {
        if self.is_discarded(object) {
            return Ok(());
        }
        let Some(raft) = &self.raft else {
            return Ok(());
        };
        let whole = |claim: &Claim| {
            let data = claim.data.as_ref().filter(|_| !claim.lost);
            data.is_some_and(|data| {
                data.applied >= raft.committed && !data.damaged && !data.corrupt
            })
        };
        let own = claim_name(object);
        let goes = self.claims.get(&own).is_some_and(whole);
        let mut others = self.claims.iter().filter(|(name, _)| **name != own);
        // A cluster that was never seen to serve is its maker's to take back.
        let own_wish = object.by_hand && !self.status.founded;
        if goes && !own_wish && !others.any(|(_, claim)| whole(claim)) {
            return Err(Broken(format!("the only copy goes with {}", object.name)));
        }
        let by_itself = object.disowned && object.had_data && !object.by_hand;
        if by_itself && self.claims.get(&own).is_some_and(|claim| !claim.lost) {
            let words = format!("{} goes, whose data may be the cluster's", object.name);
            return Err(Broken(words));
        }
        Ok(())
    }
}
