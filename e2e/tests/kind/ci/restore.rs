//! The cluster is deleted with all its volumes, and restored from the latest backup; an earlier one,
//! named, becomes a cluster of one; one of which a byte has changed is refused by name.

use engram_e2e::kind::{Declared, condition, wait_for};
use engram_proto::mvccpb::KeyValue;
use serde_json::{Value, json};

use super::backups::{self, BY_HAND};
use super::content;
use crate::lab::{LIMIT, READY_LIMIT};
use crate::s3::S3;
use crate::steps::step;

/// How far a restore moves the revision on, unless it is told otherwise.
const BUMP: i64 = 1_000_000_000;

/// What a cluster held when a backup of it was made.
pub struct Held {
    revision: i64,
    keys: Vec<KeyValue>,
}

impl Held {
    /// Reads it from the cluster that was backed up.
    pub fn at(demo: &Declared, backup: &Value) -> Held {
        let revision = backup["status"]["revision"].as_i64();
        let revision = revision.expect("a backup says its revision");
        let (keys, _) = content::everything(demo, revision).expect("the revision is there");
        Held { revision, keys }
    }

    /// A restored cluster has every key with value, lease, version, create and mod revision, at a
    /// revision that nobody has seen, and its members agree. Older revisions are compacted.
    pub fn must_be_in(&self, demo: &Declared) {
        let (keys, now) = content::everything(demo, 0).expect("a read");
        let revision = self.revision;
        assert_eq!(keys.len(), self.keys.len());
        assert!(
            keys == self.keys,
            "the keys are not those of revision {revision}"
        );
        assert!(now >= revision + BUMP, "revision {now} after {revision}");
        let old = content::everything(demo, revision).expect_err("the past is compacted");
        assert!(old.contains("has been compacted"), "{old}");
        let written = content::put(demo, "after-the-restore");
        assert!(written > now, "{written} after {now}");
        content::must_agree(demo, written);
    }
}

/// Tells the story. `named` is a backup on a volume.
pub fn tell(demo: &Declared, s3: &S3, named: &Value) {
    content::fill(demo);
    let (older, latest) = step("two backups in S3, verified", || {
        let older = backups::make(demo, "older", BY_HAND);
        content::put(demo, "after-the-older-one");
        (older, backups::make(demo, "latest", BY_HAND))
    });
    let (held, held_before) = (Held::at(demo, &latest), Held::at(demo, named));
    content::put(demo, "after-the-backup");
    step("the cluster is deleted", || demo.delete(READY_LIMIT));
    step("and restored from the latest backup", || {
        let latest = json!({
            "storeRef": { "name": BY_HAND }, "cluster": demo.name(), "backup": "latest",
        });
        restore(demo, "demo-back", "demo", 3, &latest);
        demo.ready(3, READY_LIMIT);
        completed(demo, "demo-back");
    });
    step("every key is as it was, and the members agree", || {
        content::must_have_the_lease(demo);
        held.must_be_in(demo);
    });
    step("a named backup, from the volume, into one member", || {
        let from = json!({ "backupRef": { "name": named["metadata"]["name"] } });
        restore(demo, "by-name", "single", 1, &from);
        let single = Declared::named(demo.kind(), demo.namespace(), "single");
        wait_for("the cluster is made", LIMIT, || single.object());
        single.ready(1, READY_LIMIT);
        held_before.must_be_in(&single);
        single.delete(LIMIT);
    });
    step("a corrupted backup is refused by name", || {
        corrupted(demo, s3, &older);
    });
}

/// Changes a byte of a backup's first chunk; a restore of it names backup and chunk.
fn corrupted(demo: &Declared, s3: &S3, backup: &Value) {
    let id = backup["status"]["backupID"].as_str();
    let id = id.expect("a backup says its ID");
    let chunks = s3.objects(BY_HAND, &format!("{id}/*/00000000.chunk"));
    let [chunk] = &chunks[..] else {
        panic!("one first chunk of {id}: {chunks:?}");
    };
    s3.damage(chunk);
    let from = json!({
        "storeRef": { "name": BY_HAND }, "cluster": demo.name(), "backup": id,
    });
    restore(demo, "from-damage", "damaged", 3, &from);
    let damaged = Declared::named(demo.kind(), demo.namespace(), "damaged");
    wait_for("the restore says what is wrong", LIMIT, || {
        let restore = object(demo, "from-damage")?;
        let said = condition(&restore, "Complete")?;
        assert_eq!(said.status, "False", "{said:?}");
        (said.message.contains(id) && said.message.contains("00000000.chunk")).then_some(())
    });
    assert_ne!(
        object(demo, "from-damage").expect("it is there")["status"]["phase"],
        "Completed"
    );
    let forget = [
        "-n",
        demo.namespace(),
        "delete",
        "engramrestore",
        "from-damage",
    ];
    demo.kind().must(&forget);
    damaged.delete(LIMIT);
}

fn restore(demo: &Declared, name: &str, target: &str, replicas: usize, source: &Value) {
    let spec = json!({
        "source": source,
        "target": {
            "name": target,
            "spec": { "replicas": replicas, "storage": { "size": "1Gi" } },
        },
    });
    let object = backups::object("EngramRestore", name, &spec);
    demo.kind().apply(demo.namespace(), &object.to_string());
}

fn object(demo: &Declared, name: &str) -> Option<Value> {
    demo.kind().get(demo.namespace(), &["engramrestore", name])
}

fn completed(demo: &Declared, name: &str) {
    wait_for("the restore is completed", LIMIT, || {
        let restore = object(demo, name)?;
        (restore["status"]["phase"] == "Completed").then_some(())
    });
}
