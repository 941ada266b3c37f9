//! Backups by the clock and by hand, in S3 and on a volume.

use std::sync::Arc;

use engram_e2e::kind::{Declared, Kind, condition, wait_for};
use serde_json::{Value, json};

use crate::lab::{LIMIT, READY_LIMIT};
use crate::s3::{BUCKET, S3, SECRET};

/// The namespace of the quick start.
const NAMESPACE: &str = "default";
/// The Secret of the S3 server's authority.
const AUTHORITY: &str = "s3-authority";
/// The store of the schedule, over TLS.
const BY_CLOCK: &str = "nightly";
/// A store in the same bucket, for backups by hand.
pub const BY_HAND: &str = "bucket";
/// A store on a volume.
pub const ON_A_VOLUME: &str = "volume";

/// Starts the S3 server, and declares stores and a schedule: its backups are made while other
/// things go on.
pub fn begin(kind: &Arc<Kind>) -> S3 {
    let s3 = S3::start(kind);
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "backups" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    let objects = [
        S3::credentials("s3", SECRET),
        S3::store(BY_HAND, BUCKET, "s3"),
        s3.authority(AUTHORITY),
        S3::store_over_tls(BY_CLOCK, BUCKET, "s3", AUTHORITY),
        claim,
        object(
            "EngramBackupStore",
            ON_A_VOLUME,
            &json!({ "pvc": { "claimName": "backups" } }),
        ),
        object(
            "EngramBackupSchedule",
            BY_CLOCK,
            &json!({
                "clusterRef": { "name": "demo" }, "storeRef": { "name": BY_CLOCK },
                "schedule": "* * * * *", "immediate": true, "verify": true,
                "retention": { "keepLast": 1 },
            }),
        ),
    ];
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    kind.apply(NAMESPACE, &list.to_string());
    s3
}

/// A schedule makes its first backup at once, where that is asked for; returns its name.
pub fn immediate(kind: &Kind) -> String {
    by_the_clock(kind, |_| true)
}

/// The schedule has made backups after its `first` as well; of all that it made, one is left in the
/// store.
pub fn schedule(demo: &Declared, s3: &S3, first: &str) {
    let kind = demo.kind();
    by_the_clock(kind, |name| name != first);
    let suspend = ["-n", NAMESPACE, "patch", "engrambackupschedule", BY_CLOCK];
    let patch = ["--type=merge", "-p", r#"{"spec":{"suspend":true}}"#];
    kind.must(&[&suspend[..], &patch].concat());
    wait_for("what is made is made", LIMIT, || {
        let schedule = kind.get(NAMESPACE, &["engrambackupschedule", BY_CLOCK])?;
        let rests = schedule["status"]["active"]
            .as_array()
            .is_none_or(Vec::is_empty);
        let suspended = condition(&schedule, "Ready")?.reason == "Suspended";
        let pruned = condition(&schedule, "Pruned")?;
        assert_eq!(pruned.status, "True", "{pruned:?}");
        (rests && suspended).then_some(())
    });
    wait_for("one backup is left in the store", LIMIT, || {
        (s3.objects(BY_CLOCK, "/MANIFEST").len() == 1).then_some(())
    });
}

/// Makes a backup whose copy in the store goes with the object, and deletes it.
pub fn deleted(demo: &Declared, s3: &S3) {
    let kind = demo.kind();
    let (name, policy) = ("short-lived", json!({ "deletionPolicy": "Delete" }));
    let before = s3.objects(BY_HAND, "").len();
    make_with(demo, name, BY_HAND, &policy);
    assert!(s3.objects(BY_HAND, "").len() > before, "it is in the store");
    kind.must(&[
        "-n",
        NAMESPACE,
        "delete",
        "engrambackup",
        name,
        "--timeout=120s",
    ]);
    let left = s3.objects(BY_HAND, "/MANIFEST").len() + s3.objects(BY_HAND, ".chunk").len();
    assert_eq!(left, 0, "its copy goes before it does");
}

/// Makes a backup that is verified, and returns its object.
pub fn make(demo: &Declared, name: &str, store: &str) -> Value {
    make_with(demo, name, store, &json!({}))
}

fn make_with(demo: &Declared, name: &str, store: &str, more: &Value) -> Value {
    let kind = demo.kind();
    let mut spec = json!({
        "clusterRef": { "name": demo.name() }, "storeRef": { "name": store }, "verify": true,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    kind.apply(NAMESPACE, &object("EngramBackup", name, &spec).to_string());
    let backup = wait_for(&format!("backup {name} is over"), READY_LIMIT, || {
        let backup = kind.get(NAMESPACE, &["engrambackup", name])?;
        let phase = backup["status"]["phase"].as_str()?;
        ["Completed", "Failed"].contains(&phase).then_some(backup)
    });
    assert_eq!(backup["status"]["phase"], "Completed", "{backup:#}");
    let verified = condition(&backup, "Verified").expect("it says whether it is verified");
    assert_eq!(verified.status, "True", "{verified:?}");
    assert!(
        backup["status"]["sizeBytes"].as_i64() > Some(0),
        "{backup:#}"
    );
    backup
}

/// An object of the group.
pub fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name }, "spec": spec,
    })
}

/// Waits for a backup of the schedule, with such a name, that was read back and compared; returns the
/// name.
fn by_the_clock(kind: &Kind, is_meant: impl Fn(&str) -> bool) -> String {
    let label = format!("engram.dev/schedule={BY_CLOCK}");
    let backup = wait_for("a backup of the schedule", READY_LIMIT, || {
        let list = kind.get(NAMESPACE, &["engrambackups", "-l", &label])?;
        let mut all = list["items"].as_array()?.iter();
        let found = all.find(|backup| {
            let name = backup["metadata"]["name"].as_str().unwrap_or_default();
            is_meant(name) && backup["status"]["phase"] == "Completed"
        });
        found.cloned()
    });
    let verified = condition(&backup, "Verified").expect("it says whether it is verified");
    assert_eq!(verified.status, "True", "{backup:#}");
    let name = backup["metadata"]["name"].as_str();
    name.expect("an object has a name").to_owned()
}
