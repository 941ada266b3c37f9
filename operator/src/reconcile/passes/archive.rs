//! A schedule has its cluster's log archive read back after each backup, pass by pass.

use std::sync::Arc;

use serde_json::{Value, json};

use super::in_place::STORE;
use super::{CLUSTER, CORE, Lab};
use crate::api::EngramBackupSchedule;
use crate::reconcile::schedule;

const GROUP: &str = "/apis/engram.dev/v1alpha1/namespaces/data";

/// A cluster that archives to the store of a schedule.
struct Story(Lab);

impl Story {
    fn new(archives_to: &str) -> Self {
        // Pods here were made long ago, and nobody runs them.
        let patient = json!({ "stuckAfter": "99999h", "unhealthyAfter": "99999h" });
        let lab = Lab::new(
            json!({ "archive": { "storeRef": { "name": archives_to } }, "healing": patient }),
        );
        let store = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "backups" } },
        });
        lab.server.put(STORE, store);
        let schedule = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupSchedule",
            "spec": {
                "clusterRef": { "name": "demo" }, "storeRef": { "name": "s3" },
                "schedule": "0 3 * * *", "verify": true, "suspend": true,
            },
        });
        lab.server.put(&Self::path(), schedule);
        assert!(lab.server.object(CLUSTER).is_some());
        (1..=3).for_each(|number| lab.member(number));
        Self(lab)
    }

    fn path() -> String {
        format!("{GROUP}/engrambackupschedules/nightly")
    }

    fn made(&self, number: u32) {
        let backup = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
            "metadata": { "labels": {
                "engram.dev/schedule": "nightly", "engram.dev/cluster": "demo",
            } },
            "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s3" } },
            "status": {
                "phase": "Completed", "completedAt": format!("2026-01-0{number}T03:00:00Z"),
                "backupID": format!("nightly-20260101030{number}"), "clusterID": "7", "incarnation": "0",
                "revision": 3 + number, "restorableToRevision": 3 + number,
            },
        });
        let path = format!("{GROUP}/engrambackups/nightly-20260101030{number}");
        self.0.server.put(&path, backup);
    }

    /// One pass.
    async fn pass(&self) {
        let seen: EngramBackupSchedule =
            serde_json::from_value(self.0.server.object(&Self::path()).unwrap()).unwrap();
        let pass = schedule::reconcile(Arc::new(seen), self.0.context.clone());
        Box::pin(pass).await.unwrap();
    }

    fn pods(&self) -> Vec<String> {
        self.0.server.paths(&format!("{CORE}/pods/nightly-"))
    }

    /// It runs, for as long as nothing else is said of it: who has not begun for months has failed.
    fn runs(&self, pod: &str) {
        let path = format!("{CORE}/pods/{pod}");
        let mut pod = self.0.server.object(&path).unwrap();
        pod["status"] = json!({ "phase": "Running" });
        self.0.server.put(&path, pod);
    }

    fn fails(&self, pod: &str, said: &str) {
        let path = format!("{CORE}/pods/{pod}");
        let mut pod = self.0.server.object(&path).unwrap();
        pod["status"] = json!({ "phase": "Failed", "containerStatuses": [{
            "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 1, "message": said } },
        }] });
        self.0.server.put(&path, pod);
    }

    fn status(&self) -> Value {
        self.0.server.object(&Self::path()).unwrap()["status"].clone()
    }

    fn verified(&self) -> (String, String, String) {
        let status = self.status();
        let conditions = status["conditions"].as_array().unwrap().clone();
        let found = conditions
            .iter()
            .find(|one| one["type"] == "ArchiveVerified");
        let text = |key: &str| found.unwrap()[key].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// What is measured, after passes of the cluster: the first one says no more than whose it is.
    async fn measured(&self, name: &str) -> Option<String> {
        for _ in 0..2 {
            self.0.context.look_again();
            self.0.pass().await.unwrap();
        }
        let text = self.0.context.metrics.text();
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next().map(str::to_owned)
    }
}

#[tokio::test]
async fn an_archive_is_read_back_after_each_backup_and_damage_is_told() {
    let story = Story::new("s3");
    story.pass().await;
    assert_eq!(story.pods().len(), 0, "there is no backup as yet");
    story.made(1);
    story.pass().await;
    let path = format!("{CORE}/pods/nightly-202601010301-archive");
    let pod = story.0.server.object(&path).unwrap()["spec"].to_string();
    for word in ["archive", "verify", "--cluster=demo", "--cluster-id=7"] {
        assert!(pod.contains(word), "{word} in {pod}");
    }
    let chain = json!([
        { "clusterID": "7", "incarnation": "0", "fromRevision": 4, "toRevision": 90,
          "toTime": "2026-01-01T03:01:00Z", "segments": 3, "verified": true },
        { "clusterID": "7", "incarnation": "1", "fromRevision": 4, "toRevision": 95, "segments": 1 },
        { "clusterID": "7", "incarnation": "0", "fromRevision": 91, "toRevision": 99, "segments": 1 },
    ]);
    story.0.says("nightly-202601010301-archive", &chain);
    story.pass().await;
    let backup = format!("{GROUP}/engrambackups/nightly-202601010301");
    let told = story.0.server.object(&backup).unwrap()["status"].take();
    assert_eq!(
        told["restorableToRevision"], 90,
        "its own history, and no gap"
    );
    assert_eq!(told["restorableTo"], "2026-01-01T03:01:00Z");
    let (status, reason, message) = story.verified();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Succeeded"));
    assert!(
        message.contains("revisions 4 to 90 in 3 segments"),
        "{message}"
    );
    assert_eq!(story.status()["archive"]["toRevision"], 99);
    assert_eq!(
        story.measured("engram_archive_damaged").await.as_deref(),
        Some("0")
    );
    assert!(
        story
            .measured("engram_archive_last_verified")
            .await
            .is_some()
    );
    story.pass().await;
    assert_eq!(story.pods().len(), 0, "once a backup");
    story.made(2);
    story.pass().await;
    let said = "Error: segment 7/0/000/2.segment is missing: nothing behind it can be restored until a later full backup";
    story.fails("nightly-202601010302-archive", said);
    story.pass().await;
    let (status, reason, message) = story.verified();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "VerificationFailed")
    );
    assert!(message.contains("2.segment is missing"), "{message}");
    assert_eq!(
        story.measured("engram_archive_damaged").await.as_deref(),
        Some("1")
    );
    assert_eq!(story.status()["archive"]["after"], "nightly-202601010302");
    let told = story.0.server.notes("ArchiveVerificationFailed");
    assert_eq!(told.len(), 1);
    for _ in 0..2 {
        story.pass().await;
    }
    assert_eq!(
        story.pods().len(),
        0,
        "it is not tried again before the next backup"
    );
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_asked_again_later_and_says_nothing_of_the_archive() {
    let story = Story::new("s3");
    story.made(1);
    story.pass().await;
    // Completed just now: there is time for it.
    let path = format!("{GROUP}/engrambackups/nightly-202601010301");
    let mut backup = story.0.server.object(&path).unwrap();
    backup["status"]["completedAt"] = json!(k8s_openapi::jiff::Timestamp::now().to_string());
    story.0.server.put(&path, backup);
    story.fails(
        "nightly-202601010301-archive",
        "Error: the store failed: connection refused",
    );
    story.pass().await;
    assert_eq!(story.verified().1, "Retrying");
    assert_eq!(story.measured("engram_archive_damaged").await, None);
    assert_eq!(story.status()["archive"]["attempts"], 1);
    story.pass().await;
    assert_eq!(story.pods().len(), 0, "it is not its time yet");
}

#[tokio::test]
async fn an_archive_in_another_store_is_not_this_schedules() {
    let story = Story::new("elsewhere");
    story.made(1);
    story.pass().await;
    assert_eq!(story.pods().len(), 0);
}

const DAMAGE: &str = "Error: segment 7/0/000/2.segment is missing: nothing behind it can be restored until a later full backup";

#[tokio::test]
async fn a_reading_that_outlasts_the_interval_comes_to_its_end_before_the_next_one_begins() {
    let story = Story::new("s3");
    story.made(1);
    story.pass().await;
    let first = format!("{CORE}/pods/nightly-202601010301-archive");
    assert_eq!(story.pods(), [first.as_str()]);
    assert_eq!(
        story.status()["archive"]["runningAfter"],
        "nightly-202601010301"
    );
    story.runs("nightly-202601010301-archive");
    // There is a newer success, and the object of the first one is trimmed.
    story.made(2);
    let backup = format!("{GROUP}/engrambackups/nightly-202601010301");
    story.0.server.remove(&backup).unwrap();
    for _ in 0..2 {
        story.pass().await;
    }
    assert_eq!(story.pods(), [first]);
    story.fails("nightly-202601010301-archive", DAMAGE);
    story.pass().await;
    assert_eq!(story.verified().1, "VerificationFailed");
    assert_eq!(story.status()["archive"]["after"], "nightly-202601010301");
    assert_eq!(story.pods().len(), 0, "it is cleared");
    let damaged = story.measured("engram_archive_damaged").await;
    assert_eq!(damaged.as_deref(), Some("1"));
    story.pass().await;
    assert_eq!(
        story.pods(),
        [format!("{CORE}/pods/nightly-202601010302-archive")]
    );
    // An operator that was started anew knows of the damage while the next one runs.
    let again = Story(Lab::on(story.0.server.clone()));
    let damaged = again.measured("engram_archive_damaged").await;
    assert_eq!(damaged.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_prune_that_outlasts_the_interval_comes_to_its_end_before_the_next_one_begins() {
    let story = Story::new("s3");
    let mut schedule = story.0.server.object(&Story::path()).unwrap();
    schedule["spec"]["retention"] = json!({ "keepLast": 3 });
    story.0.server.put(&Story::path(), schedule);
    story.made(1);
    story.pass().await;
    let first = format!("{CORE}/pods/nightly-202601010301-prune");
    assert_eq!(
        story.pods(),
        [first.as_str()],
        "nothing is read while it goes"
    );
    assert_eq!(story.status()["pruningAfter"], "nightly-202601010301");
    story.runs("nightly-202601010301-prune");
    story.made(2);
    story.pass().await;
    assert_eq!(story.pods(), [first]);
    story
        .0
        .says("nightly-202601010301-prune", &json!({ "removed": [] }));
    story.pass().await;
    assert_eq!(story.status()["prunedAfter"], "nightly-202601010301");
    // What is read now stays until it was.
    let reads = format!("{CORE}/pods/nightly-202601010302-archive");
    assert_eq!(story.pods(), [reads.as_str()]);
    story.runs("nightly-202601010302-archive");
    story.pass().await;
    assert_eq!(story.pods(), [reads]);
    story.0.says("nightly-202601010302-archive", &json!([]));
    story.pass().await;
    story.pass().await;
    assert_eq!(
        story.pods(),
        [format!("{CORE}/pods/nightly-202601010302-prune")]
    );
}

#[tokio::test]
async fn nothing_is_said_of_an_archive_that_a_schedule_does_not_read_back_any_more() {
    for spec in [
        json!({ "verify": false }),
        json!({ "storeRef": { "name": "elsewhere" } }),
        Value::Null,
    ] {
        let story = Story::new("s3");
        let elsewhere = format!("{GROUP}/engrambackupstores/elsewhere");
        let store = story.0.server.object(STORE).unwrap();
        let store = json!({ "apiVersion": store["apiVersion"], "kind": store["kind"], "spec": store["spec"] });
        story.0.server.put(&elsewhere, store);
        story.made(1);
        story.pass().await;
        story.fails("nightly-202601010301-archive", DAMAGE);
        story.pass().await;
        let damaged = story.measured("engram_archive_damaged").await;
        assert_eq!(damaged.as_deref(), Some("1"));
        story.made(2);
        story.pass().await;
        assert_eq!(story.pods().len(), 1);
        let mut schedule = story.0.server.object(&Story::path()).unwrap();
        match spec.as_object() {
            Some(changed) => {
                for (key, value) in changed {
                    schedule["spec"][key] = value.clone();
                }
                story.0.server.put(&Story::path(), schedule);
                for _ in 0..2 {
                    story.pass().await;
                }
                assert_eq!(story.pods().len(), 0, "{spec}: what was under way ends");
                let status = story.status();
                assert_eq!(status["archive"], Value::Null, "{spec}");
                assert!(!status.to_string().contains("ArchiveVerified"), "{status}");
            }
            // It is deleted.
            None => drop(story.0.server.remove(&Story::path())),
        }
        for gauge in ["engram_archive_damaged", "engram_archive_last_verified"] {
            assert_eq!(story.measured(gauge).await, None, "{spec}");
        }
    }
}

#[tokio::test]
async fn of_two_schedules_of_a_cluster_the_one_that_looked_last_counts() {
    let story = Story::new("s3");
    story.made(1);
    story.pass().await;
    story.fails("nightly-202601010301-archive", DAMAGE);
    story.pass().await;
    let mut other = story.0.server.object(&Story::path()).unwrap();
    other["metadata"] = json!({});
    for (verified, damaged, expected) in [
        (Some("2026-01-01T00:00:00Z"), None, "1"),
        (Some("2999-01-01T00:00:00Z"), None, "0"),
        (
            Some("2999-01-01T00:00:00Z"),
            Some("2999-01-02T00:00:00Z"),
            "1",
        ),
    ] {
        other["status"] = json!({
            "missed": 0, "archive": { "verifiedAt": verified, "damagedAt": damaged },
        });
        let path = format!("{GROUP}/engrambackupschedules/weekly");
        story.0.server.put(&path, other.clone());
        // In whichever order they have their passes.
        for _ in 0..2 {
            story.pass().await;
            let found = story.measured("engram_archive_damaged").await;
            assert_eq!(found.as_deref(), Some(expected), "{}", other["status"]);
        }
    }
}

#[tokio::test]
async fn keys_of_a_store_that_is_gone_are_not_missed() {
    let story = Story::new("s3");
    let missing = &story.0.context.metrics.store_keys_missing;
    for store in ["s3", "gone"] {
        let labels = ["data", store];
        missing.with_label_values(&labels).set(1);
    }
    story.measured("engram_backup_store_keys_missing").await;
    let text = story.0.context.metrics.text();
    let shown = |store: &str| {
        let gauge =
            format!("engram_backup_store_keys_missing{{namespace=\"data\",store=\"{store}\"}} 1");
        text.contains(&gauge)
    };
    assert!(shown("s3") && !shown("gone"), "{text}");
}
