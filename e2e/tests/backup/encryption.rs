//! Backups and the log archive, encrypted: by their keys alone they are read, and nothing is begun without
//! them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engram_e2e::kind::wait_for;
use engram_e2e::server::Setup;
use engram_e2e::turn;
use tempfile::TempDir;

use crate::content::{
    engramctl, engramctl_fails, engramctl_json, fill, must_equal, restore_flags, restored,
};

/// How long the archive may take to hold what was written.
const ARCHIVED_LIMIT: Duration = Duration::from_secs(20);

/// A directory with a store in it and files with keys beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let directory = TempDir::with_prefix("engram-encrypted-").expect("a temporary directory");
        for name in ["store", "copies"] {
            std::fs::create_dir(directory.path().join(name)).expect("making a directory");
        }
        let keys = [
            ("old", "0123456789abcdef".repeat(4) + "\n"),
            ("new", "fedcba9876543210".repeat(4)),
            (
                "other",
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ=".into(),
            ),
        ];
        for (name, text) in keys {
            std::fs::write(directory.path().join(name), text).expect("writing a file");
        }
        Place(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn store(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// A command with the store and these keys.
    fn with(&self, arguments: &[&str], keys: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        all.push(format!("--store={}", self.store("store")));
        all.extend(
            keys.iter()
                .map(|key| self.key_flag("encryption-key-file", key)),
        );
        all
    }

    fn key_flag(&self, flag: &str, key: &str) -> String {
        format!("--{flag}={}", self.path(key).display())
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// How many objects below a directory hold these bytes.
fn objects_with(directory: &Path, wanted: &[u8]) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let found = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => objects_with(&path, wanted),
            false => {
                let bytes = std::fs::read(path).expect("an object");
                let mut parts = bytes.windows(wanted.len());
                usize::from(parts.any(|part| part == wanted))
            }
        }
    });
    found.sum()
}

fn objects(directory: &Path) -> usize {
    objects_with(directory, b"\n") + objects_with(directory, b"EGCR")
}

#[test]
fn an_encrypted_backup_is_restored_by_its_key_and_nothing_is_begun_without_it() {
    let _turn = turn::take("encryption");
    let (place, server) = (Place::new(), Setup::engram().start());
    let revision = fill(&server);
    let endpoints = format!("--endpoints={}", server.address());
    let create = |name: &str, keys: &[&str]| {
        let name = format!("--name={name}");
        let words = ["backup", "create", "--cluster=demo", &endpoints, &name];
        place.with(&words, keys)
    };
    let made = engramctl_json(&words(&create("one", &["old"])));
    let key = made["keyId"].as_str().expect("a key").to_owned();
    assert_eq!(
        objects_with(&place.path("store"), b"EGBK"),
        0,
        "no chunk is readable"
    );
    // Whoever has no key, or another one, is told which one is needed.
    let before = objects(&place.path("store"));
    let target = Setup::engram().prepare();
    let flags = restore_flags(&target);
    for keys in [&[][..], &["other"]] {
        let refused = |arguments: &[&str]| {
            let said = engramctl_fails(&words(&place.with(arguments, keys)));
            assert!(said.contains(&key), "{arguments:?} with {keys:?}: {said}");
            assert!(said.contains("--encryption-key-file"), "{said}");
        };
        refused(&[&["restore"], &words(&flags)[..]].concat());
        refused(&["backup", "verify"]);
        refused(&["backup", "prune", "--cluster=demo", "--keep-last=1"]);
        refused(&["backup", "show"]);
        let said = engramctl_fails(&words(&create("two", keys)));
        assert!(said.contains(&key), "{said}");
        let listed = engramctl(&words(&place.with(&["backup", "list"], keys)));
        assert_eq!(listed, "");
    }
    assert!(
        !target.data_dir().join("member").exists(),
        "nothing was restored"
    );
    assert_eq!(objects(&place.path("store")), before, "nothing was written");
    let no_key = engramctl_fails(&words(&place.with(&["backup", "list"], &["away"])));
    assert!(no_key.contains("encryption key file"), "{no_key}");
    // A newer key: it writes, and both are read.
    engramctl(&words(&create("two", &["new", "old"])));
    let both = ["new", "old"];
    let listed = engramctl_json(&words(&place.with(&["backup", "list"], &both)));
    let listed: Vec<&str> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["keyId"].as_str().expect("a key"))
        .collect();
    assert!(
        listed.len() == 2 && listed[0] == key && listed[1] != key,
        "{listed:?}"
    );
    for backup in ["--backup=one", "--backup=two"] {
        engramctl(&words(&place.with(&["backup", "verify", backup], &both)));
        let same = restored(|flags| {
            let arguments = [&["restore", backup], flags].concat();
            engramctl(&words(&place.with(&arguments, &both)));
        });
        must_equal(&server, &same, revision);
    }
    // What was read back is known to whoever lists with one of the keys.
    let refused = engramctl_fails(&words(&place.with(&["backup", "show"], &["new"])));
    assert!(
        refused.contains(&key),
        "the older one is locked to it: {refused}"
    );
    let keys = engramctl_json(&words(&place.with(&["backup", "keys"], &["new"])));
    assert_eq!(keys["missing"], serde_json::json!([key]), "{keys}");
    copied(&place, &both, &key);
    let prune = ["backup", "prune", "--cluster=demo", "--keep-last=1"];
    engramctl(&words(&place.with(&prune, &both)));
    // Nothing is left that the old key is needed for.
    let shown = engramctl_json(&words(&place.with(&["backup", "show"], &["new"])));
    assert_eq!(
        (&shown["id"], &shown["verified"]),
        (&"two".into(), &true.into())
    );
}

/// Copies are encrypted again with the keys of where they go.
fn copied(place: &Place, keys: &[&str], key: &str) {
    let to = format!("--to={}", place.store("copies"));
    let other = place.key_flag("to-encryption-key-file", "other");
    let copy = |more: &[&str]| {
        let arguments = [&["backup", "copy", "--all", &to], more].concat();
        engramctl(&words(&place.with(&arguments, keys)))
    };
    assert_eq!(copy(&[&other]).matches("copied to").count(), 2);
    assert_eq!(copy(&[&other]).matches("is there already").count(), 2);
    let store = format!("--store={}", place.store("copies"));
    let flag = place.key_flag("encryption-key-file", "other");
    let shown = engramctl_json(&["backup", "verify", &store, &flag, "--backup=one"]);
    assert_eq!(shown["verified"], true);
    let listed = engramctl(&["backup", "list", &store, &flag]);
    assert!(!listed.contains(key), "{listed}");
    std::fs::remove_dir_all(place.path("copies/demo")).expect("removed");
    assert_eq!(copy(&["--to-unencrypted"]).matches("copied to").count(), 2);
    // What is there and readable by anybody is no copy under a key.
    let arguments = ["backup", "copy", "--all", &to, &other];
    let refused = engramctl_fails(&words(&place.with(&arguments, keys)));
    assert!(refused.contains("not encrypted"), "{refused}");
    engramctl(&["backup", "verify", &store, "--backup=one"]);
}

#[test]
fn an_encrypted_archive_gives_back_a_revision_and_a_newer_key_goes_on_with_it() {
    let _turn = turn::take("encrypted archive");
    let place = Place::new();
    let keys = |names: &[&str]| {
        let paths = names
            .iter()
            .map(|name| place.path(name).display().to_string());
        let paths = paths.collect::<Vec<_>>().join(",");
        format!("--archive-encryption-key-files={paths}")
    };
    let setup = Setup::engram()
        .flag(format!("--archive-url={}", place.store("store")))
        .flag("--archive-cluster=demo")
        .flag("--archive-max-delay=200ms");
    let mut server = setup.flag(keys(&["old"])).start();
    let endpoints = format!("--endpoints={}", server.address());
    let put = |value: &str| engramctl(&[&endpoints, "put", "key", value]);
    put("one");
    let create = ["backup", "create", "--cluster=demo", &endpoints];
    engramctl(&words(&place.with(&create, &["old"])));
    put("two");
    let is_archived = |keys: &[&str], revision: i64| {
        let list = place.with(&["archive", "list"], keys);
        wait_for("the archive", ARCHIVED_LIMIT, || {
            let listed = engramctl_json(&words(&list));
            let end = listed[0]["toRevision"].as_i64().unwrap_or_default();
            (end >= revision).then_some(())
        });
    };
    is_archived(&["old"], 3);
    server.terminate();
    server.add_flag(keys(&["new", "old"]));
    server.start();
    put("three");
    is_archived(&["new", "old"], 4);
    engramctl(&words(&place.with(&["archive", "verify"], &["new", "old"])));
    for (revision, value) in [("3", "two"), ("4", "three")] {
        let same = restored(|flags| {
            let moment = format!("--to-revision={revision}");
            let arguments = [&["restore", "--cluster=demo", &moment], flags].concat();
            engramctl(&words(&place.with(&arguments, &["new", "old"])));
        });
        let endpoints = format!("--endpoints={}", same.address());
        let found = engramctl(&[&endpoints, "get", "key", "--print-value-only"]);
        assert_eq!(found.trim(), value);
    }
    let target = Setup::engram().prepare();
    let into = restore_flags(&target);
    let arguments = [
        &["restore", "--cluster=demo", "--to-end"],
        &words(&into)[..],
    ]
    .concat();
    let refused = engramctl_fails(&words(&place.with(&arguments, &["other"])));
    assert!(refused.contains("it is encrypted with key"), "{refused}");
    assert!(
        !target.data_dir().join("member").exists(),
        "nothing was restored"
    );
    // Once no backup needs the older key, the archive's segments do still; who prunes is told before anything goes.
    engramctl(&words(&place.with(&create, &["new", "old"])));
    let listed = engramctl_json(&words(&place.with(&["backup", "list"], &["new", "old"])));
    let first = format!("--backup={}", listed[0]["id"].as_str().expect("an id"));
    let old = listed[0]["keyId"].clone();
    let delete = ["backup", "delete", "--cluster=demo", &first];
    engramctl(&words(&place.with(&delete, &["new", "old"])));
    let keys = engramctl_json(&words(&place.with(&["backup", "keys"], &["new"])));
    assert_eq!(keys["missing"], serde_json::json!([old]), "{keys}");
    let prune = ["backup", "prune", "--cluster=demo", "--keep-last=1"];
    let refused = engramctl_fails(&words(&place.with(&prune, &["new"])));
    assert!(refused.contains("it is encrypted with key"), "{refused}");
}
