//! One of the two clusters, and the keys that are meant in it.

use std::time::Duration;

use bytes::Bytes;
use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::mvccpb::KeyValue;
use pb::range_request::{SortOrder, SortTarget};

use super::super::ANSWER_BYTES_MAX;
use crate::cli::{Global, Import};
use crate::connect::any;
use crate::failure::Failure;

/// Keys of a page.
const PAGE: i64 = 1000;
/// How long a call may take: a page may be large, and a cluster under load.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A cluster.
pub(super) struct Side {
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
    /// Connects.
    pub async fn open(global: &Global, prefix: &str) -> Result<Side, Failure> {
        let (key, range_end) = range_of(prefix.as_bytes());
        Ok(Side {
            channel: any(global).await?.channel,
            key,
            range_end,
        })
    }

    pub fn kv(&self) -> KvClient<Channel> {
        let client = KvClient::new(self.channel.clone());
        client
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX)
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
        let answer = self
            .range(pb::RangeRequest {
                limit: 1,
                keys_only: true,
                ..pb::RangeRequest::default()
            })
            .await?;
        Ok(answer.header.map_or(0, |header| header.revision))
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
        }
    }
}

/// Pages of keys.
pub(super) struct Pages<'a> {
    side: &'a Side,
    revision: i64,
    next: Option<Bytes>,
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
                limit: PAGE,
                sort_order: SortOrder::Ascend.into(),
                sort_target: SortTarget::Key.into(),
                ..pb::RangeRequest::default()
            })
            .await?;
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

/// The keys that begin with a prefix; every key where there is none.
fn range_of(prefix: &[u8]) -> (Bytes, Bytes) {
    let every: Bytes = vec![0].into();
    if prefix.is_empty() {
        return (every.clone(), every);
    }
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return (prefix.to_vec().into(), end.into());
        }
    }
    (prefix.to_vec().into(), every)
}

/// A call, bounded in time.
pub(super) async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<tonic::Response<T>, Failure> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::new("context deadline exceeded")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_and_none_is_every_key() {
        let of = |prefix: &[u8]| {
            let (key, end) = range_of(prefix);
            (key.to_vec(), end.to_vec())
        };
        assert_eq!(of(b""), (vec![0], vec![0]));
        assert_eq!(of(b"ab"), (b"ab".to_vec(), b"ac".to_vec()));
        assert_eq!(of(b"a\xff"), (b"a\xff".to_vec(), b"b".to_vec()));
        assert_eq!(of(b"\xff"), (b"\xff".to_vec(), vec![0]));
    }
}
