//! A member whose data has changed behind its back is found out, and serves nobody.

use std::path::Path;
use std::time::Duration;

use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::{tools, turn};
use engram_server::state::{Change, Values};
use engram_server::storage::{Engine, EngineOptions};
use engram_server::types::{Revision, RevisionPair};

const KEYS: i64 = 20;
/// The members are compared every two seconds.
const CHECK: &str = "--corrupt-check-time=2s";
const FOUND_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_member_with_other_data_is_fenced_and_the_others_go_on() {
    let _turn = turn::take("corruption");
    if tools::engram_is_etcd() {
        println!("damages a store of Engram's");
        return;
    }
    let mut cluster = Plan::of(3).flag(CHECK).start();
    for number in 1..=KEYS {
        cluster.etcdctl(&["put", &format!("key{number}"), "right"]);
    }
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let bad = (leader + 1) % 3;
    let good = (leader + 2) % 3;
    cluster.wait_for_revision(bad, KEYS + 1, LEADER_LIMIT);
    cluster.terminate(bad);
    damage(&cluster.server(bad).data_dir().join("store"));
    cluster.restart(bad);
    let id = cluster.member_id(bad).to_string();
    cluster.wait_for(FOUND_LIMIT, "the CORRUPT alarm", || {
        let alarms = run(&cluster, good, &["alarm", "list"]).stdout;
        let named = |line: &str| line.contains(&id) && line.contains("CORRUPT");
        alarms.lines().any(named).then_some(())
    });
    for consistency in ["--consistency=l", "--consistency=s"] {
        let read = run(&cluster, bad, &["get", "key7", consistency]);
        cluster.must(read.text().contains("corrupt cluster"), || read.text());
    }
    for write in [
        &["put", "key7", "new"][..],
        &["lease", "grant", "60"],
        &["lease", "revoke", "1234"],
        &["del", "key7"],
        &["compact", "2"],
    ] {
        let written = run(&cluster, bad, write);
        cluster.must(written.text().contains("corrupt cluster"), || {
            written.text()
        });
    }
    // What an operator needs to put it right.
    for asked in [&["alarm", "list"][..], &["member", "list"]] {
        let answered = run(&cluster, bad, asked);
        cluster.must(answered.status.success(), || answered.text());
    }
    for place in [leader, good] {
        let written = run(&cluster, place, &["put", "key7", "new"]);
        cluster.must(written.status.success(), || written.text());
        let read = run(&cluster, place, &["get", "key7", "--print-value-only"]);
        cluster.must(read.stdout.trim() == "new", || read.text());
    }
}

/// Changes one byte of a value, with every checksum right.
fn damage(store: &Path) {
    let engine = Engine::open(store, EngineOptions::default()).expect("a store at rest opens");
    let pair = RevisionPair {
        main: Revision(8),
        sub: 0,
    };
    let mut record = engine.get(pair).expect("the seventh key's revision");
    let mut encoded = record.encoded.to_vec();
    let right = encoded
        .windows(5)
        .position(|bytes| bytes == b"right")
        .expect("its value");
    encoded[right] = b'w';
    record.encoded = encoded.into();
    engine.write_unlogged(&[Change::PutRevision(record)]);
    engine.flush();
}

fn run(cluster: &Cluster, place: usize, arguments: &[&str]) -> tools::Finished {
    let mut command = cluster.etcdctl_command(&[place]);
    tools::run(command.args(arguments), tools::TOOL_LIMIT)
}
