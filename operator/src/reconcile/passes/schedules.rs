//! Schedules: what is kept of the backups that they made, and that it keeps none from being made.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab};
use crate::api::EngramBackupSchedule;
use crate::reconcile::schedule;

const GROUP: &str = "/apis/engram.dev/v1alpha1/namespaces/data";
const NIGHTLY: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engrambackupschedules/nightly";
/// Two that the schedule made.
const FIRST: &str = "nightly-202601010300";
const SECOND: &str = "nightly-202601020300";

/// A schedule of a cluster, and two stores.
fn lab(spec: &Value) -> Lab {
    let lab = Lab::new(json!({}));
    for name in ["old", "new"] {
        let store = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": name } },
        });
        lab.server
            .put(&format!("{GROUP}/engrambackupstores/{name}"), store);
    }
    let mut all = json!({
        "clusterRef": { "name": "demo" }, "storeRef": { "name": "old" }, "schedule": "* * * * *",
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    let last = Timestamp::now() - SignedDuration::from_mins(10);
    let schedule = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupSchedule", "spec": all,
        "status": { "lastScheduleTime": last.to_string() },
    });
    lab.server.put(NIGHTLY, schedule);
    lab
}

fn path(backup: &str) -> String {
    format!("{GROUP}/engrambackups/{backup}")
}

/// A backup in the old store that is complete; of the schedule's, or a person's.
fn complete(lab: &Lab, name: &str, labels: &Value) {
    let backup = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
        "metadata": { "labels": labels },
        "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "old" } },
        "status": {
            "phase": "Completed", "completedAt": "2026-01-02T03:00:00Z", "backupID": name,
            "clusterID": "7", "incarnation": "0",
        },
    });
    lab.server.put(&path(name), backup);
}

async fn pass(lab: &Lab) -> Result<(), String> {
    let seen: EngramBackupSchedule =
        serde_json::from_value(lab.server.object(NIGHTLY).unwrap()).unwrap();
    let pass = schedule::reconcile(Arc::new(seen), lab.context.clone());
    Box::pin(pass)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_was_pruned_in_the_store_before_is_known_as_gone() {
    let lab = lab(&json!({ "suspend": true, "retention": { "keepLast": 1 } }));
    complete(&lab, FIRST, &json!({ "engram.dev/schedule": "nightly" }));
    complete(&lab, "mine", &json!({}));
    pass(&lab).await.unwrap();
    let pod = format!("{FIRST}-prune");
    assert_eq!(lab.server.paths("/pods/"), [format!("{CORE}/pods/{pod}")]);
    // The schedule goes on in another store while it is at it.
    lab.server.change(NIGHTLY, |one| {
        one["spec"]["storeRef"] = json!({ "name": "new" });
    });
    lab.says(&pod, &json!({ "removed": ["mine"] }));
    pass(&lab).await.unwrap();
    let mine = lab.server.object(&path("mine")).expect("it is a person's");
    let said = mine["status"]["conditions"].to_string();
    assert!(said.contains("Pruned"), "{said}");
    let status = lab.server.object(NIGHTLY).unwrap()["status"].clone();
    assert_eq!(status["prunedAfter"], FIRST);
    assert!(status["pruningStore"].is_null(), "{status}");
}

#[tokio::test]
async fn what_a_store_that_is_gone_was_pruned_of_is_not_waited_for() {
    let lab = lab(&json!({ "suspend": true, "retention": { "keepLast": 1 } }));
    complete(&lab, FIRST, &json!({ "engram.dev/schedule": "nightly" }));
    pass(&lab).await.unwrap();
    lab.server.change(NIGHTLY, |one| {
        one["spec"]["storeRef"] = json!({ "name": "new" });
    });
    lab.server
        .remove(&format!("{GROUP}/engrambackupstores/old"));
    for _ in 0..2 {
        pass(&lab).await.unwrap();
    }
    assert_eq!(lab.server.paths("/pods/"), [] as [String; 0]);
    let status = lab.server.object(NIGHTLY).unwrap()["status"].clone();
    assert_eq!(status["prunedAfter"], FIRST);
}

#[tokio::test]
pub(super) async fn an_object_that_nobody_may_change_keeps_no_backup_from_being_made() {
    let lab = lab(&json!({ "successfulHistoryLimit": 1 }));
    let own = json!({ "engram.dev/schedule": "nightly" });
    for name in [FIRST, SECOND] {
        complete(&lab, name, &own);
    }
    // A copy that a person made of one is a person's, whatever its labels say.
    complete(&lab, "before-upgrade", &own);
    let words = "admission webhook \"keeps.everything\" denied the request";
    lab.server.refuses_to_change(&path(FIRST), words);
    let refused = pass(&lab).await.unwrap_err();
    assert!(refused.contains("keeps.everything"), "{refused}");
    assert_eq!(lab.server.paths("/engrambackups/").len(), 4, "one is due");
    let status = lab.server.object(NIGHTLY).unwrap()["status"].clone();
    assert_eq!(
        status["active"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
    // It goes once it may.
    lab.server.changes_all();
    pass(&lab).await.unwrap();
    assert_eq!(lab.server.object(&path(FIRST)), None);
    assert!(lab.server.object(&path("before-upgrade")).is_some());
}

/// What tools that go by kstatus make of it.
fn stands(lab: &Lab) -> [bool; 3] {
    let conditions = lab.server.object(NIGHTLY).unwrap()["status"]["conditions"].clone();
    let all: Vec<Value> = serde_json::from_value(conditions).unwrap();
    ["Ready", "Reconciling", "Stalled"].map(|kind| {
        all.iter()
            .any(|one| one["type"] == kind && one["status"] == "True")
    })
}

#[tokio::test]
async fn a_schedule_that_is_none_has_failed_to_tools_as_well() {
    let lab = lab(&json!({ "timeZone": "Mars/Olympus" }));
    pass(&lab).await.unwrap();
    assert_eq!(stands(&lab), [false, false, true]);
    // A store may be on its way.
    lab.server.change(NIGHTLY, |one| {
        one["spec"]["timeZone"] = json!("UTC");
        one["spec"]["storeRef"] = json!({ "name": "third" });
    });
    pass(&lab).await.unwrap();
    assert_eq!(stands(&lab), [false, true, false]);
    lab.server.change(NIGHTLY, |one| {
        one["spec"]["storeRef"] = json!({ "name": "old" })
    });
    pass(&lab).await.unwrap();
    assert_eq!(stands(&lab), [true, false, false]);
}

#[tokio::test]
async fn no_backup_is_made_of_a_cluster_that_rests_and_the_next_one_once_it_is_woken() {
    let lab = lab(&json!({}));
    lab.server
        .change(CLUSTER, |one| one["spec"]["replicas"] = json!(0));
    pass(&lab).await.unwrap();
    assert_eq!(lab.server.paths("/engrambackups/"), [] as [String; 0]);
    let status = lab.server.object(NIGHTLY).unwrap()["status"].clone();
    assert!(
        status["conditions"].to_string().contains("Hibernated"),
        "{status}"
    );
    assert_eq!(stands(&lab), [true, false, false]);
    assert!(
        late(&lab) > SignedDuration::from_hours(24),
        "it was made months ago"
    );
    lab.server
        .change(CLUSTER, |one| one["spec"]["replicas"] = json!(3));
    pass(&lab).await.unwrap();
    assert_eq!(lab.server.paths("/engrambackups/").len(), 1);
    // As of an alert the first one is due now, and none was missed.
    assert!(late(&lab) <= SignedDuration::ZERO);
    let status = lab.server.object(NIGHTLY).unwrap()["status"].clone();
    assert_eq!(status["missed"], 0, "{status}");
    let resumed = status["resumedAt"].clone();
    pass(&lab).await.unwrap();
    let status = lab.server.object(NIGHTLY).unwrap()["status"].clone();
    assert_eq!(status["resumedAt"], resumed, "once");
}

/// For how long a backup has been due.
fn late(lab: &Lab) -> SignedDuration {
    let schedule: EngramBackupSchedule =
        serde_json::from_value(lab.server.object(NIGHTLY).unwrap()).unwrap();
    Timestamp::now().duration_since(schedule::expected(&schedule).unwrap())
}
