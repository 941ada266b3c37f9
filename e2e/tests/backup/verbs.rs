//! engramctl beside etcdctl on one server: what scripts read is the same.

use std::io::Write as _;
use std::path::Path;
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
    let texts: [&[&str]; 28] = [
        &["get", "key/001"],
        &["get", "key/00", "--prefix", "--print-value-only"],
        &["get", "key/19", "--prefix", "--keys-only"],
        &["get", "key/198", "--from-key", "--limit=1"],
        &["get", "key/001", "key/004", "--rev=500"],
        &["get", "key/00", "--prefix", "--order=DESCEND"],
        &[
            "get",
            "key/00",
            "--prefix",
            "--sort-by=modify",
            "--order=descend",
        ],
        &["get", "key/", "--prefix", "--sort-by=VALUE", "--limit=3"],
        &[
            "get",
            "key/",
            "--prefix",
            "--min-mod-rev=450",
            "--max-mod-rev=460",
        ],
        &[
            "get",
            "key/",
            "--prefix",
            "--min-create-rev=9",
            "--max-create-rev=4",
        ],
        &["get", "key/", "--prefix", "--keys-only", "--count-only"],
        &["get", "key/00", "--prefix=false"],
        &["get", "key/00", "--prefix=true", "--keys-only=1"],
        &["get", "nothing"],
        &["get", "key/001", "--rev=1"],
        &["put", "same", "value"],
        &["put", "same", "value", "--prev-kv"],
        &["del", "nothing"],
        &["del", "key/195", "--prefix", "--from-key"],
        &["put", "same", "value", "--ignore-value"],
        &["lease", "list"],
        &["lease", "timetolive", "1234", "--keys"],
        &["lease", "revoke", "1234"],
        &["alarm", "list"],
        &["member", "list"],
        &["member", "remove", "1234"],
        &["endpoint", "hashkv", "--rev=600"],
        &["endpoint", "hash", "--rev=600", "--cluster"],
    ];
    for arguments in texts {
        let [theirs, ours] = both(&server, arguments);
        assert_eq!(theirs.stdout, ours.stdout, "{arguments:?}");
        assert_eq!(
            theirs.status.code(),
            ours.status.code(),
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
    let [theirs, ours] = both(&server, &["endpoint", "health", "-w", "json"]).map(|finished| {
        let health: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
        let fields = health[0].as_object().expect("an endpoint's health");
        fields.keys().cloned().collect::<Vec<_>>()
    });
    assert_eq!(theirs, ours);
    let [theirs, ours] = both(&server, &["member", "list", "-w", "table"]);
    assert_eq!(theirs.stdout, ours.stdout);
    let compacted = both(&server, &["compact", "600"]);
    assert_eq!(compacted[0].stdout, "compacted revision 600\n");
    let already = "etcdserver: mvcc: required revision has been compacted";
    assert!(
        compacted[1].text().contains(already),
        "{}",
        compacted[1].text()
    );
    for finished in both(&server, &["defrag", "--cluster"]) {
        let line = finished
            .stdout
            .starts_with("Finished defragmenting etcd member[http://");
        assert!(line, "{}", finished.text());
    }
}

#[test]
fn what_cannot_be_is_refused_in_etcdctls_words() {
    let _turn = turn::take("refused verbs");
    let server = Setup::engram().start();
    let lines: [&[&str]; 8] = [
        &["put", "k", "v", "--lease=ffffffffffffffff"],
        &["put", "k", "v", "--lease=xyz"],
        &["put", "k", "v", "--lease=-1"],
        &["lease", "revoke", "xyz"],
        &["lease", "timetolive", "8000000000000000"],
        &["lease", "keep-alive", "--once", ""],
        &["member", "remove", "xyz"],
        &["member", "promote", "10000000000000000"],
    ];
    for arguments in lines {
        let [theirs, ours] = both(&server, arguments);
        let last = |said: &str| said.trim().lines().last().map(str::to_owned);
        assert_eq!(last(&theirs.stderr), last(&ours.stderr), "{arguments:?}");
        assert_eq!(theirs.status.code(), ours.status.code(), "{arguments:?}");
    }
    // A file that is not there is said over plain HTTP too.
    let [theirs, ours] = both(&server, &["get", "k", "--cacert=/nowhere/ca.crt"]);
    assert_eq!(
        (theirs.status.code(), ours.status.code()),
        (Some(128), Some(128))
    );
    assert!(ours.stderr.contains("/nowhere/ca.crt"), "{}", ours.stderr);
}

#[test]
fn transactions_equal_etcdctls() {
    let _turn = turn::take("transactions");
    let server = Setup::engram().start();
    let read = concat!(
        "mod(\"a)\") = \"0\"\nver(\"b\") = \"0\"\n\n",
        "get k --prefix --order=DESCEND --keys-only\n\n",
        "get \"\\x6b\" --prefix --limit=1\n\n"
    );
    let write = concat!(
        "value(\"a\") = \"a ) b\"\n\ndel k --prev-kv\n\n",
        "put k 'two words'\nput k1 --prev-kv \"\\u00e9\"\nput \"k 2\" --lease=0 v\n\n"
    );
    for input in [write, read] {
        let [theirs, ours] = [tools::tool("etcdctl"), tools::engramctl()].map(|program| {
            server.etcdctl(&["del", "k", "--prefix"]);
            server.etcdctl(&["put", "k1", "one"]);
            server.etcdctl(&["put", "k2", "two"]);
            txn(&server, &program, input)
        });
        assert!(
            theirs.contains("FAILURE") || theirs.contains("SUCCESS"),
            "{theirs}"
        );
        assert_eq!(theirs, ours);
    }
    for program in [tools::tool("etcdctl"), tools::engramctl()] {
        let cut_off = "\nput kept no\n";
        assert_eq!(txn(&server, &program, cut_off), "");
        assert_eq!(server.etcdctl(&["get", "kept"]), "", "nothing is done");
    }
}

/// What `txn` answers to an input.
fn txn(server: &Server, program: &Path, input: &str) -> String {
    let mut command = tools::command(program);
    let endpoints = format!("--endpoints={}", server.address());
    command
        .args([&endpoints, "txn"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut txn = command.spawn().expect("it starts");
    let mut pipe = txn.stdin.take().expect("it is piped");
    pipe.write_all(input.as_bytes()).expect("a pipe");
    drop(pipe);
    let output = txn.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_dead_endpoint_hides_no_other() {
    let _turn = turn::take("dead endpoint");
    let server = Setup::engram().start();
    let endpoints = format!("--endpoints=127.0.0.1:1,{}", server.address());
    for verb in ["health", "status", "hashkv"] {
        let mut command = tools::command(&tools::engramctl());
        let finished = tools::run(
            command.args([&endpoints, "endpoint", verb]),
            tools::TOOL_LIMIT,
        );
        assert!(!finished.status.success(), "{verb}");
        let told = finished.stdout.contains(&server.address().to_string());
        assert!(told, "{verb}: {}", finished.text());
    }
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
    let changes = "value(\"foo\") = \"bar\"\n\nput foo changed\nget foo\n\nget foo\n\n";
    assert_eq!(
        txn(&server, &tools::engramctl(), changes),
        "SUCCESS\n\nOK\n\nfoo\nchanged\n"
    );
    assert_eq!(engramctl(&["compaction", "3"]), "compacted revision 3\n");
    assert!(engramctl(&["defrag"]).starts_with("Finished defragmenting etcd member["));
    assert_eq!(engramctl(&["alarm", "disarm"]), "");
    assert_eq!(engramctl(&["put", "fop", "--lease=0", "-bar"]), "OK\n");
    assert_eq!(engramctl(&["get", "fop"]), "fop\n-bar\n");
    assert_eq!(engramctl(&["del", "foo", "foq", "--range"]), "2\n");
}

/// A script starts a member and asks it in the next line: etcdctl waits for it, for as long as a command may take.
#[test]
fn a_member_that_is_still_starting_is_waited_for() {
    let _turn = turn::take("verbs that wait");
    let mut server = Setup::engram().prepare();
    let lines: [&[&str]; 6] = [
        &["put", "k", "v"],
        &["endpoint", "health"],
        &["endpoint", "status"],
        &["member", "list"],
        &["alarm", "list"],
        &["get", "nothing"],
    ];
    let mut asked: Vec<_> = [tools::tool("etcdctl"), tools::engramctl()]
        .iter()
        .flat_map(|program| lines.map(|arguments| (program.clone(), arguments)))
        .map(|(program, arguments)| {
            let mut command = tools::command(&program);
            command
                .arg(format!("--endpoints={}", server.address()))
                .arg("--command-timeout=20s");
            let child = command
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            (program, arguments, child.spawn().unwrap())
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_secs(1));
    for (program, arguments, child) in &mut asked {
        let ended = child.try_wait().unwrap();
        assert_eq!(ended, None, "{program:?} {arguments:?}: nobody was there");
    }
    server.start();
    for (program, arguments, child) in &mut asked {
        let ended = tools::wait(child, tools::TOOL_LIMIT).expect("it ends");
        assert!(ended.success(), "{program:?} {arguments:?}: {ended}");
    }
    assert_eq!(server.etcdctl(&["get", "k"]), "k\nv\n");

    // Where nobody comes it says so once that time is over.
    server.terminate();
    let began = std::time::Instant::now();
    let mut command = tools::command(&tools::engramctl());
    command
        .arg(format!("--endpoints={}", server.address()))
        .arg("--command-timeout=1s");
    let late = tools::run(command.args(["get", "k"]), tools::TOOL_LIMIT);
    assert_eq!(late.status.code(), Some(1));
    assert!(
        late.text().contains("no endpoint answers"),
        "{}",
        late.text()
    );
    let took = began.elapsed();
    assert!(took > std::time::Duration::from_millis(800), "{took:?}");
}
