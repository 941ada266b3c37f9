//! Data directories: of somebody else, of another process, of another member, unusable.
//!
//! Most of this is more than etcd promises: it starts beside foreign files, waits for ever for a
//! locked directory, and follows its log where flags contradict it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use engram_e2e::disk::{self, SmallFileSystem};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};

/// Whether the test is not for etcd; says so.
fn is_more_than_etcd_promises() -> bool {
    let is_etcd = tools::engram_is_etcd();
    if is_etcd {
        println!("not asked of etcd: it does not promise this");
    }
    is_etcd
}

fn refuses(server: &mut Server, sentence: &str) {
    let (_, said) = server.must_refuse();
    assert!(
        said.contains(sentence),
        "it should say {sentence:?}:\n{said}"
    );
    let last = said.lines().last().unwrap_or_default();
    let is_etcds =
        last.contains("\"level\":\"fatal\"") && last.contains("\"msg\":\"discovery failed\"");
    assert!(is_etcds, "a runbook looks for etcd's line:\n{said}");
    assert!(said.contains("\"msg\":\"bootstrap failed\""), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn refuses_unchanged(directory: &Path, sentence: &str) {
    let before = disk::fingerprint(directory);
    refuses(&mut Setup::engram().data_dir(directory).prepare(), sentence);
    assert!(
        before == disk::fingerprint(directory),
        "a refused start changed the directory"
    );
}

#[test]
fn files_of_somebody_else_are_left_alone() {
    let _turn = turn::take("foreign files");
    if is_more_than_etcd_promises() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let directory = scratch.path().join("thesis");
    fs::create_dir(&directory).expect("creating a directory");
    let (chapter, text) = (directory.join("chapter-1.txt"), "It was a dark night.");
    fs::write(&chapter, text).expect("writing a file");
    // What k3s keeps beside its etcd's data, and a snapshot that was saved in the wrong place.
    for name in ["config", "name", "snapshot.db"] {
        fs::write(directory.join(name), "x").expect("writing a file");
    }
    let mut server = Setup::engram().data_dir(&directory).start();
    server.etcdctl(&["put", "foo", "bar"]);
    for name in ["chapter-1.txt", "config", "name", "snapshot.db"] {
        let said = server.output();
        let line = said.lines().find(|line| {
            line.contains("found invalid file under data directory") && line.contains(name)
        });
        assert!(line.is_some(), "a warning for {name}:\n{said}");
    }
    server.terminate();
    server.start();
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nbar\n");
    assert_eq!(
        fs::read_to_string(&chapter).expect("the file is there"),
        text
    );
    let file = scratch.path().join("file");
    fs::write(&file, "not a directory").expect("writing a file");
    refuses(
        &mut Setup::engram().data_dir(&file).prepare(),
        "not a directory",
    );
    assert_eq!(
        fs::read_to_string(&file).expect("the file is there"),
        "not a directory"
    );
}

#[test]
fn the_data_of_an_etcd_is_adopted_and_its_files_are_left_alone() {
    let _turn = turn::take("an etcd's directory");
    if is_more_than_etcd_promises() {
        return;
    }
    let mut etcd = Setup::etcd().start();
    etcd.etcdctl(&["put", "foo", "bar"]);
    etcd.terminate();
    // Its flags name another member: the directory counts, as with etcd.
    let mut server = Setup::engram().data_dir(etcd.data_dir()).start();
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nbar\n");
    server.terminate();
    etcd.start();
    assert_eq!(etcd.etcdctl(&["get", "foo"]), "foo\nbar\n");
}

#[test]
fn an_etcd_that_was_started_on_the_data_stops_nobody_unless_it_was_written_to() {
    let _turn = turn::take("an etcd beside");
    if is_more_than_etcd_promises() {
        return;
    }
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "foo", "engram's"]);
    server.terminate();
    let mut etcd = Setup::etcd().data_dir(server.data_dir()).start();
    assert_eq!(etcd.etcdctl(&["get", "foo"]), "", "it begins empty");
    etcd.terminate();
    server.start();
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nengram's\n");
    let said = server.output();
    assert!(
        said.contains("an etcd was started on this data directory"),
        "{said}"
    );
    server.terminate();
    etcd.start();
    etcd.etcdctl(&["put", "foo", "etcd's"]);
    etcd.terminate();
    refuses_unchanged(server.data_dir(), "move that directory away");
    fs::rename(
        server.data_dir().join("member"),
        server.scratch().join("member"),
    )
    .expect("moving a directory");
    server.start();
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nengram's\n");
}

#[test]
fn a_second_process_is_kept_out_and_the_first_serves_on() {
    let _turn = turn::take("two processes");
    if is_more_than_etcd_promises() {
        return;
    }
    let mut first = Setup::engram().start();
    first.etcdctl(&["put", "foo", "bar"]);
    let mut second = Setup::engram().data_dir(first.data_dir()).prepare();
    refuses(&mut second, "is used by another process");
    assert_eq!(first.etcdctl(&["get", "foo"]), "foo\nbar\n");
    first.etcdctl(&["put", "foo", "again"]);
    first.kill();
    first.start();
    assert_eq!(first.etcdctl(&["get", "foo"]), "foo\nagain\n");
}

#[test]
fn a_directory_is_private_after_the_start() {
    let _turn = turn::take("mode 0700");
    let fresh = Setup::engram().start();
    assert_eq!(disk::mode_of(fresh.data_dir()), 0o700);
    drop(fresh);
    if is_more_than_etcd_promises() {
        return;
    }
    let server = Setup::engram().prepare();
    fs::create_dir(server.data_dir()).expect("creating a directory");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(server.data_dir(), open).expect("setting a mode");
    let mut server = server;
    server.start();
    assert_eq!(disk::mode_of(server.data_dir()), 0o700);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let _turn = turn::take("read-only directory");
    let mut server = Setup::engram().prepare();
    let mount_point = server.scratch().join("disk");
    fs::create_dir(&mount_point).expect("creating a directory");
    let disk = SmallFileSystem::mount(&mount_point, 1 << 20);
    disk.make_read_only();
    server.add_flag(format!("--data-dir={}", disk.path().join("data").display()));
    let (_, said) = server.must_refuse();
    let said = said.to_lowercase();
    assert!(said.contains("read-only file system"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn flags_of_another_member_are_refused() {
    let _turn = turn::take("another member's flags");
    if is_more_than_etcd_promises() {
        return;
    }
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "foo", "bar"]);
    server.terminate();
    let before = disk::fingerprint(server.data_dir());
    let other = Setup::engram().data_dir(server.data_dir());
    let mut other = other
        .flag("--initial-cluster-token=another-cluster")
        .prepare();
    refuses(&mut other, "belongs to member");
    assert!(
        before == disk::fingerprint(server.data_dir()),
        "a refused start changed the directory"
    );
    server.start();
    assert_eq!(server.etcdctl(&["get", "foo"]), "foo\nbar\n");
}

#[test]
fn an_initial_cluster_without_the_member_itself_is_refused() {
    let _turn = turn::take("contradicting flags");
    let stranger = "--initial-cluster=somebody=http://127.0.0.1:1";
    let mut server = Setup::engram().flag(stranger).prepare();
    refuses(&mut server, "couldn't find local name");
    // What was refused has left nothing that would be in the way of a corrected start.
    server.add_flag(format!("--initial-cluster=m1={}", server.peer_url()));
    server.start();
}
