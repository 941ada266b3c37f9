//! A learner joins a large store while clients write: they hardly notice.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::load::{Load, Written};
use engram_e2e::random::Random;
use engram_e2e::{tools, turn};

/// One GiB in values of 512 KiB, which no compressor shortens.
const VALUES: usize = 2_048;
const VALUE_BYTES: usize = 512 * 1024;
const FILLERS: usize = 8;
/// How long the load is measured without a learner.
const STEADY: Duration = Duration::from_secs(15);
const JOIN_LIMIT: Duration = Duration::from_secs(300);
/// What the 99th percentile of puts may become while the learner is sent a snapshot.
const SLOWDOWN_MAX: u32 = 2;

#[test]
#[ignore = "takes long: `make chaos` runs it"]
fn a_learner_joins_a_gigabyte_under_load() {
    let _turn = turn::take("a learner joins 1 GiB");
    let plan = Plan::of(3).flag("--quota-backend-bytes=8589934592");
    let plan = plan
        .flag("--snapshot-count=500")
        .flag("--snapshot-catchup-entries=100");
    let mut cluster = plan.start();
    fill(&cluster);
    let load = Load::begin(&cluster, "join", 4, Duration::from_millis(2));
    let (steady_from, steady_until) = (Instant::now(), Instant::now() + STEADY);
    std::thread::sleep(STEADY);
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let joining_from = Instant::now();
    let place = cluster.add_member(leader, true);
    cluster.must_become_ready(place);
    let revision = cluster.revision(leader).expect("a read at the leader");
    cluster.wait_for_revision(place, revision, JOIN_LIMIT);
    let joining_until = Instant::now();
    let written = load.nothing_is_lost(&cluster);
    let steady = slowest_hundredth(&written, steady_from, steady_until);
    let joining = slowest_hundredth(&written, joining_from, joining_until);
    let took = joining_until - joining_from;
    println!("joined in {took:?}; p99 of puts {steady:?} before, {joining:?} meanwhile");
    let is_allowed = tools::engram_is_etcd() || joining <= steady * SLOWDOWN_MAX;
    cluster.must(is_allowed, || {
        format!("puts became slower than {SLOWDOWN_MAX} times: p99 {joining:?} after {steady:?}")
    });
    // A learner serves no hash.
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    cluster.promote(leader, cluster.member_id(place));
    cluster.must_hold_the_same();
}

fn fill(cluster: &Cluster) {
    let started = Instant::now();
    let address = cluster
        .server(cluster.wait_for_leader(LEADER_LIMIT).place)
        .address();
    let filler = |number: usize| {
        cluster.runtime().spawn(async move {
            let mut client = Client::connect(address).await;
            let mut random = Random::new(u64::try_from(number).expect("fillers are few"));
            for count in 0..VALUES / FILLERS {
                let key = format!("fill/{number}/{count}");
                let put = client.put(key, random.bytes(VALUE_BYTES)).await;
                put.expect("a put on a healthy cluster");
            }
        })
    };
    let fillers: Vec<_> = (0..FILLERS).map(filler).collect();
    for filler in fillers {
        cluster
            .runtime()
            .block_on(filler)
            .expect("fillers do not panic");
    }
    println!("filled in {:?}", started.elapsed());
}

/// The 99th percentile of the writes that were sent in a window.
fn slowest_hundredth(written: &[Written], from: Instant, until: Instant) -> Duration {
    let in_window = written
        .iter()
        .filter(|write| (from..until).contains(&write.sent));
    let mut times: Vec<Duration> = in_window
        .map(|write| write.acknowledged - write.sent)
        .collect();
    times.sort_unstable();
    let index = times.len() * 99 / 100;
    times.get(index).copied().expect("the load went on")
}
