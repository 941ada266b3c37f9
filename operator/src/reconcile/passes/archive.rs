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
        let lab = Lab::new(json!({ "archive": { "storeRef": { "name": archives_to } } }));
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
                "backupID": format!("nightly-{number}"), "clusterID": "7", "incarnation": "0",
            },
        });
        let path = format!("{GROUP}/engrambackups/nightly-{number}");
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
        self.0.server.paths(&format!("{CORE}/pods/"))
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

    fn measured(&self, name: &str) -> Option<String> {
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
    let path = format!("{CORE}/pods/nightly-1-archive");
    let pod = story.0.server.object(&path).unwrap()["spec"].to_string();
    for word in ["archive", "verify", "--cluster=demo", "--cluster-id=7"] {
        assert!(pod.contains(word), "{word} in {pod}");
    }
    let chain = json!([{ "fromRevision": 4, "toRevision": 90, "segments": 3, "verified": true }]);
    story.0.says("nightly-1-archive", &chain);
    story.pass().await;
    let (status, reason, message) = story.verified();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Succeeded"));
    assert!(
        message.contains("revisions 4 to 90 in 3 segments"),
        "{message}"
    );
    assert_eq!(story.status()["archive"]["toRevision"], 90);
    assert_eq!(
        story.measured("engram_archive_damaged").as_deref(),
        Some("0")
    );
    assert!(story.measured("engram_archive_last_verified").is_some());
    story.pass().await;
    assert_eq!(story.pods().len(), 0, "once a backup");
    story.made(2);
    story.pass().await;
    let said = "Error: segment 7/0/000/2.segment is missing: nothing behind it can be restored until a later full backup";
    story.fails("nightly-2-archive", said);
    story.pass().await;
    let (status, reason, message) = story.verified();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "VerificationFailed")
    );
    assert!(message.contains("2.segment is missing"), "{message}");
    assert_eq!(
        story.measured("engram_archive_damaged").as_deref(),
        Some("1")
    );
    assert_eq!(story.status()["archive"]["after"], "nightly-2");
    let events = story.0.server.paths("/events/");
    let events = events.iter().filter_map(|path| story.0.server.object(path));
    let told = events.filter(|one| one["reason"] == "ArchiveVerificationFailed");
    assert_eq!(told.count(), 1);
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
    let path = format!("{GROUP}/engrambackups/nightly-1");
    let mut backup = story.0.server.object(&path).unwrap();
    backup["status"]["completedAt"] = json!(k8s_openapi::jiff::Timestamp::now().to_string());
    story.0.server.put(&path, backup);
    story.fails(
        "nightly-1-archive",
        "Error: the store failed: connection refused",
    );
    story.pass().await;
    assert_eq!(story.verified().1, "Retrying");
    assert_eq!(story.measured("engram_archive_damaged"), None);
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
