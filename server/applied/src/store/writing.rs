//! Applying a batch: index in steps, then the engine, then for all to see.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use super::{Cluster, Store};
use crate::state::{Change, Hold, State};
use crate::storage::{Applied, Engine};
use crate::threads;
use crate::types::Revision;

/// How long the lock is held while readers wait: with the step that ends then, well below 20 ms.
const HELD_MAX: Duration = Duration::from_millis(4);

/// A batch that is being applied. It must be committed.
#[must_use = "what is applied is shown by `commit`"]
pub struct Writing<'a> {
    store: &'a Store,
    /// Present but for the moments in which others have it.
    state: Option<RwLockWriteGuard<'a, State>>,
    since: Instant,
    _batch: RwLockWriteGuard<'a, ()>,
}

impl<'a> Writing<'a> {
    pub(super) fn begin(store: &'a Store) -> Writing<'a> {
        let batch = store.batch.write();
        Writing {
            store,
            state: Some(store.state.write()),
            since: Instant::now(),
            _batch: batch,
        }
    }

    fn take(&mut self) {
        self.state = Some(self.store.state.write());
        self.since = Instant::now();
    }

    /// Writes the batch to the engine, without the lock, and then shows it to readers: its last
    /// entry was the one at `index`. Returns the store's revision.
    pub fn commit(
        mut self,
        engine: &Engine,
        changes: &[Change],
        applied: &Applied,
        index: u64,
    ) -> Revision {
        self.state = None;
        // A write that stalls waits for the disk.
        let bytes = threads::on_disk(|| engine.write(changes, applied));
        self.store.headroom.take(bytes);
        self.take();
        let unwritten = self.state().take_unwritten();
        self.state().show();
        let revision = self.state().mvcc.revision();
        let compacted = self.state().mvcc.compact_revision();
        let concerns_cluster = changes.iter().any(Change::concerns_cluster);
        let cluster = concerns_cluster.then(|| Cluster::of(self.state()));
        while self.state().shrink_cache() {
            self.breathe();
        }
        self.state = None;
        // Freeing a million records takes a while.
        drop(unwritten);
        let store = self.store;
        if let Some(cluster) = cluster {
            store.show_cluster(cluster);
        }
        store.compact_revision.store(compacted.0, Ordering::Release);
        store.revision.store(revision.0, Ordering::Release);
        store.passed(index);
        revision
    }
}

impl Hold for Writing<'_> {
    fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("taken back by whoever let go")
    }

    fn in_company(&mut self, read: &mut dyn FnMut(&State)) {
        let state = self.state.take().expect("taken back by whoever let go");
        let shared: RwLockReadGuard<'_, State> = RwLockWriteGuard::downgrade(state);
        read(&shared);
        drop(shared);
        self.take();
    }

    fn breathe(&mut self) {
        if self.since.elapsed() < HELD_MAX {
            return;
        }
        threads::turn();
        RwLockWriteGuard::bump(self.state.as_mut().expect("taken back by whoever let go"));
        self.since = Instant::now();
    }
}
