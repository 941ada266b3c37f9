//! Tests of the whole room through its public face: a small store, a hub, streams polled by hand.

mod bounds;
mod model;
mod sequences;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engram_proto::etcdserverpb::WatchResponse;
use engram_proto::mvccpb;
use parking_lot::Mutex;
use prost::Message;

use super::*;
use crate::state::{Event, Previous, RevisionRecord};
use crate::types::{KeyValue, LeaseId, RevisionPair, Stored};

const TERM: u64 = 2;

/// A store of revisions in memory, which is all that watching needs.
#[derive(Default)]
struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    records: BTreeMap<RevisionPair, RevisionRecord>,
    /// The live key-values, encoded, with where they are.
    live: BTreeMap<Bytes, (RevisionPair, Bytes)>,
    revision: Revision,
    compacted: Revision,
    scans: usize,
    /// Who read values: point reads alone.
    readers: Vec<std::thread::ThreadId>,
}

impl Memory {
    fn new() -> Arc<Memory> {
        let memory = Memory::default();
        memory.0.lock().revision = Revision::EMPTY_STORE;
        Arc::new(memory)
    }

    /// Applies one transaction; a value of none deletes. Every third event names the value before
    /// it by its place only, as the index does when its value cache is full.
    fn apply(&self, ops: &[(&str, Option<&str>)]) -> (Revision, Vec<Event>) {
        let mut inner = self.0.lock();
        let main = inner.revision.next();
        let mut events = Vec::new();
        for (key, value) in ops {
            let pair = RevisionPair {
                main,
                sub: u32::try_from(events.len()).unwrap(),
            };
            events.extend(inner.change(pair, Bytes::copy_from_slice(key.as_bytes()), *value));
        }
        if !events.is_empty() {
            inner.revision = main;
        }
        (inner.revision, events)
    }

    fn compact(&self, at: Revision) {
        let mut inner = self.0.lock();
        assert!(at <= inner.revision && at >= inner.compacted);
        inner.compacted = at;
        let mut newest: BTreeMap<Bytes, RevisionPair> = BTreeMap::new();
        for (pair, record) in &inner.records {
            if pair.main <= at {
                newest.insert(record_key(record), *pair);
            }
        }
        inner.records.retain(|pair, record| {
            let kept = newest.get(&record_key(record)) == Some(pair);
            pair.main > at || (kept && (!record.tombstone || pair.main == at))
        });
    }
}

fn record_key(record: &RevisionRecord) -> Bytes {
    Bytes::copy_from_slice(KeyValue::key_of(&record.encoded).unwrap())
}

impl Inner {
    fn change(&mut self, pair: RevisionPair, key: Bytes, value: Option<&str>) -> Option<Event> {
        let before = self.live.get(&key).cloned();
        let previous = match &before {
            None => Previous::None,
            Some((at, _)) if pair.main.0 % 3 == 0 => Previous::At(*at),
            Some((_, encoded)) => Previous::Known(Stored::full(encoded)),
        };
        let Some(value) = value else {
            self.live.remove(&key)?;
            let tombstone = KeyValue {
                key: key.clone(),
                ..KeyValue::default()
            };
            let told = KeyValue {
                mod_revision: pair.main,
                ..tombstone.clone()
            };
            let record = RevisionRecord {
                pair,
                tombstone: true,
                encoded: tombstone.encode(),
            };
            self.records.insert(pair, record);
            return Some(Event {
                pair,
                tombstone: true,
                key,
                encoded: told.encode(),
                previous,
            });
        };
        let last = before.map(|(_, encoded)| KeyValue::decode(&encoded).unwrap());
        let kv = KeyValue {
            key: key.clone(),
            create_revision: last.as_ref().map_or(pair.main, |last| last.create_revision),
            mod_revision: pair.main,
            version: last.map_or(1, |last| last.version + 1),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: LeaseId::NONE,
        };
        let encoded = kv.encode();
        self.live.insert(key.clone(), (pair, encoded.clone()));
        let record = RevisionRecord {
            pair,
            tombstone: false,
            encoded: encoded.clone(),
        };
        self.records.insert(pair, record);
        Some(Event {
            pair,
            tombstone: false,
            key,
            encoded,
            previous,
        })
    }
}

impl Values for Memory {
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord> {
        let mut inner = self.0.lock();
        inner.readers.push(std::thread::current().id());
        inner.records.get(&pair).cloned()
    }

    fn scan(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        let records: Vec<_> = {
            let mut inner = self.0.lock();
            inner.scans += 1;
            inner
                .records
                .range(from..)
                .map(|(_, record)| record.clone())
                .collect()
        };
        let _ = records.into_iter().all(visit);
    }
}

impl Store for Memory {
    fn revision(&self) -> Revision {
        self.0.lock().revision
    }

    fn compact_revision(&self) -> Revision {
        self.0.lock().compacted
    }

    fn previous(&self, key: &[u8], before: Revision) -> Option<Bytes> {
        let inner = self.0.lock();
        if before.0 - 1 < inner.compacted.0 {
            return None;
        }
        let mut earlier = inner.records.range(
            ..RevisionPair {
                main: before,
                sub: 0,
            },
        );
        let last = earlier.rfind(|(_, record)| record_key(record) == key)?.1;
        (!last.tombstone).then(|| last.encoded.clone())
    }
}

struct Headers;

impl HeaderSource for Headers {
    fn cluster(&self) -> ClusterId {
        ClusterId(13_455_796_455_940_752_355)
    }

    fn member(&self) -> MemberId {
        MemberId(443_629_905_751_424_238)
    }

    fn raft_term(&self) -> u64 {
        TERM
    }
}

/// A store and its hub.
struct World {
    store: Arc<Memory>,
    hub: Arc<Hub>,
}

impl World {
    fn new(config: Config) -> World {
        let store = Memory::new();
        let hub = Hub::new(store.clone(), Arc::new(Headers), config);
        World { store, hub }
    }

    /// One transaction, published at once.
    fn txn(&self, ops: &[(&str, Option<&str>)]) -> Revision {
        let (revision, events) = self.store.apply(ops);
        self.hub.publish(revision, events);
        revision
    }

    fn put(&self, key: &str, value: &str) -> Revision {
        self.txn(&[(key, Some(value))])
    }
}

fn create(key: &str, end: &str) -> Create {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Create {
        range: KeyRange::from_request(bytes(key), bytes(end)),
        start_revision: 0,
        progress_notify: false,
        prev_kv: false,
        filter: Filter::default(),
        watch_id: AUTO_WATCH_ID,
        fragment: false,
        denied: None,
    }
}

fn decode(frame: WatchFrame) -> WatchResponse {
    let mut whole = BytesMut::new();
    frame.write_to(&mut whole);
    assert_eq!(whole.len(), frame.encoded_len());
    let response = WatchResponse::decode(whole.clone().freeze()).unwrap();
    assert_eq!(
        response.encoded_len(),
        whole.len(),
        "the encoding is the canonical one"
    );
    assert_eq!(
        frame.into_chunks().concat(),
        whole,
        "pieces make up the same message"
    );
    let header = response.header.as_ref().unwrap();
    assert_eq!(header.cluster_id, Headers.cluster().0);
    assert_eq!(
        (header.member_id, header.raft_term),
        (Headers.member().0, TERM)
    );
    response
}

/// The response that can be had without waiting.
fn poll(stream: &mut WatchStream) -> Option<WatchResponse> {
    match stream.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => Some(decode(frame)),
        Poll::Pending => None,
    }
}

/// The next response, waited for.
async fn next(stream: &mut WatchStream) -> WatchResponse {
    let next = tokio::time::timeout(Duration::from_secs(10), stream.next());
    decode(next.await.expect("a response comes"))
}

/// Asserts that nothing comes, however often the stream is asked.
async fn assert_silent(stream: &mut WatchStream) {
    for _ in 0..20 {
        assert_eq!(poll(stream), None);
        tokio::task::yield_now().await;
    }
}

fn revision_of(response: &WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

/// (revision, key, value; none for a delete) of each event.
fn told(response: &WatchResponse) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let events = response.events.iter().map(|event| {
        let kv = event.kv.as_ref().unwrap();
        let put = event.r#type == 0;
        (kv.mod_revision, text(&kv.key), put.then(|| text(&kv.value)))
    });
    events.collect()
}

fn value_before(event: &mvccpb::Event) -> Option<String> {
    let kv = event.prev_kv.as_ref()?;
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}
