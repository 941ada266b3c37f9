//! etcd's own files: ours read by etcd's tools and etcd, theirs by ours.

use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};
use serde_json::Value;

use crate::content::{
    engramctl, engramctl_fails, engramctl_json, everything, fill, must_equal, restored,
};

#[test]
fn an_engram_snapshot_is_restored_with_every_revision() {
    let _turn = turn::take("engram's snapshot");
    let server = Setup::engram().start();
    let revision = fill(&server);
    let snapshot = saved(&server);
    statuses_must_agree(&snapshot, revision);
    let same = restored(|flags| {
        engramctl(&[&["snapshot", "restore", &snapshot], flags].concat());
    });
    must_equal(&server, &same, revision);
    assert_eq!(same.etcdctl(&["put", "after", "restore"]), "OK\n");
    let after = same.etcdctl_json(&["get", "after"]);
    assert_eq!(after["kvs"][0]["mod_revision"].as_i64(), Some(revision + 1));
    survives_a_kill(same);
}

#[test]
fn an_etcd_snapshot_is_restored_with_every_revision() {
    let _turn = turn::take("etcd's snapshot");
    let etcd = Setup::etcd().start();
    let revision = fill(&etcd);
    let snapshot = etcd.scratch().join("snap.db");
    let snapshot = snapshot.to_str().expect("the path is text");
    etcd.etcdctl(&["snapshot", "save", snapshot]);
    statuses_must_agree(snapshot, revision);
    let engram = restored(|flags| {
        engramctl(&[&["snapshot", "restore", snapshot], flags].concat());
    });
    must_equal(&etcd, &engram, revision);

    // And on from there: what Engram gives back, etcd's tools and etcd take.
    let back = saved(&engram);
    statuses_must_agree(&back, revision);
    let mut again = Setup::etcd().prepare();
    let flags = crate::content::restore_flags(&again);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    tools::etcdutl(&[&["snapshot", "restore", &back], &flags[..]].concat());
    again.start();
    must_equal(&etcd, &again, revision);
}

#[test]
fn a_bumped_restore_makes_clients_list_anew() {
    let _turn = turn::take("bumped");
    let server = Setup::engram().start();
    let revision = fill(&server);
    let snapshot = saved(&server);
    let bump = ["--bump-revision=1000", "--mark-compacted"];
    let bumped = restored(|flags| {
        engramctl(&[&["snapshot", "restore", &snapshot], flags, &bump].concat());
    });
    let read = everything(&bumped, 0);
    assert_eq!(read.kvs, everything(&server, revision).kvs);
    assert_eq!(
        read.header.map(|header| header.revision),
        Some(revision + 1_000)
    );
    let old = bumped.try_etcdctl(&["get", "leased", &format!("--rev={revision}")]);
    assert!(
        old.stderr.contains("required revision has been compacted"),
        "{}",
        old.text()
    );
    // A snapshot of the bumped store keeps the bump.
    let status = engramctl_json(&["snapshot", "status", &saved(&bumped)]);
    assert_eq!(
        status["totalKey"].as_u64(),
        u64::try_from(read.kvs.len()).ok()
    );
    survives_a_kill(bumped);
}

#[test]
fn what_cannot_be_restored_is_refused_in_etcds_words() {
    let _turn = turn::take("refusals");
    let server = Setup::engram().start();
    server.etcdctl(&["put", "a", "b"]);
    let snapshot = saved(&server);
    let directory = server.scratch().join("restored");
    let directory = format!("--data-dir={}", directory.display());
    let restore = ["snapshot", "restore", snapshot.as_str(), directory.as_str()];
    let only_one = engramctl_fails(&[&restore[..], &["--bump-revision=5"]].concat());
    assert!(only_one.contains("--mark-compacted required"), "{only_one}");
    let stranger = engramctl_fails(&[&restore[..], &["--name=other"]].concat());
    assert!(stranger.contains("other"), "{stranger}");
    engramctl(&restore);
    let full = engramctl_fails(&restore);
    assert!(full.contains("not empty or could not be read"), "{full}");

    let mut bytes = std::fs::read(&snapshot).expect("the snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).expect("writing the snapshot");
    let other = format!("{directory}-2");
    let damaged = engramctl_fails(&["snapshot", "restore", &snapshot, &other]);
    assert!(damaged.contains("expected sha256"), "{damaged}");
}

/// The server's snapshot, saved with engramctl.
fn saved(server: &Server) -> String {
    let path = server.scratch().join("saved.db");
    let path = path.to_str().expect("the path is text").to_owned();
    let endpoints = format!("--endpoints={}", server.address());
    let said = engramctl(&[&endpoints, "snapshot", "save", &path]);
    assert!(
        said.contains(&format!("Snapshot saved at {path}")),
        "{said}"
    );
    path
}

/// etcdutl and engramctl say the same of a file.
fn statuses_must_agree(snapshot: &str, revision: i64) {
    for format in ["json", "simple", "table"] {
        let arguments = ["snapshot", "status", snapshot, "-w", format];
        let (theirs, ours) = (tools::etcdutl(&arguments), engramctl(&arguments));
        if format == "json" {
            let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            assert_eq!(parse(&theirs), parse(&ours));
            assert_eq!(parse(&ours)["revision"].as_i64(), Some(revision));
        } else if format == "simple" {
            assert_eq!(theirs, ours);
        }
    }
}

/// What was restored is durable from the first moment on.
fn survives_a_kill(mut server: Server) {
    let before = everything(&server, 0);
    server.kill();
    server.start();
    assert_eq!(everything(&server, 0).kvs, before.kvs);
    crate::content::must_have_the_lease(&server);
}
