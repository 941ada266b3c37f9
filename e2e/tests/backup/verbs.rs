//! engramctl beside etcdctl on one server: what scripts read is the same.

use std::io::Write as _;
use std::process::Stdio;

use engram_e2e::kind::wait_for;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};
use serde_json::Value;

use crate::content::fill;

fn both(server: &Server, arguments: &[&str]) -> [tools::Finished; 2] {
    [tools::tool("etcdctl"), tools::engramctl()].map(|program| {
        let mut command = tools::command(&program);
        command.arg(format!("--endpoints={}", server.address()));
        tools::run(command.args(arguments), tools::TOOL_LIMIT)
    })
}

#[test]
fn answers_equal_etcdctls() {
    let _turn = turn::take("verbs");
    let server = Setup::engram().start();
    fill(&server);
    let texts: [&[&str]; 17] = [
        &["get", "key/001"],
        &["get", "key/00", "--prefix", "--print-value-only"],
        &["get", "key/19", "--prefix", "--keys-only"],
        &["get", "key/198", "--from-key", "--limit=1"],
        &["get", "key/001", "key/004", "--rev=500"],
        &["get", "nothing"],
        &["get", "key/001", "--rev=1"],
        &["put", "same", "value"],
        &["put", "same", "value", "--prev-kv"],
        &["del", "nothing"],
        &["lease", "list"],
        &["lease", "timetolive", "1234", "--keys"],
        &["lease", "revoke", "1234"],
        &["alarm", "list"],
        &["member", "list"],
        &["member", "remove", "1234"],
        &["endpoint", "hashkv", "--rev=600"],
    ];
    for arguments in texts {
        let [theirs, ours] = both(&server, arguments);
        assert_eq!(theirs.stdout, ours.stdout, "{arguments:?}");
        assert_eq!(
            theirs.status.success(),
            ours.status.success(),
            "{arguments:?}: {}",
            ours.text()
        );
    }
    let values: [&[&str]; 6] = [
        &["get", "key/00", "--prefix"],
        &["get", "leased"],
        &["lease", "list"],
        &["lease", "timetolive", "1234", "--keys"],
        &["member", "list"],
        &["endpoint", "hashkv", "--rev=600"],
    ];
    for arguments in values {
        let [theirs, ours] = both(&server, &[&["-w", "json"], arguments].concat())
            .map(|finished| serde_json::from_str::<Value>(finished.stdout.trim()).expect("JSON"));
        assert_eq!(theirs, ours, "{arguments:?}");
    }
    let [theirs, ours] = both(&server, &["member", "list", "-w", "table"]);
    assert_eq!(theirs.stdout, ours.stdout);
}

#[test]
fn a_member_with_an_alarm_is_not_healthy() {
    let _turn = turn::take("alarm");
    let server = Setup::engram().flag("--quota-backend-bytes=1").start();
    server.try_etcdctl(&["put", "too", "much"]);
    wait_for("the alarm", tools::TOOL_LIMIT, || {
        let raised = server.etcdctl(&["alarm", "list"]);
        raised.contains("NOSPACE").then_some(())
    });
    let [theirs, ours] = both(&server, &["endpoint", "health"]);
    for finished in [&theirs, &ours] {
        assert!(!finished.status.success());
        let said = "is unhealthy: failed to commit proposal: Active Alarm(s): NOSPACE ";
        assert!(finished.text().contains(said), "{}", finished.text());
    }
}

#[test]
fn the_daily_work_is_done() {
    let _turn = turn::take("daily work");
    let server = Setup::engram().start();
    let engramctl = |arguments: &[&str]| {
        let mut command = tools::command(&tools::engramctl());
        command.env("ETCDCTL_ENDPOINTS", server.address().to_string());
        tools::must_succeed(command.args(arguments))
    };
    assert!(engramctl(&["endpoint", "health"]).contains("is healthy: successfully committed"));
    assert!(engramctl(&["endpoint", "status", "-w", "table"]).contains("RAFT APPLIED INDEX"));
    assert_eq!(engramctl(&["put", "foo", "bar"]), "OK\n");
    assert_eq!(engramctl(&["get", "foo"]), "foo\nbar\n");
    let granted = engramctl(&["lease", "grant", "300"]);
    let id = granted.split(' ').nth(1).expect("an id").to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(300s)\n"));
    engramctl(&["put", "leased", "value", "--lease", &id]);
    let kept = engramctl(&["lease", "keep-alive", "--once", &id]);
    assert_eq!(kept, format!("lease {id} keepalived with TTL(300)\n"));
    assert_eq!(
        engramctl(&["lease", "revoke", &id]),
        format!("lease {id} revoked\n")
    );
    assert_eq!(engramctl(&["get", "leased"]), "");
    let mut command = tools::command(&tools::engramctl());
    let endpoints = format!("--endpoints={}", server.address());
    command
        .args([&endpoints, "txn"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut txn = command.spawn().expect("engramctl starts");
    let mut input = txn.stdin.take().expect("it is piped");
    input
        .write_all(b"value(\"foo\") = \"bar\"\n\nput foo changed\nget foo\n\nget foo\n\n")
        .expect("a pipe");
    drop(input);
    let output = txn.wait_with_output().expect("engramctl ends");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "SUCCESS\n\nOK\n\nfoo\nchanged\n"
    );
    assert_eq!(engramctl(&["compaction", "3"]), "compacted revision 3\n");
    assert!(engramctl(&["defrag"]).starts_with("Finished defragmenting etcd member["));
    assert_eq!(engramctl(&["alarm", "disarm"]), "");
    assert_eq!(engramctl(&["del", "foo"]), "1\n");
}
