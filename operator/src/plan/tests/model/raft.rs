//! Members: who is in the list, who leads, what is committed, and what each one's volume holds of it.

use super::kube::Life;
use super::{Broken, Kept, Object, World};

/// What one tick adds to the log.
const WRITES: u64 = 10;
/// How far one catches up in a tick.
const STEP: u64 = 150;

/// Who is in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: u64,
    pub member: String,
    pub learner: bool,
}

/// The cluster itself.
#[derive(Clone, Debug, Default)]
pub struct Raft {
    pub peers: Vec<Peer>,
    pub leader: Option<u64>,
    /// Everything up to here was acknowledged to somebody.
    pub committed: u64,
    /// The last id that was given.
    pub ids: u64,
    /// Whether somebody made one member a cluster of its own by hand: what the others hold may be what
    /// counts.
    pub forked: bool,
}

impl Raft {
    pub fn voters(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.learner)
    }

    pub fn of(&self, member: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.member == member)
    }

    pub fn needs(&self) -> usize {
        self.voters().count() / 2 + 1
    }
}

impl World {
    /// Whether a member's process runs and answers others.
    pub(super) fn runs(&self, name: &str) -> bool {
        let Some(pod) = self.pods.get(name) else {
            return false;
        };
        let machine = pod.node.is_some_and(|node| self.nodes[node].machine);
        machine && matches!(pod.life, Life::Running { hangs: false, .. })
    }

    /// What a member has applied, if it has a volume with data.
    pub(super) fn applied(&self, name: &str) -> Option<u64> {
        let claim = self.claim_of(self.object(name)?)?;
        claim.data.as_ref().map(|data| data.applied)
    }

    fn set_applied(&mut self, name: &str, applied: u64) {
        let Some(claim) = self.object(name).map(super::claim_name) else {
            return;
        };
        let claim = self.claims.get_mut(&claim);
        if let Some(data) = claim.and_then(|claim| claim.data.as_mut()) {
            data.applied = applied;
        }
    }

    pub(super) fn is_corrupt(&self, object: &Object) -> bool {
        let data = self.claim_of(object).and_then(|claim| claim.data.as_ref());
        data.is_some_and(|data| data.corrupt)
    }

    /// Voters that run.
    pub(super) fn voters_up(&self) -> Vec<String> {
        let voters = self.raft.iter().flat_map(Raft::voters);
        let up = voters.filter(|peer| self.runs(&peer.member));
        up.map(|peer| peer.member.clone()).collect()
    }

    /// Voters that serve: those whose data is right.
    fn serving(&self) -> usize {
        let up = self.voters_up();
        let right = |name: &&String| {
            let object = self.object(name);
            object.is_some_and(|object| !self.is_corrupt(object))
        };
        up.iter().filter(right).count()
    }

    /// Whether enough voters run for the cluster to go on.
    pub(super) fn has_quorum(&self) -> bool {
        let needs = self.raft.as_ref().map(Raft::needs);
        needs.is_some_and(|needs| self.voters_up().len() >= needs)
    }

    /// Whether enough of them serve.
    pub(super) fn serves(&self) -> bool {
        let needs = self.raft.as_ref().map(Raft::needs);
        needs.is_some_and(|needs| self.serving() >= needs)
    }

    /// Elections, replication, commits.
    pub(super) fn members_turn(&mut self) -> Kept {
        let up = self.voters_up();
        let quorum = self.has_quorum();
        let Some(raft) = self.raft.clone() else {
            return Ok(());
        };
        if !quorum {
            self.raft.as_mut().expect("it is there").leader = None;
            return Ok(());
        }
        let most = up.iter().filter_map(|name| self.applied(name)).max();
        let most = most.unwrap_or_default();
        if most < raft.committed && !raft.forked {
            let words = format!(
                "{up:?} decide without what was acknowledged: {most} of {}",
                raft.committed
            );
            return Err(Broken(words));
        }
        let leads = |peer: &&super::raft::Peer| up.contains(&peer.member);
        let still = raft.voters().filter(leads);
        let still = still.filter(|peer| Some(peer.id) == raft.leader);
        let mut still = still.filter(|peer| self.applied(&peer.member) >= Some(raft.committed));
        let next = still.next().or_else(|| {
            let able = raft.voters().filter(leads);
            able.max_by_key(|peer| (self.applied(&peer.member), u64::MAX - peer.id))
        });
        let leader = next.map(|peer| peer.id);
        self.raft.as_mut().expect("it is there").leader = leader;
        // Who lags takes a while, and the rest of the list holds a commit.
        for peer in &raft.peers {
            let stalls = peer.learner && self.learners_stall;
            if let Some(has) = self.applied(&peer.member)
                && self.runs(&peer.member)
                && !stalls
            {
                self.set_applied(&peer.member, has.saturating_add(STEP).min(most));
            }
        }
        let has_all = |name: &&String| self.applied(name).is_some_and(|has| has >= most);
        let current: Vec<String> = up.iter().filter(has_all).cloned().collect();
        if current.len() >= raft.needs() {
            for name in &current {
                self.set_applied(name, most + WRITES);
            }
            self.raft.as_mut().expect("it is there").committed = most + WRITES;
        }
        Ok(())
    }

    /// Whether a new list is agreed on: a majority of it runs and has everything.
    pub(super) fn agrees(&self, peers: &[Peer]) -> bool {
        let Some(raft) = &self.raft else {
            return false;
        };
        let voters: Vec<&Peer> = peers.iter().filter(|peer| !peer.learner).collect();
        // Who is a moment behind has it before the change is agreed on.
        let near = |peer: &&&Peer| {
            let has = self.applied(&peer.member);
            self.runs(&peer.member) && has.is_some_and(|has| has + STEP >= raft.committed)
        };
        let there = voters.iter().filter(near).count();
        !voters.is_empty() && there > voters.len() / 2 && self.has_quorum()
    }

    /// A new list that was agreed on is in force.
    pub(super) fn enact(&mut self, peers: Vec<Peer>) {
        let Some(raft) = &mut self.raft else { return };
        let committed = raft.committed;
        raft.leader = raft
            .leader
            .filter(|id| peers.iter().any(|peer| peer.id == *id));
        raft.peers.clone_from(&peers);
        for peer in peers {
            let has = self.applied(&peer.member).unwrap_or_default();
            if self.runs(&peer.member) && has < committed && has + STEP >= committed {
                self.set_applied(&peer.member, committed);
            }
        }
    }
}
