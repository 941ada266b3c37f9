//! A member that has lost its data, replaced step by step while other faults go on: each step is tried
//! until it is done, and whether it is done is read from the list of members.

use engram_proto::etcdserverpb::{
    Member as ListedMember, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest,
};

use super::ask;
use crate::client::Client;
use crate::cluster::Cluster;

enum Step {
    Remove,
    Add,
    Promote,
}

/// A replacement under way.
pub(super) struct Replacement {
    place: usize,
    /// The id of the member that lost its data.
    old: u64,
    step: Step,
    /// How often somebody was asked: they take turns.
    asked: usize,
}

impl Replacement {
    /// Ends the member at `place`; `None` if it does not say who it is.
    pub(super) fn begin(cluster: &mut Cluster, place: usize) -> Option<Self> {
        let old = cluster.status(place)?.header?.member_id;
        cluster.kill(place);
        Some(Self {
            place,
            old,
            step: Step::Remove,
            asked: 0,
        })
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Tries the next step once; whether all is done.
    pub(super) fn step(&mut self, cluster: &mut Cluster) -> bool {
        let awake = cluster.awake();
        let others: Vec<usize> = awake
            .into_iter()
            .filter(|place| *place != self.place)
            .collect();
        if others.is_empty() {
            return false;
        }
        self.asked += 1;
        let mut client = cluster.client(others[self.asked % others.len()]);
        let list = MemberListRequest { linearizable: true };
        let Some(listed) = ask(cluster, client.cluster.member_list(list)) else {
            return false;
        };
        let url = cluster.members[self.place].peer_url();
        let of_url = |member: &&ListedMember| member.peer_ur_ls.contains(&url);
        let new = listed
            .members
            .iter()
            .filter(|member| member.id != self.old)
            .find(of_url);
        match self.step {
            Step::Remove => self.remove(cluster, client, &listed.members),
            Step::Add => self.add(cluster, client, &listed.members, new),
            Step::Promote => return new.is_some_and(|new| is_promoted(cluster, client, new)),
        }
        false
    }

    fn remove(&mut self, cluster: &Cluster, mut client: Client, listed: &[ListedMember]) {
        if listed.iter().all(|member| member.id != self.old) {
            self.step = Step::Add;
            return;
        }
        let request = MemberRemoveRequest { id: self.old };
        ask(cluster, client.cluster.member_remove(request));
    }

    fn add(
        &mut self,
        cluster: &mut Cluster,
        mut client: Client,
        listed: &[ListedMember],
        new: Option<&ListedMember>,
    ) {
        if new.is_some() {
            cluster.wipe(self.place);
            cluster.join_existing(self.place, listed);
            self.step = Step::Promote;
            return;
        }
        let request = MemberAddRequest {
            peer_ur_ls: vec![cluster.members[self.place].peer_url()],
            is_learner: true,
        };
        ask(cluster, client.cluster.member_add(request));
    }
}

fn is_promoted(cluster: &Cluster, mut client: Client, new: &ListedMember) -> bool {
    if !new.is_learner {
        return true;
    }
    let request = MemberPromoteRequest { id: new.id };
    ask(cluster, client.cluster.member_promote(request));
    false
}
