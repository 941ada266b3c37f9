//! A quorum that is lost, and that a person has recovered from one of the volumes: members are stopped, their volumes
//! looked at, one goes on alone, and the others are kept aside until somebody has decided.

use std::collections::BTreeMap;

use super::{Broken, Kept, Object, World, claim_name};
use crate::plan::{Aside, Cause, Plan};

/// What was read of the volumes: how far each one's log goes.
type Look = BTreeMap<String, u64>;

/// How far it is.
#[derive(Clone, Debug)]
pub(super) enum Recovery {
    /// Nobody runs, and it is looked whether the volumes hold what was confirmed.
    Held { confirmed: Look },
    /// This one goes on, and who joins it later than the last of these.
    Alone { survivor: String, last: u32 },
    /// The others are to go.
    Decided { survivor: String, last: u32 },
}

impl Recovery {
    /// Whether a member is set aside.
    fn sets_aside(&self, object: &Object) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Alone { survivor, last } | Self::Decided { survivor, last } => {
                object.number <= *last && object.name != *survivor
            }
        }
    }
}

impl World {
    pub(super) fn is_aside(&self, object: &Object) -> bool {
        let recovery = self.recovery.as_ref();
        recovery.is_some_and(|recovery| recovery.sets_aside(object))
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.recovery, Some(Recovery::Held { .. }))
    }

    /// What of it decides how a plan has to be: who is aside, and whether they run.
    pub(super) fn recovery_form(&self) -> String {
        format!("{:?} {:?}", self.recovery, self.asides())
    }

    /// Members that are set aside, as the planner sees them.
    pub(super) fn asides(&self) -> Vec<Aside> {
        let aside = self.objects.iter().filter(|object| self.is_aside(object));
        let view = |object: &Object| {
            let pod = self.pods.get(&object.name);
            let node = pod.and_then(|pod| pod.node);
            Aside {
                name: object.name.clone(),
                has_pod: pod.is_some(),
                ending: pod.is_some_and(|pod| pod.ending.is_some()),
                deleting: object.deleting,
                node_lost: node.is_some_and(|node| self.nodes[node].lost_since.is_some()),
            }
        };
        aside.map(view).collect()
    }

    pub(super) fn aside_goes(&self) -> Option<Cause> {
        let decided = matches!(self.recovery, Some(Recovery::Decided { .. }));
        decided.then_some(Cause::Discarded)
    }

    /// What can be read of the volumes.
    fn look(&self) -> Look {
        let read = |object: &Object| {
            let data = self.claim_of(object)?.data.as_ref()?;
            (!data.damaged).then(|| (object.name.clone(), data.applied))
        };
        self.objects.iter().filter_map(read).collect()
    }

    /// What a person does about a cluster that does not serve, or about a recovery.
    pub(super) fn recover_by_hand(&mut self) {
        let aside = self.objects.iter().any(|object| self.is_aside(object));
        match &self.recovery {
            None => self.ask_for_recovery(),
            Some(Recovery::Held { .. }) if self.dice.one_in(8) => {
                self.tell(|| "the recovery is given up".into());
                self.recovery = None;
            }
            Some(Recovery::Alone { survivor, last }) if self.is_as_wanted() => {
                let (survivor, last) = (survivor.clone(), *last);
                self.tell(|| "the recovery is accepted".into());
                self.recovery = Some(Recovery::Decided { survivor, last });
            }
            Some(Recovery::Decided { .. }) if !aside => self.recovery = None,
            Some(_) => {}
        }
    }

    fn ask_for_recovery(&mut self) {
        let sound = |object: &Object| {
            let data = self.claim_of(object).and_then(|claim| claim.data.as_ref());
            !object.deleting && data.is_none_or(|data| !data.corrupt)
        };
        let founded = self.status.founded && self.raft.as_ref().is_some_and(|raft| !raft.forked);
        let ready = founded && !self.wanted.paused && self.wanted.replicas > 0;
        let confirmed = self.look();
        if !ready || self.serves() || !self.objects.iter().all(sound) || confirmed.is_empty() {
            return;
        }
        self.tell(|| format!("a recovery is asked for: {confirmed:?}"));
        self.recovery = Some(Recovery::Held { confirmed });
    }

    /// What follows a pass: once nobody runs the volumes are looked at, and one goes on, or the members are let start
    /// again.
    pub(super) fn go_on(&mut self) -> Kept {
        let Some(Recovery::Held { confirmed }) = &self.recovery else {
            return Ok(());
        };
        if !self.pods.is_empty() {
            return Ok(());
        }
        let found = self.look();
        if found != *confirmed {
            self.tell(|| format!("the volumes hold something else: {found:?}"));
            self.recovery = None;
            return Ok(());
        }
        let furthest = found.iter().max_by_key(|(_, applied)| **applied);
        let (survivor, applied) = furthest.expect("one was read");
        let (survivor, applied) = (survivor.clone(), *applied);
        self.tell(|| format!("{survivor} goes on alone"));
        let raft = self.raft.as_mut().expect("it was founded");
        let voters = raft.voters().count();
        let read = raft
            .voters()
            .filter(|peer| found.contains_key(&peer.member));
        // A majority of them holds all that was acknowledged.
        if read.count() > voters / 2 && applied < raft.committed {
            let words = format!("{survivor} has {applied} of {}", raft.committed);
            return Err(Broken(words));
        }
        raft.committed = applied;
        raft.peers.retain(|peer| peer.member == survivor);
        raft.peers.iter_mut().for_each(|peer| peer.learner = false);
        if raft.peers.is_empty() {
            raft.ids += 1;
            let (id, member) = (raft.ids, survivor.clone());
            let learner = false;
            raft.peers.push(super::raft::Peer {
                id,
                member,
                learner,
            });
        }
        raft.leader = None;
        let last = self.status.last_number;
        self.recovery = Some(Recovery::Alone { survivor, last });
        Ok(())
    }

    /// Holds a plan to what is set aside.
    pub(super) fn hold_aside(&self, plan: &Plan, replicas: usize) -> Kept {
        use crate::plan::Action::{DeleteMember, FinishRemoval, StopPod};
        let broken = |words: &str| Err(Broken(format!("{words}: {plan:?}")));
        let aside = self.asides();
        let is = |name: &String| aside.iter().any(|one| one.name == *name);
        let goes = |action: &crate::plan::Action| match action {
            DeleteMember { member, .. } | FinishRemoval { member } => is(member),
            _ => false,
        };
        if self.aside_goes().is_none() && plan.actions.iter().any(goes) {
            return broken("what is kept goes before anybody has decided");
        }
        if aside.iter().any(|one| one.has_pod) {
            let stops = plan.actions.iter();
            let mut others = stops.filter(|one| !matches!(one, StopPod { member } if is(member)));
            let waits = aside.iter().filter(|one| one.has_pod && !one.ending);
            return match others.next().is_some() || plan.actions.len() < waits.count() {
                true => broken("two sets of members run beside each other"),
                false => Ok(()),
            };
        }
        if self.is_held() && replicas > 0 && (!plan.actions.is_empty() || plan.blocked.is_some()) {
            return broken("members that are held are taken for something else");
        }
        if self.aside_goes().is_some() && !aside.is_empty() && !plan.actions.iter().any(goes) {
            return broken("what was decided to go stays");
        }
        Ok(())
    }

    /// Whether the members in force are as they are wanted.
    pub(super) fn is_as_wanted(&self) -> bool {
        let in_force = self.objects.iter().filter(|object| !self.is_aside(object));
        let good = |object: &Object| !object.deleting && self.answers(&object.name);
        let names: Vec<&Object> = in_force.collect();
        names.len() == self.wanted.replicas && names.into_iter().all(good)
    }

    /// Whether a volume is one that somebody has decided goes.
    pub(super) fn is_discarded(&self, object: &Object) -> bool {
        self.aside_goes().is_some()
            && self.is_aside(object)
            && self.claims.contains_key(&claim_name(object))
    }
}
