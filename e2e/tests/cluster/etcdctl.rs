//! The real etcdctl with the endpoints of three members, as an administrator uses it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::{tools, turn};
use serde_json::Value;

const EVENT_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn an_administrators_day() {
    let _turn = turn::take("etcdctl on three members");
    let mut cluster = Plan::of(3).start();
    everybody_is_healthy(&cluster, 3);
    keys_are_seen_everywhere(&cluster);
    a_watch_at_one_member_sees_a_write_at_another(&cluster);
    a_snapshot_is_restorable(&cluster);
    compaction_is_everywhere(&cluster);
    leadership_moves(&cluster);
    a_learner_comes_and_goes(&mut cluster);
    hashes_are_the_same(&cluster, 3);
}

fn everybody_is_healthy(cluster: &Cluster, count: usize) {
    let health = cluster.etcdctl_json(&["endpoint", "health"]);
    let healthy = each(&health)
        .filter(|entry| entry["health"] == true)
        .count();
    cluster.must(healthy == count, || {
        format!("{count} healthy endpoints were due: {health}")
    });
    let of_cluster = cluster.etcdctl_json(&["endpoint", "status", "--cluster"]);
    let leader = cluster.wait_for_leader(LEADER_LIMIT);
    for entry in each(&of_cluster) {
        let (seen, term) = (&entry["Status"]["leader"], &entry["Status"]["raftTerm"]);
        cluster.must(*seen == leader.id && *term == leader.term, || {
            format!("{leader:?} leads; endpoint status says otherwise: {entry}")
        });
    }
    cluster.must(each(&of_cluster).count() == count, || {
        format!("{count} endpoints of the cluster were due: {of_cluster}")
    });
    let members = cluster.etcdctl_json(&["member", "list"]);
    cluster.must(each(&members["members"]).count() == count, || {
        format!("{count} members were due: {members}")
    });
}

fn each(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// Runs etcdctl with the endpoint of one member.
fn at(cluster: &Cluster, place: usize, arguments: &[&str]) -> String {
    tools::must_succeed(cluster.etcdctl_command(&[place]).args(arguments))
}

fn keys_are_seen_everywhere(cluster: &Cluster) {
    for writer in 0..3 {
        let value = format!("by m{}", writer + 1);
        assert_eq!(at(cluster, writer, &["put", "foo", &value]), "OK\n");
        for reader in 0..3 {
            let read = at(cluster, reader, &["get", "foo", "--print-value-only"]);
            cluster.must(read.trim() == value, || {
                format!("m{} read {read:?} after {value:?} was written", reader + 1)
            });
        }
    }
    let serializable = at(
        cluster,
        0,
        &["get", "--consistency=s", "foo", "--count-only", "-w=fields"],
    );
    assert!(serializable.contains("\"Count\" : 1"), "{serializable}");
}

fn a_watch_at_one_member_sees_a_write_at_another(cluster: &Cluster) {
    let mut command = cluster.etcdctl_command(&[2]);
    command
        .args(["watch", "news", "--rev=1"])
        .stdout(Stdio::piped());
    let mut watch = command.spawn().expect("etcdctl starts");
    let lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    at(cluster, 0, &["put", "news", "good"]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let seen: Vec<String> = lines.map_while(Result::ok).take(3).collect();
        // The receiver is gone where the test has failed.
        let _ = sender.send(seen);
    });
    let seen = receiver.recv_timeout(EVENT_LIMIT);
    watch.kill().expect("our own child can be killed");
    watch.wait().expect("our own child can be waited for");
    reader.join().expect("reading a pipe does not panic");
    cluster.must(
        seen == Ok(["PUT", "news", "good"].map(String::from).to_vec()),
        || format!("the watch at m3 should see m1's write within {EVENT_LIMIT:?}: {seen:?}"),
    );
}

fn a_snapshot_is_restorable(cluster: &Cluster) {
    for place in 0..3 {
        let path = cluster.server(place).scratch().join("backup.db");
        let path = path.to_str().expect("temporary paths are text");
        at(cluster, place, &["snapshot", "save", path]);
        let status = tools::etcdutl(&["snapshot", "status", path, "-w=json"]);
        let status: Value = serde_json::from_str(&status).expect("etcdutl writes JSON");
        cluster.must(status["totalKey"].as_u64() >= Some(2), || {
            format!("the snapshot of m{} lacks keys: {status}", place + 1)
        });
    }
}

fn compaction_is_everywhere(cluster: &Cluster) {
    let read = cluster.etcdctl_json(&["get", "foo"]);
    let revision = read["header"]["revision"].as_i64().expect("a revision");
    at(cluster, 1, &["compact", &revision.to_string()]);
    for place in 0..3 {
        let mut command = cluster.etcdctl_command(&[place]);
        let past = tools::run(command.args(["get", "foo", "--rev=2"]), tools::TOOL_LIMIT);
        let text = past.text();
        let is_compacted = !past.status.success() && text.contains("has been compacted");
        cluster.must(is_compacted, || {
            format!(
                "m{} should refuse revision 2 as compacted: {text}",
                place + 1
            )
        });
    }
}

fn leadership_moves(cluster: &Cluster) {
    let leader = cluster.wait_for_leader(LEADER_LIMIT);
    let target = (leader.place + 1) % 3;
    let id = format!("{:x}", cluster.member_id(target));
    let mut refused = cluster.etcdctl_command(&[target]);
    let refused = tools::run(refused.args(["move-leader", &id]), tools::TOOL_LIMIT);
    cluster.must(!refused.status.success(), || {
        format!(
            "move-leader without the leader's endpoint: {}",
            refused.text()
        )
    });
    cluster.etcdctl(&["move-leader", &id]);
    let moved = cluster.wait_for_leader(LEADER_LIMIT);
    cluster.must(moved.place == target && moved.term > leader.term, || {
        format!(
            "the lead should have moved from {leader:?} to m{}: {moved:?}",
            target + 1
        )
    });
}

fn a_learner_comes_and_goes(cluster: &mut Cluster) {
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let place = cluster.add_member(leader, true);
    cluster.must_become_ready(place);
    let id = cluster.member_id(place);
    let hex = format!("{id:x}");
    let listed = cluster.etcdctl_json(&["member", "list"]);
    let learner = each(&listed["members"]).find(|member| member["ID"] == id);
    cluster.must(
        learner.is_some_and(|member| member["isLearner"] == true),
        || format!("{hex} should be listed as a learner: {listed}"),
    );
    cluster.wait_for(LEADER_LIMIT, "etcdctl promotes the learner", || {
        let mut command = cluster.etcdctl_command(&[leader]);
        let promoted = tools::run(command.args(["member", "promote", &hex]), tools::TOOL_LIMIT);
        promoted.status.success().then_some(())
    });
    // The leader answered; the new voter hears of it a moment later, as in etcd.
    cluster.wait_for(LEADER_LIMIT, "the new voter serves", || {
        let mut command = cluster.etcdctl_command(&[place]);
        let asked = tools::run(command.args(["endpoint", "health"]), tools::TOOL_LIMIT);
        asked.status.success().then_some(())
    });
    everybody_is_healthy(cluster, 4);
    hashes_are_the_same(cluster, 4);
    at(cluster, leader, &["member", "remove", &hex]);
    let ended = cluster.ended_within(place, LEADER_LIMIT);
    cluster.must(ended.is_some(), || {
        format!("m{} was removed and still runs", place + 1)
    });
    let said = cluster.server(place).output();
    cluster.must(
        said.contains("data-dir used by this member must be removed"),
        || {
            format!(
                "m{} ended and should have said that it was removed",
                place + 1
            )
        },
    );
    // Started again it hears it from the others before it serves anybody.
    cluster.relaunch(place);
    let ended = cluster.ended_within(place, LEADER_LIMIT);
    let said = cluster.server(place).output();
    let is_told = said.contains("the member has been permanently removed from the cluster");
    let served = said.contains("ready to serve client requests");
    cluster.must(ended.is_some() && is_told && !served, || {
        format!("m{} was removed and starts again: {said}", place + 1)
    });
    let left = cluster.etcdctl_json(&["member", "list"]);
    assert_eq!(each(&left["members"]).count(), 3, "{left}");
}

fn hashes_are_the_same(cluster: &Cluster, count: usize) {
    cluster.must_hold_the_same();
    let hashes = cluster.etcdctl_json(&["endpoint", "hashkv", "--cluster"]);
    let hash = |entry: &Value| entry["HashKV"]["hash"].as_u64();
    let of_all: Vec<Option<u64>> = each(&hashes).map(hash).collect();
    let same = of_all
        .iter()
        .all(|hash| hash.is_some() && *hash == of_all[0]);
    cluster.must(same && of_all.len() == count, || {
        format!("{count} equal hashes were due: {hashes}")
    });
}
