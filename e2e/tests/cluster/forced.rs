//! Two of three members are lost for good: the third goes on alone, with everything it has.

use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::{tools, turn};
use engram_proto::etcdserverpb::Member as ListedMember;
use serde_json::Value;

#[test]
fn a_member_goes_on_alone_when_it_is_forced() {
    let _turn = turn::take("force new cluster");
    let mut cluster = Plan::of(3).start();
    cluster.etcdctl(&["put", "before", "the loss"]);
    cluster.wait_for_revision(0, 2, LEADER_LIMIT);
    for place in [1, 2] {
        cluster.kill(place);
    }
    cluster.kill(0);
    cluster.restart_with(0, "--force-new-cluster");
    let leader = cluster.wait_for_leader_among(&[0], LEADER_LIMIT);
    assert_eq!(leader.place, 0);
    assert_eq!(cluster.member_list(0).len(), 1);
    let found = cluster.etcdctl_at(&[0], &["get", "before", "--print-value-only"]);
    cluster.must(found.trim() == "the loss", || found);
    cluster.etcdctl_at(&[0], &["put", "after", "the loss"]);
}

/// What `engramctl` answers that is told a member's directory.
fn engramctl(cluster: &Cluster, place: usize, arguments: &[&str]) -> Value {
    let mut command = tools::command(&tools::engramctl());
    command.args(arguments).args(["-w", "json", "--data-dir"]);
    command.arg(cluster.server(place).data_dir());
    let found = tools::run(&mut command, tools::TOOL_LIMIT);
    cluster.must(found.status.success(), || found.text());
    serde_json::from_str(&found.stdout).expect("it answers in JSON")
}

fn inspect(cluster: &Cluster, place: usize) -> Value {
    engramctl(cluster, place, &["inspect"])
}

/// Whether `engramctl force-new-cluster` had anything to do for this word.
fn force(cluster: &Cluster, place: usize, word: &str) -> bool {
    let forced = ["force-new-cluster", "--once", word];
    engramctl(cluster, place, &forced)["now"] == true
}

#[test]
fn the_longest_log_is_found_and_its_member_goes_on_alone_once() {
    let _turn = turn::take("inspect and force new cluster");
    let mut cluster = Plan::of(3).start();
    cluster.etcdctl(&["put", "before", "2 of 3"]);
    for place in 0..3 {
        cluster.wait_for_revision(place, 2, LEADER_LIMIT);
    }
    cluster.kill(2);
    cluster.wait_for_leader_among(&[0, 1], LEADER_LIMIT);
    for number in 0..10 {
        cluster.etcdctl_at(&[0, 1], &["put", &format!("later/{number}"), "x"]);
    }
    cluster.wait_for_revision(1, 12, LEADER_LIMIT);
    let named = |member: &ListedMember| member.name == cluster.server(1).name();
    let listed = cluster.member_list(1).into_iter().find(named);
    // Beside a member that runs.
    let running = inspect(&cluster, 1);
    for place in [0, 1] {
        cluster.kill(place);
    }
    let names = |cluster: &Cluster| {
        let dir = cluster.server(1).data_dir().join("store");
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .expect("it is there")
            .map(|entry| entry.expect("it is read").file_name())
            .collect();
        names.sort();
        names
    };
    let before = names(&cluster);
    let held: Vec<Value> = (0..3).map(|place| inspect(&cluster, place)).collect();
    assert_eq!(before, names(&cluster), "looking changes nothing");
    let last = |value: &Value| (value["lastTerm"].as_u64(), value["lastIndex"].as_u64());
    assert!(last(&held[1]) > last(&held[2]), "{held:#?}");
    assert!(
        last(&held[1]) >= last(&running),
        "{held:#?}, before {running:#}"
    );
    assert_eq!(held[1]["clusterID"], held[2]["clusterID"]);
    // Also where the store was never flushed, and the log alone has them.
    for one in &held {
        let members = one["members"].as_array().expect("members");
        assert_eq!(members.len(), 3, "{one:#}");
        // A store that was never flushed has not heard whose directory it is.
        let own = members
            .iter()
            .find(|member| member["id"] == one["memberID"]);
        let own = &own.expect("it is one of them")["incarnation"];
        assert!(*own == one["incarnation"] || *own == "0", "{one:#}");
    }
    let number = |key: &str| held[1][key].as_i64().expect("a number");
    assert!(
        number("revision") + number("requestsBehind") >= 12,
        "{:#}",
        held[1]
    );
    assert!(force(&cluster, 1, "first"));
    assert!(!force(&cluster, 1, "first"), "it is done once");
    cluster.restart(1);
    let leader = cluster.wait_for_leader_among(&[1], LEADER_LIMIT);
    assert_eq!(leader.place, 1);
    // It is who it was, and is reached where it was: a store that was never flushed did not know.
    assert_eq!(cluster.member_list(1), Vec::from_iter(listed));
    let found = cluster.etcdctl_at(&[1], &["get", "--prefix", "later/", "--keys-only"]);
    let keys = found.lines().filter(|line| !line.is_empty());
    cluster.must(keys.count() == 10, || found.clone());
}
