//! `watch`, until it is interrupted.

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::watch_client::WatchClient;
use engram_proto::mvccpb::Event;
use engram_proto::mvccpb::event::EventType;
use serde_json::{Value, json};

use super::ANSWER_BYTES_MAX;
use super::kv::put_pair;
use super::request::range;
use crate::cli::{Format, Global, Watch};
use crate::connect::any;
use crate::failure::Failure;
use crate::{json as answers, output};

/// `watch`.
pub async fn watch(global: &Global, watch: Watch) -> Result<(), Failure> {
    let (key, range_end) = range(watch.key, watch.range_end, watch.prefix, false)?;
    let create = pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: watch.rev,
        prev_kv: watch.prev_kv,
        ..pb::WatchCreateRequest::default()
    };
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let channel = any(global).await?.channel;
    let mut client = WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    // The stream of requests stays open: its end would be that of the watch.
    let requests = futures_util::stream::iter([create]);
    let requests = futures_util::StreamExt::chain(requests, futures_util::stream::pending());
    let mut answers = client.watch(requests).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.canceled {
            let compacted = answer.compact_revision;
            return Err(Failure::new(match compacted {
                0 => format!("watch is canceled by the server: {}", answer.cancel_reason),
                _ => format!("watch is canceled: compacted at revision {compacted}"),
            }));
        }
        match global.write_out {
            Format::Json if answer.events.is_empty() => {}
            Format::Json => output::text(&format!("{}\n", value(&answer)))?,
            _ => output::bytes(&text(&answer.events))?,
        }
    }
    Err(Failure::new("the server ended the watch"))
}

fn text(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        let kind = match event.r#type() {
            EventType::Put => "PUT",
            EventType::Delete => "DELETE",
        };
        out.extend_from_slice(format!("{kind}\n").as_bytes());
        for kv in event.prev_kv.iter().chain(&event.kv) {
            put_pair(&mut out, kv, false);
        }
    }
    out
}

fn value(answer: &pb::WatchResponse) -> Value {
    let event = |event: &Event| {
        answers::without_zeros(json!({
            "type": event.r#type,
            "kv": event.kv.as_ref().map(answers::key_value),
            "prev_kv": event.prev_kv.as_ref().map(answers::key_value),
        }))
    };
    let events: Vec<Value> = answer.events.iter().map(event).collect();
    json!({ "Header": answers::header(&answer.header), "Events": events })
}
