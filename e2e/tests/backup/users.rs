//! Backups of a cluster with authentication: who takes one says who they are, and users travel in it.

use engram_e2e::cluster::{LEADER_LIMIT, Plan};
use engram_e2e::users::{PASSWORD, make_users};
use engram_e2e::{tools, turn};
use serde_json::Value;
use tempfile::TempDir;

use crate::content::{engramctl, engramctl_fails, restored};

#[test]
fn a_backup_is_taken_as_root_and_its_users_are_restored() {
    let _turn = turn::take("a backup with users");
    let cluster = Plan::of(3).flag("--bcrypt-cost=4").start();
    cluster.wait_for_leader(LEADER_LIMIT);
    let address = cluster.addresses()[0];
    cluster.runtime().block_on(make_users(address, &["alice"]));
    let directory = TempDir::with_prefix("engram-backups-").expect("a temporary directory");
    let store = format!("--store=file://{}", directory.path().display());
    let endpoint = format!("--endpoints={address}");
    let named = |name: &str| format!("--name={name}");
    let create = |name: &str| {
        let line = [&endpoint, "backup", "create", &store, "--cluster=demo"];
        let line = line.map(str::to_owned).to_vec();
        [line, vec![named(name), "-w".to_owned(), "json".to_owned()]].concat()
    };
    let line = create("nobody");
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    assert!(engramctl_fails(&line).contains("user name is empty"));
    let user = format!("--user=alice:{PASSWORD}alice");
    let said = engramctl_fails(&[&[user.as_str()], &line[..]].concat());
    assert!(said.contains("permission denied"), "{said}");
    // As a pod is told: the password out of a Secret, in a variable.
    let mut taking = tools::command(&tools::engramctl());
    taking.args(create("root"));
    taking.env("ETCDCTL_USER", "root");
    taking.env("ETCDCTL_PASSWORD", format!("{PASSWORD}root"));
    let taken: Value =
        serde_json::from_str(&tools::must_succeed(&mut taking)).expect("a backup, as JSON");
    // The others were asked as root too.
    assert_eq!(taken["agreed"].as_bool(), Some(true), "{taken}");
    engramctl(&["backup", "verify", &store]);

    let server = restored(|flags| {
        engramctl(&[&["restore", &store], flags].concat());
    });
    let as_user = |user: &str| {
        let mut command = server.etcdctl_command();
        command.arg(format!("--user={user}:{PASSWORD}{user}"));
        command
    };
    let mut hash = as_user("root");
    let hash = tools::must_succeed(hash.args(["endpoint", "hashkv", "-w", "json"]));
    let hash: Value = serde_json::from_str(&hash).expect("JSON");
    assert_eq!(hash[0]["HashKV"]["hash"], taken["hashKV"]);
    let mut put = as_user("alice");
    assert_eq!(
        tools::must_succeed(put.args(["put", "alice/1", "x"])),
        "OK\n"
    );
    let mut put = as_user("alice");
    let refused = tools::run(put.args(["put", "bob", "x"]), tools::TOOL_LIMIT).text();
    assert!(refused.contains("permission denied"), "{refused}");
    let refused = server.try_etcdctl(&["get", "alice/1"]).text();
    assert!(refused.contains("user name is empty"), "{refused}");
}
