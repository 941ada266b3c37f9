//! An etcd's data directory, adopted in place: the real etcd's, stopped and killed at any moment.

mod three;
mod users;
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{disk, tools, turn};
use serde_json::Value;

use crate::content::{
    engramctl, engramctl_fails, engramctl_json, everything, fill, hash, must_equal,
    must_have_the_lease,
};

/// Keeps etcd from writing its store: everything since its start is in its log alone.
const ALL_IN_THE_LOG: &str = "--backend-batch-interval=1h";

/// How an etcd ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

fn end(etcd: &mut Server, how: End) {
    match how {
        End::Stopped => {
            etcd.terminate();
        }
        End::Killed => etcd.kill(),
    }
}

/// Every file below a directory, by what is in it.
fn files(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).expect("reading a directory") {
        let path = entry.expect("reading a directory").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).expect("reading a file").hash(&mut hasher);
            found.insert(path, hasher.finish());
        }
    }
    found
}

/// A real etcd of that release, not started. What only an older one knows stands in its environment.
fn prepare(program: &Path, flags: &[&str]) -> Server {
    let setup = Setup::etcd().environment("ETCD_ENABLE_V2", "true");
    let setup = flags.iter().fold(setup, |setup, flag| setup.flag(*flag));
    let mut etcd = setup.prepare();
    etcd.become_program(program.to_owned());
    etcd
}

/// A real etcd on a copy of what an etcd left: what it makes of it is what an adoption has to make.
fn beside(etcd: &Server) -> Server {
    let copy = Setup::etcd().prepare();
    disk::copy_directory(etcd.data_dir(), copy.data_dir());
    copy
}

/// Engram on an etcd's directory, with the same flags. It takes the etcd's place.
fn adopt(mut etcd: Server) -> Server {
    etcd.become_program(tools::engram());
    etcd.start();
    etcd
}

/// Who the members are and whose answer it is, without what each start tells anew.
fn identity(server: &Server) -> Value {
    let mut list = server.etcdctl_json(&["member", "list"]);
    for member in list["members"].as_array_mut().expect("members") {
        member["clientURLs"].take();
    }
    let header = list["header"].as_object_mut().expect("a header");
    header.remove("raft_term");
    list
}

fn leases(server: &Server) -> Value {
    server.etcdctl_json(&["lease", "list"])["leases"].take()
}

/// Writes what `fill` does not: transactions, a revoked lease, keys deleted by ranges.
fn fill_more(server: &Server) {
    client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        for round in 0..20 {
            client
                .put(format!("more/{round}"), "x")
                .await
                .expect("a put");
        }
    });
    let granted = server.etcdctl_json(&["lease", "grant", "500"]);
    let id = format!("{:x}", granted["ID"].as_i64().expect("an id"));
    server.etcdctl(&["put", "short", "lived", &format!("--lease={id}")]);
    server.etcdctl(&["lease", "revoke", &id]);
    // Nothing hangs on it. It must not run out while the test does.
    server.etcdctl(&["lease", "grant", "1000"]);
    server.etcdctl(&["del", "more/1", "more/2"]);
    let mut txn = server.etcdctl_command();
    let script = server.scratch().join("txn");
    fs::write(
        &script,
        "mod(\"more/5\") > \"0\"\n\nput t1 a\nput t2 b\ndel more/7\n\nput t3 c\n\n",
    )
    .expect("writing a script");
    txn.arg("txn")
        .stdin(fs::File::open(&script).expect("the script"));
    let said = tools::must_succeed(&mut txn);
    assert!(said.contains("SUCCESS"), "{said}");
}

fn revision(server: &Server) -> i64 {
    everything(server, 0).header.expect("a header").revision
}

/// Adopts a directory that this etcd filled, and compares with the same on a copy of it.
fn is_adopted_whole(program: &Path, how: End, flags: &[&str]) {
    let mut etcd = prepare(program, flags);
    etcd.start();
    fill(&etcd);
    fill_more(&etcd);
    let (at, who, granted) = (revision(&etcd), identity(&etcd), leases(&etcd));
    end(&mut etcd, how);
    let mut real = beside(&etcd);
    real.become_program(program.to_owned());
    let before = files(&etcd.data_dir().join("member"));
    let mut engram = adopt(etcd);
    real.start();
    must_equal(&real, &engram, at);
    assert_eq!(leases(&engram), granted);
    assert_eq!(identity(&engram)["members"], who["members"]);
    assert_eq!(
        identity(&engram)["header"]["cluster_id"],
        who["header"]["cluster_id"]
    );
    // The revision goes on, in both alike.
    for server in [&real, &engram] {
        assert_eq!(server.etcdctl(&["put", "after", "adoption"]), "OK\n");
    }
    assert_eq!(hash(&real, 0).0, hash(&engram, 0).0);
    engram.kill();
    engram.start();
    let put = engram.etcdctl_json(&["get", "after"]);
    assert_eq!(put["kvs"][0]["mod_revision"].as_i64(), Some(at + 1));
    must_have_the_lease(&engram);
    assert_eq!(
        files(&engram.data_dir().join("member")),
        before,
        "etcd's files"
    );
}

#[test]
fn a_stopped_etcds_directory_is_adopted_whole() {
    let _turn = turn::take("stopped");
    is_adopted_whole(&tools::tool("etcd"), End::Stopped, &[]);
}

#[test]
fn a_killed_etcds_directory_is_adopted_whole() {
    let _turn = turn::take("killed");
    is_adopted_whole(&tools::tool("etcd"), End::Killed, &[]);
}

#[test]
fn what_only_the_log_of_an_etcd_holds_is_adopted_whole() {
    let _turn = turn::take("log alone");
    is_adopted_whole(&tools::tool("etcd"), End::Killed, &[ALL_IN_THE_LOG]);
}

#[test]
fn nothing_that_an_etcd_acknowledged_before_it_was_killed_is_lost() {
    let _turn = turn::take("acknowledged");
    for round in 0..3u64 {
        let mut etcd = Setup::etcd().start();
        let last = client::runtime().block_on(async {
            let mut client = Client::connect(etcd.address()).await;
            let mut last = 0;
            for n in 0..40 + 7 * round {
                client.put("counter", n.to_string()).await.expect("a put");
                last = n;
            }
            last
        });
        // At once: how far the last entries are committed is on no disk.
        etcd.kill();
        let engram = adopt(etcd);
        assert_eq!(
            engram.etcdctl(&["get", "counter", "--print-value-only"]),
            format!("{last}\n")
        );
    }
}

#[test]
fn the_way_back_and_the_end_of_an_adoption() {
    let _turn = turn::take("way back");
    let mut etcd = Setup::etcd().start();
    let at = fill(&etcd);
    etcd.terminate();
    let mut engram = adopt(etcd);
    let dir = engram.data_dir().to_owned();
    let data_dir = format!("--data-dir={}", dir.display());
    let snapshot = engram.scratch().join("back.db");
    let snapshot = snapshot.to_str().expect("the path is text");
    let endpoints = format!("--endpoints={}", engram.address());
    engramctl(&[&endpoints, "snapshot", "save", snapshot]);
    let mut again = Setup::etcd().prepare();
    let flags = crate::content::restore_flags(&again);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    tools::etcdutl(&[&["snapshot", "restore", snapshot], &flags[..]].concat());
    again.start();
    must_equal(&engram, &again, at);

    assert!(engramctl(&["adopt", &data_dir]).contains("still there"));
    // Beside the running member.
    assert!(engramctl(&["adopt", &data_dir, "--finish"]).contains("removed etcd's files"));
    assert!(!dir.join("member").exists());
    let told = engramctl_json(&["adopt", &data_dir, "--finish"]);
    assert_eq!(told["removed"].as_bool(), Some(false));
    engram.terminate();
    engram.start();
    must_equal(&again, &engram, at);
    let never = tempfile::tempdir().expect("a directory");
    let never = format!("--data-dir={}", never.path().display());
    assert!(engramctl_fails(&["adopt", &never, "--finish"]).contains("adopted no directory"));
}

#[test]
fn a_directory_that_etcdutl_restored_is_adopted() {
    let _turn = turn::take("etcdutl's directory");
    is_adopted_restored(&tools::tool("etcd"), &tools::tool("etcdutl"));
}

/// Adopts what this etcdutl made of this etcd's snapshot.
fn is_adopted_restored(program: &Path, etcdutl: &Path) {
    let mut etcd = prepare(program, &[]);
    etcd.start();
    let at = fill(&etcd);
    let snapshot = etcd.scratch().join("snap.db");
    let snapshot = snapshot.to_str().expect("the path is text");
    etcd.etcdctl(&["snapshot", "save", snapshot]);
    let mut engram = Setup::engram().prepare();
    let mut restore = tools::command(etcdutl);
    restore.args(["snapshot", "restore", snapshot]);
    tools::must_succeed(restore.args(crate::content::restore_flags(&engram)));
    let mut real = beside(&engram);
    real.become_program(program.to_owned());
    // What k3s keeps beside it.
    fs::write(engram.data_dir().join("name"), "x").expect("writing a file");
    engram.start();
    real.start();
    must_equal(&etcd, &engram, at);
    assert_eq!(
        identity(&engram)["members"][0]["ID"],
        identity(&real)["members"][0]["ID"]
    );
}

#[test]
fn a_log_in_a_directory_of_its_own_is_adopted_and_removed() {
    let _turn = turn::take("wal-dir");
    let scratch = tempfile::tempdir().expect("a directory");
    let log = scratch.path().join("log");
    let flag = format!("--wal-dir={}", log.display());
    let mut etcd = Setup::etcd().flag(flag).flag(ALL_IN_THE_LOG).start();
    let at = fill(&etcd);
    let before = everything(&etcd, at);
    etcd.kill();
    let theirs = files(&log);
    let mut engram = adopt(etcd);
    assert_eq!(everything(&engram, at).kvs, before.kvs);
    let now = files(&log);
    assert!(
        theirs
            .iter()
            .all(|(path, hash)| now.get(path) == Some(hash)),
        "etcd's log"
    );
    let data_dir = format!("--data-dir={}", engram.data_dir().display());
    engramctl(&["adopt", &data_dir, "--finish"]);
    assert!(
        theirs.keys().all(|path| !path.exists()),
        "etcd's log is removed"
    );
    engram.kill();
    engram.start();
    assert_eq!(everything(&engram, at).kvs, before.kvs);
}

/// The server refuses, says this, and leaves etcd's files as they were.
fn refuses(server: &mut Server, sentence: &str) {
    let member = server.data_dir().join("member");
    let before = files(&member);
    let (_, said) = server.must_refuse();
    assert!(
        said.contains(sentence),
        "it should say {sentence:?}:\n{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(
        files(&member),
        before,
        "a refused start changed etcd's files"
    );
    assert!(!server.data_dir().join("IDENTITY").exists());
}

#[test]
fn what_cannot_be_adopted_is_refused_by_name() {
    let _turn = turn::take("refusals");
    let mut etcd = Setup::etcd().flag(ALL_IN_THE_LOG).start();
    fill(&etcd);
    // An etcd that still runs.
    let mut engram = Setup::engram().data_dir(etcd.data_dir()).prepare();
    refuses(&mut engram, "is used by a running etcd");
    etcd.terminate();
    let wal = etcd.data_dir().join("member/wal");
    let segment = wal.join("0000000000000000-0000000000000000.wal");
    let sound = fs::read(&segment).expect("the log");
    // A byte in the middle of the log.
    let mut bytes = sound.clone();
    bytes[20_000] ^= 0x10;
    fs::write(&segment, &bytes).expect("writing the log");
    refuses(&mut engram, "etcd's log is damaged");
    // Its end.
    fs::write(&segment, &sound[..20_000]).expect("writing the log");
    refuses(&mut engram, "was committed");
    fs::remove_file(&segment).expect("removing the log");
    refuses(&mut engram, "--wal-dir that etcd had");
    fs::write(&segment, &sound).expect("writing the log");
    let store = etcd.data_dir().join("member/snap/db");
    let pages = fs::read(&store).expect("the store");
    fs::write(&store, vec![7; pages.len()]).expect("writing the store");
    refuses(&mut engram, "etcd's store");
    fs::remove_file(&store).expect("removing the store");
    refuses(&mut engram, "is missing");
    fs::write(&store, &pages).expect("writing the store");
    // Nothing of it stands in the way of the sound directory.
    engram.start();
    must_have_the_lease(&engram);
    // An etcd that is started on it again, and writes.
    engram.terminate();
    etcd.start();
    etcd.etcdctl(&["put", "a", "b"]);
    etcd.terminate();
    let (_, said) = engram.must_refuse();
    assert!(said.contains("an etcd was started again on"), "{said}");
    fs::rename(etcd.data_dir().join("member"), etcd.scratch().join("away")).expect("moving it");
    engram.start();
    must_have_the_lease(&engram);
}

#[test]
fn an_adoption_that_is_killed_goes_on_at_the_next_start() {
    let _turn = turn::take("killed adoptions");
    let mut etcd = Setup::etcd().flag(ALL_IN_THE_LOG).start();
    let at = fill(&etcd);
    let wanted = (everything(&etcd, at).kvs, hash(&etcd, at));
    etcd.kill();
    for millis in [1, 4, 8, 15, 25, 40, 70] {
        let mut engram = Setup::engram().prepare();
        disk::copy_directory(etcd.data_dir(), engram.data_dir());
        for more in 0..3 {
            engram.launch();
            std::thread::sleep(Duration::from_millis(millis + 2 * more));
            engram.kill();
        }
        engram.start();
        let has = (everything(&engram, at).kvs, hash(&engram, at));
        assert_eq!(has, wanted, "killed after {millis} ms");
        assert_eq!(revision(&engram), at, "nothing is applied twice");
    }
}
