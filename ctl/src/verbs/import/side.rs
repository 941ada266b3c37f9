//! One of the two clusters, and the keys that are meant in it.

use std::time::Duration;

use bytes::Bytes;
use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::mvccpb::KeyValue;
use pb::range_request::{SortOrder, SortTarget};
use tokio::time::Instant;

use super::super::kv;
use super::super::request::prefix_range;
use crate::cli::{Global, Import};
use crate::connect::{self, any_now};
use crate::failure::Failure;

/// Keys of the first page, and the most of one: etcd's own.
const PAGE_FIRST: i64 = 100;
const PAGE_MAX: i64 = 1000;
/// How large a page is meant to be, in bytes: the next one's keys follow from the last one's sizes.
const PAGE_BYTES: usize = 4 << 20;
/// How long a call may take: a page may be large, and a cluster under load.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long after nobody answered a cluster is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A cluster.
pub(super) struct Side {
    global: Global,
    /// The connection.
    pub channel: Channel,
    /// The first key that is meant.
    pub key: Bytes,
    /// The end of the range.
    pub range_end: Bytes,
}

/// The flags for the cluster that is copied from.
pub(super) fn flags_of(global: &Global, import: &Import) -> Global {
    Global {
        endpoints: import.from.clone(),
        discovery_srv: None,
        insecure_transport: true,
        insecure_skip_tls_verify: false,
        cacert: import.from_cacert.clone(),
        cert: import.from_cert.clone(),
        key: import.from_key.clone(),
        user: import.from_user.clone(),
        password: None,
        auth_jwt_token: None,
        ..global.clone()
    }
}

impl Side {
    /// Connects, and has it answer. Where nobody does, it is asked again for as long as `wait`: the Service of a
    /// cluster that was made just now has no endpoint yet.
    pub async fn reach(global: &Global, prefix: &str, wait: Duration) -> Result<Side, Failure> {
        let until = Instant::now() + wait;
        let mut told = false;
        loop {
            let failure = match Side::answers(global, prefix).await {
                Err(failure) if failure.is_unreached() => failure,
                other => return other,
            };
            if Instant::now() + ASK_AGAIN > until {
                return Err(failure);
            }
            if !told {
                eprintln!("waiting for {}: {failure}", global.endpoints.join(","));
                told = true;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn answers(global: &Global, prefix: &str) -> Result<Side, Failure> {
        let side = Side::open(global, prefix).await?;
        connect::within(global, side.header()).await?;
        Ok(side)
    }

    async fn open(global: &Global, prefix: &str) -> Result<Side, Failure> {
        let (key, range_end) = prefix_range(prefix.as_bytes());
        Ok(Side {
            global: global.clone(),
            channel: any_now(global).await?.channel,
            key: key.into(),
            range_end: range_end.into(),
        })
    }

    pub fn kv(&self) -> KvClient<Channel> {
        kv::client(&self.global, self.channel.clone())
    }

    /// A range over what is meant.
    async fn range(&self, more: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        let request = pb::RangeRequest {
            range_end: self.range_end.clone(),
            key: match more.key.is_empty() {
                true => self.key.clone(),
                false => more.key.clone(),
            },
            ..more
        };
        Ok(within(self.kv().range(request)).await?.into_inner())
    }

    /// The revision at this moment, confirmed by a quorum.
    pub async fn revision(&self) -> Result<i64, Failure> {
        Ok(self.header().await?.revision)
    }

    /// Who answers, and its revision at this moment, confirmed by a quorum.
    async fn header(&self) -> Result<pb::ResponseHeader, Failure> {
        let answer = self
            .range(pb::RangeRequest {
                limit: 1,
                keys_only: true,
                ..pb::RangeRequest::default()
            })
            .await?;
        Ok(answer.header.unwrap_or_default())
    }

    /// Whether this is the other one's cluster too. Two clusters that were made with the same flags have the
    /// same ID, so that both have to be at one revision as well.
    pub async fn is_same(&self, other: &Side) -> Result<bool, Failure> {
        let before = self.header().await?;
        let there = other.header().await?;
        let after = self.header().await?;
        let revisions = before.revision..=after.revision;
        Ok(before.cluster_id == there.cluster_id && revisions.contains(&there.revision))
    }

    /// How many keys there are.
    pub async fn count(&self) -> Result<i64, Failure> {
        let answer = self
            .range(pb::RangeRequest {
                count_only: true,
                ..pb::RangeRequest::default()
            })
            .await?;
        Ok(answer.count)
    }

    /// Removes all of them.
    pub async fn clear(&self) -> Result<(), Failure> {
        let request = pb::DeleteRangeRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            prev_kv: false,
        };
        within(self.kv().delete_range(request)).await.map(drop)
    }

    /// All of them as they are at a revision, in the order of keys.
    pub fn pages(&self, revision: i64) -> Pages<'_> {
        Pages {
            side: self,
            revision,
            next: Some(self.key.clone()),
            limit: PAGE_FIRST,
        }
    }
}

/// Pages of keys.
pub(super) struct Pages<'a> {
    side: &'a Side,
    revision: i64,
    next: Option<Bytes>,
    limit: i64,
}

impl Pages<'_> {
    /// The next page; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Failure> {
        let Some(key) = self.next.take() else {
            return Ok(None);
        };
        let answer = self
            .side
            .range(pb::RangeRequest {
                key,
                revision: self.revision,
                limit: self.limit,
                sort_order: SortOrder::Ascend.into(),
                sort_target: SortTarget::Key.into(),
                ..pb::RangeRequest::default()
            })
            .await?;
        self.limit = keys_of_a_page(&answer.kvs);
        if answer.more
            && let Some(last) = answer.kvs.last()
        {
            // The least key behind it.
            let mut behind = last.key.to_vec();
            behind.push(0);
            self.next = Some(behind.into());
        }
        Ok(Some(answer.kvs))
    }
}

/// How many keys are asked for next, by the sizes of those that came.
fn keys_of_a_page(kvs: &[KeyValue]) -> i64 {
    let bytes: usize = kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let each = (bytes / kvs.len().max(1)).max(1);
    i64::try_from(PAGE_BYTES / each).map_or(PAGE_MAX, |keys| keys.clamp(1, PAGE_MAX))
}

/// A call, or what belongs together, bounded in time.
pub(super) fn within<T, E: Into<Failure>>(
    doing: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, Failure>> {
    connect::bounded(CALL_LIMIT, doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_as_many_keys_as_fit() {
        let of = |bytes: usize| {
            let value = vec![0; bytes].into();
            keys_of_a_page(&[KeyValue {
                value,
                ..KeyValue::default()
            }])
        };
        assert_eq!((of(0), of(100)), (PAGE_MAX, PAGE_MAX));
        assert_eq!(of(1 << 20), 4);
        assert_eq!(of(32 << 20), 1);
        assert_eq!(keys_of_a_page(&[]), PAGE_MAX);
    }
}
