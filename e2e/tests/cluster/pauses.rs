//! Members are stopped in the middle of a step and go on later, believing that no time has passed.

use std::time::Duration;

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::load::Load;
use engram_e2e::turn;
use tokio::task::JoinHandle;

use crate::ci_or_full;

/// Reads that wait at the paused member when it goes on.
const READS: usize = 50;
/// How long they may take after that: longer than etcd's own limit for a request (7 s).
const READ_LIMIT: Duration = Duration::from_secs(15);
/// Milliseconds.
const PAUSES_CI: &[u64] = &[100, 1_000, 2_500, 5_000];
const PAUSES_FULL: &[u64] = &[
    100, 300, 700, 1_000, 1_500, 2_500, 5_000, 10_000, 20_000, 30_000,
];

#[test]
fn a_leader_that_was_paused_serves_no_stale_read() {
    let _turn = turn::take("paused leaders");
    let mut cluster = Plan::of(3).start();
    let load = Load::begin(&cluster, "pause", 4, Duration::from_millis(5));
    for pause in ci_or_full(PAUSES_CI, PAUSES_FULL) {
        load.must_progress(&cluster, 100);
        let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
        let outcome = reads_across_a_pause(&mut cluster, leader, Duration::from_millis(*pause));
        println!(
            "paused for {pause} ms: {} reads served, {} refused",
            outcome.0, outcome.1
        );
    }
    load.must_progress(&cluster, 100);
    let written = load.nothing_is_lost(&cluster);
    println!("{} acknowledged writes are there", written.len());
    cluster.must_hold_the_same();
}

/// Pauses a member, writes through the others as soon as they can, asks the paused one to read, and
/// has it go on. Returns how many reads it served and refused.
fn reads_across_a_pause(cluster: &mut Cluster, paused: usize, pause: Duration) -> (usize, usize) {
    let key = format!("marker/{}", pause.as_millis());
    let early = cluster
        .runtime()
        .block_on(write(cluster.server(paused).address(), &key));
    let mut floor = early.expect("a write at the leader");
    let warm = open_connection(cluster, paused);
    cluster.pause(paused);
    let ends = std::time::Instant::now() + pause;
    let rest = cluster.awake();
    let mut reads = Vec::new();
    while std::time::Instant::now() < ends {
        let address = cluster.server(rest[reads.len() % rest.len()]).address();
        // While there is no new leader nobody takes it.
        if let Some(revision) = cluster.runtime().block_on(write(address, &key)) {
            floor = revision;
        }
        if reads.len() < READS {
            reads.push(read_later(cluster, warm.clone(), key.clone(), floor));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.resume(paused);
    for _ in 0..READS {
        reads.push(read_later(cluster, warm.clone(), key.clone(), floor));
    }
    judge(cluster, paused, reads)
}

/// A connection that is established before the pause.
fn open_connection(cluster: &Cluster, place: usize) -> Client {
    let address = cluster.server(place).address();
    cluster.runtime().block_on(async {
        let mut client = Client::connect(address).await;
        client.get("warm", 0).await.expect("a read at the leader");
        client
    })
}

/// A write with little patience; its revision if it was acknowledged.
async fn write(address: std::net::SocketAddr, key: &str) -> Option<i64> {
    let mut client = Client::lazy(address);
    let put = client.put(key, "x");
    tokio::time::timeout(Duration::from_millis(500), put)
        .await
        .ok()?
        .ok()
}

/// A linearizable read that was asked when `floor` had been acknowledged.
type Read = JoinHandle<(i64, Option<i64>)>;

fn read_later(cluster: &Cluster, mut client: Client, key: String, floor: i64) -> Read {
    cluster.runtime().spawn(async move {
        let read = tokio::time::timeout(READ_LIMIT, client.get(key, 0)).await;
        let read = read.ok().and_then(Result::ok);
        (floor, read.map(|answer| answer.kvs[0].mod_revision))
    })
}

fn judge(cluster: &Cluster, paused: usize, reads: Vec<Read>) -> (usize, usize) {
    let (mut served, mut refused) = (0, 0);
    for read in reads {
        let (floor, seen) = cluster
            .runtime()
            .block_on(read)
            .expect("reads do not panic");
        let Some(seen) = seen else {
            refused += 1;
            continue;
        };
        served += 1;
        cluster.must(seen >= floor, || {
            let name = cluster.server(paused).name();
            format!(
                "{name} was paused and then served a stale linearizable read: revision {seen}, \
                 though {floor} had been acknowledged before it was asked"
            )
        });
    }
    (served, refused)
}
