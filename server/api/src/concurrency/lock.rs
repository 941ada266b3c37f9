//! Locks.

use bytes::Bytes;
use engram_proto::v3lockpb as lockpb;

use super::super::backend::Backend;
use super::super::decode;
use super::super::error::Refusal;
use super::ask::{self, Asking};
use super::place::{Entered, Leaving, Place, enter};
use super::{prefix_of, wait};
use crate::codec::Frame;

impl<B: Backend> Asking<B> {
    pub(super) async fn lock(&self, message: Bytes) -> Result<Frame, Refusal> {
        let locked = self.acquire(decode(message)?).await;
        Ok(Frame::from(&locked.map_err(Refusal::through_client)?))
    }

    pub(super) async fn unlock(&self, message: Bytes) -> Result<Frame, Refusal> {
        let lockpb::UnlockRequest { key } = decode(message)?;
        let deleted = self.delete(key).await;
        let header = deleted.map_err(Refusal::through_client)?.header;
        Ok(Frame::from(&lockpb::UnlockResponse { header }))
    }

    async fn acquire(&self, wanted: lockpb::LockRequest) -> Result<lockpb::LockResponse, Refusal> {
        let lease = self.session(wanted.lease).await?;
        let prefix = prefix_of(&wanted.name);
        let entered = enter(self, &prefix, lease, Bytes::new()).await?;
        let header = if entered.is_first() {
            entered.header
        } else {
            self.wait_turn(&prefix, &entered).await?
        };
        let key = entered.key;
        Ok(lockpb::LockResponse { header, key })
    }

    async fn wait_turn(
        &self,
        prefix: &Bytes,
        entered: &Entered,
    ) -> Result<Option<engram_proto::etcdserverpb::ResponseHeader>, Refusal> {
        let place = Place::new(self.clone(), Leaving::Lock(entered.key.clone()));
        let waited = async {
            wait::deletes(self, prefix, entered.created - 1).await?;
            // The session may have ended meanwhile, and the key with it.
            self.range(&ask::get(entered.key.clone())).await
        };
        match waited.await {
            Ok(own) => {
                place.keep();
                let held = !own.kvs.is_empty();
                held.then_some(own.header).ok_or(Refusal::SESSION_EXPIRED)
            }
            Err(refusal) => {
                place.give_up().await;
                Err(refusal)
            }
        }
    }
}
