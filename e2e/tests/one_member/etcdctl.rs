//! An operator's day with the real etcdctl and etcdutl, up to a real etcd that serves the snapshot.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};
use serde_json::Value;

#[test]
fn etcdctl_does_its_daily_work_on_the_server() {
    let _turn = turn::take("etcdctl");
    let server = Setup::engram().start();
    health_and_status(&server);
    assert_eq!(server.etcdctl(&["put", "foo", "bar"]), "OK\n");
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nbar\n");
    watch_sees_a_put(&server);
    transaction(&server);
    leases(&server);
    compact(&server);
    let defragmented = server.etcdctl(&["defrag"]);
    assert!(
        defragmented.starts_with("Finished defragmenting"),
        "{defragmented}"
    );
    assert_eq!(server.etcdctl(&["alarm", "list"]), "");
    assert_eq!(
        server.etcdctl(&["get", "foo", "--print-value-only"]),
        "changed\n"
    );
    health_and_status(&server);
}

fn health_and_status(server: &Server) {
    let health = server.etcdctl_json(&["endpoint", "health"]);
    assert_eq!(health[0]["health"], true, "{health}");
    let table = server.etcdctl(&["endpoint", "status", "-w", "table"]);
    let address = server.address().to_string();
    for column in [
        "ENDPOINT",
        "DB SIZE",
        "RAFT APPLIED INDEX",
        "3.7.3",
        "true",
        &address,
    ] {
        assert!(table.contains(column), "{column} is not in\n{table}");
    }
    let status = &server.etcdctl_json(&["endpoint", "status"])[0]["Status"];
    assert_eq!(status["version"], "3.7.3");
    assert_eq!(status["storageVersion"], "3.7.0");
    assert_eq!(status["leader"], status["header"]["member_id"]);
    assert_eq!(status["raftIndex"], status["raftAppliedIndex"]);
    let number = |name: &str| status[name].as_i64().unwrap_or_default();
    assert!(number("dbSize") > 0, "{status}");
    assert!(number("dbSizeInUse") <= number("dbSize"), "{status}");
    assert_eq!(number("dbSizeQuota"), 2 << 30);
    assert_eq!(
        number("raftTerm"),
        1,
        "its first election is its first term"
    );
    assert!(status.get("errors").is_none(), "{status}");
    let members = server.etcdctl_json(&["member", "list"]);
    let member = &members["members"][0];
    assert_eq!(member["name"], "m1");
    assert_eq!(member["ID"], status["leader"]);
    assert_eq!(
        member["clientURLs"],
        serde_json::json!([server.client_url()])
    );
    assert_eq!(member["peerURLs"], serde_json::json!([server.peer_url()]));
}

fn watch_sees_a_put(server: &Server) {
    let mut command = server.etcdctl_command();
    command
        .args(["watch", "foo", "--rev=2"])
        .stdout(Stdio::piped());
    let mut watch = command.spawn().expect("etcdctl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    let mut next_event = || -> Vec<String> {
        let lines = lines.by_ref().take(3);
        lines
            .map(|line| line.expect("etcdctl writes text"))
            .collect()
    };
    assert_eq!(next_event(), ["PUT", "foo", "bar"]);
    server.etcdctl(&["put", "foo", "again"]);
    assert_eq!(next_event(), ["PUT", "foo", "again"]);
    server.etcdctl(&["del", "foo"]);
    assert_eq!(next_event(), ["DELETE", "foo", ""]);
    watch.kill().expect("our own child can be killed");
    watch.wait().expect("our own child can be waited for");
    server.etcdctl(&["put", "foo", "bar"]);
}

fn transaction(server: &Server) {
    let mut command = server.etcdctl_command();
    command
        .arg("txn")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut txn = command.spawn().expect("etcdctl starts");
    let text = "value(\"foo\") = \"bar\"\n\nput foo changed\nget foo\n\nget foo\n\n";
    let mut input = txn.stdin.take().expect("it is piped");
    input
        .write_all(text.as_bytes())
        .expect("etcdctl reads its input");
    drop(input);
    let output = txn.wait_with_output().expect("etcdctl ends");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "SUCCESS\n\nOK\n\nfoo\nchanged\n");
}

fn leases(server: &Server) {
    let granted = server.etcdctl_json(&["lease", "grant", "300"]);
    assert_eq!(granted["TTL"], 300);
    let id = granted["ID"].as_i64().expect("an id");
    let lease = format!("{id:x}");
    server.etcdctl(&["put", "leased", "value", &format!("--lease={lease}")]);
    let kept = server.etcdctl(&["lease", "keep-alive", "--once", &lease]);
    assert_eq!(
        kept,
        format!("lease {lease:0>16} keepalived with TTL(300)\n")
    );
    let left = server.etcdctl_json(&["lease", "timetolive", &lease, "--keys"]);
    assert_eq!(left["granted-ttl"], 300);
    assert!(
        (295..=300).contains(&left["ttl"].as_i64().unwrap_or_default()),
        "{left}"
    );
    assert_eq!(left["keys"], serde_json::json!(["bGVhc2Vk"]));
    let listed = server.etcdctl_json(&["lease", "list"]);
    assert_eq!(
        listed["leases"],
        serde_json::json!([{ "id": id }]),
        "{listed}"
    );
    let revoked = server.etcdctl(&["lease", "revoke", &lease]);
    assert_eq!(revoked, format!("lease {lease:0>16} revoked\n"));
    assert_eq!(server.etcdctl(&["get", "leased"]), "");
}

fn compact(server: &Server) {
    let revision = server.etcdctl_json(&["get", "foo"])["header"]["revision"].clone();
    let revision = revision.as_i64().expect("a revision");
    let said = server.etcdctl(&["compact", &revision.to_string()]);
    assert_eq!(said, format!("compacted revision {revision}\n"));
    let before = server.try_etcdctl(&["get", "foo", &format!("--rev={}", revision - 1)]);
    assert!(!before.status.success());
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert!(before.stderr.contains(text), "{}", before.stderr);
    assert_eq!(
        server.etcdctl(&["get", "foo", &format!("--rev={revision}")]),
        "foo\nchanged\n"
    );
}

#[test]
fn a_real_etcd_serves_what_was_restored_from_a_snapshot_with_the_same_revisions() {
    let _turn = turn::take("snapshot");
    let server = Setup::engram().start();
    fill(&server);
    let hash = hash_of(&server, 0);
    let snapshot = server.scratch().join("snap.db");
    let snapshot = snapshot.to_str().expect("the path is text");
    let saved = server.etcdctl(&["snapshot", "save", snapshot]);
    assert!(
        saved.contains(&format!("Snapshot saved at {snapshot}")),
        "{saved}"
    );

    let status = tools::etcdutl(&["snapshot", "status", snapshot, "-w", "json"]);
    let status: Value = serde_json::from_str(&status).expect("etcdutl writes JSON");
    let everything = server.etcdctl_json(&["get", "", "--prefix"]);
    assert_eq!(status["revision"], everything["header"]["revision"]);
    assert!(
        status["totalKey"].as_i64() >= everything["count"].as_i64(),
        "{status}"
    );
    assert_eq!(status["version"], "3.7.0");

    let same = restore(snapshot, &server.scratch().join("same"), &[]);
    assert_eq!(
        same.etcdctl_json(&["get", "", "--prefix"])["kvs"],
        everything["kvs"]
    );
    let revision = everything["header"]["revision"]
        .as_i64()
        .expect("a revision");
    let history = hash_of(&same, revision);
    assert_eq!(history["hash"], hash["hash"], "{history} {hash}");
    assert_eq!(history["compact_revision"], hash["compact_revision"]);
    the_past_is_the_same(&server, &same, revision);
    assert_eq!(same.etcdctl(&["put", "after", "restore"]), "OK\n");
    let after = same.etcdctl_json(&["get", "after"]);
    assert_eq!(after["kvs"][0]["mod_revision"].as_i64(), Some(revision + 1));
    drop(same);

    let bump = ["--bump-revision=1000", "--mark-compacted"];
    let bumped = restore(snapshot, &server.scratch().join("bumped"), &bump);
    let read = bumped.etcdctl_json(&["get", "", "--prefix"]);
    assert_eq!(read["kvs"], everything["kvs"]);
    let bumped_to = read["header"]["revision"].as_i64().expect("a revision");
    assert!(bumped_to >= revision + 1000, "{bumped_to}");
    let old = bumped.try_etcdctl(&["get", "key/007", &format!("--rev={revision}")]);
    assert!(
        old.stderr.contains("required revision has been compacted"),
        "{}",
        old.text()
    );
}

/// Keys with history: overwritten, deleted and made again, in transactions, on a lease; compacted
/// in the middle.
fn fill(server: &Server) {
    const KEYS: usize = 60;
    let mut script = String::new();
    for round in 0..3 {
        for key in 0..KEYS {
            let value = "v".repeat(key * round * 7);
            script +=
                &format!("\nput key/{key:03} {round}{value}\nput pair/{key:03} {round}\n\n\n");
        }
    }
    for key in (0..KEYS).step_by(5) {
        script += &format!("\ndel key/{key:03}\n\n\n");
    }
    for part in script.split_inclusive("\n\n\n") {
        run_transaction(server, part);
    }
    let granted = server.etcdctl_json(&["lease", "grant", "7200"]);
    let lease = format!("--lease={:x}", granted["ID"].as_i64().expect("an id"));
    server.etcdctl(&["put", "leased", "value", &lease]);
    server.etcdctl(&["compact", "100", "--physical"]);
    server.etcdctl(&["put", "key/005", "again"]);
}

fn run_transaction(server: &Server, text: &str) {
    let mut command = server.etcdctl_command();
    command
        .arg("txn")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut txn = command.spawn().expect("etcdctl starts");
    let mut input = txn.stdin.take().expect("it is piped");
    input
        .write_all(text.as_bytes())
        .expect("etcdctl reads its input");
    drop(input);
    assert!(txn.wait().expect("etcdctl ends").success(), "{text}");
}

fn hash_of(server: &Server, revision: i64) -> Value {
    let revision = format!("--rev={revision}");
    server.etcdctl_json(&["endpoint", "hashkv", &revision])[0]["HashKV"].clone()
}

fn the_past_is_the_same(server: &Server, restored: &Server, head: i64) {
    for revision in [100, 101, 150, head - 2, head] {
        let at = format!("--rev={revision}");
        let read = |from: &Server| from.etcdctl_json(&["get", "", "--prefix", &at])["kvs"].clone();
        assert_eq!(read(server), read(restored), "at revision {revision}");
    }
    let read = |from: &Server| from.try_etcdctl(&["get", "key/001", "--rev=99"]).stderr;
    for from in [server, restored] {
        assert!(read(from).contains("required revision has been compacted"));
    }
}

/// Restores a snapshot and starts a real etcd on it.
fn restore(snapshot: &str, directory: &Path, more: &[&str]) -> Server {
    let mut etcd = Setup::etcd().data_dir(directory).prepare();
    let peer = etcd.peer_url();
    let directory = format!("--data-dir={}", directory.display());
    let (cluster, advertised) = (
        format!("--initial-cluster=m1={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    );
    let mut arguments = vec!["snapshot", "restore", snapshot, &directory, "--name=m1"];
    arguments.extend([cluster.as_str(), advertised.as_str()]);
    arguments.extend(more);
    tools::etcdutl(&arguments);
    etcd.start();
    etcd
}
