//! What the planner looks at. Times are seconds since 1970.

use std::time::Duration;

use super::Cause;

/// What was observed, all of it in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// When.
    pub now: i64,
    /// Whether everything was read, straight from the API server and by a linearizable read from
    /// the cluster, and not long ago.
    pub fresh: bool,
    /// Whether the cluster was founded: its ID is known.
    pub bootstrapped: bool,
    /// Whether the cluster's object is being deleted.
    pub deleting: bool,
    /// Members' objects, by number.
    pub members: Vec<Member>,
    /// The cluster's own list; none where no quorum answers.
    pub roster: Option<Roster>,
    /// Members replaced within the last hour.
    pub replacements: usize,
    /// When learners were taken out that got nowhere, since the last one that caught up.
    pub learners_out: Vec<i64>,
    /// Whether what every pod mounts is missing: one that does not start is not lost then.
    pub lacking: bool,
    /// Members whose address answers for another cluster, or, before this one's ID is known, all that
    /// answer where they disagree. Nothing that they said is in here.
    pub foreign: Vec<String>,
    /// Members' objects that name this cluster and are not its own. They are none of `members`.
    pub strangers: Vec<String>,
    /// Members that a restore has set aside. They are none of `members`.
    pub aside: Vec<Aside>,
    /// Whether those go, and why.
    pub aside_goes: Option<Cause>,
    /// Whether nobody is to run yet: a restore looks at what the volumes hold.
    pub held: bool,
}

/// A member that a restore has set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// The object's name.
    pub name: String,
    /// Whether it has a pod.
    pub has_pod: bool,
    /// Whether that is ending.
    pub ending: bool,
    /// Whether the node that it runs on is not ready, or gone.
    pub node_lost: bool,
    /// Whether its object is being deleted.
    pub deleting: bool,
}

impl Observed {
    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The objects of members that the list names, where they are not this cluster's own.
    pub fn listed_strangers<'a>(&'a self, roster: &'a Roster) -> impl Iterator<Item = &'a String> {
        let strangers = self.strangers.iter();
        strangers.filter(move |name| roster.of(name).is_some())
    }

    /// Members that are to stay.
    pub fn staying(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.deleting)
    }
}

/// The cluster's list of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Who is listed.
    pub entries: Vec<Entry>,
    /// Who leads.
    pub leader: Option<u64>,
}

impl Roster {
    /// Those that vote.
    pub fn voters(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.learner)
    }

    /// Those that do not vote yet.
    pub fn learners(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.learner)
    }

    /// Whether it names a member no more that it named before.
    #[must_use]
    pub fn dropped(&self, member: &Member) -> bool {
        member.listed_before && self.of(&member.name).is_none()
    }

    /// The entry of a member.
    #[must_use]
    pub fn of(&self, member: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.member == member)
    }
}

/// A member in the cluster's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: u64,
    /// The name of the object that its peer URL is made from; for a member of someone else's
    /// making, its peer URL.
    pub member: String,
    /// Whether its peer URL is one that this operator makes.
    pub ours: bool,
    /// Whether it does not vote yet.
    pub learner: bool,
}

/// A member's object and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The object's name.
    pub name: String,
    /// The number in it.
    pub number: u32,
    /// Whether it is to be taken out.
    pub deleting: bool,
    /// Whether the cluster has ever listed it.
    pub listed_before: bool,
    /// Whether its volume holds the member's data.
    pub initialized: bool,
    /// Whether a process may have run on its volume: it may have served then, whoever saw it.
    pub ran: bool,
    /// Whether it votes; where no list names it, whether it did when one named it last, and where that is not
    /// known, whether it has data.
    pub votes: bool,
    /// Its pod.
    pub pod: Option<Pod>,
    /// Since when its container runs, if it does.
    pub runs_since: Option<i64>,
    /// Its volume.
    pub volume: Volume,
    /// The node that it runs on, or ran on last.
    pub node: Node,
    /// Whether another member's pod is on its pod's node.
    pub shares_node: bool,
    /// Whether it answers and knows a leader.
    pub healthy: bool,
    /// Whether it has applied what the leader has, or nearly: a learner enough to be promoted, a voter
    /// enough to be relied on while another one is away.
    pub caught_up: bool,
    /// Whether its volume is smaller than wanted.
    pub volume_small: bool,
    /// Whether its data differs from the others': the alarm CORRUPT names it. It serves nobody, and is not
    /// healthy.
    pub corrupt: bool,
    /// Since when it has not been healthy.
    pub away_since: Option<i64>,
    /// A learner's: since when it has applied nothing more.
    pub stalled_since: Option<i64>,
}

impl Member {
    /// Whether it answers, and Services lead to it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.healthy && self.has_ready_pod()
    }

    /// Whether Kubernetes finds its pod ready.
    #[must_use]
    pub fn has_ready_pod(&self) -> bool {
        let pod = self.pod.as_ref();
        pod.is_some_and(|pod| pod.state.is_ready())
    }

    /// Whether its pod is other than wanted and serves nobody: restarting it takes nothing away, as
    /// long as its volume stays, or never held anything. One that hangs is among them, which only a change
    /// can help.
    #[must_use]
    pub fn is_stuck_on_the_old(&self) -> bool {
        let pod = self.pod.as_ref();
        let stuck = pod.is_some_and(|pod| pod.outdated && pod.state.is_down());
        let keeps = self.volume != Volume::Terminating || !self.initialized;
        stuck && !self.healthy && keeps
    }
}

/// A member's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// How it is.
    pub state: PodState,
    /// Whether it is other than wanted.
    pub outdated: bool,
    /// Whether it has ended for good and never starts again: whatever the template, another one is
    /// needed. Such a pod is outdated as well.
    pub spent: bool,
}

/// How a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It is being deleted.
    Terminating {
        /// Since when it should have ended.
        since: i64,
    },
    /// It waits for an image, a volume, or is starting.
    Starting {
        /// Since when.
        since: i64,
    },
    /// No node takes it.
    Unplaced {
        /// Since when.
        since: i64,
        /// Why.
        lack: Lack,
    },
    /// It fails to start, or has failed.
    Broken {
        /// Since when.
        since: i64,
        /// Whether it lacks memory, disk, an image or certificates: a new member would lack them as
        /// well.
        starved: bool,
    },
    /// Its container runs.
    Running {
        /// Since when it is ready.
        ready_since: Option<i64>,
    },
}

/// Why no node takes a pod, in the scheduler's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Its volume is where it cannot run, or is gone.
    Volume,
    /// It has to keep away from other pods.
    Distance,
    /// Memory, say, or a node that is selected.
    Other,
}

impl PodState {
    /// Whether Kubernetes finds it ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(
            self,
            Self::Running {
                ready_since: Some(_)
            }
        )
    }

    /// Whether it serves nobody (yet).
    #[must_use]
    pub fn is_down(&self) -> bool {
        match self {
            Self::Starting { .. } | Self::Unplaced { .. } | Self::Broken { .. } => true,
            Self::Running { ready_since } => ready_since.is_none(),
            Self::Terminating { .. } => false,
        }
    }
}

/// A member's volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volume {
    /// There is no claim.
    #[default]
    None,
    /// There is one.
    Present,
    /// It is being deleted.
    Terminating,
}

/// The node of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Node {
    /// None yet.
    #[default]
    None,
    /// It is ready.
    Ready,
    /// It is not ready, or gone.
    Lost {
        /// Since when.
        since: i64,
    },
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many members.
    pub replicas: usize,
    /// Whether nothing is to be changed.
    pub paused: bool,
    /// Whether outdated pods are restarted.
    pub rolling: bool,
    /// How long a member has to be ready before the next one is restarted.
    pub min_ready: Duration,
    /// Whether lost members are replaced.
    pub healing: bool,
    /// How long a member may fail to start.
    pub unhealthy_after: Duration,
    /// How long a member's node may be lost.
    pub node_lost_after: Duration,
    /// How long a member may make no headway otherwise.
    pub stuck_after: Duration,
    /// The most members replaced in an hour.
    pub replacements_per_hour: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            replicas: 3,
            paused: false,
            rolling: true,
            min_ready: Duration::ZERO,
            healing: true,
            unhealthy_after: Duration::from_secs(600),
            node_lost_after: Duration::from_secs(300),
            stuck_after: Duration::from_secs(1800),
            replacements_per_hour: 6,
        }
    }
}
