//! Tests of snapshots between members, with real engines, logs, apply threads and watch hubs; and
//! what they share.

mod alone;
mod catch_up;
mod cluster;
mod configurations;
mod confirmations;
mod crashes;
mod elections;
mod install;
mod log_reads;
mod mean;
mod mean_snapshots;
mod openraft;
mod partition;
mod passing;
mod proxy;
mod readers;
mod reconfigure;
mod replication;
mod slow_log;
mod snapshots;
mod stalls;
mod truncation;
mod verdicts;
mod watches;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::openraft::EntryPayload;
use ::openraft::type_config::alias::SnapshotMetaOf;
use bytes::Bytes;
use tempfile::TempDir;

use crate::codec::entry::BatchHeader;
use crate::home::Homes;
use crate::metrics::Metrics;
use crate::node::directory::MemberDirectory;
use crate::node::fence::Fence;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::Lessor;
use crate::node::sink::{Headers, Sink, WatchedStore};
use crate::peer::Local;
use crate::propose::{Proposer, Quota};
use crate::raft::fixture::{
    ApplyHandle, ApplyThread, Batch, Entry, LogStore, Membership, Peer, SnapshotData, Snapshots,
    Task, TypeConfig, entry,
};
use crate::snapshot::transfer::{Incoming, Outgoing, Piece, Received};
use crate::state::{KeyValueHash, Limits};
use crate::storage::{Checkpoint, Engine, EngineOptions, Place, place};
use crate::store::Store;
use crate::types::request::{Compact, DeleteRange, LeaseGrant, Op, Put, Range, Txn, TxnOp};
use crate::types::{ClusterId, KeyRange, LeaseId, MemberId, RangeEnd, Revision};
use crate::wal;
use crate::watch::{self, Hub};

/// What a snapshot is said to be.
type Meta = SnapshotMetaOf<TypeConfig>;

/// From here on an entry is logged as slow: none of these tests looks at that.
const SLOW_APPLY: Duration = Duration::from_secs(1);

/// A member without consensus: what openraft would call is called by the test.
struct Member {
    store: Arc<Store>,
    log: LogStore,
    hub: Arc<Hub>,
    lessor: Arc<Lessor>,
    proposer: Proposer,
    apply: Option<ApplyThread>,
    snapshots: Option<Snapshots>,
    /// Removed after everything that has files open in it.
    dir: TempDir,
}

impl Member {
    fn new() -> Member {
        Member::open(tempfile::tempdir().unwrap())
    }

    /// Opens a data directory as a start does.
    fn open(dir: TempDir) -> Member {
        let metrics = Arc::new(Metrics::new());
        let store = Arc::new(open_store(dir.path()));
        let (wal, recovered) = wal::open(&dir.path().join("wal"), small_log()).unwrap();
        let log = LogStore::new(wal, recovered, metrics.clone()).unwrap();
        let headers = Headers {
            cluster: ClusterId(1),
            member: MemberId(2),
            leadership: Arc::new(LeadershipCell::new(MemberId(2))),
        };
        let watched = Arc::new(WatchedStore(store.clone()));
        let hub = Hub::new(watched, Arc::new(headers), watch::Config::default());
        let lessor = Arc::new(Lessor::new(metrics.clone()));
        let quota = Quota::new(None, false);
        let homes = Homes::new(1).0;
        let proposer = Proposer::new(
            MemberId(2),
            Duration::from_secs(1),
            quota,
            homes,
            log.later().clone(),
        );
        let sink = Sink {
            journal: None,
            hub: hub.clone(),
            proposer: proposer.clone(),
            lessor: lessor.clone(),
            directory: Arc::new(MemberDirectory::new(Local::default(), store.clone(), "")),
            tokens: Arc::new(crate::auth::Tokens::new(Duration::from_secs(300), 0)),
            fence: Arc::new(Fence::new(MemberId(2), &store.read().alarms)),
            store: store.clone(),
            told: crate::node::told::Told::new(
                crate::types::ClusterId(1),
                MemberId(1),
                &store.cluster(),
            ),
        };
        let apply = ApplyThread::start(store.clone(), Arc::new(sink), metrics, SLOW_APPLY).unwrap();
        let snapshots = Snapshots::new(store.clone(), apply.handle(), log.clone());
        snapshots.serving().begin();
        Member {
            dir,
            store,
            log,
            hub,
            lessor,
            proposer,
            apply: Some(apply),
            snapshots: Some(snapshots),
        }
    }

    fn handle(&self) -> ApplyHandle {
        self.apply.as_ref().unwrap().handle()
    }

    fn snapshots(&self) -> &Snapshots {
        self.snapshots.as_ref().unwrap()
    }

    async fn apply(&self, entries: &[Entry]) {
        let entries = entries.to_vec();
        self.handle()
            .run(|done| Task::Apply { entries, done })
            .await
            .unwrap();
    }

    async fn flush(&self) {
        let engine = self.store.engine();
        tokio::task::spawn_blocking(move || engine.flush())
            .await
            .unwrap();
    }

    /// A snapshot of everything applied.
    async fn snapshot(&self) -> (Meta, Arc<Checkpoint>) {
        self.flush().await;
        self.current().await
    }

    /// What openraft's transmitter gets.
    async fn current(&self) -> (Meta, Arc<Checkpoint>) {
        let begun = std::time::Instant::now();
        loop {
            let snapshot = self.snapshots().current().await.unwrap().unwrap();
            match snapshot.snapshot {
                SnapshotData::Sending(checkpoint) => return (snapshot.meta, checkpoint),
                // It is made for who asks next, where the disk takes long.
                SnapshotData::Described if begun.elapsed() < cluster::PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => panic!("{other:?} cannot be sent"),
            }
        }
    }

    /// Receives a checkpoint.
    fn receive(&self, checkpoint: &Arc<Checkpoint>) -> Received {
        let mut incoming = Incoming::begin(&place::incoming_dir(self.dir.path())).unwrap();
        for piece in pieces(checkpoint) {
            incoming.accept(&piece).unwrap();
        }
        incoming.finish().unwrap()
    }

    async fn install(&self, meta: &Meta, received: Received) {
        let data = SnapshotData::Received(received);
        self.snapshots().install(meta, data).await.unwrap();
    }

    /// Takes over everything that `other` has applied.
    async fn install_from(&self, other: &Member) {
        let (meta, checkpoint) = other.snapshot().await;
        self.install(&meta, self.receive(&checkpoint)).await;
    }

    fn place(&self) -> Place {
        Place::of(self.store.engine().dir()).unwrap()
    }

    fn hash(&self) -> KeyValueHash {
        let state = self.store.read();
        let mut plan = state.mvcc.hash_keep(Revision(0)).unwrap();
        let engine = self.store.engine();
        engine.with_view(|scanner| {
            drop(state);
            scanner.records(&mut |record| plan.feed(record));
            plan.finish()
        })
    }

    /// Everything that a client could ask for, in words that can be compared.
    fn everything(&self) -> String {
        let state = self.store.read();
        let leases: Vec<_> = state
            .leases
            .iter()
            .map(|(id, ttl)| (id, ttl, state.leases.get(id).unwrap().1.collect::<Vec<_>>()))
            .collect();
        let range = state.mvcc.range(&all_keys(), &*self.store).unwrap();
        let items: Vec<Bytes> = range
            .items
            .iter()
            .map(|item| Bytes::copy_from_slice(item.as_ref()))
            .collect();
        format!(
            "{:?} {:?} {} {:?} {:?} {:?} {:?} {:?}",
            state.mvcc.revision(),
            state.mvcc.compact_revision(),
            self.store.applied_index(),
            state.mvcc.keys_total(),
            state.alarms.iter().collect::<Vec<_>>(),
            state.members.iter().collect::<Vec<_>>(),
            leases,
            items,
        )
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The apply thread holds the store, whose engine must be closed before the directory goes.
        drop(self.snapshots.take());
        if let Some(apply) = self.apply.take() {
            apply.join();
        }
    }
}

fn open_store(data_dir: &Path) -> Store {
    let (place, _) = Place::find(data_dir).unwrap();
    place.clean().unwrap();
    let engine = Engine::open(&place.dir(), EngineOptions::default()).unwrap();
    let limits = Limits {
        value_cache_bytes: 4 << 10,
    };
    let tables = engine.tables().unwrap();
    let state = crate::store::load(limits, tables, &engine).unwrap();
    let applied = engine.applied().unwrap().log_position;
    Store::new(state, engine, applied.map_or(0, |position| position.index))
}

fn small_log() -> wal::Options {
    wal::Options {
        segment_bytes: 64 << 10,
        ..wal::Options::default()
    }
}

fn pieces(checkpoint: &Arc<Checkpoint>) -> Vec<Piece> {
    let mut outgoing = Outgoing::open(checkpoint).unwrap();
    std::iter::from_fn(|| outgoing.next_piece().unwrap()).collect()
}

fn all_keys() -> Range {
    Range::all(KeyRange {
        start: Bytes::new(),
        end: RangeEnd::Unbounded,
    })
}

/// The entries that a cluster of three begins with: its membership, and a leader's first.
fn beginning() -> Vec<Entry> {
    let nodes: BTreeMap<u64, Peer> = (1..=3).map(|id| (id, Peer::default())).collect();
    let voters = vec![nodes.keys().copied().collect()];
    let membership = Membership::new(voters, nodes).unwrap();
    vec![
        Entry {
            log_id: entry::log_id(0, 0),
            payload: EntryPayload::Membership(membership),
        },
        Entry {
            log_id: entry::log_id(1, 1),
            payload: EntryPayload::Blank,
        },
    ]
}

/// An entry of term 1.
fn batch(index: u64, ops: Vec<Op>) -> Entry {
    let header = BatchHeader {
        proposer: MemberId(1),
        sequence: index,
        wall_ms: 0,
    };
    Entry {
        log_id: entry::log_id(1, index),
        payload: EntryPayload::Normal(Batch::new(header, ops)),
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(put_with_lease(key, value, LeaseId::NONE))
}

fn put_with_lease(key: &str, value: &str, lease: LeaseId) -> Put {
    Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn delete(key: &str) -> DeleteRange {
    DeleteRange {
        range: KeyRange::single(Bytes::copy_from_slice(key.as_bytes())),
        prev_kv: false,
    }
}

fn compact(revision: i64) -> Op {
    Op::Compact(Compact { revision })
}

/// A small generator of numbers, the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The first `count` entries of a history in which everything happens, some of it in vain.
fn history(seed: u64, count: u64) -> Vec<Entry> {
    let mut numbers = Numbers(seed);
    let mut entries = beginning();
    for index in 2..count {
        let ops = (0..=numbers.below(4)).map(|_| random_op(&mut numbers, index));
        entries.push(batch(index, ops.collect()));
    }
    entries
}

fn random_op(numbers: &mut Numbers, index: u64) -> Op {
    let key = format!("key-{:02}", numbers.below(40));
    let lease = LeaseId(i64::try_from(1 + numbers.below(5)).unwrap());
    match numbers.below(20) {
        0 => Op::LeaseGrant(LeaseGrant {
            id: lease,
            ttl_seconds: 60,
        }),
        1 => Op::LeaseRevoke(lease),
        2 | 3 => Op::Put(put_with_lease(&key, "leased", lease)),
        4..=6 => Op::DeleteRange(delete(&key)),
        7 => compact(i64::try_from(index).unwrap() - 5),
        8 | 9 => Op::Txn(Txn {
            compare: Vec::new(),
            success: vec![
                TxnOp::Put(put_with_lease(&key, "within", LeaseId::NONE)),
                TxnOp::DeleteRange(delete("key-07")),
            ],
            failure: Vec::new(),
        }),
        _ => put(&key, &format!("value {index} {}", numbers.below(1000))),
    }
}

/// Copies a directory as a crash would leave it: what is in files is there, what is in memory is
/// not. A copy during which a background thread changed something is no moment, and made anew.
fn copy_dir(from: &Path) -> TempDir {
    let mut copied = None;
    wait_until("the directory stands still", || {
        let before = listing(from);
        let to = tempfile::tempdir().unwrap();
        let is_whole = copy_into(from, to.path()).is_ok() && listing(from) == before;
        copied = Some(to);
        is_whole
    });
    copied.unwrap()
}

/// Paths and lengths of all files below a directory.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.push((path.clone(), path.metadata().map_or(0, |file| file.len())));
        if path.is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}

fn copy_into(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target)?;
            copy_into(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Waits for what happens on a thread that nobody hears of.
fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
