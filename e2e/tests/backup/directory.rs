//! Backups in a directory: taken, listed, verified, restored, pruned; damaged ones refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use engram_e2e::client::Client;
use engram_e2e::disk::SmallFileSystem;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{client, ports, tools, turn};
use tempfile::TempDir;

use crate::content::{
    engramctl, engramctl_fails, engramctl_json, everything, fill, hash, must_equal, restore_flags,
    restored,
};

/// A server with a history, and a store for its backups.
struct Scene {
    server: Server,
    directory: TempDir,
    revision: i64,
}

impl Scene {
    fn new() -> Scene {
        let server = Setup::engram().start();
        let revision = fill(&server);
        let directory = TempDir::with_prefix("engram-backups-").expect("a temporary directory");
        Scene {
            server,
            directory,
            revision,
        }
    }

    fn store(&self) -> String {
        format!("--store=file://{}", self.directory.path().display())
    }

    fn create(&self, name: &str) -> serde_json::Value {
        self.create_with(name, &[])
    }

    fn create_with(&self, name: &str, more: &[&str]) -> serde_json::Value {
        let endpoints = format!("--endpoints={}", self.server.address());
        let name = format!("--name={name}");
        let store = self.store();
        let create = [
            &endpoints,
            "backup",
            "create",
            &store,
            "--cluster=demo",
            &name,
        ];
        engramctl_json(&[&create, more].concat())
    }

    fn ids(&self) -> Vec<String> {
        let listed = engramctl_json(&["backup", "list", &self.store()]);
        let listed = listed.as_array().expect("a list").iter();
        listed
            .map(|backup| backup["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    /// By name: two clusters' backups of the same second are in no order.
    fn ids_sorted(&self) -> Vec<String> {
        let mut ids = self.ids();
        ids.sort();
        ids
    }

    fn files(&self, name: &str) -> Vec<PathBuf> {
        files_below(&self.directory.path().join("demo").join(name))
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn a_backup_is_verified_and_restored_with_every_revision() {
    let _turn = turn::take("directory");
    let scene = Scene::new();
    let created = scene.create("first");
    let (wanted, compacted) = hash(&scene.server, scene.revision);
    assert_eq!(created["revision"].as_i64(), Some(scene.revision));
    assert_eq!(created["compactRevision"].as_i64(), Some(compacted));
    assert_eq!(created["hashKV"].as_u64(), Some(wanted.into()));
    let store = scene.store();
    let listed = engramctl_json(&["backup", "list", &store]);
    assert_eq!(listed, serde_json::json!([created]));
    let result = scene.directory.path().join("result");
    let result_flag = format!("--result-file={}", result.display());
    let verified = engramctl_json(&["backup", "verify", &store, &result_flag]);
    assert_eq!(verified["hashKV"].as_u64(), Some(wanted.into()));
    let written = fs::read_to_string(&result).expect("the result file");
    assert_eq!(
        verified,
        serde_json::from_str::<serde_json::Value>(&written).expect("JSON")
    );

    scene.server.etcdctl(&["put", "later", "not in the backup"]);
    let mut again = Vec::new();
    let same = restored(|flags| {
        again = flags.iter().map(|flag| (*flag).to_owned()).collect();
        engramctl(&[&["restore", &store, "--backup=latest"], flags].concat());
    });
    must_equal(&scene.server, &same, scene.revision);
    // A pod that starts again restores again, and must lose nothing that was written since.
    same.etcdctl(&["put", "since", "the restore"]);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let said = engramctl_json(&[&["restore", &store, "--backup=first"], &again[..]].concat());
    assert_eq!(said["restored"], false);
    assert_eq!(same.etcdctl(&["get", "since"]), "since\nthe restore\n");
    let other = engramctl_fails(&[&["restore", &store, "--backup=other"], &again[..]].concat());
    assert!(
        other.contains("remove it to restore other there"),
        "{other}"
    );
}

#[test]
fn a_log_from_before_the_restore_is_refused() {
    let _turn = turn::take("another log");
    let mut scene = Scene::new();
    scene.create("first");
    scene.server.terminate();
    let old = format!("--wal-dir={}", scene.server.wal_dir().display());
    let mut server = Setup::engram().flag(old).prepare();
    let flags = restore_flags(&server);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    engramctl(&[&["restore", &scene.store()], &flags[..]].concat());
    let (_, said) = server.must_refuse();
    assert!(
        said.contains("was written by member") && said.contains("nothing was changed"),
        "{said}"
    );
}

#[test]
fn three_members_restored_alike_form_a_cluster() {
    let _turn = turn::take("three members");
    let scene = Scene::new();
    scene.create("all");
    let mut members: Vec<Server> = (1..=3)
        .map(|number| Setup::engram().name(&format!("m{number}")).prepare())
        .collect();
    let everybody: Vec<String> = members
        .iter()
        .map(|member| format!("{}={}", member.name(), member.peer_url()))
        .collect();
    let cluster = format!("--initial-cluster={}", everybody.join(","));
    let store = scene.store();
    let latest = engramctl_fails(&["restore", &store, &cluster]);
    assert!(latest.contains("--backup is required"), "{latest}");
    for member in &mut members {
        let (name, peer) = (format!("--name={}", member.name()), member.peer_url());
        let data_dir = format!("--data-dir={}", member.data_dir().display());
        let advertised = format!("--initial-advertise-peer-urls={peer}");
        engramctl(&[
            "restore",
            &store,
            "--backup=all",
            "--bump-revision=1000000",
            "--mark-compacted",
            &name,
            &data_dir,
            &cluster,
            &advertised,
        ]);
        member.add_flag(cluster.clone());
        member.launch();
    }
    for member in &mut members {
        member.must_become_ready();
    }
    let kvs = everything(&scene.server, scene.revision).kvs;
    members[0].etcdctl(&["put", "after", "restore"]);
    let bumped = scene.revision + 1_000_001;
    let hashes: Vec<_> = members
        .iter()
        .map(|member| {
            let read = everything(member, 0);
            assert_eq!(
                read.header.as_ref().map(|header| header.revision),
                Some(bumped)
            );
            let old: Vec<_> = read
                .kvs
                .into_iter()
                .filter(|kv| kv.key.as_ref() != b"after")
                .collect();
            assert_eq!(old, kvs, "on {}", member.name());
            hash(member, bumped)
        })
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let listed = members[1].etcdctl(&["member", "list"]);
    assert_eq!(listed.matches("started").count(), 3, "{listed}");
    // The majority goes on without one of them.
    members[2].kill();
    let put = client::runtime().block_on(async {
        let mut client = engram_e2e::client::Client::connect(members[0].address()).await;
        client.put("two", "of three").await
    });
    assert!(put.is_ok(), "{put:?}");
}

#[test]
fn a_damaged_backup_is_refused_by_name() {
    let _turn = turn::take("damaged");
    let scene = Scene::new();
    scene.create("hurt");
    let store = scene.store();
    let files = scene.files("hurt");
    let chunk = files
        .iter()
        .find(|path| path.extension().is_some_and(|name| name == "chunk"));
    let chunk = chunk.expect("a chunk");
    let whole = fs::read(chunk).expect("the chunk");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(chunk, &bytes).expect("writing the chunk");
    let data_dir = scene.directory.path().join("restored");
    let data_dir = format!("--data-dir={}", data_dir.display());
    let verify = ["backup", "verify", store.as_str(), "--backup=hurt"];
    let restore = [
        "restore",
        store.as_str(),
        "--backup=hurt",
        data_dir.as_str(),
    ];
    for arguments in [&verify, &restore] {
        let said = engramctl_fails(arguments);
        assert!(
            said.contains("backup hurt") && said.contains("damaged"),
            "{said}"
        );
    }
    fs::write(chunk, &whole).expect("writing the chunk");
    // What that restore began is begun anew; a member would have refused it.
    engramctl(&restore);
    fs::remove_file(chunk).expect("removing the chunk");
    let said = engramctl_fails(&verify);
    assert!(said.contains("it is not there"), "{said}");
}

#[test]
fn a_member_refuses_an_unfinished_restore() {
    let _turn = turn::take("unfinished");
    let mut server = Setup::engram().prepare();
    fs::create_dir_all(server.data_dir().join("restore.unfinished")).expect("a directory");
    let (_, said) = server.must_refuse();
    assert!(
        said.contains("a restore into this directory did not finish"),
        "{said}"
    );
}

#[test]
fn half_backups_are_never_listed_and_the_newest_is_never_pruned() {
    let _turn = turn::take("retention");
    let scene = Scene::new();
    for name in ["one", "two", "three"] {
        scene.create(name);
        // Ids are told apart by time, to the second, and by revision.
        scene.server.etcdctl(&["put", "between", name]);
    }
    let store = scene.store();
    let ids = || -> Vec<String> {
        let listed = engramctl_json(&["backup", "list", &store]);
        let listed = listed.as_array().expect("a list").clone();
        listed
            .iter()
            .map(|backup| backup["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids(), ["one", "two", "three"]);
    let endpoints = format!("--endpoints={}", scene.server.address());
    let create = ["backup", "create", &store, "--cluster=demo", "--name=two"];
    let again = [&[endpoints.as_str()][..], &create].concat();
    let taken = engramctl_fails(&again);
    assert!(taken.contains("there is a backup two already"), "{taken}");
    let there = engramctl_json(&[&again[..], &["--or-existing"]].concat());
    assert_eq!(there, engramctl_json(&["backup", "list", &store])[1]);
    let manifest = scene.directory.path().join("demo/two/MANIFEST");
    let whole = fs::read(&manifest).expect("the manifest");
    fs::write(&manifest, "{").expect("damaging the manifest");
    let unknown = engramctl_fails(&["backup", "verify", &store]);
    assert!(unknown.contains("may be the latest backup"), "{unknown}");
    fs::write(&manifest, whole).expect("mending the manifest");
    engramctl(&["backup", "verify", &store]);
    fs::remove_file(&manifest).expect("the manifest");
    assert_eq!(ids(), ["one", "three"]);
    let keep_last = [
        "backup",
        "prune",
        store.as_str(),
        "--cluster=demo",
        "--keep-last=1",
    ];
    let told = engramctl_json(&[&keep_last[..], &["--dry-run"]].concat());
    assert_eq!(told["removed"], serde_json::json!(["one"]));
    assert_eq!(ids(), ["one", "three"]);
    engramctl(&keep_last);
    assert_eq!(ids(), ["three"]);
    let by_age = [
        "backup",
        "prune",
        store.as_str(),
        "--cluster=demo",
        "--max-age=1ns",
        "--min-keep=0",
    ];
    engramctl(&by_age);
    assert_eq!(ids(), ["three"], "the newest stays");
    engramctl(&[
        "backup",
        "delete",
        &store,
        "--cluster=demo",
        "--backup=three",
    ]);
    assert_eq!(ids(), Vec::<String>::new());
    let none = engramctl_fails(&["backup", "verify", &store]);
    assert!(none.contains("there is no backup latest"), "{none}");
}

#[test]
fn a_cluster_that_is_made_again_neither_prunes_nor_restores_the_others_backups() {
    let _turn = turn::take("made again");
    let mut scene = Scene::new();
    let old = scene.create("old");
    scene.server.etcdctl(&["put", "later", "1"]);
    scene.create("older");
    scene.server.kill();
    fs::remove_dir_all(scene.server.data_dir()).expect("the data is gone");
    // The same flags, hence the same ids; only what it holds tells them apart.
    scene.server.start();
    scene.server.etcdctl(&["put", "another", "life"]);
    let new = scene.create("new");
    assert_eq!(old["clusterID"], new["clusterID"]);
    assert_ne!(old["incarnation"], new["incarnation"]);
    let store = scene.store();
    let data_dir = scene.directory.path().join("restored");
    let data_dir = format!("--data-dir={}", data_dir.display());
    let prune = ["backup", "prune", &store, "--cluster=demo", "--keep-last=1"];
    for arguments in [
        &["backup", "verify", &store][..],
        &["restore", &store, &data_dir],
        &prune,
    ] {
        let said = engramctl_fails(arguments);
        let mixed = said.contains("of several clusters of that name");
        assert!(mixed && said.contains("--cluster-id"), "{said}");
    }
    assert_eq!(scene.ids_sorted(), ["new", "old", "older"]);
    let whose = |backup: &serde_json::Value| {
        let part = |name: &str| backup[name].as_str().expect("a word").to_owned();
        format!("--cluster-id={}/{}", part("clusterID"), part("incarnation"))
    };
    engramctl(&[&prune[..], &[&whose(&new)]].concat());
    assert_eq!(scene.ids_sorted(), ["new", "old", "older"]);
    // It goes on as what it is, also where its revision has passed the other's.
    fill(&scene.server);
    for value in ["1", "2", "3"] {
        scene.server.etcdctl(&["put", "passing", value]);
    }
    let newer = scene.create("newer");
    assert!(newer["revision"].as_i64() > Some(scene.revision + 1));
    assert_eq!(newer["incarnation"], new["incarnation"]);
    engramctl(&[&prune[..], &[&whose(&new)]].concat());
    assert_eq!(scene.ids_sorted(), ["newer", "old", "older"]);
    let said = engramctl(&["restore", &store, &data_dir, &whose(&old)]);
    assert!(said.contains("demo/older"), "{said}");
}

#[test]
fn each_prunes_its_own_and_a_bad_backup_counts_for_nobody() {
    let _turn = turn::take("owners");
    let scene = Scene::new();
    scene.create("by-hand");
    for name in ["n1", "n2", "n3"] {
        scene.create_with(name, &["--owner=nightly"]);
        scene.server.etcdctl(&["put", "between", name]);
    }
    let store = scene.store();
    let chunk = scene.files("n3").into_iter();
    let chunk = chunk.filter(|path| path.extension().is_some_and(|name| name == "chunk"));
    fs::write(chunk.min().expect("a chunk"), "nonsense").expect("damaging it");
    let said = engramctl_fails(&["backup", "verify", &store]);
    assert!(said.contains("backup n3"), "{said}");
    let listed = engramctl_json(&["backup", "list", &store]);
    assert_eq!(listed[3]["verified"], false);
    let verified = engramctl_json(&["backup", "verify", &store]);
    assert_eq!(verified["id"], "n2", "the bad one is not the latest");
    let prune = ["backup", "prune", &store, "--cluster=demo", "--keep-last=1"];
    let told = engramctl_json(&[&prune[..], &["--owner=nightly"]].concat());
    assert_eq!(told["removed"], serde_json::json!(["n1"]));
    assert_eq!(told["kept"], serde_json::json!(["n2"]));
    assert_eq!(told["refuted"], serde_json::json!(["n3"]));
    engramctl(&prune);
    assert_eq!(scene.ids(), ["by-hand", "n2", "n3"]);
}

#[test]
fn many_writers_on_one_prefix_leave_whole_backups() {
    let _turn = turn::take("writers");
    let scene = Scene::new();
    let store = scene.store();
    let endpoints = format!("--endpoints={}", scene.server.address());
    let create = [&endpoints, "backup", "create", &store, "--cluster=demo"];
    let made = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    tools::run(
                        tools::command(&tools::engramctl()).args(create),
                        tools::TOOL_LIMIT,
                    )
                })
            })
            .collect();
        let ended = writers
            .into_iter()
            .map(|writer| writer.join().expect("it ends"));
        ended.collect::<Vec<_>>()
    });
    let good = made.iter().filter(|one| one.status.success()).count();
    for refused in made.iter().filter(|one| !one.status.success()) {
        assert!(refused.text().contains("already"), "{}", refused.text());
    }
    let ids = scene.ids();
    assert_eq!(ids.len(), good, "{ids:?}");
    for id in ids {
        engramctl(&["backup", "verify", &store, &format!("--backup={id}")]);
    }
}

#[test]
fn bad_inputs_say_what_to_do() {
    let _turn = turn::take("bad inputs");
    let nobody = format!("--endpoints=127.0.0.1:{}", ports::free());
    let directory = TempDir::new().expect("a temporary directory");
    let store = format!("--store=file://{}", directory.path().display());
    let cases: [(&[&str], &str); 6] = [
        (
            &["backup", "create", &store, "--cluster=demo"],
            "no endpoint answers",
        ),
        (&["backup", "create", &store, "--cluster=a/b"], "--cluster"),
        (&["backup", "create", &store], "--cluster is required"),
        (
            &["backup", "list", "--store=ftp://x"],
            "use s3://, gs://, az:// or file://",
        ),
        (
            &["backup", "list", "--store=file:///no/such/place"],
            "the directory must be there",
        ),
        (
            &["backup", "list", "--store=s3://bucket?color=red"],
            "option color is not known",
        ),
    ];
    for (arguments, wanted) in cases {
        let said = engramctl_fails(&[&[nobody.as_str()], arguments].concat());
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

/// Neither is the process torn down with a member's words, nor is what a scratch directory held left there.
#[test]
fn a_full_disk_ends_a_restore_with_advice_and_says_nothing_of_the_backup() {
    let _turn = turn::take("full disk");
    let scene = Scene::new();
    let mut random = engram_e2e::random::Random::new(7);
    client::runtime().block_on(async {
        let mut client = Client::connect(scene.server.address()).await;
        for number in 0..40 {
            let value = random.bytes(1 << 20);
            client
                .put(format!("large-{number}"), value)
                .await
                .expect("a put");
        }
    });
    scene.create("large");
    let store = scene.store();
    let mounted = TempDir::with_prefix("engram-full-").expect("a temporary directory");
    let small = SmallFileSystem::mount(mounted.path(), 24 << 20);
    let scratch = format!("--scratch-dir={}", small.path().display());
    let said = engramctl_fails(&["backup", "verify", &store, &scratch]);
    let is_told =
        |said: &str| said.contains("No space left on device") && said.contains("more room");
    assert!(is_told(&said), "{said}");
    let left = fs::read_dir(small.path()).expect("a directory").count();
    assert_eq!(left, 0, "the scratch directory is empty again");
    let into = format!("--data-dir={}/data", small.path().display());
    let said = engramctl_fails(&["restore", &store, &into]);
    assert!(is_told(&said), "{said}");
    let listed = engramctl_json(&["backup", "list", &store]);
    assert_eq!(listed[0]["verified"], serde_json::Value::Null, "{listed}");
    // With more room the same goes on.
    small.resize(400 << 20);
    engramctl(&["restore", &store, &into]);
    engramctl(&["backup", "verify", &store, &scratch]);
}

#[test]
fn one_backup_that_cannot_be_copied_keeps_no_other_back() {
    let _turn = turn::take("copy all");
    let scene = Scene::new();
    for name in ["first", "second", "third"] {
        scene.create(name);
    }
    let chunk = scene.files("first").into_iter();
    let mut chunk = chunk.filter(|path| path.extension().is_some_and(|end| end == "chunk"));
    fs::write(chunk.next().expect("a chunk"), "nonsense").expect("written");
    let other = TempDir::with_prefix("engram-other-").expect("a temporary directory");
    let to = format!("--to=file://{}", other.path().display());
    let said = engramctl_fails(&["backup", "copy", &scene.store(), "--all", &to]);
    assert!(
        said.contains("first") && said.contains("checksum"),
        "{said}"
    );
    let there = format!("--store=file://{}", other.path().display());
    let listed = engramctl_json(&["backup", "list", &there]);
    let ids = listed.as_array().expect("a list").iter();
    let ids: Vec<_> = ids.map(|one| one["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["second", "third"]);
    // Nor does one whose manifest cannot be read, and that is no success either.
    let files = scene.files("third").into_iter();
    let mut manifest = files.filter(|path| path.ends_with("MANIFEST"));
    fs::write(manifest.next().expect("a manifest"), "nonsense").expect("written");
    fs::remove_dir_all(other.path().join("demo/second")).expect("removed");
    let said = engramctl_fails(&["backup", "copy", &scene.store(), "--all", &to]);
    assert!(said.contains("first") && said.contains("third"), "{said}");
    assert!(other.path().join("demo/second/MANIFEST").exists());
}
