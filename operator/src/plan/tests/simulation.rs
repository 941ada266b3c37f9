//! A cluster that does what the planner says, and to which things happen.

mod happenings;

use std::time::Duration;

use crate::plan::{
    Action, Cause, Entry, Lack, Member, Node, Observed, Pod, PodState, Roster, Volume, Wanted, plan,
};

/// A cluster, its Kubernetes, and what its user wants.
#[derive(Clone, Debug)]
pub struct World {
    pub observed: Observed,
    pub wanted: Wanted,
    pub next_id: u64,
    pub next_number: u32,
    /// How many pods find a node.
    pub places: Option<usize>,
    /// Why no more do.
    pub lack: Lack,
    /// When each pod was started, by member.
    started: Vec<(String, i64)>,
    pub leader_moves: usize,
    /// Whether no pod that is started comes up.
    pub bad_template: bool,
    /// Members whose pods do not come up, whatever the template, and the state in which they stay.
    pub wedged: Vec<(String, Wedge)>,
    /// Whether learners apply nothing.
    pub learners_stall: bool,
}

/// A state in which a member's pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wedge {
    /// Its volume cannot be mounted, say.
    Starting,
    /// Its volume is on a node that takes no pods.
    Cordoned,
    /// It runs and never answers.
    Hanging,
    /// Its container fails.
    Failing,
}

impl World {
    /// `count` members that are well, the first one leading.
    pub fn of(count: u32, replicas: usize) -> Self {
        let members: Vec<Member> = (1..=count).map(well).collect();
        let entry = |member: &Member| listed(&member.name, u64::from(member.number), false);
        let entries = members.iter().map(entry).collect();
        let observed = Observed {
            now: 1000,
            fresh: true,
            bootstrapped: count > 0,
            members,
            roster: (count > 0).then_some(Roster {
                entries,
                leader: Some(1),
            }),
            ..Observed::default()
        };
        let wanted = Wanted {
            replicas,
            node_lost_after: Duration::from_secs(30),
            unhealthy_after: Duration::from_secs(60),
            stuck_after: Duration::from_secs(90),
            replacements_per_hour: 1000,
            ..Wanted::default()
        };
        let next = u64::from(count) + 1;
        Self {
            observed,
            wanted,
            next_id: next,
            next_number: count + 1,
            places: None,
            lack: Lack::Distance,
            started: Vec::new(),
            leader_moves: 0,
            bad_template: false,
            wedged: Vec::new(),
            learners_stall: false,
        }
    }

    pub fn member(&mut self, name: &str) -> Option<&mut Member> {
        self.observed
            .members
            .iter_mut()
            .find(|member| member.name == name)
    }

    pub(super) fn wedge_of(&self, name: &str) -> Option<Wedge> {
        let mut wedged = self.wedged.iter();
        wedged.find(|(one, _)| one == name).map(|(_, wedge)| *wedge)
    }

    fn roster(&mut self) -> &mut Roster {
        self.observed.roster.get_or_insert_default()
    }

    pub fn voters(&self) -> usize {
        self.observed
            .roster
            .as_ref()
            .map_or(0, |roster| roster.voters().count())
    }

    /// Voters that answer: their pod runs.
    pub fn healthy_voters(&self) -> usize {
        let Some(roster) = &self.observed.roster else {
            return 0;
        };
        let healthy = |name: &str| {
            self.observed
                .member(name)
                .is_some_and(|member| member.healthy)
        };
        roster
            .voters()
            .filter(|entry| healthy(&entry.member))
            .count()
    }

    pub fn has_quorum(&self) -> bool {
        self.healthy_voters() > self.voters() / 2
    }

    /// What the operator sees: the list only where a quorum answers.
    pub fn view(&self) -> Observed {
        let mut view = self.observed.clone();
        let roster = view.roster.take();
        let of = |name: &str| roster.as_ref().and_then(|roster| roster.of(name)).cloned();
        for member in &mut view.members {
            let entry = of(&member.name);
            member.votes = entry.map_or(member.listed_before, |entry| !entry.learner);
        }
        view.roster = roster.filter(|_| self.has_quorum());
        view
    }

    /// One look, its steps, and time.
    pub fn tick(&mut self) -> Vec<Action> {
        let steps = plan(&self.view(), &self.wanted).actions;
        let disruptive = steps.iter().filter(|action| action.is_disruptive()).count();
        assert!(
            disruptive <= 1 || self.wanted.replicas == 0 || self.observed.deleting,
            "{steps:?}"
        );
        for action in &steps {
            self.others_keep_up(action);
            let had_quorum = self.has_quorum();
            let alone = self.voters() <= 1;
            self.apply(action);
            let rests = self.wanted.replicas == 0 || self.observed.deleting;
            let kept = self.has_quorum() || !had_quorum || alone || rests;
            assert!(kept, "{action:?} lost the quorum: {:#?}", self.observed);
        }
        self.pass();
        steps
    }

    /// Nobody who works is restarted while another voter is behind.
    fn others_keep_up(&self, action: &Action) {
        let Action::RestartPod { member } = action else {
            return;
        };
        let works = self.observed.member(member).is_some_and(|one| one.healthy);
        let roster = self.observed.roster.iter();
        let mut others = roster.flat_map(|roster| roster.voters().map(|entry| &entry.member));
        let behind = others.find(|other| {
            let other_member = self.observed.member(other);
            *other != member && other_member.is_some_and(|one| !one.caught_up)
        });
        assert!(
            !works || behind.is_none(),
            "{member} restarts while {behind:?} is behind"
        );
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::CreateMember { seed } => self.create(*seed),
            Action::AddLearner { member } => {
                let id = self.next_id;
                self.next_id += 1;
                self.roster().entries.push(listed(member, id, true));
                self.member(member).expect("it exists").listed_before = true;
            }
            Action::StartPod { member } => self.start(member),
            Action::StopPod { member } | Action::RestartPod { member } => self.lose_pod(member),
            Action::Promote { id, .. } => {
                let entry = self
                    .roster()
                    .entries
                    .iter_mut()
                    .find(|entry| entry.id == *id);
                entry.expect("it is listed").learner = false;
                self.observed.learners_out.clear();
            }
            Action::MoveLeader { id, .. } => {
                self.leader_moves += 1;
                self.roster().leader = Some(*id);
            }
            Action::RemoveMember { id, .. } => {
                let roster = self.roster();
                roster.entries.retain(|entry| entry.id != *id);
                roster.leader = roster.leader.filter(|leader| leader != id);
            }
            Action::DeleteMember { member, cause } => {
                let alone = self.voters() <= 1 && self.observed.members.len() <= 1;
                let rests = self.wanted.replicas == 0 || self.observed.deleting;
                assert!(!alone || rests, "the only copy goes ({cause:?})");
                self.member(member).expect("it exists").deleting = true;
                if *cause == Cause::NeverCaughtUp {
                    self.observed.learners_out.push(self.observed.now);
                }
            }
            Action::FinishRemoval { member } => {
                self.observed.members.retain(|one| one.name != *member);
            }
            Action::ExpandVolume { member } => {
                self.member(member).expect("it exists").volume_small = false;
            }
        }
    }

    fn create(&mut self, seed: bool) {
        let mut member = well(self.next_number);
        self.next_number += 1;
        member = Member {
            pod: None,
            healthy: false,
            initialized: false,
            listed_before: false,
            volume: Volume::None,
            node: Node::None,
            ..member
        };
        if seed {
            assert!(!self.observed.bootstrapped, "a second cluster is founded");
        }
        self.observed.members.push(member);
    }

    fn start(&mut self, name: &str) {
        let now = self.observed.now;
        let lack = match self.wedge_of(name) {
            Some(Wedge::Cordoned) => Lack::Volume,
            _ => self.lack,
        };
        let member = self.member(name).expect("it exists");
        assert!(member.pod.is_none(), "{name} has a pod");
        assert!(
            !member.initialized || member.volume == Volume::Present,
            "{name} has lost its data"
        );
        member.volume = Volume::Present;
        member.pod = Some(Pod {
            state: PodState::Unplaced { since: now, lack },
            outdated: false,
            spent: false,
        });
        self.place();
    }

    /// Whether everything is as it is wanted.
    pub fn is_settled(&self) -> bool {
        let members = &self.observed.members;
        let good = |member: &Member| {
            member.healthy
                && member.caught_up
                && !member.deleting
                && member.pod.as_ref().is_some_and(|pod| !pod.outdated)
        };
        members.len() == self.wanted.replicas
            && self.voters() == self.wanted.replicas
            && members.iter().all(good)
            && plan(&self.view(), &self.wanted).actions.is_empty()
    }

    /// Runs until everything is as wanted.
    pub fn settle(&mut self) {
        for _ in 0..1500 {
            if self.is_settled() {
                return;
            }
            self.tick();
        }
        panic!(
            "it does not settle: {:#?}\n{:#?}",
            self,
            plan(&self.view(), &self.wanted)
        );
    }
}

fn well(number: u32) -> Member {
    Member {
        name: format!("demo-{number}"),
        number,
        listed_before: true,
        initialized: true,
        pod: Some(Pod {
            state: PodState::Running {
                ready_since: Some(0),
            },
            outdated: false,
            spent: false,
        }),
        volume: Volume::Present,
        node: Node::Ready,
        healthy: true,
        caught_up: true,
        ..Member::default()
    }
}

fn listed(name: &str, id: u64, learner: bool) -> Entry {
    Entry {
        id,
        member: name.to_owned(),
        ours: true,
        learner,
    }
}
