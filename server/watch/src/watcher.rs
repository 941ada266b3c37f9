//! One watcher, as the hub and its stream share it. What changes about its place in history lives
//! in the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Filter;
use super::event::Published;
use crate::types::KeyRange;

/// A watcher's fixed traits and two flags.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Its id on its stream.
    pub id: i64,
    /// The keys.
    pub range: KeyRange,
    /// What it does not want.
    pub filter: Filter,
    /// Whether its events carry the value before them.
    pub prev_kv: bool,
    /// Whether its responses may be split.
    pub fragment: bool,
    /// Whether it wants periodic progress.
    pub progress_notify: bool,
    /// Its place in the registry. Meaningless once it has ended.
    pub slot: usize,
    ended: AtomicBool,
    muted: AtomicBool,
    progress_due: AtomicBool,
}

impl Watcher {
    /// A watcher that is about to take `slot`.
    pub fn new(id: i64, slot: usize, create: &super::Create) -> Arc<Watcher> {
        Arc::new(Watcher {
            id,
            range: create.range.clone(),
            filter: create.filter,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            slot,
            ended: AtomicBool::new(false),
            muted: AtomicBool::new(false),
            // etcd's first periodic progress comes even where nothing was sent before.
            progress_due: AtomicBool::new(true),
        })
    }

    /// Whether it wants this event.
    pub fn wants(&self, event: &Published) -> bool {
        self.filter.admits(event.tombstone) && self.range.contains(&event.key)
    }

    /// Whether it has left the registry.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// It leaves the registry.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether its client cancelled it, so that nothing queued for it is sent any more.
    pub fn muted(&self) -> bool {
        self.muted.load(Ordering::Acquire)
    }

    /// Its client cancelled it.
    pub fn mute(&self) {
        self.muted.store(true, Ordering::Release);
    }

    /// Events were sent: the next periodic progress is left out.
    pub fn events_sent(&self) {
        self.progress_due.store(false, Ordering::Relaxed);
    }

    /// An interval is over: whether progress is due. The next one is, unless events are sent.
    pub fn interval_over(&self) -> bool {
        self.progress_due.swap(true, Ordering::Relaxed)
    }
}
