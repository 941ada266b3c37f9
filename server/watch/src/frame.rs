//! One `etcdserverpb.WatchResponse`, as bytes: a head of its own and the shared encodings of its
//! events.

use bytes::{BufMut, Bytes, BytesMut};

use super::HeaderSource;
use super::event::EventList;
use super::protobuf::{number_len, put_length, put_number};
use crate::types::Revision;

const TAG_HEADER: u8 = 0x0a;
const TAG_CANCEL_REASON: u8 = 0x32;

/// The fields of a response before its events.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The header's revision.
    pub revision: Revision,
    /// The watcher.
    pub watch_id: i64,
    /// Whether the watcher was made by the request this answers.
    pub created: bool,
    /// Whether the watcher is no more.
    pub canceled: bool,
    /// Why, where compaction is the cause: its revision.
    pub compact_revision: Revision,
    /// Why, in words.
    pub cancel_reason: String,
    /// Whether more of this response follows.
    pub fragment: bool,
}

impl Head {
    /// Encodes the head.
    fn encode(&self, headers: &dyn HeaderSource) -> Vec<u8> {
        let (cluster, member) = (headers.cluster().0, headers.member().0);
        let (revision, term) = (self.revision.0.cast_unsigned(), headers.raft_term());
        let header_len = [cluster, member, revision, term]
            .into_iter()
            .map(number_len)
            .sum::<usize>();
        let mut out = Vec::with_capacity(header_len + self.cancel_reason.len() + 48);
        put_length(&mut out, TAG_HEADER, header_len);
        put_number(&mut out, 0x08, cluster);
        put_number(&mut out, 0x10, member);
        put_number(&mut out, 0x18, revision);
        put_number(&mut out, 0x20, term);
        put_number(&mut out, 0x10, self.watch_id.cast_unsigned());
        put_number(&mut out, 0x18, u64::from(self.created));
        put_number(&mut out, 0x20, u64::from(self.canceled));
        put_number(&mut out, 0x28, self.compact_revision.0.cast_unsigned());
        if !self.cancel_reason.is_empty() {
            put_length(&mut out, TAG_CANCEL_REASON, self.cancel_reason.len());
            out.put_slice(self.cancel_reason.as_bytes());
        }
        put_number(&mut out, 0x38, u64::from(self.fragment));
        out
    }
}

/// One encoded `WatchResponse`, without gRPC's length prefix.
#[derive(Debug)]
pub struct WatchFrame {
    head: Vec<u8>,
    events: EventList,
    with_before: bool,
    len: usize,
}

impl WatchFrame {
    /// A response without events.
    pub(super) fn control(head: &Head, headers: &dyn HeaderSource) -> WatchFrame {
        let head = head.encode(headers);
        WatchFrame {
            len: head.len(),
            head,
            events: EventList::Empty,
            with_before: false,
        }
    }

    /// A response with events.
    pub(super) fn events(
        head: &Head,
        events: EventList,
        with_before: bool,
        headers: &dyn HeaderSource,
    ) -> WatchFrame {
        let head = head.encode(headers);
        let events_len: usize = events
            .as_slice()
            .iter()
            .map(|event| event.prepare(with_before))
            .sum();
        WatchFrame {
            len: head.len() + events_len,
            head,
            events,
            with_before,
        }
    }

    /// The first fragment of a response: takes as many events as stay below `limit` bytes, at
    /// least one. The last fragment is not marked as one.
    pub(super) fn fragment(
        head: &mut Head,
        events: &mut EventList,
        with_before: bool,
        limit: usize,
        headers: &dyn HeaderSource,
    ) -> WatchFrame {
        head.fragment = true;
        let mut len = head.encode(headers).len();
        let mut count = 0;
        for event in events.as_slice() {
            len += event.prepare(with_before);
            if count > 0 && len >= limit {
                break;
            }
            count += 1;
        }
        let first = events.take_first(count);
        head.fragment = !events.as_slice().is_empty();
        WatchFrame::events(head, first, with_before, headers)
    }

    /// The message's length.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        self.len
    }

    /// Writes the message: one copy.
    pub fn write_to(&self, out: &mut impl BufMut) {
        out.put_slice(&self.head);
        for event in self.events.as_slice() {
            event.write_to(self.with_before, out);
        }
    }

    /// The message in pieces: what is small copied together, values of 16 KiB and more shared.
    #[inline]
    pub fn into_chunks(self) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let mut small = BytesMut::from(self.head.as_slice());
        for event in self.events.as_slice() {
            event.append_to(self.with_before, &mut chunks, &mut small);
        }
        if !small.is_empty() {
            chunks.push(small.freeze());
        }
        chunks
    }
}

/// The length of the response with these events in one piece, for the decision to split it.
pub(super) fn response_len(
    head: &Head,
    events: &EventList,
    with_before: bool,
    headers: &dyn HeaderSource,
) -> usize {
    let events_len: usize = events
        .as_slice()
        .iter()
        .map(|event| event.prepare(with_before))
        .sum();
    head.encode(headers).len() + events_len
}
