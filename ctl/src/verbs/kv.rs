//! `get`, `put`, `del`.

use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::mvccpb::KeyValue;

use super::request;
use crate::cli::{Del, Format, Get, Global, Put};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::output::{Answer, Fields};

/// How long a range that is about to be deleted can still be kept: etcdctl's.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// `get`.
pub async fn get(global: &Global, get: Get) -> Result<(), Failure> {
    let (value_only, count_only, streamed) = (get.print_value_only, get.count_only, get.stream);
    let request = request::get(get)?;
    let mut client = client(global, any(global).await?.channel);
    let answer = match streamed {
        true => within(global, gathered(client, request)).await?,
        false => within(global, client.range(request)).await?.into_inner(),
    };
    if value_only && global.write_out != Format::Simple {
        let why = "print-value-only is only for `--write-out=simple`";
        return Err(Failure::arguments(why));
    }
    let shown = || match count_only {
        true => format!("{}\n", answer.count).into_bytes(),
        false => Text::of(global).range(&answer, value_only),
    };
    show_range(global, &answer, shown)
}

/// Writes the answer of a range.
pub fn show_range(
    global: &Global,
    answer: &pb::RangeResponse,
    simple: impl FnOnce() -> Vec<u8>,
) -> Result<(), Failure> {
    Answer::new(simple)
        .message("RangeResponse", answer)
        .fields(global, |fields| range_fields(fields, answer))
        .write(global)
}

/// The chunks of a range that is streamed, as one answer.
async fn gathered(
    mut client: KvClient<Channel>,
    request: pb::RangeRequest,
) -> Result<pb::RangeResponse, tonic::Status> {
    let mut chunks = client.range_stream(request).await?.into_inner();
    let mut gathered = pb::RangeResponse::default();
    while let Some(chunk) = chunks.message().await? {
        let Some(chunk) = chunk.range_response else {
            continue;
        };
        gathered.header = gathered.header.or(chunk.header);
        gathered.kvs.extend(chunk.kvs);
        gathered.more |= chunk.more;
        gathered.count = gathered.count.max(chunk.count);
    }
    Ok(gathered)
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
    let mut client = client(global, any(global).await?.channel);
    let answer = within(global, client.put(request)).await?.into_inner();
    Answer::new(|| Text::of(global).put(&answer))
        .message("PutResponse", &answer)
        .fields(global, |fields| put_fields(fields, &answer))
        .write(global)
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
    let mut client = client(global, any(global).await?.channel);
    let answer = within(global, client.delete_range(request))
        .await?
        .into_inner();
    Answer::new(|| Text::of(global).delete(&answer))
        .message("DeleteRangeResponse", &answer)
        .fields(global, |fields| delete_fields(fields, &answer))
        .write(global)
}

/// The client of a connection.
pub fn client(global: &Global, channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(global.answer_bytes_max())
        .max_encoding_message_size(global.request_bytes_max())
}

/// Answers for people; with `--hex`, keys and values as `\x..`.
#[derive(Clone, Copy)]
pub struct Text {
    is_hex: bool,
}

impl Text {
    /// As the flags ask for it.
    pub fn of(global: &Global) -> Text {
        Text { is_hex: global.hex }
    }

    /// `get`.
    pub fn range(self, answer: &pb::RangeResponse, value_only: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for kv in &answer.kvs {
            self.pair(&mut out, kv, value_only);
        }
        out
    }

    /// `put`.
    pub fn put(self, answer: &pb::PutResponse) -> Vec<u8> {
        let mut out = b"OK\n".to_vec();
        if let Some(kv) = &answer.prev_kv {
            self.pair(&mut out, kv, false);
        }
        out
    }

    /// `del`.
    pub fn delete(self, answer: &pb::DeleteRangeResponse) -> Vec<u8> {
        let mut out = format!("{}\n", answer.deleted).into_bytes();
        for kv in &answer.prev_kvs {
            self.pair(&mut out, kv, false);
        }
        out
    }

    /// A key's line and its value's.
    pub fn pair(self, out: &mut Vec<u8>, kv: &KeyValue, value_only: bool) {
        if !value_only {
            self.line(out, &kv.key);
        }
        self.line(out, &kv.value);
    }

    fn line(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self.is_hex {
            true => out.extend(
                bytes
                    .iter()
                    .flat_map(|byte| format!("\\x{byte:02x}").into_bytes()),
            ),
            false => out.extend_from_slice(bytes),
        }
        out.push(b'\n');
    }
}

/// `get`, field by field.
pub fn range_fields(fields: &mut Fields, answer: &pb::RangeResponse) {
    fields.header(&answer.header);
    for kv in &answer.kvs {
        fields.key_value("", kv);
    }
    fields.line("More", answer.more);
    fields.line("Count", answer.count);
}

/// `put`, field by field.
pub fn put_fields(fields: &mut Fields, answer: &pb::PutResponse) {
    fields.header(&answer.header);
    if let Some(kv) = &answer.prev_kv {
        fields.key_value("Prev", kv);
    }
}

/// `del`, field by field.
pub fn delete_fields(fields: &mut Fields, answer: &pb::DeleteRangeResponse) {
    fields.header(&answer.header);
    fields.line("Deleted", answer.deleted);
    for kv in &answer.prev_kvs {
        fields.key_value("Prev", kv);
    }
}
