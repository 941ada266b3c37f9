//! Leases: made in the target under the same IDs, and kept alive there as long as the source has them.

use std::collections::BTreeMap;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::lease_client::LeaseClient;

use super::side::{Side, within};
use crate::failure::Failure;

/// What is said of a lease that is there already: by an import that was interrupted.
const EXISTS: &str = "lease already exists";

/// The leases that keys came with.
pub(super) struct Leases<'a> {
    from: &'a Side,
    to: &'a Side,
    /// By ID: whether the source had it when it was asked last.
    known: BTreeMap<i64, bool>,
}

impl<'a> Leases<'a> {
    pub fn new(from: &'a Side, to: &'a Side) -> Self {
        Self {
            from,
            to,
            known: BTreeMap::new(),
        }
    }

    /// The lease that a key is put with in the target; 0 where the source has it no more: the event of the
    /// key's deletion is on its way.
    pub async fn of(&mut self, id: i64) -> Result<i64, Failure> {
        if id == 0 {
            return Ok(0);
        }
        if let Some(lives) = self.known.get(&id) {
            return Ok(if *lives { id } else { 0 });
        }
        let granted = self.granted(id).await?;
        if let Some(ttl) = granted {
            let request = pb::LeaseGrantRequest { id, ttl };
            let mut client = LeaseClient::new(self.to.channel.clone());
            match within(client.lease_grant(request)).await {
                Err(failure) if !failure.to_string().contains(EXISTS) => return Err(failure),
                _ => {}
            }
        }
        self.known.insert(id, granted.is_some());
        Ok(if granted.is_some() { id } else { 0 })
    }

    /// Its time to live in the source, in seconds; none where it has run out.
    async fn granted(&self, id: i64) -> Result<Option<i64>, Failure> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: false };
        let mut client = LeaseClient::new(self.from.channel.clone());
        let answer = within(client.lease_time_to_live(request))
            .await?
            .into_inner();
        Ok((answer.ttl > 0).then_some(answer.granted_ttl))
    }

    /// Renews those that the source still has. The others run out here too.
    pub async fn keep_alive(&mut self) -> Result<(), Failure> {
        let ids: Vec<i64> = self
            .known
            .iter()
            .filter(|(_, lives)| **lives)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let lives = self.granted(id).await?.is_some();
            self.known.insert(id, lives);
            if lives {
                self.renew(id).await?;
            }
        }
        Ok(())
    }

    async fn renew(&self, id: i64) -> Result<(), Failure> {
        let mut client = LeaseClient::new(self.to.channel.clone());
        let request = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let mut answers = within(client.lease_keep_alive(request)).await?.into_inner();
        answers.message().await?;
        Ok(())
    }
}
