//! An event on its way to watchers, encoded once for all of them.
//!
//! Owns the two encodings an event can have (with and without the value before it), each made by
//! the first stream that needs it. Both include the tag and length of `WatchResponse.events`, so
//! that a response is its head followed by these bytes.

use std::sync::{Arc, OnceLock};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::OnceCell;

use super::Store;
use super::before::away;
use super::protobuf::{field_len, put_length};
use crate::state::{Event, Previous};
use crate::types::{RevisionPair, Stored};

/// From this size on key-values are shared rather than copied into a response.
pub(super) const SHARE_BYTES: usize = 16 << 10;

/// What an event costs in memory beside its bytes (the struct, its reference counts, a queue slot).
const OVERHEAD_BYTES: usize = 256;

const TAG_EVENTS: u8 = 0x5a;
const TAG_KV: u8 = 0x12;
const TAG_PREV_KV: u8 = 0x1a;
/// Field 1 of `mvccpb.Event` with the value DELETE. A put's type is zero and left out.
const TYPE_DELETE: [u8; 2] = [0x08, 0x01];

/// The value before an event.
#[derive(Debug)]
pub(super) enum Before {
    /// There was none.
    Nothing,
    /// In memory, shared with the index.
    Kept(Stored),
    /// Read from storage together with the event.
    Read(Bytes),
    /// In storage, to be read when the first watcher wants it.
    At(RevisionPair),
}

impl Before {
    fn len(&self) -> usize {
        match self {
            Before::Nothing | Before::At(_) => 0,
            Before::Kept(stored) => stored.as_ref().len(),
            Before::Read(bytes) => bytes.len(),
        }
    }
}

/// An event as the hub keeps it.
#[derive(Debug)]
pub(super) struct Published {
    /// When it happened.
    pub pair: RevisionPair,
    /// Whether it is a delete.
    pub tombstone: bool,
    /// The key.
    pub key: Bytes,
    encoded: Bytes,
    before: Before,
    plain: OnceLock<Wire>,
    /// Awaited by those who need it while somebody reads the value before.
    with_before: OnceCell<Wire>,
}

/// An encoded event: one piece, or several where copying would cost more than sending pieces.
#[derive(Debug)]
enum Wire {
    Joined(Bytes),
    Pieces(Box<[Bytes]>, usize),
}

impl Published {
    /// Takes over an event from the apply thread.
    pub fn from_event(event: Event) -> Arc<Published> {
        let before = match event.previous {
            Previous::None => Before::Nothing,
            Previous::Known(stored) => Before::Kept(stored),
            Previous::At(pair) => Before::At(pair),
        };
        Published::new(
            event.pair,
            event.tombstone,
            event.key,
            event.encoded,
            before,
        )
    }

    /// Makes an event of its parts.
    pub fn new(
        pair: RevisionPair,
        tombstone: bool,
        key: Bytes,
        encoded: Bytes,
        before: Before,
    ) -> Arc<Published> {
        Arc::new(Published {
            pair,
            tombstone,
            key,
            encoded,
            before,
            plain: OnceLock::new(),
            with_before: OnceCell::new(),
        })
    }

    /// The same event with the value before it, as read from storage.
    pub fn preceded_by(&self, before: Option<Bytes>) -> Arc<Published> {
        let before = before.map_or(Before::Nothing, Before::Read);
        let (key, encoded) = (self.key.clone(), self.encoded.clone());
        Published::new(self.pair, self.tombstone, key, encoded, before)
    }

    /// The memory it may take: its own bytes and both encodings.
    pub fn memory_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.key.len() + 3 * self.encoded.len() + 2 * self.before.len()
    }

    /// Whether the encoding with the value before has to wait for [`Published::fetch_before`].
    pub fn lacks_before(&self) -> bool {
        !self.with_before.initialized() && self.before_in_memory().is_none()
    }

    /// Reads the value before from storage and makes the encoding with it, unless somebody has or
    /// does. Must run within a tokio runtime.
    pub async fn fetch_before(self: &Arc<Published>, store: &Arc<dyn Store>) {
        let read = || {
            let (event, store) = (self.clone(), store.clone());
            away(move || event.encode(event.read_before(&*store)))
        };
        self.with_before.get_or_init(read).await;
    }

    /// Makes the encoding, unless it is there. Returns its length. The value before must be in
    /// memory, or have been fetched.
    pub fn prepare(&self, with_before: bool) -> usize {
        if !with_before {
            return self.plain.get_or_init(|| self.encode(None)).len();
        }
        if let Some(wire) = self.with_before.get() {
            return wire.len();
        }
        let before = self
            .before_in_memory()
            .expect("what memory lacks is fetched before");
        let wire = self.encode(before);
        let len = wire.len();
        // Another stream may have been quicker, with the same bytes.
        drop(self.with_before.set(wire));
        len
    }

    /// Writes the encoding. [`Published::prepare`] must have been called for it.
    pub fn write_to(&self, with_before: bool, out: &mut impl BufMut) {
        match self.prepared(with_before) {
            Wire::Joined(bytes) => out.put_slice(bytes),
            Wire::Pieces(pieces, _) => pieces.iter().for_each(|piece| out.put_slice(piece)),
        }
    }

    /// Appends the encoding to a list of chunks, sharing what is large.
    pub fn append_to(&self, with_before: bool, chunks: &mut Vec<Bytes>, small: &mut BytesMut) {
        let pieces = match self.prepared(with_before) {
            Wire::Joined(bytes) => std::slice::from_ref(bytes),
            Wire::Pieces(pieces, _) => pieces,
        };
        for piece in pieces {
            if piece.len() < SHARE_BYTES {
                small.put_slice(piece);
                continue;
            }
            if small.has_remaining() {
                chunks.push(small.split().freeze());
            }
            chunks.push(piece.clone());
        }
    }

    fn prepared(&self, with_before: bool) -> &Wire {
        let wire = if with_before {
            self.with_before.get()
        } else {
            self.plain.get()
        };
        wire.expect("an event is encoded before its response is made")
    }

    /// The value before, where it is known without storage: that there was none, too.
    fn before_in_memory(&self) -> Option<Option<Bytes>> {
        match &self.before {
            Before::Nothing => Some(None),
            Before::Read(bytes) => Some(Some(bytes.clone())),
            Before::Kept(stored) => {
                stored.encoded()?;
                Some(Some(Bytes::from_owner(stored.clone())))
            }
            Before::At(_) => None,
        }
    }

    fn read_before(&self, store: &dyn Store) -> Option<Bytes> {
        match &self.before {
            Before::At(pair) => store.get(*pair).map(|record| record.encoded),
            _ => store.previous(&self.key, self.pair.main),
        }
    }

    fn encode(&self, before: Option<Bytes>) -> Wire {
        let type_len = if self.tombstone { TYPE_DELETE.len() } else { 0 };
        let before_len = before.as_ref().map_or(0, |bytes| field_len(bytes.len()));
        let body_len = type_len + field_len(self.encoded.len()) + before_len;
        let mut pieces = Pieces::default();
        put_length(&mut pieces.small, TAG_EVENTS, body_len);
        if self.tombstone {
            pieces.small.put_slice(&TYPE_DELETE);
        }
        pieces.field(TAG_KV, &self.encoded);
        if let Some(before) = &before {
            pieces.field(TAG_PREV_KV, before);
        }
        pieces.finish(field_len(body_len))
    }
}

impl Wire {
    fn len(&self) -> usize {
        match self {
            Wire::Joined(bytes) => bytes.len(),
            Wire::Pieces(_, len) => *len,
        }
    }
}

/// Collects an encoding: small parts side by side, large ones shared.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    small: BytesMut,
}

impl Pieces {
    fn field(&mut self, tag: u8, bytes: &Bytes) {
        put_length(&mut self.small, tag, bytes.len());
        if bytes.len() < SHARE_BYTES {
            self.small.put_slice(bytes);
            return;
        }
        self.done.push(self.small.split().freeze());
        self.done.push(bytes.clone());
    }

    fn finish(mut self, len: usize) -> Wire {
        let rest = self.small.freeze();
        if self.done.is_empty() {
            assert_eq!(rest.len(), len, "an encoded event has the length foretold");
            return Wire::Joined(rest);
        }
        if !rest.is_empty() {
            self.done.push(rest);
        }
        let total: usize = self.done.iter().map(Bytes::len).sum();
        assert_eq!(total, len, "an encoded event has the length foretold");
        Wire::Pieces(self.done.into_boxed_slice(), len)
    }
}

/// Events of one response. Almost always one, which then needs no allocation.
#[derive(Debug, Default)]
pub(super) enum EventList {
    /// None.
    #[default]
    Empty,
    /// One.
    One(Arc<Published>),
    /// Several, ascending.
    Many(Vec<Arc<Published>>),
}

impl EventList {
    /// Appends an event.
    pub fn push(&mut self, event: Arc<Published>) {
        *self = match std::mem::take(self) {
            EventList::Empty => EventList::One(event),
            EventList::One(first) => EventList::Many(vec![first, event]),
            EventList::Many(mut events) => {
                events.push(event);
                EventList::Many(events)
            }
        };
    }

    /// The events.
    pub fn as_slice(&self) -> &[Arc<Published>] {
        match self {
            EventList::Empty => &[],
            EventList::One(event) => std::slice::from_ref(event),
            EventList::Many(events) => events,
        }
    }

    /// Takes the first `count` events away; all of them, where there are no more.
    pub fn take_first(&mut self, count: usize) -> EventList {
        match self {
            EventList::Many(events) if count < events.len() => {
                let rest = events.split_off(count);
                EventList::Many(std::mem::replace(events, rest))
            }
            _ => std::mem::take(self),
        }
    }
}

impl From<Vec<Arc<Published>>> for EventList {
    fn from(events: Vec<Arc<Published>>) -> EventList {
        EventList::Many(events)
    }
}
