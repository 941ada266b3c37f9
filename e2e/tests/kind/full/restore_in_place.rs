//! A cluster is restored in place while the operator is killed again and again: it keeps its name, Services
//! and certificates. Undone, it has what it had, and so it has where it is given up half-way; done again and accepted, it
//! has what the backup has.

use std::collections::BTreeSet;

use engram_e2e::kind::{Declared, wait_for};
use serde_json::{Value, json};

use super::operator_killed::Killer;
use crate::ci::backups::object;
use crate::ci::content;
use crate::ci::restore::Held;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "inplace";
/// The store and its claim.
const STORE: &str = "volume";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({}));
    content::fill(&demo);
    let held = step("a backup on a volume", || Held::at(&demo, &backup(&demo)));
    let later = step("more is written, and the cluster's status tells", || {
        write(&demo)
    });
    let (services, volumes) = (
        uids(&demo, "services"),
        uids(&demo, "persistentvolumeclaims"),
    );
    step(
        "a dry run says what would be done, and does nothing",
        || {
            restore(&demo, "once", true);
            let planned = phase(&demo, "once", "Planned");
            assert!(
                planned["status"]["loss"].to_string().contains("at least"),
                "{planned:#}"
            );
            assert_eq!(volumes, uids(&demo, "persistentvolumeclaims"));
            content::must_agree(&demo, later);
        },
    );
    let killer = Killer::start(lab.kind());
    step("confirmed, it is done while operators are killed", || {
        confirm(&demo, "once");
        phase(&demo, "once", "Completed");
        demo.ready(3, READY_LIMIT);
    });
    println!("          operators killed {} times", killer.stop());
    step("it has what the backup has, under its own name", || {
        assert_eq!(services, uids(&demo, "services"));
        held.must_be_in(&demo);
        assert!(
            volumes.is_subset(&uids(&demo, "persistentvolumeclaims")),
            "they are kept"
        );
    });
    step("undone, it has what it had", || {
        change(&demo, "once", &json!({ "decision": "Undo" }));
        phase(&demo, "once", "Undone");
        demo.ready(3, READY_LIMIT);
        is_as_it_was(&demo, &volumes, later);
    });
    step("given up half-way, it has what it had", || {
        restore(&demo, "half", true);
        phase(&demo, "half", "Planned");
        confirm(&demo, "half");
        wait_for("the old members are set aside", READY_LIMIT, || {
            let object = demo.object()?;
            (!object["status"]["restoring"].is_null()).then_some(())
        });
        let killer = Killer::start(lab.kind());
        change(&demo, "half", &json!({ "decision": "Undo" }));
        phase(&demo, "half", "Undone");
        demo.ready(3, READY_LIMIT);
        println!("          operators killed {} times", killer.stop());
        is_as_it_was(&demo, &volumes, later);
    });
    step("done again, and accepted", || {
        restore(&demo, "again", true);
        phase(&demo, "again", "Planned");
        confirm(&demo, "again");
        phase(&demo, "again", "Completed");
        demo.ready(3, READY_LIMIT);
        held.must_be_in(&demo);
        change(&demo, "again", &json!({ "decision": "Accept" }));
        wait_for("the old volumes go", READY_LIMIT, || {
            let now = uids(&demo, "persistentvolumeclaims");
            (now.len() == volumes.len()).then_some(())
        });
        phase(&demo, "again", "Completed");
    });
    lab.clear(NAMESPACE);
}

/// It has what came after the backup, up to `later`, and no volumes but these.
fn is_as_it_was(demo: &Declared, volumes: &BTreeSet<String>, later: i64) {
    // Beside the store's own volume nothing is left of the other members.
    assert_eq!(*volumes, uids(demo, "persistentvolumeclaims"));
    let (keys, now) = content::everything(demo, 0).expect("a read");
    assert!(
        keys.iter()
            .any(|one| one.key.starts_with(b"after-the-backup"))
    );
    assert_eq!(now, later);
    content::must_agree(demo, now);
}

/// Writes what the backup does not have; the last revision.
fn write(demo: &Declared) -> i64 {
    let mut later = 0;
    for number in 0..20 {
        later = content::put(demo, &format!("after-the-backup/{number}"));
    }
    // It lags by a hundredth.
    wait_for("the cluster's status tells", READY_LIMIT, || {
        let object = demo.object()?;
        let known = object["status"]["revision"].as_i64()?;
        (known > later - 10).then_some(())
    });
    later
}

fn backup(demo: &Declared) -> Value {
    let store = json!({ "pvc": { "claimName": "backups" } });
    let store = object("EngramBackupStore", STORE, &store);
    taken(demo, STORE, &[claim("backups"), store])
}

/// A claim that backups may be kept on.
pub(super) fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        },
    })
}

/// A backup called `before` in a store that is made with it.
pub(super) fn taken(demo: &Declared, store: &str, with: &[Value]) -> Value {
    taken_as(demo, "before", store, with)
}

/// The same under another name.
pub(super) fn taken_as(demo: &Declared, name: &str, store: &str, with: &[Value]) -> Value {
    let backup = json!({ "clusterRef": { "name": demo.name() }, "storeRef": { "name": store } });
    let backup = object("EngramBackup", name, &backup);
    let items: Vec<&Value> = with.iter().chain([&backup]).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    demo.kind().apply(demo.namespace(), &list.to_string());
    wait_for("a backup", READY_LIMIT, || {
        let backup = demo.kind().get(demo.namespace(), &["engrambackup", name])?;
        (backup["status"]["phase"] == "Completed").then_some(backup)
    })
}

fn restore(demo: &Declared, name: &str, dry: bool) {
    let spec = json!({
        "kind": "InPlace", "source": { "backupRef": { "name": "before" } },
        "target": { "name": demo.name() }, "dryRun": dry,
    });
    let restore = object("EngramRestore", name, &spec);
    demo.kind().apply(demo.namespace(), &restore.to_string());
}

pub(super) fn confirm(demo: &Declared, name: &str) {
    let planned = get(demo, name).expect("it is there");
    let hash = &planned["status"]["planHash"];
    change(demo, name, &json!({ "dryRun": false, "confirm": hash }));
}

pub(super) fn change(demo: &Declared, name: &str, spec: &Value) {
    let patch = json!({ "spec": spec }).to_string();
    let command = ["-n", demo.namespace(), "patch", "engramrestore", name];
    let rest = ["--type=merge", "-p", &patch];
    demo.kind().must(&[&command[..], &rest].concat());
}

fn get(demo: &Declared, name: &str) -> Option<Value> {
    demo.kind().get(demo.namespace(), &["engramrestore", name])
}

pub(super) fn phase(demo: &Declared, name: &str, phase: &str) -> Value {
    wait_for(&format!("restore {name} is {phase}"), READY_LIMIT, || {
        let restore = get(demo, name)?;
        (restore["status"]["phase"] == phase).then_some(restore)
    })
}

pub(super) fn uids(demo: &Declared, what: &str) -> BTreeSet<String> {
    let list = demo.kind().get(demo.namespace(), &[what]).expect("a list");
    let items = list["items"].as_array().into_iter().flatten();
    items
        .map(|one| one["metadata"]["uid"].to_string())
        .collect()
}
