//! `get`, `put`, `del`.

use std::io::Read as _;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::mvccpb::KeyValue;
use tonic::transport::Channel;

use super::{ANSWER_BYTES_MAX, lease_id, range};
use crate::cli::{Del, Get, Global, Put};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::{json, output};

/// `get`.
pub async fn get(global: &Global, get: Get) -> Result<(), Failure> {
    let key = match (&get.key, get.prefix || get.from_key) {
        (Some(key), _) => key.clone(),
        (None, true) => String::new(),
        (None, false) => return Err(Failure::arguments("get command needs one argument as key")),
    };
    let (key, range_end) = range(&key, get.range_end.as_deref(), get.prefix, get.from_key)?;
    let request = pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: get.limit,
        revision: get.rev,
        serializable: get.consistency == "s",
        keys_only: get.keys_only,
        count_only: get.count_only,
        ..pb::RangeRequest::default()
    };
    let mut client = client(any(global).await?.channel);
    let answer = within(global, client.range(request)).await?.into_inner();
    let shown = || range_text(&answer, get.print_value_only);
    output::answer(global, shown, || json::range(&answer))
}

/// `put`.
pub async fn put(global: &Global, put: Put) -> Result<(), Failure> {
    let value = match (put.value, put.ignore_value) {
        (Some(value), _) => value.into_bytes(),
        (None, true) => Vec::new(),
        (None, false) => {
            let mut value = Vec::new();
            std::io::stdin().lock().read_to_end(&mut value)?;
            value
        }
    };
    let request = pb::PutRequest {
        key: put.key.into_bytes().into(),
        value: value.into(),
        lease: lease_id(&put.lease)?,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    };
    let mut client = client(any(global).await?.channel);
    let answer = within(global, client.put(request)).await?.into_inner();
    output::answer(global, || put_text(&answer), || json::put(&answer))
}

/// `del`.
pub async fn del(global: &Global, del: Del) -> Result<(), Failure> {
    let (key, range_end) = range(&del.key, del.range_end.as_deref(), del.prefix, del.from_key)?;
    let request = pb::DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: del.prev_kv,
    };
    let mut client = client(any(global).await?.channel);
    let answer = within(global, client.delete_range(request))
        .await?
        .into_inner();
    output::answer(global, || delete_text(&answer), || json::delete(&answer))
}

/// The client of a connection.
pub fn client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// `get`, for people.
pub fn range_text(answer: &pb::RangeResponse, value_only: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for kv in &answer.kvs {
        put_pair(&mut out, kv, value_only);
    }
    out
}

/// `put`, for people.
pub fn put_text(answer: &pb::PutResponse) -> Vec<u8> {
    let mut out = b"OK\n".to_vec();
    if let Some(kv) = &answer.prev_kv {
        put_pair(&mut out, kv, false);
    }
    out
}

/// `del`, for people.
pub fn delete_text(answer: &pb::DeleteRangeResponse) -> Vec<u8> {
    let mut out = format!("{}\n", answer.deleted).into_bytes();
    for kv in &answer.prev_kvs {
        put_pair(&mut out, kv, false);
    }
    out
}

/// A key's line and its value's.
pub fn put_pair(out: &mut Vec<u8>, kv: &KeyValue, value_only: bool) {
    if !value_only {
        out.extend_from_slice(&kv.key);
        out.push(b'\n');
    }
    out.extend_from_slice(&kv.value);
    out.push(b'\n');
}
