//! Kill -9 under load, again and again, in one data directory; the books must balance each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::audit::clients::{Auditor, Board, send};
use engram_e2e::audit::ledger::{Event, Ledger};
use engram_e2e::audit::operation::{Operation, Outcome, Record, text};
use engram_e2e::audit::watchers::Watcher;
use engram_e2e::client::{self, Client, revision_of};
use engram_e2e::random::{Random, number_from};
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use engram_proto::etcdserverpb::{
    CompactionRequest, LeaseLeasesRequest, RangeResponse, WatchCreateRequest,
};
use tokio::runtime::Runtime;
use tonic::Code;

const ROUNDS_DEFAULT: u64 = 40;
const CLIENTS: u64 = 16;
const CONNECTIONS: u64 = 4;
/// When the server is killed, after its clients have begun. Milliseconds.
const KILL_AFTER: std::ops::Range<u64> = 10..400;
/// Leases that expire are few: every restart makes their time begin anew.
const SHORT_LEASES_MAX: i64 = 8;
/// Leases that do not expire are ended by the audit when there are more.
const LONG_LEASES_MAX: usize = 64;
/// How long watchers may take to catch up, and leases to expire, at the end.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// A long audit says now and then how far it is. Rounds.
const PROGRESS_EVERY: u64 = 100;
const READ_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn nothing_acknowledged_is_lost_and_no_watch_skips_when_the_server_is_killed_under_load() {
    let _turn = turn::take("crash audit");
    let rounds = number_from("ENGRAM_CRASH_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let mut audit = Audit::begin(Random::new(Random::seed_from("ENGRAM_CRASH_SEED")));
    for round in 1..=rounds {
        audit.round = round;
        audit.timed("restarts", Audit::restart);
        audit.timed("books", |audit| audit.must(|audit| audit.balance()));
        audit.timed("load", Audit::load_and_kill);
        if round % PROGRESS_EVERY == 0 {
            audit.report();
        }
    }
    audit.restart();
    audit.must(|audit| audit.balance());
    audit.settle();
    audit.report();
}

struct Audit {
    random: Random,
    runtime: Runtime,
    server: Server,
    board: Arc<Board>,
    ledger: Ledger,
    watchers: Vec<Watcher>,
    /// What the clients of the last round were told.
    records: Vec<Record>,
    /// The highest revision that was compacted for sure.
    compacted: Arc<AtomicI64>,
    round: u64,
    restarts_slowest: Duration,
    times: BTreeMap<&'static str, Duration>,
}

impl Audit {
    fn begin(random: Random) -> Self {
        let runtime = client::runtime();
        let server = Setup::engram()
            .flag("--max-request-bytes=1572864")
            .prepare();
        let watcher = |prefix| Watcher::spawn(runtime.handle(), server.address(), prefix);
        let watchers = ["a/", "b/", "lease/", "a/1"].map(watcher).into();
        Self {
            random,
            watchers,
            server,
            runtime,
            board: Arc::default(),
            ledger: Ledger::new(),
            records: Vec::new(),
            compacted: Arc::default(),
            round: 0,
            restarts_slowest: Duration::ZERO,
            times: BTreeMap::new(),
        }
    }

    fn timed(&mut self, what: &'static str, step: impl FnOnce(&mut Self)) {
        let started = Instant::now();
        step(self);
        *self.times.entry(what).or_default() += started.elapsed();
    }

    /// Fails the test with the round; the server keeps its directory then.
    fn must<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, String>) -> T {
        let result = step(self);
        result.unwrap_or_else(|sentence| {
            panic!(
                "round {}: {sentence}\n{}",
                self.round,
                self.server.last_words()
            )
        })
    }

    /// Starts the server; at times it is killed while it starts, first.
    fn restart(&mut self) {
        while self.random.percent(15) {
            self.server.launch();
            thread::sleep(Duration::from_millis(self.random.below(150)));
            self.server.kill();
        }
        let started = Instant::now();
        self.server.start();
        self.restarts_slowest = self.restarts_slowest.max(started.elapsed());
    }

    /// Reads what happened since the last time and settles all books.
    fn balance(&mut self) -> Result<(), String> {
        let runtime = self.runtime.handle().clone();
        let (all, events) = runtime.block_on(self.read_history())?;
        self.ledger.judge(&events, &self.records)?;
        for watcher in &mut self.watchers {
            watcher.expect(&events);
            watcher.compare()?;
        }
        let head = revision_of(all.header.as_ref());
        if self.ledger.head() != head {
            return Err(format!(
                "the watch from {} on ended before revision {head}",
                self.ledger.head()
            ));
        }
        self.ledger.compare_keys(&all.kvs)?;
        self.board.floor.store(head, Ordering::SeqCst);
        runtime.block_on(self.read_the_past())?;
        runtime.block_on(self.check_leases())
    }

    /// Everything as it is now, and every event that led here.
    async fn read_history(&self) -> Result<(RangeResponse, Vec<Event>), String> {
        let mut client = Client::try_connect(self.server.address()).await?;
        let all = client
            .everything()
            .await
            .map_err(|status| status.to_string())?;
        let (from, head) = (self.ledger.head(), revision_of(all.header.as_ref()));
        if head < from {
            return Err(format!(
                "the store went back from revision {from} to {head}"
            ));
        }
        let mut events = Vec::new();
        if head == from {
            return Ok((all, events));
        }
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: from + 1,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let watch = client.watch_range(create).await;
        let mut watch = watch.map_err(|status| status.to_string())?;
        let is_behind = |events: &Vec<Event>| events.last().is_none_or(|last| last.revision < head);
        while is_behind(&events) {
            let next = tokio::time::timeout(READ_LIMIT, watch.message()).await;
            let next = next.map_err(|_| format!("the watch from {from} did not reach {head}"))?;
            let response = next.map_err(|status| status.to_string())?;
            let response = response.ok_or("the watch ended")?;
            if response.canceled {
                return Err(format!(
                    "the watch from {from} on was cancelled: {response:?}"
                ));
            }
            events.extend(Event::all_of(&response));
        }
        // A lease that expired meanwhile is the next round's.
        events.retain(|event| event.revision <= head);
        Ok((all, events))
    }

    /// Asks for some of the acknowledged puts at their revisions, and for what was compacted.
    async fn read_the_past(&mut self) -> Result<(), String> {
        const SAMPLES: usize = 10;
        let mut client = Client::try_connect(self.server.address()).await?;
        let step = (self.records.len() / SAMPLES).max(1);
        for record in self.records.iter().step_by(step) {
            let (Operation::Put { key, value, .. }, Outcome::Changed(revision)) =
                (&record.operation, &record.outcome)
            else {
                continue;
            };
            let answer = client.get(key.as_str(), *revision).await;
            let answer = answer.map_err(|status| format!("{key} at {revision}: {status}"))?;
            let seen = answer
                .kvs
                .first()
                .map(|kv| (kv.mod_revision, text(&kv.value)));
            if seen != Some((*revision, value.clone())) {
                return Err(format!("{record:?} reads as {seen:?} at its revision"));
            }
        }
        let compacted = self.compacted.load(Ordering::SeqCst);
        if compacted < 2 {
            return Ok(());
        }
        match client.get("a/00", compacted - 1).await {
            Err(status) if status.code() == Code::OutOfRange => Ok(()),
            other => Err(format!(
                "{compacted} was compacted, but before it: {other:?}"
            )),
        }
    }

    async fn check_leases(&mut self) -> Result<(), String> {
        self.records.clear();
        let mut client = Client::try_connect(self.server.address()).await?;
        let answer = client.lease.lease_leases(LeaseLeasesRequest {}).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        let listed: BTreeSet<i64> = answer.leases.iter().map(|lease| lease.id).collect();
        self.ledger.compare_leases(&listed)?;
        let long = self.ledger.long_leases();
        let surplus = long.len().saturating_sub(LONG_LEASES_MAX);
        for lease in long.into_iter().take(surplus) {
            let record = self.note(&mut client, Operation::Revoke { lease }).await?;
            self.records.push(record);
        }
        Ok(())
    }

    async fn note(&self, client: &mut Client, operation: Operation) -> Result<Record, String> {
        let (floor, sent) = (self.board.floor.load(Ordering::SeqCst), Instant::now());
        let outcome = send(client, &operation).await;
        let outcome = outcome.map_err(|status| format!("{operation:?}: {status}"))?;
        let outcome = outcome.expect("only puts on an expired lease have none");
        Ok(Record {
            operation,
            floor,
            sent,
            outcome,
        })
    }

    /// Lets clients loose and kills the server among them.
    fn load_and_kill(&mut self) {
        let short = i64::try_from(self.ledger.short_leases()).expect("they are few");
        self.board
            .short_leases
            .store(SHORT_LEASES_MAX - short, Ordering::SeqCst);
        self.board.killed.store(false, Ordering::SeqCst);
        let address = self.server.address();
        let runtime = self.runtime.handle().clone();
        let connecting = async {
            let mut connections = Vec::new();
            for _ in 0..CONNECTIONS {
                connections.push(Client::connect(address).await);
            }
            connections
        };
        let connections = runtime.block_on(connecting);
        let mut tasks = Vec::new();
        for (index, client) in (0..CLIENTS).zip(connections.iter().cycle()) {
            let (client, board) = (client.clone(), self.board.clone());
            let random = self.random.fork();
            let label = format!("{}.{index}", self.round);
            tasks
                .push(runtime.spawn(async move {
                    Auditor::new(client, &board, random, label).work().await
                }));
        }
        let compaction = self.compact_at_times(&connections[0]);
        let span = KILL_AFTER.end - KILL_AFTER.start;
        thread::sleep(Duration::from_millis(
            KILL_AFTER.start + self.random.below(span),
        ));
        self.board.killed.store(true, Ordering::SeqCst);
        assert!(
            self.server.is_running(),
            "the server ended:\n{}",
            self.server.last_words()
        );
        self.server.kill();
        for task in tasks {
            let ended = runtime.block_on(task).expect("a client does not panic");
            self.must(|audit| {
                audit.records.extend(ended?);
                Ok(())
            });
        }
        if let Some(task) = compaction {
            runtime
                .block_on(task)
                .expect("the compaction does not panic");
        }
    }

    /// In every third round or so a compaction runs among the clients. Nothing that a watcher or
    /// the ledger has still to read is compacted.
    fn compact_at_times(&mut self, client: &Client) -> Option<tokio::task::JoinHandle<()>> {
        if !self.random.percent(35) {
            return None;
        }
        let seen = self.watchers.iter().map(Watcher::last_revision).min()?;
        let revision = seen.min(self.ledger.head());
        if revision <= self.compacted.load(Ordering::SeqCst) {
            return None;
        }
        let physical = self.random.percent(50);
        let delay = Duration::from_millis(self.random.below(KILL_AFTER.end));
        let (mut client, compacted) = (client.clone(), self.compacted.clone());
        Some(self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            let request = CompactionRequest { revision, physical };
            // Without an answer it may have happened or not; both are fine.
            if client.kv.compact(request).await.is_ok() {
                compacted.store(revision, Ordering::SeqCst);
            }
        }))
    }

    /// At the end: watchers catch up, leases expire, and the books balance once more.
    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        while !self.must(|audit| audit.is_settled()) {
            assert!(
                Instant::now() < deadline,
                "after {SETTLE_LIMIT:?} a watcher is behind or a lease has not expired: {} leases",
                self.ledger.short_leases()
            );
            thread::sleep(Duration::from_millis(50));
            self.must(|audit| audit.balance());
        }
    }

    fn is_settled(&mut self) -> Result<bool, String> {
        let mut settled = self.ledger.short_leases() == 0;
        for watcher in &mut self.watchers {
            settled &= watcher.compare()?;
        }
        Ok(settled)
    }

    fn report(&self) {
        println!(
            "crash audit: {} rounds, {}",
            self.round,
            self.ledger.summary()
        );
        for watcher in &self.watchers {
            println!(
                "  a watch resumed {} times, {} events as in the history",
                watcher.resumed(),
                watcher.compared()
            );
        }
        let slowest = self.restarts_slowest;
        println!("  time: {:.1?}; slowest restart {slowest:.2?}", self.times);
    }
}
