//! Restores in place, pass by pass: every one is made by an operator that was started just before.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab, MEMBERS};
use crate::api::EngramRestore;
use crate::reconcile::restore;

pub(super) const RESTORE: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engramrestores/back";
pub(super) const STORE: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engrambackupstores/s3";

/// A cluster of three whose pods run, and a restore of it.
pub(super) struct Story(pub(super) Lab);

impl Story {
    pub(super) async fn new(source: Value) -> Self {
        let spec = json!({ "kind": "InPlace", "target": { "name": "demo" }, "source": source });
        Self::with(spec).await
    }

    pub(super) async fn with(spec: Value) -> Self {
        let lab = Lab::new(json!({
            "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } },
        }));
        for number in [1, 2, 3] {
            lab.member(number);
        }
        Box::pin(lab.pass()).await.unwrap();
        lab.server.put(
            STORE,
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
                "spec": { "s3": { "bucket": "backups" } },
            }),
        );
        lab.server.put(
            RESTORE,
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
                "spec": spec,
            }),
        );
        Self(lab)
    }

    /// One pass of the restore, by a new operator.
    pub(super) async fn restore(&mut self) {
        self.restore_of(RESTORE).await;
    }

    /// The same, of another one.
    pub(super) async fn restore_of(&mut self, path: &str) {
        self.0 = Lab::on(self.0.server.clone());
        let seen: EngramRestore = serde_json::from_value(self.object(path)).unwrap();
        let pass = restore::reconcile(Arc::new(seen), self.0.context.clone());
        Box::pin(pass).await.unwrap();
    }

    /// Passes of the cluster, each by a new operator.
    pub(super) async fn cluster(&mut self, passes: usize) {
        for _ in 0..passes {
            self.0 = Lab::on(self.0.server.clone());
            Box::pin(self.0.pass()).await.unwrap();
        }
    }

    pub(super) fn object(&self, path: &str) -> Value {
        self.0.server.object(path).unwrap()
    }

    pub(super) fn change(&self, path: &str, part: &str, value: Value) {
        let mut object = self.object(path);
        *object.pointer_mut(part).unwrap() = value;
        let generation = object["metadata"]["generation"].as_i64().unwrap();
        object["metadata"]["generation"] = json!(generation + 1);
        self.0.server.put(path, object);
    }

    pub(super) fn spec(&self, key: &str, value: Value) {
        let mut spec = self.object(RESTORE)["spec"].clone();
        spec[key] = value;
        self.change(RESTORE, "/spec", spec);
    }

    /// The pod that asks the store has its answer.
    pub(super) fn answer(&self, of: &str) {
        self.says("back-show", &shown(of));
    }

    /// A pod has come to its good end.
    pub(super) fn says(&self, pod: &str, said: &Value) {
        self.0.says(pod, said);
    }

    pub(super) fn complete(&self) -> (String, String, String) {
        self.complete_of(RESTORE)
    }

    /// How another restore stands.
    pub(super) fn complete_of(&self, path: &str) -> (String, String, String) {
        let status = self.object(path)["status"].clone();
        let conditions = status["conditions"].as_array().unwrap().clone();
        let complete = conditions.iter().find(|one| one["type"] == "Complete");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let complete = complete.unwrap();
        (
            text(&status["phase"]),
            text(&complete["reason"]),
            text(&complete["message"]),
        )
    }

    pub(super) fn pods(&self) -> Vec<String> {
        let paths = self.0.server.paths("/pods/demo-");
        let name = |path: &String| path.rsplit('/').next().unwrap().to_owned();
        paths.iter().map(name).collect()
    }

    pub(super) fn claims(&self) -> usize {
        self.0.server.paths("/persistentvolumeclaims/").len()
    }

    /// Planned, confirmed, and begun.
    pub(super) async fn begun() -> Self {
        let mut story = Self::new(json!({ "storeRef": { "name": "s3" }, "cluster": "demo" })).await;
        story.restore().await;
        story.answer("7");
        story.restore().await;
        let hash = story.object(RESTORE)["status"]["planHash"].clone();
        story.spec("confirm", hash);
        story.restore().await;
        story.answer("7");
        story.restore().await;
        story
    }

    pub(super) fn fills(&self, pod: &str) {
        self.0.fills(pod);
    }

    /// The new member serves, and says so.
    pub(super) fn founded(&self) {
        let mut status = self.object(CLUSTER)["status"].clone();
        status["clusterID"] = json!("9");
        status["restored"] =
            json!({ "backupID": "n-1", "path": "p", "of": "7/0", "revision": 1040 });
        for condition in status["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("True");
                condition["reason"] = json!("AllMembersReady");
            }
        }
        self.change(CLUSTER, "/status", status);
    }
}

/// What the store says of the backup that is meant, of a cluster.
pub(super) fn shown(of: &str) -> Value {
    json!({
        "id": "n-1", "cluster": "demo", "clusterID": of, "incarnation": "0", "revision": 40,
        "compactRevision": -1, "hashKV": 9, "size": 5, "createdAt": "2026-01-01T00:00:00Z",
        "engramVersion": "0.1.0", "path": "s3://backups/demo/n-1",
    })
}

/// What the volume of a member holds whose log ends there.
pub(super) fn held(number: u32, last_term: u64, last_index: u64) -> Value {
    let listed = |number: u32| {
        let url = format!("http://demo-{number}.demo-peers.data.svc:2380");
        json!({ "id": format!("{number}"), "name": "", "peerURLs": [url], "isLearner": false })
    };
    json!({
        "dataDir": "/d", "clusterID": "7", "memberID": format!("{number}"), "term": 9, "lastTerm": last_term,
        "lastIndex": last_index, "appliedIndex": 1, "revision": 40, "requestsBehind": 3,
        "members": [listed(1), listed(2), listed(3)],
    })
}

#[tokio::test]
async fn a_running_cluster_is_not_touched_without_confirmation() {
    let mut story = Story::new(json!({ "storeRef": { "name": "s3" }, "cluster": "demo" })).await;
    let before = story.object(CLUSTER);
    story.restore().await;
    story.answer("7");
    story.restore().await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Pending", "WaitingForConfirmation")
    );
    let status = story.object(RESTORE)["status"].clone();
    assert!(
        message.contains(status["planHash"].as_str().unwrap()),
        "{message}"
    );
    assert!(status["plan"].to_string().contains("set aside"), "{status}");
    assert!(
        status["loss"].to_string().contains("after revision 40"),
        "{status}"
    );
    assert_eq!(story.object(CLUSTER), before, "nothing was changed");
    assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    // Another plan's hash is no confirmation.
    story.spec("confirm", json!("0123456789abcdef"));
    story.restore().await;
    story.answer("7");
    story.restore().await;
    assert_eq!(story.complete().1, "WaitingForConfirmation");
    assert_eq!(story.object(CLUSTER), before, "nothing was changed");
}

#[tokio::test]
async fn another_clusters_backup_is_named_and_nothing_is_changed() {
    let mut story = Story::new(json!({ "storeRef": { "name": "s3" }, "cluster": "demo" })).await;
    let before = story.object(CLUSTER);
    story.restore().await;
    story.answer("aa");
    story.restore().await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Failed", "WrongCluster")
    );
    assert!(
        message.contains("n-1") && message.contains("aa/0"),
        "{message}"
    );
    assert_eq!(story.object(CLUSTER), before, "nothing was changed");
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_to_do_and_nothing_is_changed() {
    for (said, reason, parts) in [
        (
            "s3://backups/demo: the store does not know these credentials: check AWS_ACCESS_KEY_ID",
            "AccessDenied",
            ["s3://backups", "credentialsSecretRef"],
        ),
        (
            "s3://backups: there is no such bucket: 404 Not Found",
            "BucketNotFound",
            ["s3://backups", "the EngramBackupStore names"],
        ),
        (
            "backup n-1: chunk 0/00000000.chunk: a checksum does not fit: this backup cannot be used, take another",
            "VerificationFailed",
            ["00000000.chunk", "take another"],
        ),
        (
            "s3://backups/demo/n-1: the backup: it is encrypted with key 9ff3aee1746efa20, and no key is given: give the file that holds that key",
            "KeyMissing",
            ["9ff3aee1746efa20", "encryption.keys"],
        ),
        (
            "s3://backups/demo/n-1/0/00000001.chunk: its encryption does not fit: it is damaged, or was moved here from another place",
            "VerificationFailed",
            ["00000001.chunk", "damaged"],
        ),
        (
            "segment s3://backups/demo/_archive/aa-0/000000/000000000003.segment is missing: nothing behind it can be restored until a later full backup",
            "VerificationFailed",
            ["000000000003.segment", "full backup"],
        ),
        (
            "2026-01-02T03:04:05Z is in no part of the log archive: it has revisions 1 to 7",
            "MomentNotFound",
            ["2026-01-02T03:04:05Z", "targetTime"],
        ),
        (
            "/scratch/engram-snapshot: No space left on device (os error 28)",
            "ScratchFull",
            ["/scratch", "pods.scratch.size"],
        ),
        (
            "backup n-1 is of cluster bb/0, which --cluster-id does not name: correct the one or the other",
            "BackupAmbiguous",
            ["bb/0", "clusterID"],
        ),
    ] {
        let mut story =
            Story::new(json!({ "storeRef": { "name": "s3" }, "cluster": "demo" })).await;
        let before = story.object(CLUSTER);
        story.restore().await;
        let path = format!("{CORE}/pods/back-show");
        let mut pod = story.object(&path);
        pod["status"] = json!({ "phase": "Failed", "containerStatuses": [{
            "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 1, "message": format!("Error: {said}") } },
        }] });
        story.0.server.put(&path, pod);
        story.restore().await;
        let (phase, found, message) = story.complete();
        assert_eq!(
            (phase.as_str(), found.as_str()),
            ("Failed", reason),
            "{message}"
        );
        for part in parts {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert_eq!(story.object(CLUSTER), before, "nothing was changed");
        assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    }
}

#[tokio::test]
async fn the_old_members_stop_before_a_new_one_is_made_and_all_volumes_stay() {
    let mut story = Story::begun().await;
    let restoring = story.object(CLUSTER)["status"]["restoring"].clone();
    assert_eq!(restoring["oldClusterID"], "7");
    assert_eq!(story.object(CLUSTER)["status"]["clusterID"], Value::Null);
    assert_eq!(story.object(RESTORE)["status"]["phase"], "Running");
    assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    story.cluster(1).await;
    assert_eq!(story.pods().len(), 0);
    assert_eq!(story.0.server.paths(MEMBERS).len(), 3, "nobody is made yet");
    story.cluster(2).await;
    assert_eq!(story.pods(), ["demo-4"]);
    let pod = story.object(&format!("{CORE}/pods/demo-4"))["spec"].to_string();
    assert!(
        pod.contains("--backup=n-1") && pod.contains("--mark-compacted"),
        "{pod}"
    );
    assert_eq!(
        story.claims(),
        4,
        "the old volumes stay, and there is a new one"
    );
    assert_eq!(story.0.server.paths("/services/").len(), 2);
    story.founded();
    story.restore().await;
    let (phase, _, message) = story.complete();
    assert_eq!(phase, "Completed", "{message}");
    let status = story.object(RESTORE)["status"].clone();
    assert_eq!(status["kept"].as_array().unwrap().len(), 3, "{status}");
    assert_eq!(
        (status["revision"].as_i64(), status["backupID"].as_str()),
        (Some(1040), Some("n-1"))
    );
    // As long as nothing is decided nothing goes.
    story.fills("demo-4");
    story.cluster(3).await;
    assert_eq!(story.claims(), 4);
}

#[tokio::test]
async fn undone_it_is_the_old_members_on_their_volumes() {
    let mut story = Story::begun().await;
    story.cluster(3).await;
    assert_eq!(story.pods(), ["demo-4"]);
    // Half-way: the new member never came up.
    story.spec("decision", json!("Undo"));
    story.restore().await;
    assert_eq!(story.object(CLUSTER)["status"]["clusterID"], "7");
    story.cluster(1).await;
    assert_eq!(story.pods().len(), 0, "the new one stops first");
    story.cluster(1).await;
    assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    story.cluster(3).await;
    assert_eq!(story.claims(), 3);
    assert_eq!(story.0.server.paths(MEMBERS).len(), 3);
    let status = story.object(CLUSTER)["status"].clone();
    assert_eq!(
        (&status["restoring"], &status["clusterID"]),
        (&Value::Null, &json!("7"))
    );
    story.restore().await;
    assert_eq!(story.complete().0, "Undone");
    assert_eq!(story.object(RESTORE)["status"]["decided"], "Undo");
}

#[tokio::test]
async fn accepted_the_old_members_and_their_volumes_go() {
    let mut story = Story::begun().await;
    story.cluster(3).await;
    story.fills("demo-4");
    // Not before the new ones work.
    story.spec("decision", json!("Accept"));
    story.restore().await;
    story.cluster(2).await;
    assert_eq!(story.claims(), 4);
    story.founded();
    story.restore().await;
    story.cluster(4).await;
    assert_eq!(story.claims(), 1);
    assert_eq!(story.0.server.paths(MEMBERS), [format!("{MEMBERS}/demo-4")]);
    story.restore().await;
    assert_eq!(story.complete().0, "Completed");
    assert_eq!(story.object(RESTORE)["status"]["decided"], "Accept");
}

#[tokio::test]
async fn a_restore_that_was_deleted_undecided_leaves_the_old_volumes() {
    let mut story = Story::begun().await;
    story.cluster(3).await;
    story.founded();
    story.0.server.remove(RESTORE).unwrap();
    story.cluster(5).await;
    assert_eq!(story.0.server.paths(MEMBERS), [format!("{MEMBERS}/demo-4")]);
    assert_eq!(story.claims(), 4);
    for number in [1, 2, 3] {
        let claim = format!("{CORE}/persistentvolumeclaims/data-demo-{number}-0000000{number}");
        assert_eq!(
            story.object(&claim)["metadata"]["ownerReferences"],
            json!([])
        );
    }
    assert_eq!(story.object(CLUSTER)["status"]["restoring"], Value::Null);
}

#[tokio::test]
async fn a_second_restore_waits_until_the_first_is_decided() {
    let mut story = Story::begun().await;
    let mut second = story.object(RESTORE);
    second["metadata"] = json!({ "generation": 1 });
    second["status"] = Value::Null;
    let path = RESTORE.replace("/back", "/second");
    story.0.server.put(&path, second);
    story.restore_of(&path).await;
    let status = story.object(&path)["status"].to_string();
    assert!(
        status.contains("NotDecided") && status.contains("back"),
        "{status}"
    );
    story.cluster(1).await;
}

/// The pod that looks at a claim.
pub(super) fn looks_at(story: &Story, claim: &str) -> String {
    let pods = story.0.server.paths("-look-").into_iter();
    let mut of_claim = pods.filter(|path| story.object(path)["spec"].to_string().contains(claim));
    let path = of_claim.next().expect("a pod looks at it");
    path.rsplit('/').next().unwrap().to_owned()
}

/// The volume of a member whose log ends there.
pub(super) fn holds(story: &Story, number: u32, last_term: u64, last_index: u64) {
    let claim = format!("data-demo-{number}-0000000{number}");
    let said = held(number, last_term, last_index);
    story.says(&looks_at(story, &claim), &said);
}

#[tokio::test]
async fn after_a_lost_quorum_the_furthest_log_goes_on_and_the_others_are_set_aside() {
    let spec = json!({ "kind": "QuorumRecovery", "target": { "name": "demo" } });
    let mut story = Story::with(spec).await;
    let before = story.object(CLUSTER);
    let look = async |story: &mut Story| {
        story.restore().await;
        let pod = looks_at(story, "data-demo-1-00000001");
        let pod = story.object(&format!("{CORE}/pods/{pod}"))["spec"].clone();
        let text = pod.to_string();
        assert!(
            text.contains("inspect") && text.contains("data-demo-1-00000001"),
            "{text}"
        );
        assert!(!text.contains("--store="), "{text}");
        let mounts = pod["containers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .clone();
        assert!(
            mounts
                .iter()
                .any(|one| one["name"] == "data" && one["readOnly"] == true)
        );
        holds(story, 1, 3, 90);
        holds(story, 2, 4, 80);
        holds(story, 3, 4, 79);
        story.restore().await;
    };
    look(&mut story).await;
    let (phase, reason, message) = story.complete();
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Pending", "WaitingForConfirmation"),
        "{message}"
    );
    let status = story.object(RESTORE)["status"].clone();
    assert_eq!(status["survivor"], "demo-2");
    assert!(
        status["loss"]
            .to_string()
            .contains("nothing that was acknowledged"),
        "{status}"
    );
    assert_eq!(story.object(CLUSTER), before, "nothing was changed");
    story.spec("confirm", status["planHash"].clone());
    look(&mut story).await;
    assert_eq!(story.complete().0, "Running");
    story.restore().await;
    let (_, _, message) = story.complete();
    assert!(
        message.contains("Pod demo-1 uses the volume data-demo-1-00000001"),
        "{message}"
    );
    story.cluster(2).await;
    assert_eq!(story.pods().len(), 0, "all stop, the survivor as well");
    // What they hold is looked at once more, now that nobody writes to it.
    look(&mut story).await;
    let restoring = story.object(CLUSTER)["status"]["restoring"].clone();
    assert_eq!(restoring["survivor"], "demo-2", "{restoring}");
    assert_eq!(restoring["kept"].as_array().unwrap().len(), 2);
    story.cluster(1).await;
    assert_eq!(story.pods(), ["demo-2"]);
    let uid = story.object(RESTORE)["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let pod = story.object(&format!("{CORE}/pods/demo-2"))["spec"].to_string();
    assert!(
        pod.contains("force-new-cluster") && pod.contains(&format!("--once={uid}")),
        "{pod}"
    );
    assert!(
        !pod.contains("--force-new-cluster"),
        "the member itself starts as ever: {pod}"
    );
    story.cluster(3).await;
    assert_eq!(
        story.pods(),
        ["demo-2"],
        "it stays, and nobody runs beside it"
    );
    assert_eq!(story.claims(), 3);
    assert_eq!(story.object(CLUSTER)["status"]["clusterID"], "7");
}

#[tokio::test]
async fn a_cluster_with_a_quorum_is_not_recovered() {
    let spec = json!({ "kind": "QuorumRecovery", "target": { "name": "demo" }, "dryRun": true });
    let mut story = Story::with(spec).await;
    let mut status = story.object(CLUSTER)["status"].clone();
    for condition in status["conditions"].as_array_mut().unwrap() {
        if condition["type"] == "QuorumAvailable" {
            condition["status"] = json!("True");
        }
    }
    story.change(CLUSTER, "/status", status);
    let before = story.object(CLUSTER);
    story.restore().await;
    let (phase, _, message) = story.complete();
    assert_eq!(phase, "Failed");
    assert!(
        message.contains("a quorum of EngramCluster demo answers"),
        "{message}"
    );
    assert_eq!(story.object(CLUSTER), before, "nothing was changed");
}

#[tokio::test]
async fn a_cluster_that_is_deleted_before_a_restore_is_decided_goes_with_all_its_members() {
    let mut story = Story::begun().await;
    // The old members stop, and a new one is made.
    story.cluster(4).await;
    assert!(story.0.server.paths(MEMBERS).len() > 3);
    let members = story.0.server.paths(MEMBERS);
    for path in members.iter().map(String::as_str).chain([CLUSTER]) {
        story.0.server.deletes(path);
    }
    for _ in 0..8 {
        if story.0.server.object(CLUSTER).is_some() {
            story.cluster(1).await;
        }
    }
    assert_eq!(story.0.server.object(CLUSTER), None);
    assert_eq!(story.0.server.paths(MEMBERS), [] as [String; 0]);
    // Its restore says so, and holds nothing up.
    story.restore().await;
    let (phase, _, message) = story.complete();
    assert_ne!(phase, "Completed", "{message}");
}

#[tokio::test]
async fn a_restore_that_is_deleted_and_comes_to_nothing_is_undone() {
    let mut story = Story::begun().await;
    story.cluster(3).await;
    assert_eq!(story.pods(), ["demo-4"]);
    // It is being filled: a restore that is deleted is brought to its end.
    story.fills("demo-4");
    story.0.server.remove(RESTORE);
    story.cluster(3).await;
    assert_eq!(story.pods(), ["demo-4"]);
    // The backup turns out to be of no use, and nobody is there who could decide.
    let path = format!("{CORE}/pods/demo-4");
    let mut pod = story.object(&path);
    let said = "Error: backup n-1: chunk 0/00000000.chunk: a checksum does not fit: this backup cannot be used, take another";
    let ended = json!({ "terminated": { "exitCode": 1, "message": said } });
    pod["status"] = json!({ "phase": "Pending", "initContainerStatuses": [{
        "name": "restore", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": ended,
    }] });
    story.0.server.put(&path, pod);
    story.cluster(2).await;
    let status = story.object(CLUSTER)["status"].clone();
    assert_eq!(
        (&status["clusterID"], &status["restoring"]["aside"]),
        (&json!("7"), &json!("New")),
        "{status}"
    );
    // The new one goes, the old ones start on their volumes, and another restore may be made.
    story.cluster(6).await;
    assert_eq!(story.pods(), ["demo-1", "demo-2", "demo-3"]);
    assert_eq!(story.claims(), 3);
    assert_eq!(story.object(CLUSTER)["status"]["restoring"], Value::Null);
}
