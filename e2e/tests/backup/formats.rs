//! engramctl beside etcdctl and etcdutl on one server: every format of every answer, byte by byte; and the
//! verbs that hold something, or go on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use engram_e2e::kind::wait_for;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};
use tools::Finished;

const FORMATS: [&str; 5] = ["simple", "json", "fields", "protobuf", "table"];

fn programs() -> [Command; 2] {
    [tools::tool("etcdctl"), tools::engramctl()].map(|program| tools::command(&program))
}

fn both(server: &Server, arguments: &[&str]) -> [Finished; 2] {
    programs().map(|mut command| {
        command.arg(format!("--endpoints={}", server.address()));
        tools::run(command.args(arguments), tools::TOOL_LIMIT)
    })
}

fn must_end_alike(arguments: &[&str], theirs: &Finished, ours: &Finished) {
    assert_eq!(
        theirs.status.code(),
        ours.status.code(),
        "{arguments:?}: {}{}",
        theirs.text(),
        ours.text()
    );
}

/// Their answer before ours is their answer after it too: what a clock moves on in between (the seconds left of a
/// lease) would be nobody's difference, and is asked again.
fn must_equal(server: &Server, arguments: &[&str]) {
    let mut asked = 0;
    let (theirs, ours) = loop {
        let [before, ours] = both(server, arguments);
        let after = server.try_etcdctl(arguments);
        if before.stdout == after.stdout {
            break (before, ours);
        }
        asked += 1;
        assert!(
            asked < 5,
            "{arguments:?}: etcdctl itself tells something else each time"
        );
    };
    assert_eq!(theirs.stdout, ours.stdout, "{arguments:?}: {}", ours.text());
    must_end_alike(arguments, &theirs, &ours);
}

#[test]
fn every_format_of_every_answer_equals_etcdctls() {
    let _turn = turn::take("formats");
    let server = Setup::engram().start();
    server.etcdctl(&["put", "k/<one>&", "first"]);
    server.etcdctl(&["put", "k/<one>&", "second \"value\"\u{1}"]);
    server.etcdctl(&["put", "k/two", ""]);
    let granted = server.etcdctl(&["lease", "grant", "3000"]);
    let lease = granted.split(' ').nth(1).expect("an id").to_owned();
    server.etcdctl(&["put", "k/leased", "x", "--lease", &lease]);
    server.etcdctl(&["role", "add", "reader"]);
    server.etcdctl(&[
        "role",
        "grant-permission",
        "reader",
        "read",
        "k/",
        "--prefix",
    ]);
    server.etcdctl(&["role", "grant-permission", "reader", "readwrite", "one"]);
    server.etcdctl(&["role", "add", "other"]);
    server.etcdctl(&["user", "add", "ada:lovelace"]);
    server.etcdctl(&["user", "grant-role", "ada", "reader"]);
    let lines: [&[&str]; 36] = [
        &["get", "k/", "--prefix"],
        &["get", "k/", "--prefix", "--stream"],
        &["get", "k/", "--prefix", "--hex"],
        &["get", "k/", "--prefix", "--keys-only", "--limit=1"],
        &["get", "nothing"],
        &["get", "k/", "--prefix", "--print-value-only"],
        &["del", "nothing", "--prev-kv"],
        &["lease", "timetolive", &lease, "--keys"],
        &["lease", "timetolive", "1234"],
        &["lease", "list"],
        &["lease", "list", "--hex"],
        &["lease", "revoke", "1234"],
        &["lease", "keep-alive", "--once", &lease],
        &["lease", "keep-alive", "--once", "1234"],
        &["lease", "keep-alive", "1234"],
        &["lease", "revoke", "xyz"],
        &["member", "list"],
        &["member", "list", "--hex"],
        &["member", "list", "--consistency=s"],
        &["member", "list", "--consistency=x"],
        &["member", "remove", "1234"],
        &["alarm", "list"],
        &["alarm", "disarm"],
        &["auth", "status"],
        &["user", "list"],
        &["user", "get", "ada"],
        &["user", "get", "ada", "--detail"],
        &["user", "get", "nobody"],
        &["role", "list"],
        &["role", "get", "reader"],
        &["role", "get", "other"],
        &["role", "get", "nobody"],
        &["endpoint", "status"],
        &["endpoint", "hashkv"],
        &["endpoint", "--cluster", "hashkv", "--rev=3"],
        &["downgrade", "validate", "3.6"],
    ];
    for arguments in lines {
        for format in FORMATS {
            must_equal(&server, &[arguments, &["-w", format]].concat());
        }
    }
}

#[test]
fn arguments_that_make_no_sense_end_with_etcdctls_codes() {
    let _turn = turn::take("exit codes");
    let server = Setup::engram().start();
    let lines: [&[&str]; 29] = [
        &["get"],
        &["get", "a", "b", "--prefix"],
        &["get", "a", "--order=up"],
        &["get", "a", "--sort-by=size"],
        &["get", "a", "--consistency=x"],
        &["get", "a", "-w", "yaml"],
        &["get", "a", "--print-value-only", "-w", "json"],
        &["get", "a", "--no-such-flag"],
        &["put"],
        &["put", "a", "b", "--lease=xyz"],
        &["no-such-verb"],
        &["member", "remove"],
        &["member", "add", "x"],
        &["move-leader", "xyz"],
        &["lock"],
        &["elect", "e"],
        &["elect", "e", "p", "-l"],
        &["watch"],
        &["watch", "a", "b", "--prefix"],
        &["downgrade", "validate"],
        &["downgrade", "validate", "x"],
        &["downgrade", "enable", "3.5"],
        &["make-mirror"],
        &["check", "perf", "--load=tiny"],
        &["lease", "grant", "1.5"],
        &["role", "grant-permission", "r", "all", "k"],
        &["member", "add", "x", "--peer-urls="],
        &["member", "update", "1", "--peer-urls="],
        &["snapshot", "save", "/no/such/place/x"],
    ];
    for arguments in lines {
        let [theirs, ours] = both(&server, arguments);
        must_end_alike(arguments, &theirs, &ours);
    }
}

/// A program that goes on, and its lines.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(server: &Server, mut command: Command, arguments: &[&str]) -> Running {
        command
            .arg(format!("--endpoints={}", server.address()))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Running { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line
    }

    fn say(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        input.write_all(text.as_bytes()).expect("it reads");
    }

    /// Ends it as a terminal does; its exit code.
    fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        tools::must_succeed(Command::new("kill").args(["-INT", &id]));
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn locks_are_held_and_passed_on() {
    let _turn = turn::take("lock verb");
    let server = Setup::engram().start();
    for [mut first, mut second] in [programs(), {
        let [theirs, ours] = programs();
        [ours, theirs]
    }] {
        first.env_remove("ETCD_LOCK_KEY");
        second.env_remove("ETCD_LOCK_KEY");
        let mut holder = Running::start(&server, first, &["lock", "gate", "--ttl=30"]);
        let key = holder.line();
        assert!(key.starts_with("gate/"), "{key}");
        let mut waiter = Running::start(&server, second, &["lock", "gate"]);
        wait_for("the other waits", tools::TOOL_LIMIT, || {
            let held = server.etcdctl(&["get", "gate/", "--prefix", "--keys-only"]);
            (held.matches("gate/").count() == 2).then_some(())
        });
        assert_eq!(holder.interrupt(), Some(0));
        let next = waiter.line();
        assert!(next.starts_with("gate/") && next != key, "{next}");
        assert_eq!(waiter.interrupt(), Some(0));
        assert_eq!(server.etcdctl(&["get", "gate/", "--prefix"]), "");
    }
    let told = "echo $ETCD_LOCK_KEY | cut -d/ -f1; test $ETCD_LOCK_REV -gt 1; exit 7";
    let [theirs, ours] = both(&server, &["lock", "gate", "--", "sh", "-c", told]);
    assert_eq!(
        (&theirs.stdout[..], theirs.status.code()),
        ("gate\n", Some(7))
    );
    assert_eq!((&ours.stdout[..], ours.status.code()), ("gate\n", Some(7)));
}

#[test]
fn elections_are_won_and_observed() {
    let _turn = turn::take("elect verb");
    let server = Setup::engram().start();
    let [theirs, ours] = programs();
    let mut observer = Running::start(
        &server,
        tools::command(&tools::engramctl()),
        &["elect", "e", "-l"],
    );
    let mut first = Running::start(&server, ours, &["elect", "e", "p1"]);
    let key = first.line();
    assert!(key.starts_with("e/"), "{key}");
    assert_eq!(first.line(), "p1\n");
    assert_eq!((observer.line(), observer.line()), (key, "p1\n".to_owned()));
    let mut second = Running::start(&server, theirs, &["elect", "e", "p2"]);
    wait_for("the other waits", tools::TOOL_LIMIT, || {
        let held = server.etcdctl(&["get", "e/", "--prefix", "--keys-only"]);
        (held.matches("e/").count() == 2).then_some(())
    });
    assert_eq!(first.interrupt(), Some(0));
    assert!(second.line().starts_with("e/"));
    assert_eq!(second.line(), "p2\n");
    assert!(observer.line().starts_with("e/"));
    assert_eq!(observer.line(), "p2\n");
    assert_eq!(second.interrupt(), Some(0));
    assert_eq!(observer.interrupt(), Some(0));
}

#[test]
fn watches_tell_what_etcdctls_tell() {
    let _turn = turn::take("watch verb");
    let server = Setup::engram().start();
    server.etcdctl(&["put", "w/a", "1"]);
    server.etcdctl(&["put", "w/a", "2 \"x\""]);
    server.etcdctl(&["del", "w/a"]);
    for format in ["simple", "json", "fields"] {
        let [theirs, ours] = programs().map(|command| {
            let line = [
                "watch",
                "w/",
                "--prefix",
                "--rev=2",
                "--prev-kv",
                "-w",
                format,
            ];
            let mut watch = Running::start(&server, command, &line);
            let lines = match format {
                "simple" => 13,
                "json" => 1,
                _ => 36,
            };
            (0..lines).map(|_| watch.line()).collect::<String>()
        });
        assert_eq!(theirs, ours, "{format}");
    }
    let told = "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
    let [theirs, ours] = programs().map(|command| {
        let line = ["watch", "w/a", "--rev=2", "--", "sh", "-c", told];
        let mut watch = Running::start(&server, command, &line);
        (0..12).map(|_| watch.line()).collect::<String>()
    });
    assert_eq!(theirs, ours);
    let [theirs, ours] = programs().map(|command| {
        let mut watch = Running::start(&server, command, &["watch", "-i"]);
        watch.say("watch w/a --rev=3 --prev-kv\n");
        let events: String = (0..8).map(|_| watch.line()).collect();
        watch.say("progress\n");
        let progress = watch.line();
        watch.say("nonsense\n");
        drop(watch.child.stdin.take());
        (
            events,
            progress,
            watch.child.wait().expect("it ends").code(),
        )
    });
    assert_eq!(theirs, ours);
    let [theirs, ours] = both(&server, &["compact", "4"]).map(|it| it.status.success());
    assert!(theirs && !ours, "one of the two compacts");
    must_equal(&server, &["watch", "w/a", "--rev=2"]);
}

#[test]
fn a_mirror_follows() {
    let _turn = turn::take("mirror verb");
    let (from, to) = (Setup::engram().start(), Setup::engram().start());
    from.etcdctl(&["put", "m/a", "1"]);
    from.etcdctl(&["put", "m/b", "2"]);
    from.etcdctl(&["put", "other", "3"]);
    let there = to.address().to_string();
    let line = ["make-mirror", "--prefix=m/", "--dest-prefix=n/", &there];
    let _mirror = Running::start(&from, tools::command(&tools::engramctl()), &line);
    let holds = |wanted: &str| {
        wait_for("the mirror", tools::TOOL_LIMIT, || {
            (to.etcdctl(&["get", "", "--prefix"]) == wanted).then_some(())
        });
    };
    holds("n/a\n1\nn/b\n2\n");
    from.etcdctl(&["put", "m/c", "4"]);
    from.etcdctl(&["del", "m/a"]);
    holds("n/b\n2\nn/c\n4\n");
}

#[test]
fn variables_are_flags() {
    let _turn = turn::take("variables");
    let server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    let [theirs, ours] = programs().map(|mut command| {
        command
            .env("ETCDCTL_ENDPOINTS", server.address().to_string())
            .env("ETCDCTL_WRITE_OUT", "json")
            .env("ETCDCTL_KEEPALIVE_TIME", "20s")
            .env("ETCDCTL_MAX_RECV_BYTES", "1000000");
        tools::run(command.args(["get", "k"]), tools::TOOL_LIMIT).stdout
    });
    assert_eq!(theirs, ours);
    // Empty ones are none, as a compose file leaves them.
    let [theirs, ours] = programs().map(|mut command| {
        command.env("ETCDCTL_ENDPOINTS", server.address().to_string());
        for name in [
            "CACERT",
            "CERT",
            "KEY",
            "USER",
            "DIAL_TIMEOUT",
            "WRITE_OUT",
            "HEX",
        ] {
            command.env(format!("ETCDCTL_{name}"), "");
        }
        tools::run(command.args(["get", "k"]), tools::TOOL_LIMIT).stdout
    });
    assert_eq!([theirs.as_str(), ours.as_str()], ["k\nv\n"; 2]);
    // Where etcdctl takes 0 for what it cannot read, or ends because a flag says otherwise.
    let mut unreadable = tools::command(&tools::engramctl());
    unreadable.env("ETCDCTL_DIAL_TIMEOUT", "soon");
    let refused = tools::run(unreadable.args(["get", "k"]), tools::TOOL_LIMIT);
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("--dial-timeout"),
        "{}",
        refused.stderr
    );
    let mut beside = tools::command(&tools::engramctl());
    beside.env("ETCDCTL_ENDPOINTS", "nobody:1");
    let flag = format!("--endpoints={}", server.address());
    let got = tools::run(beside.args([&flag, "get", "k"]), tools::TOOL_LIMIT);
    assert_eq!(got.stdout, "k\nv\n", "{}", got.stderr);
    let mut debug = tools::command(&tools::engramctl());
    debug.env("ETCDCTL_ENDPOINTS", server.address().to_string());
    let said = tools::run(debug.args(["get", "k", "--debug"]), tools::TOOL_LIMIT);
    let line = format!("ETCDCTL_ENDPOINTS=[{}]\n", server.address());
    assert!(said.stderr.contains(&line), "{}", said.stderr);
}

#[test]
fn files_are_hashed_as_etcdutl_hashes_them() {
    let _turn = turn::take("hashkv verb");
    let server = Setup::engram().start();
    for round in 0..20 {
        server.etcdctl(&["put", "a", &round.to_string()]);
        server.etcdctl(&["put", &format!("b{round}"), "x"]);
    }
    server.etcdctl(&["del", "b1", "b2"]);
    server.etcdctl(&["compact", "30"]);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("snapshot.db").display().to_string();
    server.etcdctl(&["snapshot", "save", &file]);
    let lines: [&[&str]; 7] = [
        &["hashkv", &file],
        &["hashkv", &file, "--rev=35"],
        &["hashkv", &file, "--rev=30"],
        &["hashkv", &file, "--rev=29"],
        &["hashkv", &file, "--rev=2900"],
        &["snapshot", "status", &file],
        &["hashkv", "nothing"],
    ];
    for line in lines {
        for format in ["simple", "json", "fields", "table"] {
            let [theirs, ours] = [tools::tool("etcdutl"), tools::engramctl()].map(|program| {
                let mut command = tools::command(&program);
                tools::run(command.args(line).args(["-w", format]), tools::TOOL_LIMIT)
            });
            assert_eq!(theirs.stdout, ours.stdout, "{line:?}: {}", ours.text());
            assert_eq!(theirs.status.code(), ours.status.code(), "{line:?}");
        }
    }
}

#[test]
fn a_directory_is_defragmented_only_where_no_member_uses_it() {
    let _turn = turn::take("defrag verb");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    let dir = server.data_dir().display().to_string();
    let engramctl = |arguments: &[&str]| {
        let mut command = tools::command(&tools::engramctl());
        tools::run(command.args(arguments), tools::TOOL_LIMIT)
    };
    let line = ["defrag", "--data-dir", &dir, "--timeout=100ms"];
    let refused = engramctl(&line);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("used by another process"),
        "{}",
        refused.text()
    );
    assert!(
        engramctl(&["migrate", "--data-dir", &dir, "--target-version=3.7"])
            .status
            .success()
    );
    let away = engramctl(&["migrate", "--data-dir", &dir, "--target-version=3.6"]);
    assert!(away.stderr.contains("snapshot save"), "{}", away.text());
    server.terminate();
    let done = engramctl(&line);
    assert!(done.status.success(), "{}", done.text());
    server.start();
    assert_eq!(server.etcdctl(&["get", "k"]), "k\nv\n");
}

#[test]
fn a_load_is_judged() {
    let _turn = turn::take("check verb");
    let server = Setup::engram().start();
    let [_, ours] = both(&server, &["check", "datascale"]);
    assert!(
        ours.stdout
            .contains("PASS: Approximate system memory used : "),
        "{}",
        ours.text()
    );
    assert_eq!(server.etcdctl(&["get", "", "--prefix", "--limit=1"]), "");
    server.etcdctl(&["put", "/etcdctl-check-perf/x", "1"]);
    let [theirs, ours] = both(&server, &["check", "perf"]).map(|it| it.status.code());
    assert_eq!((theirs, ours), (Some(3), Some(3)), "the prefix has keys");
}

#[test]
fn a_downgrade_is_told_as_etcd_tells_it() {
    let _turn = turn::take("downgrade verb");
    let story = |server: &Server| {
        let ask = |arguments: &[&str]| {
            let finished = server.try_etcdctl(arguments);
            let line = finished
                .stderr
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned();
            (finished.status.code(), finished.stdout, line)
        };
        let told = |wanted: &str| {
            wait_for("the version", Duration::from_secs(30), || {
                let status = server.etcdctl_json(&["endpoint", "status"]);
                let status = &status[0]["Status"];
                (status["storageVersion"] == wanted).then(|| status["downgradeInfo"].clone())
            })
        };
        let mut all = vec![
            ask(&["downgrade", "cancel"]),
            ask(&["downgrade", "enable", "3.5"]),
            ask(&["downgrade", "enable", "x"]),
            ask(&["downgrade", "enable", "3.6"]),
        ];
        let down = told("3.6.0");
        all.push(ask(&["downgrade", "validate", "3.6"]));
        all.push(ask(&["downgrade", "enable", "3.5"]));
        all.push(ask(&["downgrade", "cancel"]));
        (all, down, told("3.7.0"))
    };
    let start = |setup: Setup| setup.flag("--downgrade-check-time=1s").start();
    let (theirs, ours) = (start(Setup::etcd()), start(Setup::engram()));
    assert_eq!(story(&theirs), story(&ours));
    let line = "The server is ready to downgrade";
    for server in [&theirs, &ours] {
        assert!(server.output().contains(line), "{}", server.output());
    }
}
