//! Other files in the data directory: told by name, and refused only where they could be another
//! database.

use std::fs;

use engram_e2e::server::{Server, Setup};

use crate::case::{self, Case};

const WARNING: &str = "found invalid file under data directory";

#[test]
fn a_snapshot_saved_in_the_data_directory_is_told_of_and_left_alone() {
    let case = case::begin("snapshot saved in the data directory");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    let snapshot = server.data_dir().join("snapshot.db");
    let path = snapshot.display().to_string();
    server.etcdctl(&["snapshot", "save", &path]);
    server.terminate();
    serves_in_spite_of(&case, &mut server, &["snapshot.db"]);
    assert_eq!(server.etcdctl(&["get", "k"]), "k\nv\n");
    assert!(snapshot.exists(), "the snapshot is gone");
}

#[test]
fn files_of_k3s_and_editors_are_told_of_and_left_alone() {
    let case = case::begin("files of k3s, rke2 and editors before the first start");
    let mut server = Setup::engram().prepare();
    let names = ["config", "name", ".config.swp", "notes~"];
    fs::create_dir(server.data_dir()).expect("creating the directory");
    for name in names {
        fs::write(server.data_dir().join(name), "x").expect("writing a file");
    }
    serves_in_spite_of(&case, &mut server, &names);
    server.terminate();
    serves_in_spite_of(&case, &mut server, &names);
    for name in names {
        let kept = fs::read(server.data_dir().join(name)).expect("the file is there");
        assert_eq!(kept, b"x", "{name}");
    }
}

fn serves_in_spite_of(case: &Case, server: &mut Server, names: &[&str]) {
    server.launch();
    let ended = server.wait_ready();
    case.saw(format!("{ended:?}: {}", server.last_line()));
    assert!(ended.is_ok(), "{}", server.output());
    assert_eq!(server.etcdctl(&["put", "a", "b"]), "OK\n");
    let output = server.output();
    for name in names {
        let told = output
            .lines()
            .any(|line| line.contains(WARNING) && line.contains(name));
        assert!(told, "{name} is not told of:\n{output}");
    }
}

#[test]
fn etcd_that_was_started_on_the_directory_is_told_of() {
    let case = case::begin("etcd started on Engram's directory");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    server.terminate();
    {
        let mut etcd = Setup::etcd().data_dir(server.data_dir()).start();
        let there = etcd.etcdctl(&["get", "k"]);
        assert_eq!(there, "", "the real etcd starts empty beside it");
        assert_eq!(etcd.etcdctl(&["put", "x", "y"]), "OK\n");
        etcd.terminate();
    }
    let (code, said) = server.must_refuse();
    case.saw(format!(
        "with writes in etcd's part: {code}, {}",
        server.last_line()
    ));
    assert_eq!(code, 1, "{said}");
    let last = server.last_line();
    for word in ["etcd", "member"] {
        assert!(
            last.contains(word),
            "what happened and how to go on, with {word}: {last}"
        );
    }
    fs::rename(
        server.data_dir().join("member"),
        server.scratch().join("member"),
    )
    .expect("moving etcd's part away");
    server.start();
    assert_eq!(server.etcdctl(&["get", "k"]), "k\nv\n");
}

#[test]
fn directories_of_an_etcd_without_data_are_no_obstacle() {
    let case = case::begin("directories of an etcd without data on Engram's directory");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "k", "v"]);
    server.terminate();
    fs::create_dir_all(server.data_dir().join("member/snap")).expect("creating a directory");
    fs::create_dir_all(server.data_dir().join("member/wal")).expect("creating a directory");
    server.launch();
    let ended = server.wait_ready();
    case.saw(format!("{ended:?}: {}", server.last_line()));
    assert!(ended.is_ok(), "{}", server.output());
    assert_eq!(server.etcdctl(&["get", "k"]), "k\nv\n");
    server.terminate();
}
