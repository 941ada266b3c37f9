//! What compacted revisions hashed to: taken beside each compaction, and answered for as long as the
//! process lives, as etcd does.
//!
//! A compaction's revision is hashed by the rules before it, which every member then answers the
//! same, whether it has compacted yet or not. The hash reads the whole store, on a thread of its own
//! that works a quarter of the time at most; a question meanwhile waits for it, and then it works
//! half. A store above [`HASHED_BYTES_MAX`] is not hashed: its compacted revisions answer by the rules
//! after it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::{Pin, Store};
use crate::state::{CompactionHash, KeyValueHash, RevisionRecord, State};
use crate::storage::{Engine, Scanner};
use crate::types::Revision;
use crate::types::request::Op;

/// Hashes remembered, of the newest revisions. Source: etcd's hashStorageMaxSize.
const REMEMBERED_MAX: usize = 10;
/// Hashes under way: each holds a view of the engine, and a compaction beyond has none.
const UNDER_WAY_MAX: usize = 4;
/// The largest store hashed beside its compactions, in readable bytes: what etcd suggests at most.
/// Reading it takes seconds every time.
const HASHED_BYTES_MAX: u64 = 8 << 30;
/// Records between two looks at the index, a fraction of a millisecond of the lock.
const PAGE_RECORDS: usize = 256;
/// Bytes of them.
const PAGE_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Default)]
pub struct CompactionHashes {
    inner: Mutex<Inner>,
    ended: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Ascending by revision.
    remembered: Vec<KeyValueHash>,
    under_way: Vec<Revision>,
    /// Who waits for one of them.
    waiting: usize,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
}

/// What is known of a revision.
pub enum Remembered {
    /// It was compacted at, and hashed to this.
    Hash(KeyValueHash),
    /// It is being hashed: [`CompactionHashes::wait`].
    UnderWay,
    /// Nothing.
    Unknown,
}

impl CompactionHashes {
    /// What is known of `revision`. To be asked under the state's lock, where the answer shall hold
    /// for what is read there.
    pub fn at(&self, revision: Revision) -> Remembered {
        let inner = self.inner.lock();
        if inner.under_way.contains(&revision) {
            return Remembered::UnderWay;
        }
        let found = inner
            .remembered
            .iter()
            .find(|hash| hash.hash_revision == revision);
        found.map_or(Remembered::Unknown, |hash| Remembered::Hash(*hash))
    }

    /// Waits until `revision` is not being hashed any more. Blocks; never to be called under the
    /// state's lock.
    pub fn wait(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        inner.waiting += 1;
        while inner.under_way.contains(&revision) {
            self.ended.wait(&mut inner);
        }
        inner.waiting -= 1;
    }

    /// Gives up hashes under way and waits for their threads. None is begun afterwards.
    pub fn stop(&self) {
        let threads = {
            let mut inner = self.inner.lock();
            inner.stopping = true;
            std::mem::take(&mut inner.threads)
        };
        for thread in threads {
            // A panic in it has ended the process.
            let _ = thread.join();
        }
    }

    fn begin(&self, revision: Revision) -> bool {
        let mut inner = self.inner.lock();
        let room = !inner.stopping && inner.under_way.len() < UNDER_WAY_MAX;
        if room {
            inner.under_way.push(revision);
        }
        room
    }

    fn end(&self, revision: Revision, hash: Option<KeyValueHash>) {
        let mut inner = self.inner.lock();
        inner.under_way.retain(|other| *other != revision);
        if let Some(hash) = hash {
            inner.remembered.push(hash);
            inner.remembered.sort_by_key(|hash| hash.hash_revision);
            let surplus = inner.remembered.len().saturating_sub(REMEMBERED_MAX);
            inner.remembered.drain(..surplus);
        }
        drop(inner);
        self.ended.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.inner.lock().stopping
    }

    /// For how many times as long as it worked a hash rests.
    fn rests(&self) -> u32 {
        match self.inner.lock().waiting {
            0 => 3,
            _ => 1,
        }
    }

    fn keep(&self, thread: JoinHandle<()>) {
        let mut inner = self.inner.lock();
        inner.threads.retain(|thread| !thread.is_finished());
        inner.threads.push(thread);
    }
}

/// A hash begun before its compaction. Must not be dropped under the state's lock.
pub struct Begun {
    hash: CompactionHash,
    pin: Pin,
    /// Told of the end, however it comes.
    under_way: UnderWay,
}

struct UnderWay {
    store: Weak<Store>,
    revision: Revision,
    hash: Option<KeyValueHash>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.compaction_hashes.end(self.revision, self.hash.take());
        }
    }
}

impl Store {
    /// Begins to hash what `op`, a compaction that is applied next under the lock held, compacts at.
    /// None where it is none, or where its revision will not be remembered.
    pub fn begin_compaction_hash(self: &Arc<Store>, state: &State, op: &Op) -> Option<Begun> {
        let Op::Compact(compact) = op.bare() else {
            return None;
        };
        if state.mvcc.logical_bytes() > HASHED_BYTES_MAX {
            return None;
        }
        let hash = state.mvcc.compaction_hash(Revision(compact.revision))?;
        if !self.compaction_hashes.begin(hash.revision()) {
            return None;
        }
        let under_way = UnderWay {
            store: Arc::downgrade(self),
            revision: hash.revision(),
            hash: None,
        };
        let pin = self.pin_readable(state, hash.revision())?;
        Some(Begun {
            hash,
            pin,
            under_way,
        })
    }

    /// Hashes beside the compaction, which has been applied and written, and of which nothing has
    /// been reclaimed when this returns. Without a thread for it there is no hash.
    pub fn hash_compaction(self: &Arc<Store>, begun: Begun) {
        let engine = self.engine();
        let (viewed, has_viewed) = sync_channel(1);
        let hashing = crate::threads::spawn("engram-hash", move || begun.run(&engine, &viewed));
        match hashing {
            Ok(thread) => {
                // Fails where the thread has ended already.
                let _ = has_viewed.recv();
                self.compaction_hashes.keep(thread);
            }
            Err(error) => {
                crate::log!(warn, "a compaction is not hashed: no thread", error = %error);
            }
        }
    }

    /// What compacted revisions hashed to.
    pub fn compaction_hashes(&self) -> &CompactionHashes {
        &self.compaction_hashes
    }
}

impl Begun {
    fn run(mut self, engine: &Engine, viewed: &SyncSender<()>) {
        let hashed = engine.with_view(|scanner| {
            // The apply thread waits for it.
            let _ = viewed.send(());
            self.scan(scanner)
        });
        if !hashed {
            return;
        }
        let hash = self.hash.finish();
        crate::log!(
            info,
            "storing new hash",
            hash = hash.hash,
            revision = hash.hash_revision.0,
            "compact-revision" = hash.compact_revision.0
        );
        self.under_way.hash = Some(hash);
    }

    /// Whether the scan came to its end.
    fn scan(&mut self, scanner: &Scanner<'_>) -> bool {
        let mut page = Page::default();
        let mut stopped = false;
        scanner.records(&mut |record| {
            if record.pair.main > self.hash.revision() {
                return false;
            }
            page.add(record.kept());
            if page.is_full() {
                stopped = !self.take_in(&mut page);
            }
            !stopped
        });
        !stopped && self.take_in(&mut page)
    }

    /// Takes a page in, and then leaves the processor to others for a while.
    /// False once the store is stopping.
    fn take_in(&mut self, page: &mut Page) -> bool {
        let visible = self.pin.visible(self.hash.undecided(&page.records));
        self.hash.feed(&page.records, &visible);
        let full = page.is_full();
        let took = page.begun.elapsed();
        *page = Page::default();
        let Some(store) = self.under_way.store.upgrade() else {
            return false;
        };
        if full && !store.compaction_hashes.is_stopping() {
            std::thread::sleep(took * store.compaction_hashes.rests());
            page.begun = Instant::now();
        }
        !store.compaction_hashes.is_stopping()
    }
}

/// Records to take in at once.
struct Page {
    records: Vec<RevisionRecord>,
    bytes: usize,
    begun: Instant,
}

impl Default for Page {
    fn default() -> Page {
        Page {
            records: Vec::with_capacity(PAGE_RECORDS),
            bytes: 0,
            begun: Instant::now(),
        }
    }
}

impl Page {
    fn add(&mut self, record: RevisionRecord) {
        self.bytes += record.encoded.len();
        self.records.push(record);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= PAGE_RECORDS || self.bytes >= PAGE_BYTES
    }
}
