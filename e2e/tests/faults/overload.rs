//! More is asked for than the log's disk takes: what would wait for long is refused with etcd's error, what is
//! admitted is served as if nothing were wrong, and leases, reads and the leader stay. Nobody is refused
//! while the same disk keeps up, nor in a burst.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engram_e2e::bad_disk::BadSync;
use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest};
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream;
use tonic::{Code, Status};

use crate::calls;
use crate::case;

/// What a sync of the log takes longer, so that a batch of 1 MiB takes that.
const DELAY: Duration = Duration::from_millis(200);
/// Together two seconds and a half of the disk's work, asked for again and again.
const VALUE_BYTES: usize = 40_000;
const CALLERS: usize = 320;
const CONNECTIONS: usize = 8;
/// Until one that was refused asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long the callers go on: two seconds until it is known that they are too many, three until what had come
/// before is done, and what is judged.
const OVERLOADED: Duration = Duration::from_millis(6_500);
const JUDGED: Duration = Duration::from_millis(1_500);
/// How long it may take until nobody is refused any more.
const OVER: Duration = Duration::from_secs(5);
const BURST: usize = 1_000;
const REFUSAL: &str = "etcdserver: too many requests";
const TTL: Duration = Duration::from_secs(2);
const RENEWED_EVERY: Duration = Duration::from_millis(250);
/// A read or a renewal waits for no disk.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn one_member_sheds_what_would_wait() {
    sheds(&case::begin("overload of one member"), 1);
}

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn three_members_shed_what_would_wait() {
    sheds(&case::begin("overload of three members"), 3);
}

fn sheds(case: &case::Case, size: usize) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.wal", DELAY);
    let plan = (0..size).fold(Plan::of(size), |plan, place| {
        plan.environment_of(place, slow.environment())
    });
    let cluster = plan.start();
    let before = cluster.wait_for_leader(LEADER_LIMIT);
    let place = before.place;
    calls::must_take_a_write(&cluster, place, calls::PATIENCE);
    slow.on();

    let steady = steady(&cluster, place);
    burst(&cluster, place);
    cluster.must(metric(&cluster, place, REFUSED) == 0.0, || {
        "somebody was refused though the disk keeps up".to_owned()
    });

    let stop = Arc::new(AtomicBool::new(false));
    let address = cluster.server(place).address();
    let keeper = cluster.runtime().spawn(keep(address, stop.clone()));
    let calls = overload(&cluster, place, &stop);
    // Whoever needs a lease does not wait behind data.
    let granted = cluster.runtime().block_on(async {
        let mut client = Client::connect(address).await;
        client.lease.lease_grant(lease(2)).await
    });
    let is_overloaded = metric(&cluster, place, OVERLOADED_NOW);
    stop.store(true, Ordering::Relaxed);
    let longest = cluster.runtime().block_on(keeper).expect("no panic");
    cluster.must(granted.is_ok(), || format!("a lease: {granted:?}"));

    let ends = cluster.runtime().block_on(async {
        let mut ends = Vec::new();
        for call in calls {
            ends.extend(call.await.expect("no panic"));
        }
        ends
    });
    let judged = OVERLOADED.saturating_sub(JUDGED);
    let mut served: Vec<Duration> = ends
        .iter()
        .filter(|end| end.result.is_ok() && end.sent >= judged)
        .map(|end| end.took)
        .collect();
    served.sort_unstable();
    let refusals: Vec<&Status> = ends
        .iter()
        .filter_map(|end| end.result.as_ref().err())
        .collect();
    let texts: BTreeSet<(i32, &str)> = refusals
        .iter()
        .map(|status| (status.code().into(), status.message()))
        .collect();
    let p99 = served.get(served.len() * 99 / 100).copied();
    case.saw(format!(
        "p99 {steady:.2?} while the disk keeps up; of {} calls {} refused: {texts:?}; in the last {JUDGED:?} \
         {} served, p99 {p99:.2?}; longest read and renewal {longest:.2?}",
        ends.len(),
        refusals.len(),
        served.len(),
    ));
    cluster.must(
        texts == BTreeSet::from([(Code::Unknown.into(), REFUSAL)]),
        || format!("refused with {texts:?}"),
    );
    cluster.must(p99.is_some_and(|p99| p99 <= steady * 2), || {
        format!("p99 of what was admitted: {p99:?}, {steady:?} before")
    });
    // The disk's part of it, or it sheds more than it has to: 26 a sync.
    cluster.must(served.len() > 50, || format!("{} served", served.len()));
    cluster.must(longest < AT_ONCE, || {
        format!("a read or a renewal took {longest:?}")
    });
    cluster.must(is_overloaded == 1.0, || "it does not tell".to_owned());
    cluster.must(metric(&cluster, place, REFUSED) > 0.0, || {
        "nobody is counted".to_owned()
    });
    let after = cluster.wait_for_leader(LEADER_LIMIT);
    cluster.must(after == before, || format!("{before:?} became {after:?}"));

    cluster.wait_for(OVER, "the end of the overload", || {
        (metric(&cluster, place, OVERLOADED_NOW) == 0.0).then_some(())
    });
    burst(&cluster, place);
    slow.off();
    cluster.must_hold_the_same();
}

const OVERLOADED_NOW: &str = "engram_overloaded";
const REFUSED: &str = "engram_proposals_refused_total";

fn metric(cluster: &Cluster, place: usize, name: &str) -> f64 {
    let value = cluster.server(place).metric(name);
    value.unwrap_or_else(|| cluster.fail(&format!("no {name} in /metrics")))
}

/// The 99th percentile of what a few callers wait, with whom the disk keeps up.
fn steady(cluster: &Cluster, place: usize) -> Duration {
    let address = cluster.server(place).address();
    let mut took = cluster.runtime().block_on(async {
        let client = Client::connect(address).await;
        let callers: Vec<_> = (0..16)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    for _ in 0..2 {
                        let began = Instant::now();
                        let answer = put(&client, format!("steady/{number}"), &value()).await;
                        answer.expect("the disk keeps up");
                        took.push(began.elapsed());
                    }
                    took
                })
            })
            .collect();
        let mut took = Vec::new();
        for caller in callers {
            took.extend(caller.await.expect("no panic"));
        }
        took
    });
    took.sort_unstable();
    took[took.len() * 99 / 100].max(DELAY * 2)
}

/// Puts at once, none of which may be refused.
fn burst(cluster: &Cluster, place: usize) {
    let address = cluster.server(place).address();
    let refused = cluster.runtime().block_on(async {
        let client = Client::connect(address).await;
        let puts: Vec<_> = (0..BURST)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move { put(&client, format!("burst/{number}"), b"burst").await })
            })
            .collect();
        let mut refused = Vec::new();
        for put in puts {
            refused.extend(put.await.expect("no panic").err());
        }
        refused
    });
    cluster.must(refused.is_empty(), || {
        format!("{} of a burst refused: {}", refused.len(), refused[0])
    });
}

struct End {
    /// After the callers began.
    sent: Duration,
    took: Duration,
    result: Result<(), Status>,
}

/// Has the callers ask for [`OVERLOADED`]. They end with `stop`.
fn overload(cluster: &Cluster, place: usize, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<End>>> {
    let address = cluster.server(place).address();
    let began = Instant::now();
    let callers = cluster.runtime().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(address).await);
        }
        let call = |number: usize| {
            let client = clients[number % CONNECTIONS].clone();
            tokio::spawn(call(client, number, began, stop.clone()))
        };
        (0..CALLERS).map(call).collect()
    });
    std::thread::sleep(OVERLOADED.saturating_sub(began.elapsed()));
    callers
}

async fn call(client: Client, number: usize, began: Instant, stop: Arc<AtomicBool>) -> Vec<End> {
    let mut ends = Vec::new();
    let value = value();
    while !stop.load(Ordering::Relaxed) {
        let sent = began.elapsed();
        let result = put(&client, format!("overload/{number}"), &value).await;
        let is_refused = result.is_err();
        ends.push(End {
            sent,
            took: began.elapsed().saturating_sub(sent),
            result,
        });
        if is_refused {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    ends
}

fn value() -> Vec<u8> {
    calls::incompressible(VALUE_BYTES)
}

async fn put(client: &Client, key: String, value: &[u8]) -> Result<(), Status> {
    let request = PutRequest {
        key: key.into(),
        value: value.to_vec().into(),
        ..PutRequest::default()
    };
    client.kv.clone().put(request).await.map(drop)
}

fn lease(id: i64) -> LeaseGrantRequest {
    let ttl = i64::try_from(TTL.as_secs()).expect("few");
    LeaseGrantRequest { ttl, id }
}

/// Keeps a lease, and reads; the longest time that a renewal and a read took.
async fn keep(address: SocketAddr, stop: Arc<AtomicBool>) -> Duration {
    let mut client = Client::connect(address).await;
    client.lease.lease_grant(lease(1)).await.expect("a lease");
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let asked = tokio_stream::once(LeaseKeepAliveRequest { id: 1 });
        let answers = client.lease.lease_keep_alive(asked).await;
        let mut answers = answers.expect("an answer").into_inner();
        let answer = answers.message().await.expect("an answer").expect("one");
        assert!(answer.ttl > 0, "the lease is gone");
        client.get("a", 0).await.expect("a read");
        longest = longest.max(began.elapsed());
        tokio::time::sleep(RENEWED_EVERY).await;
    }
    longest
}
