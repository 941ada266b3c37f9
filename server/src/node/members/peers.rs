//! Calls to other members: whom to call is in the member table, how is the peer room's matter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::metrics::Metrics;
use crate::node::drift;
use crate::peer::message::{ChangeMembersRequest, HashKvResponse, LeaseTimeToLiveResponse, Member};
use crate::peer::{CallError, Client, Clients, Seen};
use crate::store::Store;
use crate::types::{LeaseId, MemberId, Revision};

/// The way to other members. Clones share the connections, which live on the Raft thread: call from
/// there (see [`crate::node::door::Door`]).
#[derive(Clone)]
pub struct PeerCalls {
    clients: Clients,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl PeerCalls {
    /// Calls over `clients` to the members that `store` knows.
    pub fn new(clients: Clients, store: Arc<Store>, metrics: Arc<Metrics>) -> PeerCalls {
        PeerCalls {
            clients,
            store,
            metrics,
        }
    }

    fn member(&self, id: MemberId) -> Result<Client, CallError> {
        let cluster = self.store.cluster();
        let member = cluster.members.get(id);
        let unknown = || CallError::Unreachable(format!("member {id} is not known here"));
        let member = member.ok_or_else(unknown)?;
        Ok(self.clients.member(id, &member.peer_urls))
    }

    /// Who the members are, this one included.
    pub fn members(&self) -> Vec<MemberId> {
        let cluster = self.store.cluster();
        cluster.members.iter().map(|member| member.id).collect()
    }

    /// Lets the connections of members go that were removed.
    pub fn forget_removed(&self) {
        let removed: Vec<MemberId> = self.store.cluster().members.removed().collect();
        self.clients.keep(|id| !removed.contains(&id));
    }

    /// Tells where the other members are reached from now on.
    pub fn tell_addresses(&self, addresses: Vec<(MemberId, Vec<String>)>) {
        for (id, urls) in addresses {
            self.clients.tell_urls(id, urls);
        }
    }

    /// Since when another member is in touch without a break; none where it is not.
    pub fn active_since(&self, id: MemberId) -> Option<Instant> {
        self.clients.active_since(id)
    }

    /// Each of the other members: whether it is in touch, and how often it was lost.
    pub fn activity(&self, own: MemberId) -> Vec<(MemberId, Seen)> {
        let others = self.members().into_iter().filter(|id| *id != own);
        others.map(|id| (id, self.clients.activity(id))).collect()
    }

    /// Asks the others that `whom` names who the members are: for their refusal, as a member that was
    /// removed while nobody could tell it hears of it so (the directory is told); for them to hear
    /// where this member is reached; and to know who is in touch, and whose clock is far away.
    pub async fn ask_standing(
        &self,
        own: MemberId,
        limit: Duration,
        whom: impl Fn(MemberId) -> bool,
    ) {
        let others = self.members().into_iter();
        let others: Vec<MemberId> = others.filter(|id| *id != own && whom(*id)).collect();
        let ask = async |other| {
            let Ok(client) = self.member(other) else {
                return;
            };
            let asked = Instant::now();
            // Who the members are is of no interest, and neither that it cannot be reached.
            if let Ok(answer) = client.members(limit).await {
                let took = asked.elapsed();
                drift::tell(other, answer.unix_ms, took);
                let round_trip = self.metrics.network.round_trip(other);
                round_trip.observe(took.as_secs_f64());
            }
        };
        futures_util::future::join_all(others.into_iter().map(ask)).await;
    }

    /// The latest rules by which another member says that it can apply a batch.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn apply_version(&self, id: MemberId, limit: Duration) -> Result<u32, CallError> {
        let answer = self.member(id)?.members(limit).await?;
        Ok(answer.apply_version)
    }

    /// Hands a batch to the leader; returns once it is applied there.
    ///
    /// # Errors
    /// See [`CallError`]; only after `Unreachable`, `Refused` and `Declined` (but for a timeout) is
    /// it known not to have happened.
    pub async fn propose(
        &self,
        leader: MemberId,
        batch: Bytes,
        limit: Duration,
    ) -> Result<(), CallError> {
        self.member(leader)?.propose(batch, limit).await
    }

    /// The index that a linearizable read must wait for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn read_index(&self, leader: MemberId, limit: Duration) -> Result<u64, CallError> {
        self.member(leader)?.read_index(limit).await
    }

    /// Renews a lease at the leader: its time to live, seconds; 0 where there is no such lease.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn lease_keep_alive(
        &self,
        leader: MemberId,
        id: LeaseId,
        limit: Duration,
    ) -> Result<i64, CallError> {
        self.member(leader)?.lease_keep_alive(id, limit).await
    }

    /// What a lease has left, as the leader knows.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn lease_time_to_live(
        &self,
        leader: MemberId,
        id: LeaseId,
        keys: bool,
        limit: Duration,
    ) -> Result<LeaseTimeToLiveResponse, CallError> {
        let leader = self.member(leader)?;
        leader.lease_time_to_live(id, keys, limit).await
    }

    /// The leases, the soonest to expire first.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn leases(
        &self,
        leader: MemberId,
        limit: Duration,
    ) -> Result<Vec<LeaseId>, CallError> {
        self.member(leader)?.leases(limit).await
    }

    /// Has the leader change the members.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn change_members(
        &self,
        leader: MemberId,
        change: ChangeMembersRequest,
        limit: Duration,
    ) -> Result<Vec<Member>, CallError> {
        self.member(leader)?.change_members(change, limit).await
    }

    /// The hash of another member's store.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn hash_kv(
        &self,
        member: MemberId,
        revision: Revision,
        limit: Duration,
    ) -> Result<HashKvResponse, CallError> {
        self.member(member)?.hash_kv(revision, limit).await
    }
}
