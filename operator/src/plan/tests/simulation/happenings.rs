//! What happens to a cluster without the operator: losses, elections, time.

use crate::plan::{Entry, Member, Node, Pod, PodState, Roster, Volume};

use super::{Wedge, World, listed};

/// Seconds between two looks of the operator.
const TICK: i64 = 5;
/// Ticks that a pod takes to start, and a learner to catch up.
const START_TICKS: i64 = 2;

impl World {
    /// A pod goes, whoever deleted it.
    pub fn lose_pod(&mut self, name: &str) {
        // What was starting does not come up any more.
        self.started.retain(|(one, _)| one != name);
        if let Some(member) = self.member(name) {
            member.pod = None;
            member.healthy = false;
            member.caught_up = false;
        }
        self.elect();
    }

    /// A member was changed into one that hangs, and that was taken back.
    pub fn hang(&mut self, name: &str) {
        if let Some(member) = self.member(name) {
            member.healthy = false;
            if let Some(pod) = &mut member.pod {
                pod.state = PodState::Running { ready_since: None };
                pod.outdated = true;
            }
        }
        self.elect();
    }

    /// A member's pod comes up no more: the member has to be replaced.
    pub fn wedge(&mut self, name: &str, wedge: Wedge) {
        self.lose_pod(name);
        self.wedged.retain(|(one, _)| one != name);
        self.wedged.push((name.to_owned(), wedge));
    }

    /// Its data is found to differ.
    pub fn corrupt(&mut self, name: &str) {
        if let Some(member) = self.member(name) {
            (member.corrupt, member.healthy) = (true, false);
        }
        self.elect();
    }

    /// What is wanted changes: every pod is of before. One that is `bad` lets no pod start. What kept
    /// pods from coming up is changed as well.
    pub fn change_template(&mut self, bad: bool) {
        self.bad_template = bad;
        self.wedged.clear();
        let members = self.observed.members.iter_mut();
        members
            .filter_map(|member| member.pod.as_mut())
            .for_each(|pod| pod.outdated = true);
    }

    /// It is taken back: what ran before is as wanted, and what was started since is not.
    pub fn revert_template(&mut self) {
        self.bad_template = false;
        let members = self.observed.members.iter_mut();
        members
            .filter_map(|member| member.pod.as_mut())
            .for_each(|pod| pod.outdated = !pod.outdated);
    }

    /// A volume goes with its pod.
    pub fn lose_volume(&mut self, name: &str) {
        self.lose_pod(name);
        if let Some(member) = self.member(name) {
            member.volume = Volume::None;
        }
    }

    /// A node goes with what ran on it.
    pub fn lose_node(&mut self, name: &str) {
        let since = self.observed.now;
        if let Some(member) = self.member(name) {
            member.node = Node::Lost { since };
            member.healthy = false;
            if let Some(pod) = &mut member.pod {
                pod.state = PodState::Terminating { since };
            }
        }
        self.elect();
    }

    /// Pods that wait for a node get one, as long as there are any; those with a volume always have
    /// theirs. For a lost node there is another one.
    pub(super) fn place(&mut self) {
        let now = self.observed.now;
        let waits = |member: &Member| {
            let state = member.pod.as_ref().map(|pod| &pod.state);
            matches!(state, Some(PodState::Unplaced { .. }))
        };
        let members = &mut self.observed.members;
        let holds = |member: &&Member| {
            member.pod.is_some() && !waits(member) && !matches!(member.node, Node::Lost { .. })
        };
        let held = members.iter().filter(holds).count();
        let mut free = self
            .places
            .map_or(usize::MAX, |places| places.saturating_sub(held));
        let wedged = &self.wedged;
        let cordoned = |name: &str| {
            wedged
                .iter()
                .any(|(one, wedge)| one == name && *wedge == Wedge::Cordoned)
        };
        for member in members.iter_mut().filter(|member| waits(member)) {
            if (!member.initialized && free == 0) || cordoned(&member.name) {
                continue;
            }
            free = free.saturating_sub(1);
            self.started.push((member.name.clone(), now));
            if let Some(pod) = &mut member.pod {
                pod.state = PodState::Starting { since: now };
            }
        }
    }

    fn elect(&mut self) {
        let observed = &self.observed;
        let Some(roster) = &observed.roster else {
            return;
        };
        let healthy = |entry: &&Entry| observed.member(&entry.member).is_some_and(|m| m.healthy);
        let leads = roster
            .voters()
            .filter(healthy)
            .find(|entry| roster.leader == Some(entry.id));
        let next = leads
            .or_else(|| roster.voters().find(healthy))
            .map(|entry| entry.id);
        self.roster().leader = next;
    }

    /// Time passes: pods come up, learners catch up.
    pub(super) fn pass(&mut self) {
        self.observed.now += TICK;
        let now = self.observed.now;
        let due: Vec<String> = self
            .started
            .extract_if(.., |(_, since)| now - *since >= TICK * START_TICKS)
            .map(|(name, _)| name)
            .collect();
        for name in due {
            self.come_up(&name);
        }
        // A claim that is being deleted goes once no pod uses it.
        let unused =
            |member: &&mut Member| member.pod.is_none() && member.volume == Volume::Terminating;
        for member in self.observed.members.iter_mut().filter(unused) {
            member.volume = Volume::None;
        }
        let stall = self.learners_stall;
        let learners: Vec<String> = self
            .observed
            .roster
            .iter()
            .flat_map(Roster::learners)
            .map(|entry| entry.member.clone())
            .collect();
        for member in &mut self.observed.members {
            let learns = learners.contains(&member.name);
            member.caught_up = member.healthy && !(learns && stall);
            let away = member.away_since.unwrap_or(now);
            member.away_since = (!member.healthy).then_some(away);
            let stalled = member.stalled_since.unwrap_or(now);
            member.stalled_since = (learns && !member.caught_up).then_some(stalled);
        }
        self.place();
        self.elect();
    }

    fn come_up(&mut self, name: &str) {
        let now = self.observed.now;
        let founded = self.observed.bootstrapped;
        let bad = self.bad_template;
        let wedge = self.wedge_of(name);
        let Some(member) = self.member(name) else {
            return;
        };
        if matches!(member.node, Node::Lost { .. }) || member.pod.is_none() {
            return;
        }
        let stays = match wedge {
            Some(Wedge::Starting | Wedge::Cordoned) => return,
            Some(Wedge::Hanging) => Some(PodState::Running { ready_since: None }),
            Some(Wedge::Failing) => Some(PodState::Broken {
                since: now,
                starved: false,
            }),
            None => None,
        };
        if let Some(state) = stays {
            member.pod = Some(Pod {
                state,
                outdated: false,
                spent: false,
            });
            return;
        }
        if bad {
            member.pod = Some(Pod {
                state: PodState::Broken {
                    since: now,
                    starved: false,
                },
                outdated: false,
                spent: false,
            });
            return;
        }
        member.pod = Some(Pod {
            state: PodState::Running {
                ready_since: Some(now),
            },
            outdated: false,
            spent: false,
        });
        member.healthy = !member.corrupt;
        member.caught_up = true;
        member.initialized = true;
        member.listed_before = true;
        member.node = Node::Ready;
        if !founded {
            let id = self.next_id;
            self.next_id += 1;
            self.observed.bootstrapped = true;
            self.observed.roster = Some(Roster {
                entries: vec![listed(name, id, false)],
                leader: Some(id),
            });
        }
    }
}
