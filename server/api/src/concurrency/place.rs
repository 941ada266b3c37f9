//! A caller's place among those who want a name: its key, until the call has ended well.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb;
use pb::request_op::Request;
use pb::response_op::Response;
use tokio::task::JoinHandle;

use super::super::backend::Backend;
use super::super::error::Refusal;
use super::ask::{self, Asking};
use super::key_of;
use crate::threads::ForCaller;

/// What taking a place found.
pub(super) struct Entered {
    /// The own key.
    pub(super) key: Bytes,
    /// The revision that created it, now or earlier.
    pub(super) created: i64,
    /// The value it has had, where the lease has a key there already.
    pub(super) value_before: Option<Bytes>,
    /// The revision that created the oldest key of the name.
    pub(super) oldest: i64,
    /// The transaction's header.
    pub(super) header: Option<pb::ResponseHeader>,
}

impl Entered {
    /// Whether nobody was there before.
    pub(super) fn is_first(&self) -> bool {
        self.oldest == self.created
    }
}

/// Takes the place of a lease: makes its key, unless it is there.
pub(super) async fn enter<B: Backend>(
    asking: &Asking<B>,
    prefix: &Bytes,
    lease: i64,
    value: Bytes,
) -> Result<Entered, Refusal> {
    let key = key_of(prefix, lease);
    let oldest = Request::RequestRange(pb::RangeRequest {
        keys_only: true,
        ..ask::oldest(prefix)
    });
    let put = ask::put(key.clone(), value, lease);
    let get = Request::RequestRange(ask::get(key.clone()));
    let txn = ask::if_created(key.clone(), 0, vec![put, oldest.clone()], vec![get, oldest]);
    let answer = asking.txn(&txn).await?;
    let mut responses = answer.responses.into_iter();
    let own = responses.next().and_then(found);
    let oldest = responses.next().and_then(found);
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    Ok(Entered {
        key,
        created: own.as_ref().map_or(revision, |kv| kv.create_revision),
        value_before: own.map(|kv| kv.value),
        oldest: oldest.map_or(revision, |kv| kv.create_revision),
        header: answer.header,
    })
}

/// The key-value that a transaction's range found.
fn found(response: pb::ResponseOp) -> Option<mvccpb::KeyValue> {
    match response.response? {
        Response::ResponseRange(mut range) => range.kvs.pop(),
        _ => None,
    }
}

/// Which key goes when its caller does.
pub(super) enum Leaving {
    /// That of a lock, whoever made it.
    Lock(Bytes),
    /// That of a campaign, if it is still the one created then.
    Campaign(Bytes, i64),
}

impl Leaving {
    async fn leave<B: Backend>(self, asking: Asking<B>) -> Result<(), Refusal> {
        match self {
            Leaving::Lock(key) => asking.delete(key).await.map(drop),
            Leaving::Campaign(key, created) => resign(&asking, key, created).await.map(drop),
        }
    }
}

/// Removes a campaign's key, if it was created at `created`.
pub(super) async fn resign<B: Backend>(
    asking: &Asking<B>,
    key: Bytes,
    created: i64,
) -> Result<Option<pb::ResponseHeader>, Refusal> {
    let delete = Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key: key.clone(),
        ..pb::DeleteRangeRequest::default()
    });
    let txn = ask::if_created(key, created, vec![delete], Vec::new());
    Ok(asking.txn(&txn).await?.header)
}

/// A place that is given up when this is dropped, unless it was kept: a call that its caller left,
/// or whose time is over, is dropped where it waits.
pub(super) struct Place<B: Backend> {
    asking: Asking<B>,
    leaving: Option<Leaving>,
}

impl<B: Backend> Place<B> {
    pub(super) fn new(asking: Asking<B>, leaving: Leaving) -> Place<B> {
        let leaving = Some(leaving);
        Place { asking, leaving }
    }

    /// The key stays.
    pub(super) fn keep(mut self) {
        self.leaving = None;
    }

    /// Removes the key. If that fails, it goes with its lease.
    pub(super) async fn give_up(mut self) {
        if let Some(task) = self.begin_leaving() {
            // How it ended is for nobody: the caller is told why the wait did.
            let _ = task.await;
        }
    }

    /// A task of its own, which outlives the call; it takes no longer than a proposal may.
    fn begin_leaving(&mut self) -> Option<JoinHandle<()>> {
        let leaving = self.leaving.take()?;
        // Without a runtime the member stops, and the key goes with its lease.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let asking = self.asking.clone();
        Some(runtime.spawn(async move {
            let left = ForCaller::new(Box::pin(leaving.leave(asking))).await;
            if let Ok(Err(refusal)) = left {
                crate::log!(
                    debug,
                    "a waiter's key stays until its lease ends",
                    reason = refusal.to_string()
                );
            }
        }))
    }
}

impl<B: Backend> Drop for Place<B> {
    fn drop(&mut self) {
        drop(self.begin_leaving());
    }
}
