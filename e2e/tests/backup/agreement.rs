//! What is backed up is what the members agree on, and not what one of them has.

use std::fs;
use std::path::Path;

use engram_e2e::client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::turn;
use engram_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use engram_server::state::{Change, Values};
use engram_server::storage::{Engine, EngineOptions};
use engram_server::types::{Revision, RevisionPair};
use serde_json::Value;
use tempfile::TempDir;

use crate::content::{engramctl, engramctl_fails, engramctl_json};

const KEYS: i64 = 20;

/// Three members with the same keys, and a directory for their backups.
struct Scene {
    cluster: Cluster,
    directory: TempDir,
}

impl Scene {
    fn new() -> Scene {
        let cluster = Plan::of(3).start();
        for number in 1..=KEYS {
            cluster.etcdctl(&["put", &format!("key{number}"), "right"]);
        }
        Scene {
            cluster,
            directory: TempDir::with_prefix("engram-backups-").expect("a temporary directory"),
        }
    }

    fn store(&self) -> String {
        format!("--store=file://{}", self.directory.path().display())
    }

    /// The flags of a backup that is asked of one member.
    fn create_of(&self, place: usize, name: &str) -> Vec<String> {
        let endpoint = self.cluster.addresses()[place];
        vec![
            format!("--endpoints={endpoint}"),
            "backup".into(),
            "create".into(),
            self.store(),
            "--cluster=demo".into(),
            format!("--name={name}"),
        ]
    }

    fn create(&self, place: usize, name: &str) -> Value {
        let flags = self.create_of(place, name);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        engramctl_json(&flags)
    }

    /// What a backup's manifest says.
    fn manifest(&self, name: &str) -> Value {
        let path = self
            .directory
            .path()
            .join("demo")
            .join(name)
            .join("MANIFEST");
        let text = fs::read_to_string(path).expect("a manifest");
        let line = text.lines().next().expect("its first line");
        serde_json::from_str(line).expect("JSON")
    }

    fn id(&self, place: usize) -> String {
        format!("{:x}", self.cluster.member_id(place))
    }
}

#[test]
fn a_member_with_other_data_is_not_backed_up() {
    let _turn = turn::take("agreement");
    let mut scene = Scene::new();
    let sound = scene.create(0, "sound");
    assert_eq!(sound["agreed"], true);
    assert_eq!(scene.manifest("sound")["voters"], 3);
    let leader = scene.cluster.wait_for_leader(LEADER_LIMIT).place;
    let (bad, good) = ((leader + 1) % 3, (leader + 2) % 3);
    scene.cluster.wait_for_revision(bad, KEYS + 1, LEADER_LIMIT);
    scene.cluster.terminate(bad);
    damage(&scene.cluster.server(bad).data_dir().join("store"));
    scene.cluster.restart(bad);
    // It answers, serves, and no alarm names it.
    let made = scene.create(bad, "asked-of-the-bad-one");
    assert_eq!(
        (&made["agreed"], &made["hashKV"]),
        (&true.into(), &sound["hashKV"])
    );
    let manifest = scene.manifest("asked-of-the-bad-one");
    let members = manifest["hashMembers"].as_array().expect("members");
    assert_eq!(members.len(), 2);
    assert!(!members.contains(&scene.id(bad).into()), "{manifest}");
    engramctl(&["backup", "verify", &scene.store()]);
    // Of two that differ nobody knows which is right.
    scene.cluster.kill(leader);
    scene
        .cluster
        .wait_for_leader_among(&[bad, good], LEADER_LIMIT);
    let flags = scene.create_of(good, "of-two");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = engramctl_fails(&flags);
    assert!(said.contains("hold different data"), "{said}");
    assert!(said.contains("endpoint hashkv --cluster"), "{said}");
    let listed = engramctl_json(&["backup", "list", &scene.store()]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
}

/// As a periodic compaction leaves a cluster to which nobody writes.
#[test]
fn members_that_are_compacted_to_their_last_revision_are_backed_up() {
    let _turn = turn::take("compacted to the end");
    let scene = Scene::new();
    let last = scene.cluster.must_hold_the_same();
    scene.cluster.etcdctl(&["compact", &last.to_string()]);
    let made = scene.create(0, "at-the-end");
    assert_eq!(made["agreed"], true);
    assert_eq!(made["revision"].as_i64(), Some(last));
    assert_eq!(made["compactRevision"].as_i64(), Some(last));
    engramctl(&["backup", "verify", &scene.store()]);
    // The hash is that of what is there, not of what was before the compaction.
    scene.cluster.etcdctl(&["put", "later", "x"]);
    assert_ne!(scene.create(1, "later")["hashKV"], made["hashKV"]);
}

#[test]
fn a_member_with_an_alarm_is_passed_over() {
    let _turn = turn::take("alarmed");
    let scene = Scene::new();
    let leader = scene.cluster.wait_for_leader(LEADER_LIMIT).place;
    let alarmed = (leader + 1) % 3;
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: scene.cluster.member_id(alarmed),
        alarm: AlarmType::Corrupt.into(),
    };
    let address = scene.cluster.addresses()[leader];
    scene.cluster.runtime().block_on(async {
        let mut client = client::Client::connect(address).await;
        client.maintenance.alarm(alarm).await.expect("an alarm");
    });
    let made = scene.create(alarmed, "one");
    assert_eq!(made["agreed"], true);
    assert_ne!(scene.manifest("one")["memberId"], scene.id(alarmed));
    // Two of three are a majority still, be the third away.
    let mut scene = scene;
    scene.cluster.kill(alarmed);
    let made = scene.create(leader, "two");
    assert_eq!(made["agreed"], true);
}

/// Changes one byte of a value, with every checksum right.
fn damage(store: &Path) {
    let engine = Engine::open(store, EngineOptions::default()).expect("a store at rest opens");
    let pair = RevisionPair {
        main: Revision(8),
        sub: 0,
    };
    let mut record = engine.get(pair).expect("the seventh key's revision");
    let mut encoded = record.encoded.to_vec();
    let right = encoded.windows(5).position(|bytes| bytes == b"right");
    encoded[right.expect("its value")] = b'w';
    record.encoded = encoded.into();
    engine.write_unlogged(&[Change::PutRevision(record)]);
    engine.flush();
}
