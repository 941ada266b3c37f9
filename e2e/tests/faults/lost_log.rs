//! A member whose log is not there, or is another one's, must not vote as if it had promised nothing.

use std::fs;
use std::time::Duration;

use engram_e2e::cluster::Plan;
use engram_e2e::disk;
use engram_e2e::server::Setup;

use crate::calls::{self, PATIENCE};
use crate::case;

/// How long a member that refuses may take to say so.
const REFUSAL_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_member_without_its_log_helps_nobody_to_forget() {
    let case = case::begin("lost log, quorum of it and one that was away");
    let mut cluster = Plan::of(3).start();
    cluster.have_lead(0);
    cluster.kill(2);
    for number in 0..5 {
        let value = format!("acknowledged-{number}");
        let written = calls::put(&cluster, 0, "k", value.as_bytes(), PATIENCE);
        cluster.must(written.is_ok(), || {
            format!("two of three commit: {written:?}")
        });
    }
    cluster.kill(0);
    cluster.kill(1);
    fs::remove_dir_all(cluster.server(0).wal_dir()).expect("removing the log");
    cluster.relaunch(2);
    let refused = cluster.refusal(0, REFUSAL_LIMIT);
    // What must not come to be: a write that takes the place of one that was acknowledged.
    let _ = calls::put(&cluster, 2, "other", b"x", Duration::from_secs(4));
    cluster.relaunch(1);
    std::thread::sleep(Duration::from_secs(4));
    let mut values = Vec::new();
    for place in cluster.awake() {
        let value = calls::get_local(&cluster, place, "k");
        values.push(
            value.map(|value| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        );
    }
    let told = match &refused {
        Some((status, _)) => format!("refuses ({status}): {}", cluster.server(0).last_line()),
        None => "starts".to_owned(),
    };
    case.saw(format!(
        "the member without its log {told}; values of k: {values:?}"
    ));
    cluster.must(refused.is_some(), || told);
    // Member 1 has all that was acknowledged, and with member 2 a quorum that says so.
    let newest = values
        .iter()
        .any(|value| matches!(value, Ok(Some(text)) if text == "acknowledged-4"));
    cluster.must(newest, || format!("{values:?}"));
    calls::must_take_a_write(&cluster, 1, PATIENCE);
    for place in [1, 2] {
        let value = calls::get_local(&cluster, place, "k");
        cluster.must(
            matches!(&value, Ok(Some(bytes)) if bytes == b"acknowledged-4"),
            || format!("{value:?}"),
        );
    }
}

#[test]
fn a_missing_log_is_refused_with_what_to_do() {
    let case = case::begin("lost log, one member");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    // Before the store has anything on the disk: with its log all is gone, and nothing there tells.
    server.kill();
    fs::remove_dir_all(server.wal_dir()).expect("removing the log");
    server.launch();
    let ended = server.wait_ready();
    case.saw(format!("{ended:?}: {}", server.last_line()));
    let status = ended.expect_err("a member without its log refuses");
    assert_eq!(status.code(), Some(1), "{}", server.output());
    let said = server.output();
    assert!(said.contains("wal"), "it names the log: {said}");
}

#[test]
fn another_members_log_is_refused() {
    let case = case::begin("another's log, one member");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    server.terminate();
    // The other has the same name and a log of about the same length.
    let mut other = Setup::engram().start();
    other.etcdctl(&["put", "k", "w"]);
    other.terminate();
    fs::remove_dir_all(server.wal_dir()).expect("removing the log");
    let own = server.data_dir().join("wal");
    disk::copy_directory(&other.wal_dir(), &own);
    server.launch();
    let ended = server.wait_ready();
    case.saw(format!("{ended:?}: {}", server.last_line()));
    let status = ended.expect_err("a member with another's log refuses");
    assert_eq!(status.code(), Some(1), "{}", server.output());
    let said = server.output();
    assert!(said.contains("wal"), "it names the log: {said}");
}

/// A whole directory of an earlier time, log and store, fits itself: only whom it had promised something
/// can tell. It must not vote as if it had not, and whoever looks after it has to hear of it.
#[test]
fn a_member_on_an_older_copy_of_its_directory_is_not_heard() {
    let case = case::begin("an older copy of a follower's data directory");
    let mut cluster = Plan::of(3).start();
    cluster.have_lead(0);
    let put = |cluster: &engram_e2e::cluster::Cluster, key: &str| {
        let written = calls::put(cluster, 0, key, b"v", PATIENCE);
        cluster.must(written.is_ok(), || format!("{key}: {written:?}"));
    };
    put(&cluster, "before");
    cluster.terminate(2);
    let kept = tempfile::tempdir().expect("a temporary directory");
    let (own, older) = (
        cluster.server(2).data_dir().to_owned(),
        kept.path().join("d"),
    );
    disk::copy_directory(&own, &older);
    cluster.restart(2);
    for number in 0..20 {
        put(&cluster, &format!("acknowledged-{number}"));
    }
    let revision = cluster.revision(0).expect("it answers");
    cluster.wait_for_revision(2, revision, PATIENCE);
    cluster.kill(2);
    fs::remove_dir_all(&own).expect("removing the newer one");
    disk::copy_directory(&older, &own);
    let refused = cluster.refusal(2, PATIENCE);
    let told = match &refused {
        Some((status, _)) => format!("ends ({status}): {}", cluster.server(2).last_line()),
        None => "goes on".to_owned(),
    };
    let leader = cluster.server(0).output();
    let lines = leader.lines().filter(|line| line.contains("lost entries"));
    let lines = lines.count();
    case.saw(format!("it {told}; the leader says so {lines} times"));
    cluster.must(
        refused.is_some_and(|(_, said)| said.contains("older copy")),
        || told,
    );
    cluster.must(lines == 1, || format!("said {lines} times"));
    calls::must_take_a_write(&cluster, 0, PATIENCE);
}
