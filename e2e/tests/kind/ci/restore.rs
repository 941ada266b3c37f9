//! The cluster is deleted with all its volumes, and restored from the latest backup. An older
//! backup, of which one byte has changed, is refused by name.

use engram_e2e::kind::{Declared, condition, wait_for};
use serde_json::{Value, json};

use super::backups::{self, BY_HAND};
use super::content;
use crate::lab::{LIMIT, READY_LIMIT};
use crate::s3::S3;
use crate::steps::step;

/// How far a restore moves the revision on, unless it is told otherwise.
const BUMP: i64 = 1_000_000_000;

/// Tells the story.
pub fn tell(demo: &Declared, s3: &S3) {
    content::fill(demo);
    let (older, latest) = step("two backups in S3, verified", || {
        let older = backups::make(demo, "older", BY_HAND);
        content::put(demo, "after-the-older-one");
        (older, backups::make(demo, "latest", BY_HAND))
    });
    let revision = latest["status"]["revision"].as_i64();
    let revision = revision.expect("a backup says its revision");
    let before = content::everything(demo, revision).expect("the revision is there");
    content::put(demo, "after-the-backup");
    step("the cluster is deleted", || demo.delete(READY_LIMIT));
    step("and restored from the latest backup", || {
        restore(demo, "demo-back", "demo", "latest");
        demo.ready(3, READY_LIMIT);
        completed(demo, "demo-back");
    });
    step("every key is as it was, and the members agree", || {
        let (keys, now) = content::everything(demo, 0).expect("a read");
        assert_eq!(keys.len(), before.0.len());
        assert!(
            keys == before.0,
            "the keys differ from those of revision {revision}"
        );
        assert!(now >= revision + BUMP, "revision {now} after {revision}");
        content::must_have_the_lease(demo);
        let old = content::everything(demo, revision).expect_err("the past is compacted");
        assert!(old.contains("has been compacted"), "{old}");
        let written = content::put(demo, "after-the-restore");
        assert!(written > now, "{written} after {now}");
        content::must_agree(demo, written);
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
    restore(demo, "from-damage", "damaged", id);
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

fn restore(demo: &Declared, name: &str, target: &str, backup: &str) {
    let spec = json!({
        "source": { "storeRef": { "name": BY_HAND }, "cluster": demo.name(), "backup": backup },
        "target": { "name": target, "spec": { "replicas": 3, "storage": { "size": "1Gi" } } },
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
