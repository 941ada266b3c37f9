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
