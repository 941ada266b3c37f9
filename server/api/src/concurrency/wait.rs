//! Waiting for keys: the watch room's streams, read from inside.

use bytes::{Bytes, BytesMut};
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::{Event, event::EventType};
use prost::Message;

use super::super::backend::Backend;
use super::super::error::Refusal;
use super::ask::{self, Asking};
use crate::types::KeyRange;
use engram_watch::{AUTO_WATCH_ID, Create, Filter, Request, WatchFrame, WatchStream};

/// A watch of one range.
pub(super) struct Watching(WatchStream);

/// What a watch saw.
pub(super) enum Seen {
    /// Events, and the header they came with.
    Events(Option<pb::ResponseHeader>, Vec<Event>),
    /// That what it would see next is compacted: it has ended.
    Compacted,
}

impl Watching {
    /// Watches a range from a revision on.
    pub(super) fn begin<B: Backend>(
        asking: &Asking<B>,
        range: KeyRange,
        start_revision: i64,
        filter: Filter,
    ) -> Watching {
        let mut stream = asking.backend().watch();
        stream.handle(Request::Create(Create {
            filter,
            range,
            start_revision,
            progress_notify: false,
            prev_kv: false,
            watch_id: AUTO_WATCH_ID,
            fragment: false,
            denied: None,
        }));
        Watching(stream)
    }

    /// What it sees next. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Seen, Refusal> {
        loop {
            let response = message_of(&self.0.next().await);
            if response.canceled && response.compact_revision > 0 {
                return Ok(Seen::Compacted);
            }
            if response.canceled {
                return Err(Refusal::LOST_WATCHER);
            }
            if !response.events.is_empty() {
                return Ok(Seen::Events(response.header, response.events));
            }
        }
    }
}

fn message_of(frame: &WatchFrame) -> pb::WatchResponse {
    let mut bytes = BytesMut::with_capacity(frame.encoded_len());
    frame.write_to(&mut bytes);
    pb::WatchResponse::decode(bytes.freeze()).expect("the hub's frames are watch responses")
}

/// Whether an event is a delete.
pub(super) fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}

/// Waits until no key with `prefix` is left that was created at `created_max` or before. At most as
/// long as the member serves.
pub(super) async fn deletes<B: Backend>(
    asking: &Asking<B>,
    prefix: &Bytes,
    created_max: i64,
) -> Result<(), Refusal> {
    let waiting = async {
        loop {
            let mut found = asking.range(&ask::youngest(prefix, created_max)).await?;
            let Some(last) = found.kvs.pop() else {
                return Ok(());
            };
            let revision = found.header.map_or(0, |header| header.revision);
            delete(asking, last.key, revision).await?;
        }
    };
    tokio::select! {
        waited = waiting => waited,
        ended = asking.backend().interrupted(false) => Err(ended.into()),
    }
}

/// Waits until a key is deleted, or until what followed `revision` is compacted.
async fn delete<B: Backend>(asking: &Asking<B>, key: Bytes, revision: i64) -> Result<(), Refusal> {
    let deletes_only = Filter {
        no_put: true,
        no_delete: false,
    };
    let mut watch = Watching::begin(asking, KeyRange::single(key), revision, deletes_only);
    match watch.next().await? {
        Seen::Events(..) | Seen::Compacted => Ok(()),
    }
}
