//! A member that was away for longer than the log reaches back is sent a snapshot, and then the log.

use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::load::{Load, all_are_there};
use engram_e2e::{tools, turn};

use crate::ci_or_full;

const WRITERS: usize = 16;
/// How long a member may take to catch up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// Longer than the leader holds the log for a member that it does not hear.
const OUT_OF_TOUCH: Duration = Duration::from_secs(7);
/// More than the 64 MiB that the log keeps.
const FILLERS: usize = 80;
const FILLER_BYTES: usize = 1 << 20;
/// What etcd counts at the receiver of a snapshot.
const RECEIVED: &str = "etcd_network_snapshot_receive_success";

#[test]
fn a_member_that_was_away_catches_up_by_snapshot_and_log() {
    let _turn = turn::take("catching up by snapshot");
    let plan = Plan::of(3).flag("--snapshot-count=500");
    let mut cluster = plan.flag("--snapshot-catchup-entries=100").start();
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let away = (leader + 1) % 3;
    cluster.kill(away);

    let load = Load::begin(&cluster, "away", WRITERS, Duration::ZERO);
    let goal = ci_or_full(5_000, 100_000);
    cluster.wait_for(CATCH_UP_LIMIT * 10, &format!("{goal} writes"), || {
        (load.acknowledged() >= goal).then_some(())
    });
    outgrow_the_log(&cluster, leader);
    // For as long as the leader takes a member for one in touch, it holds the log for it.
    std::thread::sleep(OUT_OF_TOUCH);
    let revision = cluster.revision(leader).expect("a read at the leader");
    let mut compact = cluster.etcdctl_command(&[leader]);
    tools::must_succeed(compact.args(["compact", &revision.to_string()]));

    let started = Instant::now();
    cluster.restart(away);
    cluster.wait_for_revision(away, revision, CATCH_UP_LIMIT);
    println!("{goal} writes caught up in {:?}", started.elapsed());
    let received = metric(&cluster, away, RECEIVED);
    cluster.must(received >= 1.0, || {
        let name = cluster.server(away).name();
        format!("{name} should have been sent a snapshot: {RECEIVED} is {received}")
    });
    let receiver = [
        "receiving database snapshot",
        "received and saved database snapshot",
        "applied snapshot",
    ];
    let sender = ["sending database snapshot", "sent database snapshot"];
    for (place, lines) in [(away, &receiver[..]), (leader, &sender)] {
        let log = cluster.server(place).output();
        for line in lines {
            cluster.must(log.contains(&format!("\"{line}\"")), || {
                format!(
                    "{} should have logged {line:?}",
                    cluster.server(place).name()
                )
            });
        }
    }
    load.must_progress(&cluster, 500);
    let written = load.end(&cluster);
    cluster.must_hold_the_same();
    all_are_there(&cluster, &written);
    it_counts(&mut cluster, away);
}

/// Writes more than the log keeps for members that lag: it no longer reaches back to where one left.
fn outgrow_the_log(cluster: &Cluster, leader: usize) {
    let runtime = client::runtime();
    runtime.block_on(async {
        let mut client = Client::connect(cluster.server(leader).address()).await;
        for _ in 0..FILLERS {
            let filled = client.put("filler", vec![b'x'; FILLER_BYTES]).await;
            filled.expect("a put while two of three are there");
        }
    });
}

/// The member that caught up is as good as any: with it the cluster does without another.
fn it_counts(cluster: &mut Cluster, place: usize) {
    let other = (0..3)
        .find(|other| *other != place)
        .expect("there are three");
    cluster.kill(other);
    let load = Load::begin(cluster, "after", 4, Duration::ZERO);
    load.must_progress(cluster, 100);
    cluster.restart(other);
    load.nothing_is_lost(cluster);
    cluster.must_hold_the_same();
}

/// The sum of a metric over its labels; 0 if it is not there.
fn metric(cluster: &Cluster, place: usize, name: &str) -> f64 {
    let text = cluster.server(place).metrics();
    let samples = text.lines().filter(|line| line.starts_with(name));
    samples
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
