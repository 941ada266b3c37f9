//! The applied state: the index in memory and the engine under it, with the lock that keeps them
//! together.
//!
//! The apply thread changes the index under the lock, in steps of a few milliseconds ([`Writing`]),
//! and writes the engine without it; only then does it show readers the new revision. So a reader
//! never meets a revision whose value the engine does not have yet, nor half of one, and waits
//! neither for a transaction over a million keys nor for an engine that stalls. Readers hold the lock
//! for index work only and read values from the engine after letting go.
//!
//! Who must wait for nobody (consensus, handshakes) looks at what is published beside the lock: the
//! members and alarms ([`Store::cluster`]), the revisions, the applied index.
//!
//! An installed snapshot replaces both at once. A plan made before and resolved after is right all
//! the same: what a revision holds is the same in every store, or the revision is compacted there
//! and the read is planned anew. Only a *pinned* read needs what compaction drops: it goes on with
//! the state and the engine that it began with ([`Pin`]).

mod hashes;
mod headroom;
mod load;
mod writing;

pub use hashes::{Begun, CompactionHashes, Remembered};
pub use headroom::{Headroom, Level};
pub use load::load;
pub use writing::Writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::state::{Alarms, Auth, Members, RevisionRecord, State, Values};
use crate::storage::Engine;
use crate::types::request::{AlarmType, Range};
use crate::types::result::ApplyError;
use crate::types::{Revision, RevisionPair, version};

/// What the store says of the cluster, as of the last entry applied. It does not change: ask for it
/// anew.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The members.
    pub members: Members,
    /// The alarms raised.
    pub alarms: Alarms,
    /// The version every member can speak ("3.7.0"), once agreed on; that of a downgrade, while there is one.
    pub version: Option<String>,
    /// The version ("3.6.0") that a downgrade under way is to.
    pub downgrade: Option<String>,
    /// Users, roles, and whether authentication is on.
    pub auth: Arc<Auth>,
}

impl Cluster {
    fn of(state: &State) -> Arc<Cluster> {
        let held = state.cluster_version.as_deref();
        Arc::new(Cluster {
            members: state.members.clone(),
            alarms: state.alarms.clone(),
            version: held.map(|held| version::plain(held).to_owned()),
            downgrade: held.and_then(version::downgrade_target).map(str::to_owned),
            auth: state.auth.clone(),
        })
    }

    /// Whether NOSPACE is raised for a member.
    pub fn is_out_of_space(&self) -> bool {
        self.alarms.is_raised(AlarmType::NoSpace, &self.members)
    }
}

/// See the module. Lock order: batch, then state, then any other.
pub struct Store {
    state: RwLock<State>,
    /// Held from a batch's first change to its last.
    batch: RwLock<()>,
    /// Held for as long as it takes to clone or replace a pointer.
    cluster: RwLock<Arc<Cluster>>,
    /// Whether authentication is on, for calls that need nothing else of it.
    auth_enabled: AtomicBool,
    /// How often users, roles or the switch have changed, as they are shown.
    users_epoch: AtomicU64,
    engine: RwLock<Engine>,
    /// How many snapshots were installed. Changes under the state's lock.
    generation: AtomicU64,
    /// Replaced ones that a pinned read goes on with.
    replaced: Mutex<Vec<Arc<Replaced>>>,
    compaction_hashes: CompactionHashes,
    revision: AtomicI64,
    compact_revision: AtomicI64,
    applied_index: AtomicU64,
    /// As of the last look.
    data_bytes: AtomicU64,
    headroom: Headroom,
}

/// A state and its engine that are not the store's any more. Nothing changes them.
pub struct Replaced {
    generation: u64,
    state: State,
    engine: Engine,
}

impl Store {
    /// Joins a loaded state and the engine that it was loaded from.
    pub fn new(state: State, engine: Engine, applied_index: u64) -> Store {
        let revision = AtomicI64::new(state.mvcc.revision().0);
        let compact_revision = AtomicI64::new(state.mvcc.compact_revision().0);
        let applied_index = AtomicU64::new(applied_index);
        Store {
            batch: RwLock::default(),
            cluster: RwLock::new(Cluster::of(&state)),
            auth_enabled: AtomicBool::new(state.auth.is_enabled()),
            users_epoch: AtomicU64::new(0),
            state: RwLock::new(state),
            engine: RwLock::new(engine),
            generation: AtomicU64::new(0),
            replaced: Mutex::default(),
            compaction_hashes: CompactionHashes::default(),
            revision,
            compact_revision,
            applied_index,
            data_bytes: AtomicU64::new(0),
            headroom: Headroom::default(),
        }
    }

    /// How much room the disk has.
    #[inline]
    pub fn headroom(&self) -> &Headroom {
        &self.headroom
    }

    /// The state, shared with other readers. Hold it briefly. Keys are shown as of the last batch
    /// written; leases may be those of half a batch ([`Store::between_batches`]).
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// The state, alone, for changes that need not be shown at once. For the apply thread; pins are
    /// the one change others make.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Begins to apply a batch. For the apply thread.
    pub fn begin(&self) -> Writing<'_> {
        Writing::begin(self)
    }

    /// Waits until no batch is half applied, and keeps the next one from beginning while the guard
    /// lives. For reads of leases' keys; blocks for as long as the engine takes to write.
    #[inline]
    pub fn between_batches(&self) -> RwLockReadGuard<'_, ()> {
        self.batch.read()
    }

    /// Whether a batch is half applied.
    #[cfg(any(test, feature = "fixtures"))]
    pub fn is_applying(&self) -> bool {
        self.batch.try_read().is_none()
    }

    /// The members, alarms and version, without waiting for anybody.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.cluster.read().clone()
    }

    /// Whether authentication is on, without waiting for anybody.
    pub fn is_auth_enabled(&self) -> bool {
        self.auth_enabled.load(Ordering::Acquire)
    }

    /// The switch goes on after the users are shown, and off before.
    fn show_cluster(&self, cluster: Arc<Cluster>) {
        let enabled = cluster.auth.is_enabled();
        if !enabled {
            self.auth_enabled.store(false, Ordering::Release);
        }
        let before = std::mem::replace(&mut *self.cluster.write(), cluster.clone());
        self.auth_enabled.store(enabled, Ordering::Release);
        if !Arc::ptr_eq(&before.auth, &cluster.auth) {
            self.users_epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Another number once users, roles or the switch have changed, and what is shown of them with
    /// it; without waiting for anybody.
    pub fn users_epoch(&self) -> u64 {
        self.users_epoch.load(Ordering::Acquire)
    }

    /// The revision last compacted at, without the lock; 0 if never. Nothing is reclaimed before it
    /// is told here.
    #[inline]
    pub fn compact_revision(&self) -> Revision {
        Revision(self.compact_revision.load(Ordering::Acquire))
    }

    /// The engine. A clone of an engine that is replaced goes on reading what it held.
    #[inline]
    pub fn engine(&self) -> Engine {
        self.engine.read().clone()
    }

    /// The store's revision, without the lock. Never ahead of what a reader finds.
    #[inline]
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// What the store takes on disk and in memtables, and what of it is readable; bytes. The second
    /// is never above the first: compression can make what is stored smaller than what is read.
    pub fn size_and_in_use_bytes(&self) -> (u64, u64) {
        let size = self.engine().size_bytes().max(1);
        let in_use = self.read().mvcc.logical_bytes().min(size);
        (size, in_use)
    }

    /// Bytes of the data (what is readable and what history is not reclaimed, as written), and of
    /// the store's files and memtables. Waits for nobody: while something is applied the data's are
    /// those of the last time.
    pub fn data_and_size_bytes(&self) -> (u64, u64) {
        let size = self.engine().size_bytes();
        if let Some(state) = self.state.try_read() {
            let data = state.mvcc.logical_bytes();
            self.data_bytes.store(data, Ordering::Relaxed);
        }
        (self.data_bytes.load(Ordering::Relaxed), size)
    }

    /// Gives the space of what was deleted back to the file system. Readers and writers go on; the
    /// caller is blocked until it is done.
    pub fn defragment(&self) {
        let engine = self.engine();
        engine.flush();
        engine.reclaim();
    }

    /// The index of the last entry applied.
    #[inline]
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// An entry that changes nothing was applied. For the apply thread, once that is written.
    pub fn passed(&self, applied_index: u64) {
        self.applied_index.store(applied_index, Ordering::Release);
    }

    /// Puts a snapshot's state and engine in the place of the store's, in one step, and tells how
    /// far the store is now. For the apply thread.
    ///
    /// The old ones are returned to be dropped where it holds nobody up; the old engine's directory
    /// goes once the last read of it has ended.
    pub fn replace(&self, state: State, engine: Engine, applied_index: u64) -> Arc<Replaced> {
        let (revision, compacted) = (state.mvcc.revision(), state.mvcc.compact_revision());
        let cluster = Cluster::of(&state);
        let mut current = self.state.write();
        let old_state = std::mem::replace(&mut *current, state);
        let old_engine = std::mem::replace(&mut *self.engine.write(), engine);
        old_engine.condemn();
        let old = Arc::new(Replaced {
            generation: self.generation.fetch_add(1, Ordering::Relaxed),
            state: old_state,
            engine: old_engine,
        });
        if old.state.mvcc.has_pins() {
            self.replaced.lock().push(old.clone());
        }
        drop(current);
        self.show_cluster(cluster);
        self.compact_revision.store(compacted.0, Ordering::Release);
        self.revision.store(revision.0, Ordering::Release);
        self.passed(applied_index);
        old
    }

    /// Pins the revision that `query` asks for (or the latest): see [`Pin`].
    ///
    /// # Errors
    /// The revision is compacted or in the future.
    pub fn pin(self: &Arc<Store>, query: &Range) -> Result<Pin, ApplyError> {
        let state = self.read();
        let revision = state.mvcc.revision_read(query)?;
        Ok(self.pin_found(&state, revision))
    }

    /// Pins the revision after which history is whole, compacted or not: nothing of that is reclaimed while the pin
    /// lives.
    pub fn pin_whole(self: &Arc<Store>) -> Pin {
        let state = self.read();
        // What nobody reads at is below every other pin.
        self.pin_found(&state, state.mvcc.whole_after().max(Revision(1)))
    }

    /// Pins a revision under the lock held; none where it is not readable.
    fn pin_readable(self: &Arc<Store>, state: &State, revision: Revision) -> Option<Pin> {
        state.mvcc.pin(revision).ok()?;
        Some(self.pinned(revision, state.mvcc.revision()))
    }

    /// Pins a revision of `state`, which is the store's and held: it was found readable since then.
    pub fn pin_found(self: &Arc<Store>, state: &State, revision: Revision) -> Pin {
        state.mvcc.pin_found(revision);
        self.pinned(revision, state.mvcc.revision())
    }

    fn pinned(self: &Arc<Store>, revision: Revision, head: Revision) -> Pin {
        Pin {
            store: self.clone(),
            generation: self.generation.load(Ordering::Relaxed),
            revision,
            head,
        }
    }

    /// Calls `read` with the state of a generation and its engine.
    fn with_generation<R>(&self, generation: u64, read: impl FnOnce(&State, Engine) -> R) -> R {
        let current = self.state.read();
        if self.generation.load(Ordering::Relaxed) == generation {
            return read(&current, self.engine());
        }
        drop(current);
        let replaced = {
            let all = self.replaced.lock();
            let found = all.iter().find(|old| old.generation == generation);
            found.expect("kept while it has pins").clone()
        };
        read(&replaced.state, replaced.engine.clone())
    }

    fn forget_unpinned(&self) {
        let mut gone = Vec::new();
        self.replaced.lock().retain(|old| {
            let keep = old.state.mvcc.has_pins();
            if !keep {
                gone.push(old.clone());
            }
            keep
        });
        // Freed here, outside of the lock.
        drop(gone);
    }
}

/// What the engine in force holds. Each call asks the engine of that moment.
impl Values for Store {
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord> {
        self.engine().get(pair)
    }

    fn get_many(&self, pairs: &[RevisionPair]) -> Vec<Option<RevisionRecord>> {
        self.engine().get_many(pairs)
    }

    fn scan(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        self.engine().scan(from, visit);
    }
}

/// A revision that stays readable while this lives, whatever is compacted or installed meanwhile.
pub struct Pin {
    store: Arc<Store>,
    generation: u64,
    revision: Revision,
    head: Revision,
}

impl Pin {
    /// The revision pinned.
    #[inline]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The store's revision when it was pinned.
    #[inline]
    pub fn head(&self) -> Revision {
        self.head
    }

    /// Pins another revision of the state that [`Pin::with`] gives, which was found readable since
    /// it was given.
    pub fn also(&self, state: &State, revision: Revision) -> Pin {
        state.mvcc.pin_found(revision);
        Pin {
            store: self.store.clone(),
            generation: self.generation,
            revision,
            head: self.head,
        }
    }

    /// Calls `look` with a state that holds the pinned revision, under its lock, and the engine that
    /// has the values of it.
    pub fn with<R>(&self, look: impl FnOnce(&State, Engine) -> R) -> R {
        self.store.with_generation(self.generation, look)
    }

    /// Whether each of the records is what readers at the pinned revision see of its key.
    pub fn visible(&self, records: &[RevisionRecord]) -> Vec<bool> {
        if records.is_empty() {
            return Vec::new();
        }
        self.store.with_generation(self.generation, |state, _| {
            state.mvcc.visible_at(self.revision, records)
        })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.store.with_generation(self.generation, |state, _| {
            state.mvcc.unpin(self.revision);
        });
        self.store.forget_unpinned();
    }
}

/// A store in a directory of its own, for tests of the rooms above: what is written to it is
/// applied as the apply thread applies it.
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture {
    use std::sync::Arc;

    use super::Store;
    use crate::state::{Effects, Hold as _, Limits};
    use crate::storage::{Applied, Engine, EngineOptions};
    use crate::types::request::{Compact, Op, Put};
    use crate::types::result::{Kept, Outcome};
    use crate::types::{LeaseId, Revision};

    /// See the module.
    pub struct Scratch {
        /// The store.
        pub store: Arc<Store>,
        _dir: tempfile::TempDir,
    }

    /// 64 KiB that compression cannot shorten, so that sizes are what was written.
    pub fn noise(seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        std::iter::repeat_with(step)
            .take(8 << 10)
            .flatten()
            .collect()
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
            let state = super::load(limits, tables, &engine).unwrap();
            Scratch {
                store: Arc::new(Store::new(state, engine, 0)),
                _dir: dir,
            }
        }

        /// Applies an operation.
        pub fn apply(&self, op: &Op) -> Outcome {
            let mut effects = Effects::default();
            let engine = self.store.engine();
            let mut writing = self.store.begin();
            let begun = self.store.begin_compaction_hash(writing.state(), op);
            let mut outcome = crate::state::apply(&mut writing, op, &engine, &mut effects);
            let state = writing.state();
            let kept = outcome.later.map(|at| self.store.pin_found(state, at));
            outcome.kept = kept.map(|pin| Kept(Arc::new(pin)));
            writing.commit(&engine, &effects.changes, &Applied::default(), 0);
            if let Some(begun) = begun {
                self.store.hash_compaction(begun);
            }
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
