//! The network splits: the minority refuses what it cannot know, the majority goes on, and when the
//! network heals nobody is disturbed.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Leader, Plan};
use engram_e2e::load::Load;
use engram_e2e::turn;
use engram_proto::etcdserverpb::RangeRequest;
use tonic::{Code, Status};

use crate::is_long;

/// Longer than etcd's own limit for a request: five seconds and two election timeouts.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15);
/// How long the healed cluster is looked at for disturbances: two election timeouts and more.
const CALM: Duration = Duration::from_secs(3);
/// etcd's answers to a request that no quorum confirmed in time. (The last is what it says to a write
/// while it knows of no leader: the proposal was not even taken.)
const REFUSALS: [(Code, &str); 4] = [
    (Code::Unavailable, "etcdserver: request timed out"),
    (Code::Unavailable, "etcdserver: no leader"),
    (Code::Unavailable, "etcdserver: leader changed"),
    (Code::DeadlineExceeded, "context deadline exceeded"),
];

/// Which bytes are lost.
#[derive(Clone, Copy, Debug)]
enum Split {
    BothWays,
    FromMinority,
    ToMinority,
}

#[test]
fn two_and_one() {
    let _turn = turn::take("split 2 + 1");
    let mut cluster = Plan::of(3).start();
    story(&mut cluster, 1, true, Split::BothWays);
    story(&mut cluster, 1, false, Split::BothWays);
    story(&mut cluster, 1, true, Split::FromMinority);
    story(&mut cluster, 1, false, Split::ToMinority);
    if is_long() {
        story(&mut cluster, 1, true, Split::ToMinority);
        story(&mut cluster, 1, false, Split::FromMinority);
    }
}

#[test]
#[ignore = "takes long: `make chaos` runs it"]
fn three_and_two() {
    let _turn = turn::take("split 3 + 2");
    let mut cluster = Plan::of(5).start();
    for with_leader in [true, false] {
        for split in [Split::BothWays, Split::FromMinority, Split::ToMinority] {
            story(&mut cluster, 2, with_leader, split);
        }
    }
}

/// Cuts off `count` members, with the leader or without, looks at both sides, and heals.
fn story(cluster: &mut Cluster, count: usize, with_leader: bool, split: Split) {
    let started = Instant::now();
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let (minority, majority) = sides(cluster.size(), leader, count, with_leader);
    let load = Load::begin(
        cluster,
        &format!("split/{started:?}"),
        4,
        Duration::from_millis(5),
    );
    load.must_progress(cluster, 50);
    match split {
        Split::BothWays => cluster.split(&[&minority, &majority]),
        Split::FromMinority => cluster.silence(&minority, &majority),
        Split::ToMinority => cluster.silence(&majority, &minority),
    }
    let chosen = cluster.wait_for_leader_among(&majority, LEADER_LIMIT);
    cluster.must(with_leader || chosen.place == leader, || {
        format!("the majority had its leader and yet chose another: {chosen:?}")
    });
    load.must_progress(cluster, 100);
    for place in &minority {
        minority_refuses(cluster, *place);
    }
    load.must_progress(cluster, 50);
    let kept = cluster.wait_for_leader_among(&majority, LEADER_LIMIT);
    cluster.heal();
    nobody_is_disturbed(cluster, kept);
    load.must_progress(cluster, 50);
    load.nothing_is_lost(cluster);
    cluster.must_hold_the_same();
    println!(
        "minority {minority:?} {} the leader, {split:?}: {:.1} s",
        if with_leader { "with" } else { "without" },
        started.elapsed().as_secs_f64()
    );
}

/// The places of the minority and of the majority.
fn sides(size: usize, leader: usize, count: usize, with_leader: bool) -> (Vec<usize>, Vec<usize>) {
    let others = (0..size).filter(|place| *place != leader);
    let mut order: Vec<usize> = match with_leader {
        true => std::iter::once(leader).chain(others).collect(),
        false => others.chain(std::iter::once(leader)).collect(),
    };
    let majority = order.split_off(count);
    (order, majority)
}

/// Linearizable reads and writes at a member without a quorum fail with etcd's error; serializable
/// reads are served.
fn minority_refuses(cluster: &Cluster, place: usize) {
    let address = cluster.server(place).address();
    let (read, write, local) = cluster.runtime().block_on(async {
        let (mut reader, mut writer) = (Client::lazy(address), Client::lazy(address));
        let mut local = Client::lazy(address);
        let range = RangeRequest {
            key: b"split".to_vec().into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let read = async { within_limit(reader.get("split", 0)).await };
        let write = async { within_limit(writer.put("minority", "x")).await };
        let local = async { within_limit(local.kv.range(range)).await };
        let (read, write, local) = tokio::join!(read, write, local);
        (read.map(drop), write.map(drop), local.map(drop))
    });
    let name = cluster.server(place).name();
    must_be_refused(cluster, name, "a linearizable read", read);
    must_be_refused(cluster, name, "a write", write);
    cluster.must(local.is_ok(), || {
        format!("{name}, cut off, should serve a serializable read: {local:?}")
    });
}

async fn within_limit<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let limited = tokio::time::timeout(REFUSAL_LIMIT, call).await;
    limited.unwrap_or_else(|_| Err(Status::unknown(format!("no answer in {REFUSAL_LIMIT:?}"))))
}

fn must_be_refused(cluster: &Cluster, name: &str, what: &str, answer: Result<(), Status>) {
    let is_right = answer.as_ref().is_err_and(|status| {
        let is_it = |(code, text): &(Code, &str)| {
            status.code() == *code && status.message().starts_with(text)
        };
        REFUSALS.iter().any(is_it)
    });
    cluster.must(is_right, || {
        format!("{name}, cut off, should answer {what} with one of {REFUSALS:?}: {answer:?}")
    });
}

/// Everybody follows the majority's leader, in its term, and it stays so.
fn nobody_is_disturbed(cluster: &Cluster, kept: Leader) {
    let healed = cluster.wait_for_leader(LEADER_LIMIT);
    cluster.must(healed == kept, || {
        format!("the healed minority disturbed the majority: {kept:?} became {healed:?}")
    });
    let calm_until = Instant::now() + CALM;
    while Instant::now() < calm_until {
        for place in cluster.awake() {
            let Some(status) = cluster.status(place) else {
                continue;
            };
            let stands = (status.leader, status.raft_term) == (kept.id, kept.term);
            cluster.must(stands, || {
                let name = cluster.server(place).name();
                format!("after the network healed {name} left {kept:?}: {status:?}")
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
