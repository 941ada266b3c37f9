//! Users, roles and the switch, adopted exactly: out of etcd's store, and out of its log alone.

use std::path::Path;

use engram_e2e::server::Server;
use engram_e2e::{tools, turn};
use serde_json::Value;

use super::three::Three;
use super::{ALL_IN_THE_LOG, End, adopt, beside, end, prepare};

const ROOT: &str = "root:first pw";

/// Who does what, in this order. Behind a bang: it is refused, some of it only where it is applied. `LEASE`
/// is the one that there is.
const STEPS: &[(&str, &[&str])] = &[
    ("", &["put", "before", "users"]),
    ("", &["user", "add", ROOT]),
    ("", &["user", "grant-role", "root", "root"]),
    ("", &["user", "add", "alice:old"]),
    ("", &["user", "add", "bob:pw"]),
    ("", &["user", "add", "gone:pw"]),
    ("", &["user", "add", "cn", "--no-password"]),
    ("", &["role", "add", "r"]),
    ("", &["role", "add", "dropped"]),
    (
        "",
        &["role", "grant-permission", "r", "readwrite", "a", "b"],
    ),
    (
        "",
        &["role", "grant-permission", "r", "read", "p", "--prefix"],
    ),
    (
        "",
        &["role", "grant-permission", "r", "write", "x", "--from-key"],
    ),
    (
        "",
        &[
            "role",
            "grant-permission",
            "dropped",
            "readwrite",
            "",
            "--prefix",
        ],
    ),
    ("", &["user", "grant-role", "alice", "r"]),
    ("", &["user", "grant-role", "bob", "dropped"]),
    ("", &["user", "grant-role", "cn", "r"]),
    ("", &["auth", "enable"]),
    ("alice:old", &["put", "a1", "of alice"]),
    ("alice:old", &["put", "x1", "of alice"]),
    ("!alice:old", &["put", "q", "not hers"]),
    ("!alice:old", &["del", "a", "c"]),
    ("!alice:old", &["user", "delete", "bob"]),
    ("!alice:old", &["compaction", "2"]),
    ("bob:pw", &["put", "anywhere", "x"]),
    (ROOT, &["lease", "grant", "5000"]),
    ("alice:old", &["put", "a2", "leased", "--lease=LEASE"]),
    (ROOT, &["put", "other", "leased", "--lease=LEASE"]),
    ("!alice:old", &["lease", "revoke", "LEASE"]),
    (ROOT, &["role", "revoke-permission", "r", "p", "q"]),
    (ROOT, &["role", "delete", "dropped"]),
    ("!bob:pw", &["put", "anywhere", "y"]),
    (ROOT, &["user", "delete", "gone"]),
    (ROOT, &["user", "revoke-role", "cn", "r"]),
    (ROOT, &["put", "of root", "x"]),
    (ROOT, &["compaction", "3"]),
];

/// Runs etcdctl as somebody.
fn run(server: &Server, who: &str, line: &[&str]) -> tools::Finished {
    let mut command = server.etcdctl_command();
    if !who.is_empty() {
        command.args(["--user", who]);
    }
    for word in line {
        match word.contains("LEASE") {
            true => command.arg(word.replace("LEASE", &lease(server))),
            false => command.arg(word),
        };
    }
    tools::run(&mut command, tools::TOOL_LIMIT)
}

fn lease(server: &Server) -> String {
    let list = must(server, ROOT, &["lease", "list"]);
    list.lines().last().expect("a lease").to_owned()
}

fn must(server: &Server, who: &str, line: &[&str]) -> String {
    let done = run(server, who, line);
    assert!(done.status.success(), "{who} {line:?}: {}", done.text());
    done.stdout
}

fn refused(server: &Server, who: &str, line: &[&str]) {
    let done = run(server, who, line);
    assert!(!done.status.success(), "{who} {line:?}: {}", done.text());
}

fn fill(server: &Server) {
    for (who, line) in STEPS {
        match who.strip_prefix('!') {
            Some(who) => refused(server, who, line),
            None => drop(must(server, who, line)),
        }
    }
    // Its new password is in the log, its old one in the store.
    let script = server.scratch().join("password");
    std::fs::write(&script, "new\n").expect("writing a file");
    let mut change = server.etcdctl_command();
    change.args([
        "--user",
        ROOT,
        "user",
        "passwd",
        "alice",
        "--interactive=false",
    ]);
    tools::must_succeed(change.stdin(std::fs::File::open(&script).expect("the file")));
}

/// All that root is told of users and keys.
fn told(server: &Server) -> Vec<String> {
    let lines: &[&[&str]] = &[
        &["auth", "status"],
        &["user", "list"],
        &["user", "get", "root"],
        &["user", "get", "alice", "--detail"],
        &["user", "get", "bob"],
        &["user", "get", "cn"],
        &["role", "list"],
        &["role", "get", "r"],
        &["lease", "list"],
        &["lease", "timetolive", "LEASE", "--keys"],
    ];
    let mut told: Vec<String> = lines.iter().map(|line| must(server, ROOT, line)).collect();
    // What is left of it is another each time, and so is the order of its keys.
    let lease = told.pop().expect("it was told a moment ago");
    let (_, keys) = lease.split_once("([").expect("its keys");
    let mut keys: Vec<&str> = keys.trim_end().trim_end_matches("])").split(' ').collect();
    keys.sort_unstable();
    told.push(keys.join(" "));
    let read = must(server, ROOT, &["get", "", "--prefix", "-w", "json"]);
    let mut read: Value = serde_json::from_str(&read).expect("JSON");
    told.push(read["header"]["revision"].to_string());
    told.push(read["kvs"].take().to_string());
    let hash = must(server, ROOT, &["endpoint", "hashkv", "-w", "json"]);
    let mut hash: Value = serde_json::from_str(&hash).expect("JSON");
    told.push(hash[0]["HashKV"]["hash"].take().to_string());
    told
}

/// What each may do, and who is let in, is what it was.
fn must_guard(server: &Server) {
    assert_eq!(
        must(server, "alice:new", &["get", "a1", "--print-value-only"]),
        "of alice\n"
    );
    must(server, "alice:new", &["put", "a3", "x"]);
    refused(server, "alice:new", &["get", "p1"]);
    refused(server, "alice:new", &["lease", "revoke", "LEASE"]);
    refused(server, "alice:old", &["get", "a1"]);
    refused(server, "bob:pw", &["get", "anywhere"]);
    refused(server, "gone:pw", &["get", "a1"]);
    refused(server, "cn:", &["get", "a1"]);
    refused(server, "", &["get", "a1"]);
    refused(server, "", &["put", "a1", "x"]);
}

/// Adopts users that this etcd kept, and compares with the same on a copy of it.
pub fn are_adopted(program: &Path, how: End, flags: &[&str]) {
    let mut etcd = prepare(program, &[flags, &["--bcrypt-cost=4"]].concat());
    etcd.start();
    fill(&etcd);
    let before = told(&etcd);
    end(&mut etcd, how);
    let mut real = beside(&etcd);
    real.become_program(program.to_owned());
    let mut engram = adopt(etcd);
    real.start();
    assert_eq!(told(&engram), before);
    assert_eq!(told(&real), before);
    for server in [&real, &engram] {
        must_guard(server);
        must(server, ROOT, &["role", "add", "later"]);
    }
    assert_eq!(told(&engram), told(&real));
    engram.kill();
    engram.start();
    assert_eq!(told(&engram), told(&real));
}

#[test]
fn users_of_a_stopped_etcd_are_adopted_exactly() {
    let _turn = turn::take("users, stopped");
    are_adopted(&tools::tool("etcd"), End::Stopped, &[]);
}

#[test]
fn users_that_only_the_log_of_an_etcd_holds_are_adopted_exactly() {
    let _turn = turn::take("users, log alone");
    are_adopted(&tools::tool("etcd"), End::Killed, &[ALL_IN_THE_LOG]);
}

#[test]
fn three_members_with_users_go_on_with_them() {
    let _turn = turn::take("users of three");
    let mut three = Three::start(&[ALL_IN_THE_LOG, "--bcrypt-cost=4"]);
    fill(&three.members[0]);
    let before = told(&three.members[1]);
    for member in &mut three.members {
        member.kill();
    }
    three.adopt(&[1, 0, 2]);
    for member in &three.members {
        assert_eq!(told(member), before, "{}", member.name());
    }
    must_guard(&three.members[2]);
    assert_eq!(told(&three.members[0]), told(&three.members[1]));
}
