//! A recording: workers, observers and compactions on a cluster, from the first revision on, until
//! it is stopped and judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use engram_proto::etcdserverpb::CompactionRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::observer::{Observer, Post, Watch};
use super::timeline::Timeline;
use super::worker::{Board, Worker, first_read};
use super::{Clock, Operation, order, promises, referee};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::random::Random;

/// Concurrent clients.
pub const WORKERS: usize = 8;
/// Watchers that come and go.
const VISITORS: usize = 4;
/// Between two compactions.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(2);
/// How many revisions a compaction leaves below what the slowest observer has seen: more than
/// visitors look back.
const HISTORY_KEPT: i64 = 100;
/// How far visitors look back. Revisions.
const LOOK_BACK: u64 = 60;
/// How long observers may take to see the end.
const END_LIMIT: Duration = Duration::from_secs(60);

/// The flags that members need for it.
pub const FLAGS: [&str; 1] = ["--watch-progress-notify-interval=500ms"];

/// A recording under way.
pub struct Recording {
    board: Arc<Board>,
    seed: u64,
    first: Operation,
    workers: Vec<JoinHandle<Vec<Operation>>>,
    observers: Vec<JoinHandle<Vec<Watch>>>,
    visitors: Vec<JoinHandle<Vec<Watch>>>,
    compactor: JoinHandle<()>,
    compacted: Arc<AtomicI64>,
    seen: Vec<Arc<AtomicI64>>,
    ended: watch::Sender<bool>,
}

impl Recording {
    /// Begins on an empty cluster; every client pauses for `pace` after each operation.
    pub fn begin(cluster: &Cluster, seed: u64, pace: Duration) -> Self {
        let mut random = Random::new(seed);
        let board = Arc::new(Board {
            clock: Clock::start(),
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            next_client: AtomicUsize::new(0),
            addresses: cluster.addresses(),
        });
        let first = cluster.wait_for(END_LIMIT, "the first read", || {
            cluster.runtime().block_on(first_read(&board))
        });
        let _guard = cluster.runtime().enter();
        let (ended, end) = watch::channel(false);
        let seen: Vec<Arc<AtomicI64>> = board.addresses.iter().map(|_| Arc::default()).collect();
        let workers = spawn_workers(&board, &mut random, pace);
        let observers = spawn_observers(&board, &seen, &end);
        let visitors = spawn_visitors(&board, &mut random, &seen, &end);
        let compacted = Arc::new(AtomicI64::new(0));
        let compactor = tokio::spawn(compact(
            board.clone(),
            random.fork(),
            seen.clone(),
            compacted.clone(),
        ));
        Self {
            board,
            seed,
            first,
            workers,
            observers,
            visitors,
            compactor,
            compacted,
            seen,
            ended,
        }
    }

    /// Operations served so far.
    pub fn served(&self) -> u64 {
        self.board.served.load(Ordering::Relaxed)
    }

    /// Stops, lets every observer see the end, and judges the history; prints what was judged.
    ///
    /// # Panics
    /// If no correct cluster could have had this history. The history is kept then, and its path
    /// and seed are told.
    pub fn must_be_right(self, cluster: &Cluster) {
        let seed = self.seed;
        let (history, watches, last, compacted) = self.collect(cluster);
        let scratch = tempfile::TempDir::with_prefix("engram-history-").expect("a directory");
        let outcome = judge(&scratch, &history, &watches, last, compacted);
        if let Err(sentence) = outcome {
            let kept = scratch.keep();
            cluster.fail(&format!(
                "{sentence}\nthe history is kept in {}; the seed was {seed}",
                kept.display()
            ));
        }
    }

    /// All operations by worker, all watches, the last revision, and what was compacted.
    fn collect(self, cluster: &Cluster) -> (Vec<Vec<Operation>>, Vec<Watch>, i64, i64) {
        let runtime = cluster.runtime();
        self.board.stop.store(true, Ordering::Relaxed);
        self.compactor.abort();
        let done = |task: JoinHandle<Vec<Operation>>| runtime.block_on(task).expect("no panic");
        let mut history: Vec<Vec<Operation>> = self.workers.into_iter().map(done).collect();
        history.push(vec![self.first]);
        let last = cluster.wait_for(END_LIMIT, "a linearizable read after the recording", || {
            cluster.revision(cluster.awake()[0])
        });
        for (place, seen) in self.seen.iter().enumerate() {
            let name = cluster.server(place).name();
            cluster.wait_for(END_LIMIT, &format!("{name}'s watch reaches {last}"), || {
                (seen.load(Ordering::SeqCst) >= last).then_some(())
            });
        }
        self.ended.send_replace(true);
        let tasks = self.observers.into_iter().chain(self.visitors);
        let watched = |task: JoinHandle<Vec<Watch>>| runtime.block_on(task).expect("no panic");
        let watches = tasks.flat_map(watched).collect();
        (
            history,
            watches,
            last,
            self.compacted.load(Ordering::SeqCst),
        )
    }
}

fn spawn_workers(
    board: &Arc<Board>,
    random: &mut Random,
    pace: Duration,
) -> Vec<JoinHandle<Vec<Operation>>> {
    let spawn = |number| {
        let worker = Worker::new(board.clone(), random.fork(), number, pace);
        tokio::spawn(worker.work())
    };
    (0..WORKERS).map(spawn).collect()
}

/// One a member, each of every key.
fn spawn_observers(
    board: &Board,
    seen: &[Arc<AtomicI64>],
    end: &watch::Receiver<bool>,
) -> Vec<JoinHandle<Vec<Watch>>> {
    let spawn = |(member, seen): (usize, &Arc<AtomicI64>)| {
        let post = Post {
            watcher: member,
            member,
            address: board.addresses[member],
            key: None,
            start: 1,
        };
        let observer = Observer::new(post, board.clock, seen.clone());
        tokio::spawn(observer.observe(until(end.clone())))
    };
    seen.iter().enumerate().map(spawn).collect()
}

fn spawn_visitors(
    board: &Arc<Board>,
    random: &mut Random,
    seen: &[Arc<AtomicI64>],
    end: &watch::Receiver<bool>,
) -> Vec<JoinHandle<Vec<Watch>>> {
    let spawn = |number: usize| {
        let (random, seen) = (random.fork(), seen.to_vec());
        let watcher = seen.len() + number;
        tokio::spawn(visit(board.clone(), random, watcher, seen, end.clone()))
    };
    (0..VISITORS).map(spawn).collect()
}

async fn until(mut end: watch::Receiver<bool>) {
    // The sender's end is an end too.
    let _ = end.wait_for(|ended| *ended).await;
}

/// Watches one key or all of them, at some member, from some recent revision on, for a few seconds;
/// and again.
async fn visit(
    board: Arc<Board>,
    mut random: Random,
    watcher: usize,
    seen: Vec<Arc<AtomicI64>>,
    end: watch::Receiver<bool>,
) -> Vec<Watch> {
    let mut watches = Vec::new();
    while !*end.borrow() {
        let member = random.place(board.addresses.len());
        let newest = seen.iter().map(|seen| seen.load(Ordering::SeqCst)).max();
        let back = i64::try_from(random.below(LOOK_BACK)).expect("it is small");
        let post = Post {
            watcher,
            member,
            address: board.addresses[member],
            key: random
                .percent(60)
                .then(|| format!("key/{}", random.below(10))),
            // One more than the newest is the future.
            start: (newest.unwrap_or(0) + 2 - back).max(1),
        };
        let visit = Duration::from_millis(500 + random.below(4_000));
        let observer = Observer::new(post, board.clock, Arc::default());
        let limit = async {
            tokio::select! {
                () = tokio::time::sleep(visit) => {}
                () = until(end.clone()) => {}
            }
        };
        watches.extend(observer.observe(limit).await);
    }
    watches
}

async fn compact(
    board: Arc<Board>,
    mut random: Random,
    seen: Vec<Arc<AtomicI64>>,
    compacted: Arc<AtomicI64>,
) {
    loop {
        tokio::time::sleep(COMPACTION_INTERVAL).await;
        let slowest = seen.iter().map(|seen| seen.load(Ordering::SeqCst)).min();
        let revision = slowest.unwrap_or(0) - HISTORY_KEPT;
        if revision <= compacted.load(Ordering::SeqCst) {
            continue;
        }
        // Noted before it is asked: it may happen without an answer.
        compacted.store(revision, Ordering::SeqCst);
        let member = random.place(board.addresses.len());
        let mut client = Client::lazy(board.addresses[member]);
        let request = CompactionRequest {
            revision,
            physical: random.percent(50),
        };
        // A member that is gone cannot; the next round asks another.
        let _ = tokio::time::timeout(COMPACTION_INTERVAL, client.kv.compact(request)).await;
    }
}

fn judge(
    scratch: &tempfile::TempDir,
    history: &[Vec<Operation>],
    watches: &[Watch],
    last: i64,
    compacted: i64,
) -> Result<(), String> {
    // What the checks below find wrong has to be on disk already.
    let nothing = Timeline::default();
    referee::write(scratch.path(), &nothing, history, watches, None);
    let timeline = Timeline::merge(watches, last)?;
    referee::write(scratch.path(), &timeline, history, watches, None);
    let all: Vec<Operation> = history.iter().flatten().cloned().collect();
    let summary = order::check(&timeline, &all)?;
    promises::check(&timeline, watches, compacted)?;
    println!(
        "{last} revisions; {} operations answered; of the writes without an answer {} had \
         happened, {} had not; {} watches",
        summary.answered,
        summary.happened.len(),
        summary.lost,
        watches.len()
    );
    let settled = Some(&summary.happened);
    referee::write(scratch.path(), &timeline, history, watches, settled);
    println!("{}", referee::judge(scratch.path())?);
    Ok(())
}
