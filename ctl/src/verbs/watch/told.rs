//! What a watch is told, as etcdctl writes it, and the program that is executed for each event.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::Event;
use engram_proto::mvccpb::event::EventType;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::cli::Global;
use crate::failure::Failure;
use crate::go::json::Message;
use crate::go::quoted::quoted;
use crate::output::{self, Answer, Fields};
use crate::verbs::kv::Text;

/// An answer of a watch, as Go's clients have it.
pub struct Told<'a>(&'a pb::WatchResponse);

impl<'a> Told<'a> {
    /// What a stream answered.
    pub fn of(answer: &'a pb::WatchResponse) -> Told<'a> {
        Told(answer)
    }

    fn is_progress(&self) -> bool {
        let answer = self.0;
        answer.events.is_empty()
            && !answer.canceled
            && !answer.created
            && answer.compact_revision == 0
            && answer.header.is_some_and(|header| header.revision != 0)
    }

    /// Why the watch ended.
    fn error(&self) -> &str {
        match (self.0.compact_revision, &self.0.cancel_reason[..]) {
            (0, "") => "etcdserver: mvcc: required revision is a future revision",
            (0, reason) => reason,
            _ => "etcdserver: mvcc: required revision has been compacted",
        }
    }

    /// What came, without what only a stream knows of it.
    fn plain(&self) -> pb::WatchResponse {
        pb::WatchResponse {
            header: self.0.header,
            events: self.0.events.clone(),
            compact_revision: self.0.compact_revision,
            canceled: self.0.canceled,
            created: self.0.created,
            ..pb::WatchResponse::default()
        }
    }
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let answer = self.0;
        let header = answer.header.unwrap_or_default();
        let events = answer
            .events
            .iter()
            .map(|event| Message::of("mvccpb.Event", event));
        let events: Vec<Message> = events.collect();
        let mut all = serializer.serialize_struct("WatchResponse", 6)?;
        all.serialize_field("Header", &Message::new("ResponseHeader", &header))?;
        all.serialize_field("Events", &events)?;
        all.serialize_field("CompactRevision", &answer.compact_revision)?;
        all.serialize_field("Canceled", &answer.canceled)?;
        all.serialize_field("Created", &answer.created)?;
        all.serialize_field("CancelReason", &answer.cancel_reason)?;
        all.end()
    }
}

/// Writes what a watch is told, and executes its program for each event.
pub async fn show(global: &Global, told: &Told<'_>, command: &[OsString]) -> Result<(), Failure> {
    if told.0.canceled {
        eprintln!("watch was canceled ({})", told.error());
    }
    if told.is_progress() {
        let revision = told.0.header.map_or(0, |header| header.revision);
        output::text(&format!("progress notify: {revision}\n"))?;
    }
    let (plain, text) = (told.plain(), Text::of(global));
    Answer::new(|| simple(text, &told.0.events))
        .message("WatchResponse", &plain)
        .value(|| told)
        .fields(global, |lines| fields(lines, told.0))
        .write(global)?;
    if command.is_empty() {
        return Ok(());
    }
    for event in &told.0.events {
        execute(command, told.0, event).await?;
    }
    Ok(())
}

fn name(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

fn simple(text: Text, events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        out.extend_from_slice(name(event).as_bytes());
        out.push(b'\n');
        for kv in event.prev_kv.iter().chain(&event.kv) {
            text.pair(&mut out, kv, false);
        }
    }
    out
}

fn fields(lines: &mut Fields, answer: &pb::WatchResponse) {
    lines.header(&answer.header);
    for event in &answer.events {
        lines.line("Type", name(event));
        if let Some(kv) = &event.prev_kv {
            lines.key_value("Prev", kv);
        }
        lines.key_value("", &event.kv.clone().unwrap_or_default());
    }
}

async fn execute(
    words: &[OsString],
    answer: &pb::WatchResponse,
    event: &Event,
) -> Result<(), Failure> {
    let revision = answer.header.map_or(0, |header| header.revision);
    let kv = event.kv.clone().unwrap_or_default();
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quoted(name(event).as_bytes()))
        .env("ETCD_WATCH_KEY", quoted(&kv.key))
        .env("ETCD_WATCH_VALUE", quoted(&kv.value))
        .stdin(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let why = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => match status.code() {
            Some(code) => format!("exit status {code}"),
            None => status.to_string(),
        },
        Err(error) => error.to_string(),
    };
    eprintln!("command {words:?} error ({why})");
    Err(Failure::silent())
}
