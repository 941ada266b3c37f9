//! What is written to the target: many changes a transaction, the last one of each key.

use std::collections::HashMap;

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::KeyValue;

use super::leases::Leases;
use super::put_request;
use super::side::{Side, within};
use crate::failure::Failure;

/// Operations of one transaction: etcd takes 128.
const OPS_MAX: usize = 100;
/// Their keys and values, in bytes: etcd takes 1.5 MiB. One that is larger goes alone.
const BYTES_MAX: usize = 1 << 20;

/// The target, and what is to be written to it.
pub(super) struct Target<'a> {
    to: &'a Side,
    pub leases: Leases<'a>,
    /// In the order in which keys changed first.
    waiting: Vec<pb::RequestOp>,
    /// Where each key's is.
    places: HashMap<Bytes, usize>,
    bytes: usize,
}

impl<'a> Target<'a> {
    pub fn new(from: &'a Side, to: &'a Side) -> Self {
        Self {
            to,
            leases: Leases::new(from, to),
            waiting: Vec::new(),
            places: HashMap::new(),
            bytes: 0,
        }
    }

    /// A key is to be as the source has it.
    pub async fn put(&mut self, kv: KeyValue) -> Result<(), Failure> {
        let lease = self.leases.of(kv.lease).await?;
        let op = put_request(&kv, lease);
        self.add(kv.key.clone(), kv.key.len() + kv.value.len(), op)
            .await
    }

    /// A key is to be gone.
    pub async fn delete(&mut self, key: Bytes) -> Result<(), Failure> {
        let delete = pb::DeleteRangeRequest {
            key: key.clone(),
            ..pb::DeleteRangeRequest::default()
        };
        let op = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestDeleteRange(delete)),
        };
        let bytes = key.len();
        self.add(key, bytes, op).await
    }

    async fn add(&mut self, key: Bytes, bytes: usize, op: pb::RequestOp) -> Result<(), Failure> {
        if self.bytes + bytes > BYTES_MAX {
            self.flush().await?;
        }
        self.bytes += bytes;
        // A transaction has each key once: the later one counts.
        if let Some(place) = self.places.get(&key) {
            self.waiting[*place] = op;
            return Ok(());
        }
        self.places.insert(key, self.waiting.len());
        self.waiting.push(op);
        match self.waiting.len() >= OPS_MAX {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes what waits.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.places.clear();
        self.bytes = 0;
        let request = pb::TxnRequest {
            success: std::mem::take(&mut self.waiting),
            ..pb::TxnRequest::default()
        };
        within(self.to.kv().txn(request)).await.map(drop)
    }
}
