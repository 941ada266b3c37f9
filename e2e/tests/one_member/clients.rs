//! etcd's clients as their registries have them, on Engram and on a real etcd: `e2e/clients`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};

/// What `e2e/clients/build.sh` makes.
const CLIENTS: [&str; 12] = [
    "go-3.3.27",
    "go-3.4.16",
    "go-3.5.0",
    "go-3.5.35",
    "go-3.6.16",
    "go-3.7.3",
    "rust-etcd-client",
    "python-etcd3",
    "python-etcd3gw",
    "patroni-apisix",
    "node-etcd3",
    "jetcd",
];
/// Those of them that CI tries: `e2e/clients/build.sh quick`.
const QUICK: [&str; 5] = [
    "go-3.3.27",
    "go-3.7.3",
    "python-etcd3",
    "python-etcd3gw",
    "node-etcd3",
];
const HEADING: &str = "# etcd's clients, as their registries have them\n\n`make clients`: each does the \
    same on Engram and on a real etcd (key-values, a transaction, a watch, leases, locks, elections, users), \
    and prints what it is told.\n\n| client | answers | beside etcd 3.7.3 |\n|---|---|---|\n";
/// How long one may take: a virtual machine starts, locks are waited for.
const CLIENT_LIMIT: Duration = Duration::from_secs(90);

fn program(name: &str) -> PathBuf {
    let path = tools::cache().join("clients/bin").join(name);
    let is_there = path.is_file();
    assert!(
        is_there,
        "{name} is not there: `e2e/clients/build.sh` builds it"
    );
    path
}

/// What a client prints.
fn said(name: &str, server: &Server) -> String {
    let mut command = tools::command(&program(name));
    command.arg(server.address().to_string());
    let finished = tools::run(&mut command, CLIENT_LIMIT);
    assert!(finished.status.success(), "{name}: {}", finished.text());
    finished.stdout
}

/// Where the run is to be written down, what it found is.
fn report(lines: &str) {
    if let Some(path) = std::env::var_os("ENGRAM_CLIENTS_REPORT") {
        std::fs::write(path, lines).expect("writing the report");
    }
}

/// What needs no package is tried in CI.
#[test]
fn patroni_and_apisix_are_told_what_a_real_etcd_tells_them() {
    let _turn = turn::take("Patroni and APISIX");
    let script = tools::directory().join("clients/python/gateway_users.py");
    let said = |setup: Setup| {
        let server = setup.flag("--bcrypt-cost=4").start();
        let mut command = tools::command("python3".as_ref());
        command.arg(&script).arg(server.address().to_string());
        tools::must_succeed(&mut command)
    };
    let wanted = said(Setup::etcd());
    assert_eq!(said(Setup::engram()), wanted);
    assert!(wanted.ends_with("done\n"), "{wanted}");
}

#[test]
fn clients_of_three_languages_are_told_what_a_real_etcd_tells_them() {
    let _turn = turn::take("clients of three languages");
    let (_, differences) = compare(&QUICK);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
#[ignore = "needs packages of five registries: make clients"]
fn every_client_is_told_what_a_real_etcd_tells_it() {
    let _turn = turn::take("clients");
    let (lines, differences) = compare(&CLIENTS);
    report(&lines);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Has clients say what Engram and a real etcd tell them: a table of it, and what differs.
fn compare(clients: &[&str]) -> (String, Vec<String>) {
    let start = |setup: Setup| setup.flag("--bcrypt-cost=4").start();
    let mut lines = HEADING.to_owned();
    let mut differences = Vec::new();
    for name in clients {
        let (etcd, server) = (start(Setup::etcd()), start(Setup::engram()));
        let (wanted, here) = (said(name, &etcd), said(name, &server));
        let answers = wanted.lines().count();
        assert!(answers > 10, "{name}: {wanted}");
        let word = if wanted == here {
            "the same"
        } else {
            "DIFFERS"
        };
        writeln!(lines, "| {name} | {answers} | {word} |").expect("a text takes more");
        if wanted != here {
            differences.push(format!("{name}, etcd:\n{wanted}\nhere:\n{here}"));
        }
    }
    println!("{lines}");
    (lines, differences)
}
