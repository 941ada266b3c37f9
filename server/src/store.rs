//! The applied state: the index in memory and the engine under it, with the lock that keeps them
//! together.
//!
//! The apply thread writes under the lock: index and engine change together, so that a reader who
//! holds it never meets a revision whose value the engine does not have yet. Readers hold it for
//! index work only and read values from the engine after letting go.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::state::State;
use crate::storage::Engine;
use crate::types::Revision;

/// See the module.
pub struct Store {
    state: RwLock<State>,
    engine: Engine,
    revision: AtomicI64,
    applied_index: AtomicU64,
}

impl Store {
    /// Joins a loaded state and the engine that it was loaded from.
    pub fn new(state: State, engine: Engine, applied_index: u64) -> Store {
        let revision = AtomicI64::new(state.mvcc.revision().0);
        let applied_index = AtomicU64::new(applied_index);
        Store {
            state: RwLock::new(state),
            engine,
            revision,
            applied_index,
        }
    }

    /// The state, shared with other readers. Hold it briefly.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// The state, alone. For the apply thread; pins are the one change others make.
    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The store's revision, without the lock. Never ahead of what a reader finds.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// What the store takes on disk and in memtables, and what of it is readable; bytes. The second
    /// is never above the first: compression can make what is stored smaller than what is read.
    pub fn size_and_in_use_bytes(&self) -> (u64, u64) {
        let size = self.engine.size_bytes().max(1);
        let in_use = self.read().mvcc.logical_bytes().min(size);
        (size, in_use)
    }

    /// Gives the space of what was deleted back to the file system. Readers and writers go on; the
    /// caller is blocked until it is done.
    pub fn defragment(&self) {
        self.engine.flush();
        self.engine.reclaim();
    }

    /// The index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// Tells readers without the lock how far the store is. For the apply thread, once written.
    pub fn publish(&self, revision: Revision, applied_index: u64) {
        self.revision.store(revision.0, Ordering::Release);
        self.applied_index.store(applied_index, Ordering::Release);
    }
}

/// A store in a directory of its own, for tests of the rooms above: what is written to it is
/// applied as the apply thread applies it.
#[cfg(test)]
pub mod fixture {
    use std::sync::Arc;

    use super::Store;
    use crate::state::{Effects, Limits, State};
    use crate::storage::{Applied, Engine, EngineOptions};
    use crate::types::request::{Compact, Op, Put};
    use crate::types::result::Outcome;
    use crate::types::{LeaseId, Revision};

    /// See the module.
    pub struct Scratch {
        /// The store.
        pub store: Arc<Store>,
        _dir: tempfile::TempDir,
    }

    impl Scratch {
        /// An empty store.
        pub fn empty() -> Scratch {
            let dir = tempfile::tempdir().unwrap();
            let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
            let limits = Limits {
                value_cache_bytes: 1 << 20,
            };
            let tables = engine.tables().unwrap();
            let state = State::load(limits, tables, |visit| engine.records(visit)).unwrap();
            Scratch {
                store: Arc::new(Store::new(state, engine, 0)),
                _dir: dir,
            }
        }

        /// Applies an operation.
        pub fn apply(&self, op: &Op) -> Outcome {
            let mut effects = Effects::default();
            let mut state = self.store.write();
            let outcome = state.apply(op, self.store.engine(), &mut effects);
            let engine = self.store.engine();
            engine.write(&effects.changes, &Applied::default());
            state.batch_written();
            let revision = state.mvcc.revision();
            drop(state);
            self.store.publish(revision, 0);
            outcome
        }

        /// Puts a key.
        pub fn put(&self, key: &str, value: &[u8]) {
            let put = Op::Put(Put {
                key: key.to_owned().into(),
                value: value.to_vec().into(),
                lease: LeaseId::NONE,
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            });
            self.apply(&put).result.unwrap();
        }

        /// Compacts at a revision; what it supersedes is still there.
        pub fn compact(&self, revision: Revision) {
            let compact = Op::Compact(Compact {
                revision: revision.0,
            });
            self.apply(&compact).result.unwrap();
        }

        /// Reclaims one step of what was superseded. Whether that was the last.
        pub fn reclaim_step(&self) -> bool {
            let mut effects = Effects::default();
            let mut state = self.store.write();
            let done = state.compact_step(1000, &mut effects);
            self.store.engine().write_unlogged(&effects.changes);
            done
        }
    }
}
