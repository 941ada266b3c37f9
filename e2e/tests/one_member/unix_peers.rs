//! Members that speak to each other over Unix sockets, as etcd's `unix://` and `unixs://` peer URLs have them.

use std::time::{Duration, Instant};

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;

const LIMIT: Duration = Duration::from_secs(20);

/// Waits until the member answers a linearizable read with this value.
fn must_read(server: &Server, key: &str, value: &str) {
    let begun = Instant::now();
    loop {
        let read = server.try_etcdctl(&["get", key, "--print-value-only"]);
        if read.status.success() && read.text().trim() == value {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{key}: {}", read.text());
    }
}

#[test]
fn members_speak_over_unix_sockets_and_come_back_one_after_another() {
    let _turn = turn::take("peers over Unix sockets");
    story("unix", None);
}

#[test]
fn members_speak_over_unix_sockets_with_tls() {
    let _turn = turn::take("peers over Unix sockets with TLS");
    story("unixs", Some("--peer-auto-tls"));
}

fn story(scheme: &str, tls: Option<&str>) {
    let sockets = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("{scheme}://{}/{name}.sock", sockets.path().display());
    let names = ["a", "b", "c"];
    let initial = names.map(|name| format!("{name}={}", url(name))).join(",");
    let mut members = names.map(|name| {
        let flags = [
            format!("--listen-peer-urls={}", url(name)),
            format!("--initial-advertise-peer-urls={}", url(name)),
            format!("--initial-cluster={initial}"),
        ];
        let setup = Setup::engram().name(name);
        let flags = flags.into_iter().chain(tls.map(str::to_owned));
        flags.fold(setup, Setup::flag).prepare()
    });
    for member in &mut members {
        member.launch();
    }
    for member in &mut members {
        member.must_become_ready();
    }
    let put = members[0].try_etcdctl(&["put", "k", "0"]);
    assert!(put.status.success(), "{}", put.text());
    for at in 0..members.len() {
        // Its socket's file is left behind.
        members[at].kill();
        let value = (at + 1).to_string();
        let begun = Instant::now();
        let other = &members[(at + 1) % members.len()];
        while !other.try_etcdctl(&["put", "k", &value]).status.success() {
            assert!(begun.elapsed() < LIMIT, "no write without {}", names[at]);
        }
        members[at].start();
        must_read(&members[at], "k", &value);
    }
}
