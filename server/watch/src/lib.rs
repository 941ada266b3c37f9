//! Watches: who waits for which keys, and how events reach them.
//!
//! A pure core (`hub`, `registry`, `index`, `ring`, `queue`) knows neither clocks nor tasks; a thin
//! asynchronous shell (`stream`) turns it into what one Watch call of the API needs. The apply
//! thread hands every batch of events to [`Hub::publish`]; the edge makes one [`WatchStream`] a
//! call, gives it the client's requests and sends the [`WatchFrame`]s that come out.
//!
//! Must never: name gRPC or protobuf message types (frames are bytes written by hand), write to
//! the store, let one stream hold up another or the apply thread, or read storage under a lock or on
//! a thread that serves connections or applies: history and a `prev_kv` that is not cached are read
//! on threads for blocking work, and the stream's later responses wait for it.
//!
//! Invariants:
//! - A watcher gets every event of its range from its start revision on, once, in order; the events
//!   of one transaction come in one response (or its fragments).
//! - A watcher is *live* (publishing queues its events) or *lagging* (it holds nothing but a cursor,
//!   the next revision it needs, and reads recent history from the ring or older from storage).
//!   It turns lagging when its stream's queue is full, live again when it has read everything.
//! - A progress answer of revision R is queued behind every event at or below R of its stream.
//! - What a stream holds is bounded by [`Config::stream_queue_bytes`] plus one historical batch;
//!   the ring by [`Config::ring_bytes`]. Both admit one transaction of any size, because a
//!   transaction's events are never split between responses.
//!
//! Lock order: the registry, then a stream's queue. Storage is read under neither.

#![forbid(unsafe_code)]

mod before;
mod event;
mod frame;
mod history;
mod hub;
mod index;
mod interval;
mod protobuf;
mod queue;
mod registry;
mod ring;
mod stream;
#[cfg(test)]
mod tests;
mod watcher;

use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

pub use frame::WatchFrame;
pub use hub::{Hub, Metrics};
pub use stream::WatchStream;

use engram_process::{budget::Turns, mutants, threads};
use engram_state as state;
use engram_types as types;

use crate::state::Values;
use crate::types::{ClusterId, KeyRange, MemberId, Revision};

/// The watch id of answers that belong to no watcher: failed creations, and progress of them all.
pub const NO_WATCHER: i64 = -1;

/// The watch id in a request that asks the server to choose one.
pub const AUTO_WATCH_ID: i64 = 0;

/// What the hub reads of the store. Called from connection threads (the two revisions, which must
/// be cheap) and from blocking threads (scans, and point reads of what was there before an event).
pub trait Store: Values + Send + Sync + 'static {
    /// The store's revision: never behind what was published.
    fn revision(&self) -> Revision;

    /// The revision of the last compaction, or 0 or less when there was none. It moves *before*
    /// the first superseded record is dropped: a scan trusts what it read only if this did not
    /// pass its start meanwhile.
    fn compact_revision(&self) -> Revision;

    /// The encoded key-value that `key` had just before revision `before`; none where it had none
    /// or that revision is compacted.
    fn previous(&self, key: &[u8], before: Revision) -> Option<Bytes>;
}

/// What goes into the header of every response besides the revision.
pub trait HeaderSource: Send + Sync + 'static {
    /// The cluster's id.
    fn cluster(&self) -> ClusterId;

    /// This member's id.
    fn member(&self) -> MemberId;

    /// The Raft term this member is in now.
    fn raft_term(&self) -> u64;
}

/// A connection thread that can be woken once for many streams: after a batch, the hub calls this
/// once for every home with the wakers of all its streams that have something to send. The
/// implementation calls [`Waker::wake`] on each of them, on its own thread, where that is cheap.
pub trait Home: Send + Sync {
    /// Wakes the streams' tasks. Must not block.
    fn wake(&self, wakers: Vec<Waker>);
}

/// Limits and intervals.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of undelivered events a stream may have queued before its watchers turn lagging.
    pub stream_queue_bytes: usize,
    /// Bytes of recent events kept in memory for lagging watchers and for watchers that start a
    /// little in the past.
    pub ring_bytes: usize,
    /// Revisions a historical response may span (etcd: 1000).
    pub history_revisions_max: usize,
    /// Bytes after which a historical response ends at the next transaction's boundary.
    pub history_bytes_max: usize,
    /// The turns in which history is read from storage.
    pub turns: Turns,
    /// The size from which a response is split for watchers that asked for fragments:
    /// `--max-request-bytes` + 512 KiB.
    pub fragment_bytes: usize,
    /// The interval of periodic progress answers (`--watch-progress-notify-interval`), raised to
    /// 100 ms where it is below. Each stream adds up to a tenth.
    pub progress_interval: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            stream_queue_bytes: 4 << 20,
            ring_bytes: 16 << 20,
            history_revisions_max: 1000,
            // A stream whose client does not read holds about two of them.
            history_bytes_max: 64 << 10,
            turns: Turns::new(2),
            fragment_bytes: (3 << 19) + (1 << 19),
            progress_interval: Duration::from_secs(600),
        }
    }
}

/// Which kinds of events a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `NOPUT`: leave out puts.
    pub no_put: bool,
    /// `NODELETE`: leave out deletes.
    pub no_delete: bool,
}

impl Filter {
    /// Whether an event of this kind is wanted.
    pub fn admits(self, tombstone: bool) -> bool {
        if tombstone {
            !self.no_delete
        } else {
            !self.no_put
        }
    }
}

/// A watcher to be made, as the client asked for it.
#[derive(Clone, Debug)]
pub struct Create {
    /// The keys. An empty start key means the lowest key, a zero byte (as in etcd).
    pub range: KeyRange,
    /// The first revision wanted; 0 means "from now on". Negative is refused as compacted.
    pub start_revision: i64,
    /// Whether to tell of progress periodically.
    pub progress_notify: bool,
    /// Whether events carry the value before them.
    pub prev_kv: bool,
    /// Events to leave out.
    pub filter: Filter,
    /// The id wanted, or [`AUTO_WATCH_ID`].
    pub watch_id: i64,
    /// Whether large responses may be split.
    pub fragment: bool,
    /// The reason why authorisation refuses the watcher (the text for `cancel_reason`).
    pub denied: Option<String>,
}

/// One request on a Watch call. A request of no known kind is to be ignored by the edge, as etcd
/// ignores it.
#[derive(Clone, Debug)]
pub enum Request {
    /// Make a watcher.
    Create(Create),
    /// End the watcher with this id. An unknown id gets no answer.
    Cancel(i64),
    /// Tell the stream's progress, if all its watchers have got everything.
    Progress,
}
