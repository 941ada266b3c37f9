//! Log lines that scripts and runbooks look for: what a real etcd logs in a scripted life, Engram logs in
//! the same words and with the same fields, but for what the tables here name.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;

/// How long a line may take that is told by the way.
const PATIENCE: Duration = Duration::from_secs(20);

/// What etcd's log has and Engram's not, by how the line begins, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("Running: ", "the arguments may hold a password"),
    (
        "Running http and grpc server on single port",
        "it is what Engram is made for",
    ),
    (
        "simple token is not cryptographically signed",
        "said in the documentation",
    ),
    ("notifying init daemon", "told where there is one"),
    (
        "successfully notified init daemon",
        "told where there is one",
    ),
    // bbolt and its files.
    ("Opening db file", "another engine"),
    ("Opening bbolt db", "another engine"),
    ("opened backend db", "\"opened data directory\""),
    ("restore consistentIndex", "another engine"),
    ("recovered v3 backend", "another engine"),
    ("Skipping snapshot backend", "another engine"),
    (
        "cluster version differs from storage version.",
        "the store has one version",
    ),
    ("updated storage version", "the store has one version"),
    (
        "restored last compact revision",
        "a part of \"kvstore restored\"",
    ),
    // Files of the log and of snapshots.
    ("started to purge file", "the log is kept by bytes"),
    ("constructed a snapshot from WAL record", "the same"),
    ("Constructed a new raft snapshot", "the same"),
    ("Bootstrapping WAL from snapshot", "the same"),
    // Steps of a start that are one here.
    ("bootstrapping cluster", "one step"),
    ("bootstrapping storage", "one step"),
    ("bootstrapping raft", "one step"),
    ("bootstrap successfully", "one step"),
    ("cmux::serve", "there is no cmux"),
    // Another Raft.
    (
        "started as single-node; fast-forwarding",
        "nobody waits for ticks",
    ),
    ("_ is starting a new election", "another Raft"),
    ("_ became pre-candidate", "another Raft"),
    ("_ became candidate", "another Raft"),
    ("_ received Msg", "another Raft"),
    ("_ has received _ Msg", "another Raft"),
    ("newRaft", "another Raft"),
    ("_ became follower at term", "nobody led before"),
    (
        "_ switched to configuration voters=()",
        "there is one from the start",
    ),
    // What etcd tells again when it replays its log.
    (
        "Skipped updating non-existent member in v2store",
        "told once",
    ),
    ("ignore already added member", "told once"),
    ("ignore already removed member", "told once"),
    ("updated cluster version", "told once"),
    // Another transport.
    ("starting remote peer", "\"added remote peer\""),
    ("started remote peer", "\"added remote peer\""),
    ("stopping remote peer", "\"removed remote peer\""),
    ("stopped remote peer", "\"removed remote peer\""),
    ("started HTTP pipelining", "another transport"),
    ("stopped HTTP pipelining", "another transport"),
    ("started stream writer", "another transport"),
    ("started stream reader", "another transport"),
    ("stopped stream reader", "another transport"),
    ("stopped TCP streaming connection", "another transport"),
    // Noise of a stop.
    (
        "setting up serving from embedded etcd failed.",
        "a stop is no error",
    ),
    (
        "stopping insecure grpc server due to error",
        "a stop is no error",
    ),
    (
        "stopped insecure grpc server due to error",
        "a stop is no error",
    ),
    ("server has stopped; stopping", "one line says it"),
];

/// The same for lines that etcd logs in some of these lives, and not in others.
const NOT_HERE_AND_RARE: &[(&str, &str)] = &[
    (
        "triggering snapshot",
        "a snapshot is taken for a member that lags",
    ),
    (
        "saved snapshot to disk",
        "a snapshot is taken for a member that lags",
    ),
    (
        "skip compaction since there is an inflight snapshot",
        "a snapshot is taken for a member that lags",
    ),
    (
        "No snapshot found. Recovering WAL",
        "a snapshot is taken for a member that lags",
    ),
    ("failed to apply request", "a client must not fill the log"),
    (
        "Validation on configuration change failed",
        "a client must not fill the log",
    ),
];

/// Fields that etcd's line has and Engram's not: the line, or `*`, and the field.
const FIELDS_NOT_HERE: &[(&str, &str)] = &[
    // Which of zap's loggers.
    ("*", "logger"),
    ("*", "stacktrace"),
    // Sizes in words beside those in bytes.
    ("*", "current-db-size"),
    ("*", "current-db-size-in-use"),
    ("*", "size"),
    ("*", "quota-size"),
    ("*", "path"),
    ("*", "storage-version"),
    (
        "finished defragmenting directory",
        "current-db-size-in-use-bytes",
    ),
    (
        "finished defragmenting directory",
        "current-db-size-in-use-bytes-diff",
    ),
    ("finished scheduled compaction", "hash"),
    ("changed a password of a user", "user-roles"),
    ("deleted a user", "user-roles"),
    ("granted a role to a user", "user-roles"),
    ("revoked a role from a user", "old-user-roles"),
    ("revoked a role from a user", "new-user-roles"),
    (
        "published local member to cluster through raft",
        "publish-timeout",
    ),
    (
        "rejecting promote learner: learner is not ready",
        "learner-ready-percent",
    ),
    (
        "rejecting promote learner: learner is not ready",
        "ready-percent-threshold",
    ),
    (
        "skipped leadership transfer for single voting member cluster",
        "local-member-id",
    ),
    (
        "skipped leadership transfer for single voting member cluster",
        "current-leader-member-id",
    ),
];

/// Of the line with all settings, those that are Engram's too.
const STARTING: &str = "starting an etcd server";
const SETTINGS: &[&str] = &[
    "etcd-version",
    "name",
    "data-dir",
    "heartbeat-interval",
    "election-timeout",
    "snapshot-count",
    "snapshot-catchup-entries",
    "initial-advertise-peer-urls",
    "listen-peer-urls",
    "advertise-client-urls",
    "listen-client-urls",
    "initial-cluster",
    "initial-cluster-token",
    "quota-backend-bytes",
    "max-learners",
];

/// A life of a member: each command's arguments, for `etcdctl`.
const LIFE: &[&str] = &[
    "put a b",
    "put a c",
    "put a d",
    "compaction 2",
    "compaction 4 --physical",
    "defrag",
    "snapshot save SCRATCH/snapshot",
    "user add root:x",
    "role add r",
    "role grant-permission r readwrite a b",
    "user add u:p",
    "user grant-role u r",
    "user grant-role root root",
    "auth enable",
    "--user root:x auth disable",
    "user revoke-role u r",
    "role revoke-permission r a b",
    "user delete u",
    "role delete r",
    "member add l --learner --peer-urls http://127.0.0.1:1",
    "member promote LEARNER",
    "member update LEARNER --peer-urls http://127.0.0.1:2",
    "member remove LEARNER",
    "move-leader 1234",
    "put the end",
];

/// The log of a life: each line's message without what differs from life to life, and its fields.
fn lived(setup: Setup) -> BTreeMap<String, BTreeSet<String>> {
    let mut server = setup.flag("--quota-backend-bytes=100000000").start();
    must_log(&server, "grpc service status changed");
    must_log(&server, "cluster version is updated");
    for command in LIFE {
        let scratch = server.scratch().display().to_string();
        let learner = match command.contains("LEARNER") {
            true => learner(&server),
            false => String::new(),
        };
        let command = command.replace("SCRATCH", &scratch);
        let command = command.replace("LEARNER", &learner);
        let arguments: Vec<&str> = command.split(' ').collect();
        // Some are refused, which is logged too.
        server.try_etcdctl(&arguments);
    }
    let mut input = server.etcdctl_command();
    input.args(["user", "passwd", "root", "--interactive=false"]);
    assert!(passwd(input), "the password is changed");
    must_log(&server, "finished scheduled compaction");
    must_log(&server, "storing new hash");
    server.terminate();
    let mut lines = parsed(&server.output());
    server.start();
    must_log(&server, "now serving peer/client/metrics");
    server.terminate();
    lines.append(&mut parsed(&server.output()));
    lines
}

fn passwd(mut command: std::process::Command) -> bool {
    use std::io::Write as _;
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"y\n").unwrap();
    child.wait().unwrap().success()
}

fn learner(server: &Server) -> String {
    let members = server.etcdctl(&["member", "list"]);
    let line = members.lines().find(|line| line.contains("unstarted"));
    let line = line.unwrap_or_else(|| panic!("there is a learner: {members}"));
    line.split(',').next().unwrap().to_owned()
}

fn must_log(server: &Server, line: &str) {
    let began = Instant::now();
    while !server.output().contains(line) {
        assert!(began.elapsed() < PATIENCE, "{line}:\n{}", server.output());
        thread::sleep(Duration::from_millis(20));
    }
}

fn parsed(output: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in output.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let fields = line.as_object().unwrap().keys().cloned();
        let message = without_numbers(line["msg"].as_str().unwrap());
        lines.entry(message).or_default().extend(fields);
    }
    lines
}

/// Ids and numbers are `_`.
fn without_numbers(message: &str) -> String {
    let mut said = String::new();
    for word in message.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (bare, end) = match word.strip_suffix(|c: char| !c.is_ascii_alphanumeric()) {
            Some(bare) => (bare, &word[bare.len()..]),
            None => (word, ""),
        };
        let is_number = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
        let is_id = bare.len() >= 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
        said += if is_number || is_id { "_" } else { bare };
        said += end;
    }
    said
}

#[test]
fn a_life_is_logged_in_etcds_words() {
    let _turn = turn::take("lines of the log");
    let (etcd, ours) = (lived(Setup::etcd()), lived(Setup::engram()));
    let (mut missing, mut compared) = (Vec::new(), 0);
    for (message, fields) in &etcd {
        let mut not_here = NOT_HERE.iter().chain(NOT_HERE_AND_RARE);
        if not_here.any(|(begin, _)| message.starts_with(begin)) {
            continue;
        }
        let Some(our_fields) = ours.get(message) else {
            missing.push(format!("{message}: {fields:?}"));
            continue;
        };
        compared += 1;
        let is_needed = |field: &&String| match message.as_str() {
            STARTING => SETTINGS.contains(&field.as_str()),
            message => !FIELDS_NOT_HERE
                .iter()
                .any(|(of, name)| (*of == "*" || *of == message) && name == field),
        };
        for field in fields.iter().filter(is_needed) {
            if !our_fields.contains(field) {
                missing.push(format!("{message}: the field {field}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}\n{ours:#?}");
    println!("lines of the log: {compared} messages are etcd's");
    assert!(compared >= 50, "{compared}");
    // The tables name nothing that etcd does not log.
    let stale = NOT_HERE
        .iter()
        .filter(|(begin, _)| !etcd.keys().any(|message| message.starts_with(begin)));
    let stale: Vec<_> = stale.map(|(begin, _)| begin).collect();
    assert!(stale.is_empty(), "no line of etcd's begins so: {stale:?}");
}
