//! A quorum that was lost: volumes that change between two looks, a survivor that does not start, and the next one.

use serde_json::{Value, json};

use super::in_place::{RESTORE, Story, holds};
use super::{CLUSTER, CORE, MEMBERS};

fn second() -> String {
    RESTORE.replace("/back", "/second")
}

/// The three volumes, as a restore is told of them; the second member's log goes furthest.
async fn look(story: &mut Story, path: &str) {
    story.restore_of(path).await;
    holds(story, 1, 3, 90);
    holds(story, 2, 4, 80);
    holds(story, 3, 4, 79);
    story.restore_of(path).await;
}

/// Planned and confirmed: nobody runs.
async fn held(story: &mut Story, path: &str) {
    look(story, path).await;
    let hash = story.object(path)["status"]["planHash"].clone();
    let mut spec = story.object(path)["spec"].clone();
    spec["confirm"] = hash;
    story.change(path, "/spec", spec);
    look(story, path).await;
    assert!(story.object(CLUSTER)["status"]["restoring"]["survivor"].is_null());
    story.cluster(2).await;
    assert_eq!(story.pods(), [""; 0]);
}

async fn lost() -> Story {
    Story::with(json!({ "kind": "QuorumRecovery", "target": { "name": "demo" } })).await
}

fn restoring(story: &Story) -> Value {
    story.object(CLUSTER)["status"]["restoring"].clone()
}

/// The pod of a member fails, and says this.
fn fails(story: &Story, member: &str, words: &str) {
    let path = format!("{CORE}/pods/{member}");
    let mut pod = story.object(&path);
    pod["status"] = json!({ "phase": "Running", "containerStatuses": [{
        "name": "engram", "image": "i", "imageID": "", "ready": false, "restartCount": 7,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 1, "message": words } },
    }] });
    story.0.server.put(&path, pod);
}

fn unharmed(story: &Story) {
    assert_eq!(story.claims(), 3);
    assert_eq!(story.0.server.paths(MEMBERS).len(), 3);
    assert_eq!(story.object(CLUSTER)["status"]["clusterID"], "7");
}

#[tokio::test]
pub(super) async fn volumes_that_changed_since_they_were_looked_at_are_confirmed_anew() {
    let mut story = lost().await;
    held(&mut story, RESTORE).await;
    story.cluster(2).await;
    let (_, reason, message) = story.0.condition("Ready");
    assert_eq!(reason, "Restoring", "{message}");
    assert!(message.contains("nobody runs"), "{message}");
    // The others had come back for a moment, and gone on without the one that was chosen.
    story.restore().await;
    holds(&story, 1, 5, 95);
    holds(&story, 2, 4, 80);
    holds(&story, 3, 5, 95);
    story.restore().await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Pending", "WaitingForConfirmation"),
        "{message}"
    );
    let status = story.object(RESTORE)["status"].clone();
    assert_eq!(status["survivor"], "demo-1");
    assert!(message.contains(status["planHash"].as_str().unwrap()));
    assert_eq!(restoring(&story), Value::Null);
    story.cluster(1).await;
    assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    for member in story.pods() {
        let pod = story.object(&format!("{CORE}/pods/{member}"))["spec"].to_string();
        assert!(!pod.contains("force-new-cluster"), "{pod}");
    }
    unharmed(&story);
}

#[tokio::test]
pub(super) async fn volumes_that_members_write_to_are_not_looked_at() {
    let mut story = lost().await;
    look(&mut story, RESTORE).await;
    let hash = story.object(RESTORE)["status"]["planHash"].clone();
    let mut spec = story.object(RESTORE)["spec"].clone();
    spec["confirm"] = hash;
    story.change(RESTORE, "/spec", spec);
    look(&mut story, RESTORE).await;
    // The members' pods are still there: nobody has stopped them yet.
    assert_eq!(story.pods().len(), 3);
    for _ in 0..2 {
        story.restore().await;
    }
    assert!(restoring(&story)["survivor"].is_null());
    assert_eq!(story.complete().0, "Running");
    let looks = story.0.server.paths("/pods/back-look-held-");
    assert!(looks.is_empty(), "{looks:?}");
}

#[tokio::test]
pub(super) async fn what_is_held_is_let_go_of_where_it_is_given_up() {
    for deleted in [false, true] {
        let mut story = lost().await;
        held(&mut story, RESTORE).await;
        match deleted {
            true => drop(story.0.server.remove(RESTORE)),
            false => {
                story.spec("dryRun", json!(true));
                story.restore().await;
                assert_eq!(story.complete().0, "Pending");
            }
        }
        story.cluster(2).await;
        assert_eq!(restoring(&story), Value::Null, "deleted: {deleted}");
        assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
        unharmed(&story);
    }
}

#[tokio::test]
async fn a_survivor_that_does_not_start_ends_the_restore_and_another_one_may_go_on() {
    let mut story = lost().await;
    held(&mut story, RESTORE).await;
    look(&mut story, RESTORE).await;
    story.cluster(1).await;
    assert_eq!(story.pods(), ["demo-2"]);
    let with = |survivor: &str| {
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
            "spec": {
                "kind": "QuorumRecovery", "target": { "name": "demo" }, "survivor": survivor,
            },
        })
    };
    story.0.server.put(&second(), with("demo-1"));
    // As long as it may yet come up nobody takes its place.
    story.restore_of(&second()).await;
    assert_eq!(story.complete_of(&second()).1, "NotDecided");
    fails(&story, "demo-2", "the log is damaged at 17");
    story.cluster(1).await;
    let (_, reason, message) = story.0.condition("Ready");
    assert_eq!(reason, "RestoreStuck", "{message}");
    assert_eq!(story.0.condition("Stalled").0, "True");
    story.restore().await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Failed", "RestoreStuck")
    );
    for part in ["demo-2", "the log is damaged at 17", "another member"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    held(&mut story, &second()).await;
    look(&mut story, &second()).await;
    let status = story.object(&second())["status"].clone();
    assert!(status["loss"].to_string().contains("demo-2"), "{status}");
    story.cluster(2).await;
    assert_eq!(story.pods(), ["demo-1"]);
    let uid = story.object(&second())["metadata"]["uid"].clone();
    let pod = story.object(&format!("{CORE}/pods/demo-1"))["spec"].to_string();
    assert!(
        pod.contains(&format!("--once={}", uid.as_str().unwrap())),
        "{pod}"
    );
    unharmed(&story);
    story.restore().await;
    let (phase, _, message) = story.complete();
    assert_eq!(phase, "Failed");
    assert!(message.contains("second took its place"), "{message}");
}

#[tokio::test]
async fn one_that_gives_up_taking_a_place_leaves_the_one_before_it_in_force() {
    let mut story = lost().await;
    held(&mut story, RESTORE).await;
    look(&mut story, RESTORE).await;
    story.cluster(1).await;
    fails(&story, "demo-2", "the log is damaged at 17");
    story.cluster(1).await;
    story.restore().await;
    let before = restoring(&story);
    let spec = json!({ "kind": "QuorumRecovery", "target": { "name": "demo" } });
    story.0.server.put(
        &second(),
        json!({ "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore", "spec": spec }),
    );
    held(&mut story, &second()).await;
    story.0.server.remove(&second()).unwrap();
    story.cluster(1).await;
    assert_eq!(restoring(&story), before);
    story.cluster(1).await;
    // It was forced already, and is not forced twice.
    assert_eq!(story.pods(), ["demo-2"]);
    let uid = story.object(RESTORE)["metadata"]["uid"].clone();
    let pod = story.object(&format!("{CORE}/pods/demo-2"))["spec"].to_string();
    assert!(
        pod.contains(&format!("--once={}", uid.as_str().unwrap())),
        "{pod}"
    );
    unharmed(&story);
}

#[tokio::test]
async fn a_member_that_begins_with_a_backup_and_does_not_start_ends_the_restore_and_is_undone() {
    let mut story = Story::begun().await;
    story.cluster(3).await;
    assert_eq!(story.pods(), ["demo-4"]);
    fails(&story, "demo-4", "illegal instruction");
    story.cluster(1).await;
    story.restore().await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Failed", "RestoreStuck")
    );
    for part in ["demo-4", "illegal instruction", "decision: Undo"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    story.spec("decision", json!("Undo"));
    story.restore().await;
    story.cluster(5).await;
    assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    unharmed(&story);
    story.restore().await;
    assert_eq!(story.complete().0, "Undone");
}

#[tokio::test]
async fn volumes_that_somebody_uses_are_not_adopted() {
    let claim = format!("{CORE}/persistentvolumeclaims/data-demo-1-00000001");
    let mut story = lost().await;
    let volume = story.object(&claim);
    for path in story.0.server.paths("/data/") {
        story.0.server.remove(&path);
    }
    story.0.server.put(
        &claim,
        json!({ "metadata": { "labels": volume["metadata"]["labels"] } }),
    );
    let pod = format!("{CORE}/pods/debugs");
    story.0.server.put(
        &pod,
        json!({
            "spec": { "containers": [], "volumes": [{
                "name": "data", "persistentVolumeClaim": { "claimName": "data-demo-1-00000001" },
            }] },
            "status": { "phase": "Running" },
        }),
    );
    story.0.server.put(
        RESTORE,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
            "spec": { "kind": "AdoptVolumes", "target": { "name": "demo", "spec": {} } },
        }),
    );
    story.restore().await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Pending", "WaitingForTurn")
    );
    assert!(message.contains("Pod debugs uses the volume"), "{message}");
    story.0.server.remove(&pod);
    story.restore().await;
    assert_eq!(story.0.server.paths("/pods/back-look-").len(), 1);
}
