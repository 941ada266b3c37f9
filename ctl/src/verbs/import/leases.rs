//! Leases: made in the target under the same IDs, and kept alive there as long as the source has them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::side::{Side, within};
use crate::failure::Failure;

/// What is said of a lease that is there already: by an import that was interrupted.
const EXISTS: &str = "lease already exists";
/// How many are renewed before the source is followed again.
const ROUND_MAX: usize = 1024;
/// How many of them at once.
const AT_ONCE: usize = 16;

/// The leases that keys came with.
pub(super) struct Leases<'a> {
    from: &'a Side,
    to: &'a Side,
    /// Those that the source had when it was asked last: when each is renewed next.
    known: BTreeMap<i64, Instant>,
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
        if self.known.contains_key(&id) {
            return Ok(id);
        }
        let Some(ttl) = self.granted(id).await? else {
            return Ok(0);
        };
        let request = pb::LeaseGrantRequest { id, ttl };
        let mut client = LeaseClient::new(self.to.channel.clone());
        match within(client.lease_grant(request)).await {
            Err(failure) if !failure.to_string().contains(EXISTS) => return Err(failure),
            _ => {}
        }
        // At once: one that was there already may be about to run out.
        self.known.insert(id, Instant::now());
        Ok(id)
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

    /// Renews those that are due and that the source still has, the most urgent first. The others run out here too.
    pub async fn keep_alive(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let due_by_now = self.known.iter().filter(|(_, due)| **due <= now);
        let mut waiting: Vec<(Instant, i64)> = due_by_now.map(|(id, due)| (*due, *id)).collect();
        waiting.sort_unstable();
        waiting.truncate(ROUND_MAX);
        let this = &*self;
        let renewals = stream::iter(waiting)
            .map(|(_, id)| async move { this.renewed(id).await.map(|ttl| (id, ttl)) })
            .buffer_unordered(AT_ONCE);
        // Each call has a time limit of its own: many may be slow together, and none is waited for for ever.
        let renewed: Vec<(i64, Option<i64>)> = renewals.try_collect().await?;
        for (id, ttl) in renewed {
            match ttl {
                Some(ttl) => self.known.insert(id, due(ttl)),
                None => self.known.remove(&id),
            };
        }
        Ok(())
    }

    /// Renews one; its seconds to live, where the source still has it.
    async fn renewed(&self, id: i64) -> Result<Option<i64>, Failure> {
        let ttl = self.granted(id).await?;
        if ttl.is_some() {
            self.renew(id).await?;
        }
        Ok(ttl)
    }

    async fn renew(&self, id: i64) -> Result<(), Failure> {
        let mut client = LeaseClient::new(self.to.channel.clone());
        let request = stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let renewal = async {
            let mut answers = client.lease_keep_alive(request).await?.into_inner();
            answers.message().await
        };
        within(renewal).await.map(drop)
    }
}

/// When a lease is renewed, by its seconds to live: as etcd's clients do.
fn due(ttl: i64) -> Instant {
    let third = Duration::from_secs(u64::try_from(ttl).unwrap_or_default()) / 3;
    // A year at most: what is added has to be a point in time.
    Instant::now() + third.min(Duration::from_secs(365 * 24 * 3600))
}
