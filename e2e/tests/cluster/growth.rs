//! A cluster grows from one member to five, under load, and shrinks again.

use std::time::Duration;

use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::load::Load;
use engram_e2e::turn;

#[test]
#[ignore = "takes long: `make chaos` runs it"]
fn one_three_five_three_one() {
    let _turn = turn::take("1 → 3 → 5 → 3 → 1");
    let mut cluster = Plan::of(1).start();
    let load = Load::begin(&cluster, "grow", 2, Duration::from_millis(5));
    for number in 2..=5 {
        load.must_progress(&cluster, 50);
        // Half of them as learners first, as is recommended.
        grow(&mut cluster, number % 2 == 0);
        must_be(&cluster, number);
    }
    // The first member, whom all writers know, stays.
    for place in (1..5).rev() {
        load.must_progress(&cluster, 50);
        shrink(&mut cluster, place);
        must_be(&cluster, place);
    }
    load.must_progress(&cluster, 50);
    let written = load.nothing_is_lost(&cluster);
    println!("{} acknowledged writes are there", written.len());
}

fn grow(cluster: &mut Cluster, as_learner: bool) {
    let place = cluster.add_member(0, as_learner);
    cluster.must_become_ready(place);
    if as_learner {
        let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
        cluster.promote(leader, cluster.member_id(place));
    }
    cluster.wait_for_leader(LEADER_LIMIT);
}

fn shrink(cluster: &mut Cluster, place: usize) {
    let id = cluster.member_id(place);
    cluster.remove_member(0, id);
    let ended = cluster.ended_within(place, LEADER_LIMIT);
    cluster.must(ended.is_some(), || {
        format!("m{} was removed and still runs", place + 1)
    });
    cluster.wait_for_leader(LEADER_LIMIT);
}

fn must_be(cluster: &Cluster, count: usize) {
    let listed = cluster.member_list(0);
    let voters = listed
        .iter()
        .filter(|member| !member.is_learner && !member.name.is_empty());
    cluster.must(voters.count() == count && listed.len() == count, || {
        format!("{count} voters were due: {listed:?}")
    });
    cluster.must_hold_the_same();
}

/// As etcd: who is new counts as one that is down, and the new leader's connections stood all the while.
#[test]
fn a_learner_is_added_as_soon_as_another_leads() {
    let _turn = turn::take("a learner right after the leader's end");
    let mut cluster = Plan::of(3).start();
    // Members have to be in touch for five.
    std::thread::sleep(Duration::from_secs(6));
    let old = cluster.wait_for_leader(LEADER_LIMIT).place;
    let dead = format!("{:x}", cluster.member_id(old));
    cluster.kill(old);
    let rest: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let leader = cluster.wait_for_leader_among(&rest, LEADER_LIMIT).place;
    cluster.wait_for(LEADER_LIMIT, "the dead member is no active peer", || {
        let metrics = cluster.server(leader).metrics();
        let mut peers = metrics
            .lines()
            .filter(|line| line.starts_with("etcd_network_active_peers{"));
        peers
            .find(|line| line.ends_with(&format!("Remote=\"{dead}\"}} 0")))
            .map(|_| ())
    });
    cluster.etcdctl_at(&[leader], &["member", "remove", &dead]);
    let urls = "--peer-urls=http://127.0.0.1:9";
    let add = ["member", "add", "late", "--learner", urls];
    cluster.etcdctl_at(&[leader], &add);
    let prober = "prober detected unhealthy status";
    cluster.wait_for(LEADER_LIMIT, prober, || {
        let told = cluster.server(leader).output();
        told.contains(prober).then_some(())
    });
}
