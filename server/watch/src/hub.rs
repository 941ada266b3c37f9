//! The hub: the registry behind its lock, with the counters beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::event::Published;
use super::queue::Mailbox;
use super::registry::{Registry, Wakes};
use super::stream::WatchStream;
use super::{Config, HeaderSource, Home, Store};
use crate::state::Event;
use crate::types::Revision;

/// Distributes events to watchers. Shared by the apply thread and every Watch call.
pub struct Hub {
    registry: Mutex<Registry>,
    pub(super) store: Arc<dyn Store>,
    pub(super) headers: Arc<dyn HeaderSource>,
    pub(super) config: Config,
    events_sent: AtomicU64,
    /// Below zero for the moment in which a stream is quicker than the count.
    events_pending: AtomicI64,
}

/// The hub's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Watchers (`etcd_debugging_mvcc_watcher_total`).
    pub watchers: usize,
    /// Streams (`etcd_debugging_mvcc_watch_stream_total`).
    pub streams: usize,
    /// Watchers that read the past (`etcd_debugging_mvcc_slow_watcher_total`).
    pub slow_watchers: usize,
    /// Events sent to watchers since the start (`etcd_debugging_mvcc_events_total`).
    pub events_total: u64,
    /// Events queued and not yet sent (`etcd_debugging_mvcc_pending_events_total`).
    pub pending_events: u64,
    /// Bytes of recent history in memory.
    pub ring_bytes: usize,
}

impl Hub {
    /// A hub whose history begins at the store's revision.
    pub fn new(store: Arc<dyn Store>, headers: Arc<dyn HeaderSource>, config: Config) -> Arc<Hub> {
        Arc::new(Hub {
            registry: Mutex::new(Registry::new(store.revision(), &config)),
            store,
            headers,
            config,
            events_sent: AtomicU64::new(0),
            events_pending: AtomicI64::new(0),
        })
    }

    /// Publishes what a batch did, once `Store` answers with it. Called by the apply thread alone,
    /// once a batch: `events` ascend, lie above what was published before and not above `revision`,
    /// the store's revision after the batch. Wakes every connection thread at most once.
    pub fn publish(&self, revision: Revision, events: Vec<Event>) {
        let events: Vec<_> = events.into_iter().map(Published::from_event).collect();
        let mut wakes = Wakes::default();
        let mut dropped = Vec::new();
        let queued = self
            .registry
            .lock()
            .publish(revision, events, &mut wakes, &mut dropped);
        self.events_pending.fetch_add(queued, Ordering::Relaxed);
        wakes.send();
    }

    /// Goes on after the store was replaced by a snapshot at `revision`: watchers keep their place
    /// and read the new history, or learn that their place is compacted.
    pub fn reset(&self, revision: Revision) {
        let mut wakes = Wakes::default();
        self.registry.lock().reset(revision, &mut wakes);
        wakes.send();
    }

    /// Has every stream polled: its edge has something to look at.
    pub fn nudge(&self) {
        let mut wakes = Wakes::default();
        self.registry.lock().nudge(&mut wakes);
        wakes.send();
    }

    /// Opens a stream: one for each Watch call. `home` is the connection thread it lives on.
    pub fn open(self: &Arc<Hub>, home: Option<Arc<dyn Home>>) -> WatchStream {
        let mailbox = Mailbox::new(home);
        let key = self.registry.lock().open(mailbox.clone());
        WatchStream::new(self.clone(), mailbox, key)
    }

    /// The counters now.
    pub fn metrics(&self) -> Metrics {
        let (watchers, streams, slow_watchers, ring_bytes) = self.registry.lock().counts();
        Metrics {
            watchers,
            streams,
            slow_watchers,
            events_total: self.events_sent.load(Ordering::Relaxed),
            pending_events: self
                .events_pending
                .load(Ordering::Relaxed)
                .max(0)
                .unsigned_abs(),
            ring_bytes,
        }
    }

    /// The registry. Hold it shortly: the apply thread waits for it.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    /// Counts events that left the queue, and events sent to a client.
    pub(super) fn count_events(&self, left: i64, sent: u64) {
        self.events_pending.fetch_sub(left, Ordering::Relaxed);
        self.events_sent.fetch_add(sent, Ordering::Relaxed);
    }
}
