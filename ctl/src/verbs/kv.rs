//! `get`, `put`, `del`.

use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::mvccpb::KeyValue;

use super::{ANSWER_BYTES_MAX, request};
use crate::cli::{Del, Get, Global, Put};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::{json, output};

/// How long a range that is about to be deleted can still be kept: etcdctl's.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// `get`.
pub async fn get(global: &Global, get: Get) -> Result<(), Failure> {
    let (value_only, count_only) = (get.print_value_only, get.count_only);
    let request = request::get(get)?;
    let mut client = client(any(global).await?.channel);
    let answer = within(global, client.range(request)).await?.into_inner();
    let shown = || match count_only {
        true => format!("{}\n", answer.count).into_bytes(),
        false => range_text(&answer, value_only),
    };
    output::answer(global, shown, || json::range(&answer))
}

/// `put`.
pub async fn put(global: &Global, mut put: Put) -> Result<(), Failure> {
    let value = match (put.value.take(), put.ignore_value) {
        (Some(_), true) => {
            return Err(Failure::arguments(
                "put command needs only 1 argument when 'ignore-value' is set",
            ));
        }
        (Some(value), false) => value.into_vec(),
        (None, true) => Vec::new(),
        (None, false) => {
            let mut value = Vec::new();
            std::io::stdin().lock().read_to_end(&mut value)?;
            // Nothing comes from a program that failed: an empty value is said as one.
            if value.is_empty() {
                return Err(Failure::arguments(
                    "put command needs 1 argument and input from stdin or 2 arguments",
                ));
            }
            value
        }
    };
    let request = request::put(put, value)?;
    let mut client = client(any(global).await?.channel);
    let answer = within(global, client.put(request)).await?.into_inner();
    output::answer(global, || put_text(&answer), || json::put(&answer))
}

/// `del`.
pub async fn del(global: &Global, del: Del) -> Result<(), Failure> {
    let warning = match (&del.range_end, del.range) {
        (Some(end), false) => Some(format!(
            "Warning: Keys between {:?} and {end:?} will be deleted. Please interrupt the command \
             within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.",
            del.key
        )),
        _ => None,
    };
    let request = request::delete(del)?;
    if let Some(warning) = warning {
        eprintln!("{warning}");
        tokio::time::sleep(SECOND_THOUGHTS).await;
    }
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
