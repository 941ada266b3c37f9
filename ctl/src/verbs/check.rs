//! `check`: how a cluster does under a load, in etcdctl's words and by its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::kv;
use super::request::prefix_end;
use crate::cli::{Check, Global, Load, Workload};
use crate::connect::{self, any, one};
use crate::failure::Failure;
use crate::output;

/// How long cleaning up may take.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);
/// What a request that is too slow takes.
const SLOW_SECONDS: f64 = 0.5;
/// How far requests may stray from the mean.
const DEVIATION_SECONDS: f64 = 0.1;
/// The part of the wanted throughput that is enough.
const ENOUGH: f64 = 0.9;
/// Seconds of `check perf`.
const PERF_SECONDS: u64 = 60;

/// `check`.
pub async fn check(global: &Global, command: Check) -> Result<(), Failure> {
    match command {
        Check::Perf(load) => perf(global, &load).await,
        Check::Datascale(load) => datascale(global, &load).await,
    }
}

/// Writes a second, and clients, of `check perf`.
fn rate(workload: Workload) -> (u64, usize) {
    match workload {
        Workload::Small => (150, 50),
        Workload::Medium => (1_000, 200),
        Workload::Large => (8_000, 500),
        Workload::VeryLarge => (15_000, 1_000),
    }
}

/// Keys, and clients, of `check datascale`.
fn amount(workload: Workload) -> (u64, usize) {
    match workload {
        Workload::Small => (10_000, 50),
        Workload::Medium => (100_000, 200),
        Workload::Large => (1_000_000, 500),
        Workload::VeryLarge => (3_000_000, 1_000),
    }
}

/// What came of requests.
#[derive(Debug, Default)]
struct Stats {
    took: Vec<f64>,
    errors: BTreeMap<String, u64>,
}

impl Stats {
    fn slowest(&self) -> f64 {
        self.took.iter().copied().fold(0.0, f64::max)
    }

    fn deviation(&self) -> f64 {
        let count = self.took.len().max(1) as f64;
        let mean = self.took.iter().sum::<f64>() / count;
        let squares = self.took.iter().map(|took| (took - mean).powi(2));
        (squares.sum::<f64>() / count).sqrt()
    }

    fn tell_errors(&self) -> Result<bool, Failure> {
        if self.errors.is_empty() {
            return Ok(false);
        }
        output::text("FAIL: too many errors\n")?;
        for (error, count) in &self.errors {
            output::text(&format!("FAIL: ERROR({error}) -> {count}\n"))?;
        }
        Ok(true)
    }
}

/// A connection each, as etcdctl has them.
async fn clients(global: &Global, count: usize) -> Result<Vec<Channel>, Failure> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(any(global).await?.channel);
    }
    Ok(clients)
}

/// Refuses a prefix that has keys: they would go with the check's.
///
/// `quote` is what etcdctl puts around the advice: the two checks differ in it.
async fn must_be_empty(
    global: &Global,
    channel: &Channel,
    prefix: &str,
    quote: &str,
) -> Result<(), Failure> {
    let request = pb::RangeRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: prefix_end(prefix.as_bytes()).into(),
        limit: 1,
        ..pb::RangeRequest::default()
    };
    let answer = kv::client(global, channel.clone()).range(request).await?;
    match answer.get_ref().kvs.is_empty() {
        true => Ok(()),
        false => Err(Failure::input(format!(
            "prefix {prefix:?} has keys. Delete with {quote}etcdctl del --prefix {prefix}{quote} first"
        ))),
    }
}

/// Puts as they are taken from the queue, by all clients at once.
async fn put_all(
    global: &Global,
    clients: &[Channel],
    requests: mpsc::Receiver<pb::PutRequest>,
    bar: &ProgressBar,
) -> Stats {
    let requests = Arc::new(tokio::sync::Mutex::new(requests));
    let work = clients.iter().map(|channel| {
        let (mut client, requests) = (kv::client(global, channel.clone()), requests.clone());
        async move {
            let mut done = Vec::new();
            while let Some(request) = { requests.lock().await.recv().await } {
                let started = Instant::now();
                let answer = client.put(request).await;
                let error = answer.err().map(|status| status.message().to_owned());
                done.push((started.elapsed().as_secs_f64(), error));
                bar.inc(1);
            }
            done
        }
    });
    let mut stats = Stats::default();
    for (took, error) in futures_util::future::join_all(work)
        .await
        .into_iter()
        .flatten()
    {
        match error {
            None => stats.took.push(took),
            Some(error) => *stats.errors.entry(error).or_default() += 1,
        }
    }
    stats
}

/// A put of a key that no other of this check has.
fn put(prefix: &str, number: u64, key_bytes: usize, value_bytes: usize) -> pb::PutRequest {
    let mut key = prefix.as_bytes().to_vec();
    key.extend_from_slice(format!("{number:020}").as_bytes());
    key.resize(prefix.len() + key_bytes, 0);
    pb::PutRequest {
        key: key.into(),
        value: vec![0; value_bytes].into(),
        ..pb::PutRequest::default()
    }
}

async fn perf(global: &Global, load: &Load) -> Result<(), Failure> {
    let prefix = load.prefix.as_deref().unwrap_or("/etcdctl-check-perf/");
    let (limit, count) = rate(load.load);
    let clients = clients(global, count).await?;
    must_be_empty(global, &clients[0], prefix, "'").await?;
    let (queue, requests) = mpsc::channel(count);
    let bar = ProgressBar::new(limit * PERF_SECONDS);
    let started = Instant::now();
    let feed = feed(queue, limit, prefix.to_owned());
    let (stats, ()) = tokio::join!(put_all(global, &clients, requests, &bar), feed);
    let seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    clean(global, load, &clients[0], prefix).await?;
    let failed = stats.tell_errors()?;
    let per_second = stats.took.len() as f64 / seconds;
    verdict(&stats, per_second, limit, failed)
}

/// As many puts a second as are wanted, for as long as the check takes; where they are not taken as
/// fast, those that are late are made up for.
async fn feed(queue: mpsc::Sender<pb::PutRequest>, limit: u64, prefix: String) {
    let started = tokio::time::Instant::now();
    for number in 0..limit * PERF_SECONDS {
        let due = started + Duration::from_secs_f64(number as f64 / limit as f64);
        tokio::time::sleep_until(due).await;
        let is_over = started.elapsed() >= Duration::from_secs(PERF_SECONDS);
        if is_over || queue.send(put(&prefix, number, 256, 1_024)).await.is_err() {
            return;
        }
    }
}

fn verdict(stats: &Stats, per_second: f64, limit: u64, failed: bool) -> Result<(), Failure> {
    let writes = per_second as u64 + 1;
    let (slowest, deviation) = (stats.slowest(), stats.deviation());
    let is_fast = per_second / limit as f64 > ENOUGH;
    let is_prompt = slowest <= SLOW_SECONDS;
    let is_steady = deviation <= DEVIATION_SECONDS;
    output::text(&match is_fast {
        true => format!("PASS: Throughput is {writes} writes/s\n"),
        false => format!("FAIL: Throughput too low: {writes} writes/s\n"),
    })?;
    output::text(&match is_prompt {
        true => format!("PASS: Slowest request took {slowest:.6}s\n"),
        false => format!("Slowest request took too long: {slowest:.6}s\n"),
    })?;
    output::text(&match is_steady {
        true => format!("PASS: Stddev is {deviation:.6}s\n"),
        false => format!("Stddev too high: {deviation:.6}s\n"),
    })?;
    match is_fast && is_prompt && is_steady && !failed {
        true => output::text("PASS\n"),
        false => {
            output::text("FAIL\n")?;
            Err(Failure::silent())
        }
    }
}

async fn datascale(global: &Global, load: &Load) -> Result<(), Failure> {
    let prefix = load.prefix.as_deref();
    let prefix = prefix.unwrap_or("/etcdctl-check-datascale/");
    let (limit, count) = amount(load.load);
    let clients = clients(global, count).await?;
    must_be_empty(global, &clients[0], prefix, "").await?;
    let endpoint = connect::endpoints(global).await?;
    let endpoint = endpoint.first().cloned().unwrap_or_default();
    let before = resident(global, &endpoint, "before").await?;
    output::text(&format!(
        "Start data scale check for work load [{limit} key-value pairs, 1024 bytes per key-value, {count} concurrent clients].\n"
    ))?;
    let (queue, requests) = mpsc::channel(count);
    let bar = ProgressBar::new(limit);
    let feed = async {
        for number in 0..limit {
            if queue.send(put(prefix, number, 512, 512)).await.is_err() {
                break;
            }
        }
        drop(queue);
    };
    let (stats, ()) = tokio::join!(put_all(global, &clients, requests, &bar), feed);
    bar.finish_and_clear();
    let after = resident(global, &endpoint, "after").await?;
    clean(global, load, &clients[0], prefix).await?;
    if stats.tell_errors()? {
        return Err(Failure::silent());
    }
    let used = (after - before) / (1024.0 * 1024.0);
    output::text(&format!(
        "PASS: Approximate system memory used : {used:.2} MB.\n"
    ))
}

/// What `/metrics` says of the process's memory.
async fn resident(global: &Global, endpoint: &str, when: &str) -> Result<f64, Failure> {
    let page = connect::page(global, endpoint, "/metrics").await;
    let bytes = page.as_ref().ok().and_then(|page| {
        let mut lines = page.lines();
        let line = lines.find_map(|line| line.strip_prefix("process_resident_memory_bytes "))?;
        line.trim().parse::<f64>().ok()
    });
    if let Some(bytes) = bytes {
        return Ok(bytes);
    }
    if let Err(failure) = page {
        output::text(&format!("fetch error: {failure}\n"))?;
    }
    output::text(&format!(
        "FAIL: Could not read process_resident_memory_bytes {when} the put operations.\n"
    ))?;
    Err(Failure::silent())
}

/// Removes the check's keys, and what the flags ask for.
async fn clean(
    global: &Global,
    load: &Load,
    channel: &Channel,
    prefix: &str,
) -> Result<(), Failure> {
    let mut client = kv::client(global, channel.clone());
    let request = pb::DeleteRangeRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: prefix_end(prefix.as_bytes()).into(),
        prev_kv: false,
    };
    let late = |_| Failure::new("context deadline exceeded");
    let deleted = tokio::time::timeout(CLEANUP_LIMIT, client.delete_range(request)).await;
    let deleted = deleted.map_err(late)?;
    let header = match deleted {
        Ok(answer) => answer.into_inner().header,
        Err(status) => {
            let error = status.message();
            return output::text(&format!(
                "FAIL: Cleanup failed during key deletion: ERROR({error})\n"
            ));
        }
    };
    if load.auto_compact {
        let revision = header.map_or(0, |header| header.revision);
        output::text(&format!("Compacting with revision {revision}\n"))?;
        let request = pb::CompactionRequest {
            revision,
            physical: true,
        };
        let compacted = tokio::time::timeout(CLEANUP_LIMIT, client.compact(request)).await;
        compacted.map_err(late)??;
        output::text(&format!("Compacted with revision {revision}\n"))?;
    }
    if load.auto_defrag {
        for endpoint in connect::endpoints(global).await? {
            output::text(&format!("Defragmenting {endpoint:?}\n"))?;
            let channel = one(global, &endpoint).await?.channel;
            let mut client = MaintenanceClient::new(channel);
            let done = client.defragment(pb::DefragmentRequest {});
            tokio::time::timeout(CLEANUP_LIMIT, done)
                .await
                .map_err(late)??;
            output::text(&format!("Defragmented {endpoint:?}\n"))?;
        }
    }
    Ok(())
}
