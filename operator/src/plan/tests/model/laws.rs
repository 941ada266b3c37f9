//! What must hold of every plan and of every step, whatever happens.

use super::kube::{Life, Pod};
use super::{Broken, Kept, Object, World};
use crate::plan::{
    Action, Cause, Entry, Lack, Member, Node, Observed, Plan, PodState, Volume, Wanted,
};

/// The shortest wait for the next learner after one that got nowhere.
const NEXT_LEARNER: i64 = 60;

fn is_away(member: &Member) -> bool {
    !member.healthy
}

impl World {
    /// Whether everything is as it is wanted.
    pub(super) fn is_settled(&self) -> bool {
        let count = self.wanted.replicas;
        if count == 0 {
            return self.pods.is_empty();
        }
        let good = |object: &Object| {
            let pod = self.pods.get(&object.name);
            let current =
                pod.is_some_and(|pod| pod.template == self.template.0 && pod.ending.is_none());
            let claim = self.claim_of(object);
            let volume = claim.is_some_and(|claim| !claim.small && !claim.condemned && !claim.lost);
            current && volume && !object.deleting && self.answers(&object.name)
        };
        let voters = self.raft.as_ref().map_or(0, |raft| raft.voters().count());
        let listed = self.raft.as_ref().map_or(0, |raft| raft.peers.len());
        // What a recovery has set aside is not of it.
        let in_force = || self.objects.iter().filter(|object| !self.is_aside(object));
        in_force().count() == count && (voters, listed) == (count, count) && in_force().all(good)
    }

    /// Whether a member with what is wanted now fails for a reason of its own.
    pub(super) fn fails_by_itself(&self) -> bool {
        self.objects.iter().any(|object| {
            let pod = self.pods.get(&object.name);
            let data = self.claim_of(object).and_then(|claim| claim.data.as_ref());
            // Another one is on the node of its volume.
            let no_room = |pod: &Pod| {
                matches!(
                    pod.life,
                    Life::Pending {
                        lack: Lack::Volume,
                        ..
                    }
                )
            };
            let own = object.starts_never || data.is_some_and(|data| data.damaged);
            let own = own || pod.is_some_and(no_room);
            own && pod.is_some_and(|pod| pod.template == self.template.0)
        })
    }

    /// Holds a plan to what was seen.
    pub(super) fn hold_plan(&mut self, seen: &Observed, wanted: &Wanted, plan: &Plan) -> Kept {
        let broken = |words: String| Err(Broken(format!("{words}: {plan:?}")));
        // Those that a restore has set aside stop together.
        let disruptive: Vec<&Action> = plan
            .actions
            .iter()
            .filter(|action| action.is_disruptive() && !is_of_aside(action, seen))
            .collect();
        if !seen.fresh {
            return match plan.actions.is_empty() {
                true => Ok(()),
                false => broken("an old view is acted upon".into()),
            };
        }
        if wanted.paused {
            return match plan.actions.is_empty() {
                true => Ok(()),
                false => broken("it is paused".into()),
            };
        }
        if wanted.replicas > 0 && disruptive.len() > 1 {
            return broken("more than one is disturbed".into());
        }
        if wanted.replicas > 0 && !seen.foreign.is_empty() && !disruptive.is_empty() {
            return broken("another cluster answers".into());
        }
        let silent = plan.actions.is_empty() && plan.progress.is_none() && plan.blocked.is_none();
        let rested = wanted.replicas == 0 && seen.members.iter().all(|one| one.pod.is_none());
        if silent && !rested && !as_wanted(seen, wanted) {
            return broken("nothing is done and nothing is said".into());
        }
        for action in &plan.actions {
            if let Some(words) = wrong(action, seen, wanted) {
                return broken(words);
            }
        }
        Ok(())
    }

    /// A member is given up for a reason that is one.
    pub(super) fn hold_loss(&self, object: &Object, cause: Cause) -> Kept {
        if !matches!(cause, Cause::Unhealthy | Cause::Stuck) {
            return Ok(());
        }
        let pod = self.pods.get(&object.name);
        let claim = self.claim_of(object);
        let damaged = claim
            .and_then(|claim| claim.data.as_ref())
            .is_some_and(|data| data.damaged);
        let own = damaged || object.starts_never;
        let bad = pod.is_some_and(|pod| {
            pod.template == self.template.0
                && !self.template.1
                && matches!(pod.life, Life::Broken { .. })
        });
        match bad && !own && claim.is_some_and(|claim| claim.data.is_some()) {
            true => Err(Broken(format!(
                "a bad change costs {} its volume",
                object.name
            ))),
            false => Ok(()),
        }
    }

    /// No more members are given up in an hour than that.
    pub(super) fn hold_limit(&self) -> Kept {
        let hour_ago = self.now - 3600;
        let recent = self.given_up.iter().filter(|time| **time > hour_ago);
        match recent.count() > self.wanted.replacements_per_hour {
            true => Err(Broken(
                "more members are given up in an hour than may be".into(),
            )),
            false => Ok(()),
        }
    }
}

/// Whether a step is about a member that is set aside.
fn is_of_aside(action: &Action, seen: &Observed) -> bool {
    match action {
        Action::StopPod { member } | Action::DeleteMember { member, .. } => {
            seen.aside.iter().any(|one| one.name == *member)
        }
        _ => false,
    }
}

/// Whether what is seen is what is wanted.
fn as_wanted(seen: &Observed, wanted: &Wanted) -> bool {
    let good = |member: &Member| {
        let pod = member.pod.as_ref();
        member.healthy && !member.deleting && pod.is_some_and(|pod| !pod.outdated)
    };
    let listed = seen
        .roster
        .as_ref()
        .map(|roster| (roster.voters().count(), roster.entries.len()));
    seen.members.len() == wanted.replicas
        && listed == Some((wanted.replicas, wanted.replicas))
        && seen.members.iter().all(good)
}

/// What is wrong with a step, by what was seen.
fn wrong(action: &Action, seen: &Observed, wanted: &Wanted) -> Option<String> {
    let of = |name: &String| seen.member(name);
    let roster = seen.roster.as_ref();
    match action {
        Action::CreateMember { seed: true } => seen
            .bootstrapped
            .then(|| "a founded cluster is founded".into()),
        Action::CreateMember { seed: false } => {
            let last = seen.learners_out.iter().max();
            let soon = last.is_some_and(|last| seen.now - last < NEXT_LEARNER);
            let listed =
                |member: &&Member| roster.is_some_and(|one| one.of(&member.name).is_some());
            let mut listed = seen.staying().filter(listed);
            if listed.any(is_away) {
                return Some("one joins a cluster in trouble".into());
            }
            soon.then(|| "the next learner comes at once".into())
        }
        Action::AddLearner { .. } => {
            let others = roster.is_some_and(|one| one.learners().next().is_some());
            others.then(|| "two learn".into())
        }
        Action::Promote { member, .. } => {
            let ready = of(member).is_some_and(|one| one.caught_up && one.healthy);
            (!ready).then(|| "one votes that has not caught up".into())
        }
        Action::StartPod { member } => {
            let empty = |one: &Member| one.initialized && one.volume != Volume::Present;
            of(member)
                .is_some_and(empty)
                .then(|| "one is started without its data".into())
        }
        Action::StopPod { member } | Action::RestartPod { member } => {
            let one = of(member)?;
            if one.initialized && one.volume == Volume::Terminating {
                return Some("a volume goes with the pod".into());
            }
            if wanted.replicas == 0 || !one.healthy {
                return None;
            }
            wrong_restart(one, seen, wanted)
        }
        Action::RemoveMember { id, member } => wrong_removal(*id, member.as_ref(), seen, wanted),
        Action::DeleteMember { member, cause } => wrong_loss(of(member)?, *cause, seen, wanted),
        Action::MoveLeader { .. } | Action::FinishRemoval { .. } | Action::ExpandVolume { .. } => {
            None
        }
    }
}

fn wrong_restart(one: &Member, seen: &Observed, wanted: &Wanted) -> Option<String> {
    let roster = seen.roster.as_ref()?;
    let voters = roster.voters().count();
    if !wanted.rolling {
        return Some("people restart what works".into());
    }
    let others = roster.voters().filter(|entry| entry.member != one.name);
    let settled = |name: &String| {
        let other = seen.member(name);
        other.is_some_and(|other| other.healthy && other.caught_up)
    };
    let mut others = others.map(|entry| &entry.member);
    if !others.all(settled) {
        return Some("one is restarted while another is away".into());
    }
    let leads = roster
        .of(&one.name)
        .is_some_and(|entry| roster.leader == Some(entry.id));
    (leads && voters > 1).then(|| "the leader is restarted".into())
}

fn wrong_removal(
    id: u64,
    member: Option<&String>,
    seen: &Observed,
    wanted: &Wanted,
) -> Option<String> {
    let roster = seen.roster.as_ref()?;
    let entry = roster.entries.iter().find(|entry| entry.id == id)?;
    if entry.learner {
        return None;
    }
    let healthy = |name: &str| seen.member(name).is_some_and(|one| one.healthy);
    let others: Vec<&Entry> = roster.voters().filter(|one| one.id != id).collect();
    let there = others.iter().filter(|one| healthy(&one.member)).count();
    let remain = others.len();
    if there <= remain / 2 {
        return Some("too few remain".into());
    }
    let works = member.is_some_and(|name| healthy(name));
    let stays = |name: &str| seen.member(name).is_some_and(|one| !one.deleting);
    let staying = roster.voters().filter(|one| stays(&one.member)).count();
    if !works || staying >= wanted.replicas {
        return None;
    }
    let for_room = seen.staying().any(|one| {
        let state = one.pod.as_ref().map(|pod| &pod.state);
        matches!(
            state,
            Some(PodState::Unplaced {
                lack: Lack::Distance,
                ..
            })
        )
    });
    (!for_room).then(|| "one that works goes before its replacement is there".into())
}

fn wrong_loss(one: &Member, cause: Cause, seen: &Observed, wanted: &Wanted) -> Option<String> {
    let roster = seen.roster.as_ref()?;
    let over = |since: i64, limit: std::time::Duration| {
        seen.now - since >= i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)
    };
    let voter = roster.of(&one.name).is_some_and(|entry| !entry.learner);
    let healthy = |name: &str| seen.member(name).is_some_and(|one| one.healthy);
    let there = roster.voters().filter(|one| healthy(&one.member)).count();
    match cause {
        Cause::NodeLost => {
            let long = match one.node {
                Node::Lost { since } => over(since, wanted.node_lost_after),
                Node::None | Node::Ready => false,
            };
            (one.healthy || !long).then(|| "its node was not away for long".into())
        }
        Cause::Unhealthy | Cause::Stuck => one.healthy.then(|| "it works".into()),
        Cause::Corrupt => {
            let decided = there > roster.voters().count() / 2;
            (!decided).then(|| "no majority says whose data is right".into())
        }
        Cause::ScaleDown if voter && one.healthy => {
            let mut others = roster.voters().filter(|other| other.member != one.name);
            let away = others.any(|other| !healthy(&other.member));
            away.then(|| "a working one goes while another is away".into())
        }
        Cause::RemovedElsewhere => {
            let unlisted = |one: &&Member| {
                let holds = one.votes && one.volume != Volume::None;
                one.listed_before && holds && roster.of(&one.name).is_none()
            };
            let unlisted = seen.staying().filter(unlisted).count();
            let voters = roster.voters().count();
            let few = voters < (voters + unlisted) / 2 + 1;
            few.then(|| "few say that most are gone".into())
        }
        _ => None,
    }
}
