//! The process ends, the power goes, or the disk fails once, at each call that changes a file: while a member bootstraps,
//! works, compacts and purges, and while it starts again. Its next start has all that was acknowledged.
//!
//! CI strikes at a sample that the seed draws; `make faults` at each of the first calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use engram_e2e::bad_disk::{BadCall, Strike};
use engram_e2e::client::{self, Client};
use engram_e2e::disk::SmallFileSystem;
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, LeaseGrantRequest, RangeRequest, SnapshotRequest,
};

use crate::case::{self, Case};
use crate::ci_or_full;

/// How many calls are struck of each kind.
const SAMPLE: usize = 5;
const FIRST: usize = 500;
/// A call is answered or fails in this time, whatever the disk does.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A member that was struck has ended by then, or serves.
const END_LIMIT: Duration = Duration::from_secs(10);
const DISK_BYTES: u64 = 1 << 30;
/// Without the values of 1 MiB, which fill the log's first segments.
const SMALL_WRITES: usize = 60;
const LARGE_WRITES: usize = 18;
const LARGE_BYTES: usize = 1 << 20;

/// When a process is struck.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// From its first start on.
    First,
    /// From a start after a kill on.
    Second,
}

#[test]
fn a_kill_before_any_call_loses_nothing() {
    strike("kill before a call to the disk", Strike::Kill);
}

#[test]
fn a_kill_in_any_write_loses_nothing() {
    strike("kill in the middle of a write", Strike::Torn);
}

#[test]
fn a_power_failure_at_any_call_loses_nothing() {
    strike("power failure at a call to the disk", Strike::Power(0));
}

#[test]
fn an_error_of_any_call_loses_nothing() {
    strike("EIO of one call", Strike::Eio);
}

#[test]
fn no_space_for_any_call_loses_nothing() {
    strike("ENOSPC of one call", Strike::NoSpace);
}

fn strike(name: &'static str, strike: Strike) {
    let case = case::begin(name);
    let mut random = Random::new(Random::seed_from("ENGRAM_FAULTS_SEED"));
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mount_point = scratch.path().join("disk");
    std::fs::create_dir(&mount_point).expect("creating a directory");
    let disk = SmallFileSystem::mount(&mount_point, DISK_BYTES);
    let bad = BadCall::prepare(scratch.path());
    for life in [Life::First, Life::Second] {
        let whole = Round::begin(&bad, disk.path(), life).run(0, strike);
        assert!(whole.struck.is_none(), "{:?}", whole.struck);
        let all = usize::try_from(whole.calls).expect("they are some hundred");
        let places: BTreeSet<usize> = match ci_or_full(true, false) {
            // One in each part of the run.
            true => (0..SAMPLE)
                .map(|part| {
                    let within = random.below((all / SAMPLE) as u64);
                    1 + part * all / SAMPLE + usize::try_from(within).expect("it is small")
                })
                .collect(),
            false => (1..=all.min(FIRST)).collect(),
        };
        sweep(&case, &bad, disk.path(), life, strike, &places, all);
    }
}

fn sweep(
    case: &Case,
    bad: &BadCall,
    disk: &Path,
    life: Life,
    strike: Strike,
    places: &BTreeSet<usize>,
    all: usize,
) {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for at in places {
        let strike = match strike {
            // Another choice of what is lost at each.
            Strike::Power(_) => Strike::Power(*at as u64),
            strike => strike,
        };
        let seen = Round::begin(bad, disk, life).run(*at as u64, strike);
        let Some(struck) = seen.struck else {
            *ends.entry("not reached".to_owned()).or_default() += 1;
            continue;
        };
        println!("  call {at}: {struck}: {}", seen.end);
        *ends.entry(seen.end).or_default() += 1;
    }
    let when = match life {
        Life::First => "from the first start",
        Life::Second => "from a start after a kill",
    };
    case.saw(format!(
        "{when}: {} of {all} calls struck, {ends:?}",
        places.len()
    ));
}

/// One data directory and its lives.
struct Round<'a> {
    bad: &'a BadCall,
    life: Life,
    server: Server,
    wrote: Wrote,
}

/// What came of it.
struct Outcome {
    calls: u64,
    struck: Option<String>,
    end: String,
}

/// What was acknowledged, and what may or may not have happened.
#[derive(Default)]
struct Wrote {
    /// Present, with a value of this length.
    puts: BTreeMap<String, usize>,
    deleted: BTreeSet<String>,
    revision: i64,
}

impl<'a> Round<'a> {
    fn begin(bad: &'a BadCall, disk: &Path, life: Life) -> Self {
        let data = disk.join("data");
        clear(disk);
        let server = Setup::engram()
            .flag("--snapshot-count=20")
            .data_dir(&data)
            .prepare();
        let mut round = Self {
            bad,
            life,
            server,
            wrote: Wrote::default(),
        };
        if life == Life::Second {
            round.server.start();
            let worked = client::runtime().block_on(work(&round.server, "first", &mut round.wrote));
            assert!(worked.is_ok(), "a healthy member: {worked:?}");
            round.server.kill();
        }
        round
    }

    fn run(mut self, at: u64, strike: Strike) -> Outcome {
        let environment = self.bad.environment(self.server.data_dir(), at, strike);
        let arguments: Vec<&str> = environment.iter().map(String::as_str).collect();
        self.server.launch_through("env", &arguments);
        let end = match self.wait_to_serve() {
            Some(status) => format!("the start ended: {status}"),
            None => self.work_until_the_end(strike),
        };
        let (calls, struck) = self.bad.told();
        if self.server.has_process() {
            self.server.kill();
        }
        let said = self.server.output();
        assert!(!said.contains("panicked"), "{struck:?}: {said}");
        self.server.start();
        self.must_hold(struck.as_deref());
        self.server.kill();
        Outcome { calls, struck, end }
    }

    /// None once it serves; how it ended instead.
    fn wait_to_serve(&mut self) -> Option<String> {
        self.server
            .wait_ready()
            .err()
            .map(|status| status.to_string())
    }

    fn work_until_the_end(&mut self, strike: Strike) -> String {
        let label = match self.life {
            Life::First => "first",
            Life::Second => "second",
        };
        let runtime = client::runtime();
        let worked = runtime.block_on(work(&self.server, label, &mut self.wrote));
        let Err(failed) = worked else {
            return "it went on".to_owned();
        };
        if let Some(status) = self.server.ended_within(END_LIMIT) {
            return format!("it ended: {status}");
        }
        // It said no to one call and serves on.
        assert!(
            matches!(strike, Strike::Eio | Strike::NoSpace),
            "it runs and does not answer: {failed}"
        );
        let began = Instant::now();
        while !self
            .server
            .try_etcdctl(&["put", "after", "it"])
            .status
            .success()
        {
            assert!(
                began.elapsed() < END_LIMIT,
                "it runs and takes no write: {failed}\n{}",
                self.server.last_words()
            );
        }
        "a call was refused, it serves on".to_owned()
    }

    fn must_hold(&self, struck: Option<&str>) {
        let runtime = client::runtime();
        runtime.block_on(async {
            let mut client = Client::connect(self.server.address()).await;
            for (key, length) in &self.wrote.puts {
                let found = client.get(key.clone(), 0).await.expect("it serves");
                let value = found.kvs.first().map(|kv| kv.value.len());
                assert_eq!(value, Some(*length), "{key}, struck at {struck:?}");
            }
            for key in &self.wrote.deleted {
                let found = client.get(key.clone(), 0).await.expect("it serves");
                assert_eq!(found.count, 0, "{key} is back, struck at {struck:?}");
            }
            let revision = client.put("end", "").await.expect("it takes a write");
            assert!(revision > self.wrote.revision, "a revision went back");
        });
    }
}

/// Removes everything: the data directory, and copies that the library made beside it.
fn clear(disk: &Path) {
    for entry in std::fs::read_dir(disk).expect("reading a directory") {
        let path = entry.expect("reading a directory").path();
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        removed.expect("removing what the round before left");
    }
}

/// Everything that makes a member change files.
async fn work(server: &Server, label: &str, wrote: &mut Wrote) -> Result<(), String> {
    let mut client = Client::lazy(server.address());
    for number in 0..SMALL_WRITES {
        put(&mut client, wrote, format!("{label}/{number}"), number * 50).await?;
        if number % 10 == 9 {
            delete(&mut client, wrote, format!("{label}/{}", number - 5)).await?;
        }
    }
    let lease = LeaseGrantRequest { ttl: 600, id: 0 };
    answered(client.lease.lease_grant(lease)).await?;
    let compact = CompactionRequest {
        revision: wrote.revision,
        physical: true,
    };
    answered(client.kv.compact(compact)).await?;
    for number in 0..LARGE_WRITES {
        let key = format!("{label}/large/{}", number % 4);
        put(&mut client, wrote, key, LARGE_BYTES + number).await?;
    }
    answered(client.maintenance.defragment(DefragmentRequest {})).await?;
    let snapshot = answered(client.maintenance.snapshot(SnapshotRequest {})).await?;
    let mut pieces = snapshot.into_inner();
    while answered(pieces.message()).await?.is_some() {}
    let read = RangeRequest {
        key: label.as_bytes().to_vec().into(),
        ..RangeRequest::default()
    };
    answered(client.kv.range(read)).await?;
    put(&mut client, wrote, format!("{label}/last"), 9).await
}

async fn put(
    client: &mut Client,
    wrote: &mut Wrote,
    key: String,
    length: usize,
) -> Result<(), String> {
    // What an earlier put of the key said may be gone already.
    wrote.puts.remove(&key);
    let put = client.put(key.clone(), vec![b'v'; length]);
    wrote.revision = answered(put).await?;
    wrote.puts.insert(key, length);
    Ok(())
}

async fn delete(client: &mut Client, wrote: &mut Wrote, key: String) -> Result<(), String> {
    wrote.puts.remove(&key);
    (wrote.revision, _) = answered(client.delete(key.clone())).await?;
    wrote.deleted.insert(key);
    Ok(())
}

async fn answered<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, String> {
    let answer = tokio::time::timeout(CALL_LIMIT, call).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?;
    answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}
