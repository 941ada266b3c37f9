//! Elections: who leads is who holds the oldest key, and what it says is the key's value.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::v3electionpb as electionpb;

use super::super::backend::Backend;
use super::super::decode;
use super::super::error::Refusal;
use super::ask::{self, Asking};
use super::place::{Leaving, Place, enter, resign};
use super::{prefix_of, wait};
use crate::codec::Frame;

impl<B: Backend> Asking<B> {
    pub(super) async fn campaign(&self, message: Bytes) -> Result<Frame, Refusal> {
        let elected = self.win(decode(message)?).await;
        Ok(Frame::from(&elected.map_err(Refusal::through_client)?))
    }

    pub(super) async fn proclaim(&self, message: Bytes) -> Result<Frame, Refusal> {
        let electionpb::ProclaimRequest { leader, value } = decode(message)?;
        let leader = leader.ok_or(Refusal::NO_LEADER_KEY)?;
        let proclaimed = async {
            let lease = self.session(leader.lease).await?;
            self.say(leader.key, leader.rev, value, lease).await
        };
        let header = proclaimed.await.map_err(Refusal::through_client)?;
        Ok(Frame::from(&electionpb::ProclaimResponse { header }))
    }

    pub(super) async fn resign(&self, message: Bytes) -> Result<Frame, Refusal> {
        let electionpb::ResignRequest { leader } = decode(message)?;
        let leader = leader.ok_or(Refusal::NO_LEADER_KEY)?;
        let resigned = resign(self, leader.key, leader.rev).await;
        let header = resigned.map_err(Refusal::through_client)?;
        Ok(Frame::from(&electionpb::ResignResponse { header }))
    }

    pub(super) async fn election_leader(&self, message: Bytes) -> Result<Frame, Refusal> {
        let electionpb::LeaderRequest { name } = decode(message)?;
        let found = self.range(&ask::oldest(&prefix_of(&name))).await;
        let mut found = found.map_err(Refusal::through_client)?;
        let kv = found.kvs.pop().ok_or(Refusal::NOBODY_ELECTED)?;
        let (header, kv) = (found.header, Some(kv));
        Ok(Frame::from(&electionpb::LeaderResponse { header, kv }))
    }

    async fn win(
        &self,
        wanted: electionpb::CampaignRequest,
    ) -> Result<electionpb::CampaignResponse, Refusal> {
        let electionpb::CampaignRequest { name, lease, value } = wanted;
        let lease = self.session(lease).await?;
        let prefix = prefix_of(&name);
        let entered = enter(self, &prefix, lease, value.clone()).await?;
        let (key, rev) = (entered.key.clone(), entered.created);
        let place = Place::new(self.clone(), Leaving::Campaign(key.clone(), rev));
        if entered
            .value_before
            .as_ref()
            .is_some_and(|old| *old != value)
            && let Err(refusal) = self.say(key.clone(), rev, value, lease).await
        {
            place.give_up().await;
            return Err(refusal);
        }
        let waited = if entered.is_first() {
            Ok(())
        } else {
            wait::deletes(self, &prefix, rev - 1).await
        };
        // As in etcd: a wait that failed leaves the key to its lease, one that was left does not.
        place.keep();
        waited?;
        let leader = electionpb::LeaderKey {
            name,
            key,
            rev,
            lease,
        };
        Ok(electionpb::CampaignResponse {
            header: entered.header,
            leader: Some(leader),
        })
    }

    /// Gives a campaign's key another value, if it is still there.
    async fn say(
        &self,
        key: Bytes,
        created: i64,
        value: Bytes,
        lease: i64,
    ) -> Result<Option<pb::ResponseHeader>, Refusal> {
        let put = ask::put(key.clone(), value, lease);
        let txn = ask::if_created(key, created, vec![put], Vec::new());
        let answer = self.txn(&txn).await?;
        let said = answer.succeeded;
        said.then_some(answer.header).ok_or(Refusal::NOT_ELECTED)
    }
}
