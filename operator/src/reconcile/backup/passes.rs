//! Passes of backups against an API server that is played: what goes while they are made, and together with
//! them.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::{Context, store};
use crate::api::{EngramBackup, EngramBackupStore};
use crate::played::Played;

const OURS: &str = "/apis/engram.dev/v1alpha1/namespaces/data";
const PODS: &str = "/api/v1/namespaces/data/pods";

struct Lab {
    server: Played,
    context: Arc<Context>,
}

impl Lab {
    /// With a store, and a backup that has begun.
    fn new(policy: &str) -> Self {
        let server = Played::default();
        let context = Arc::new(server.context());
        let lab = Self { server, context };
        lab.server.put(
            &format!("{OURS}/engrambackupstores/s"),
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
                "metadata": { "uid": "store-uid" }, "spec": { "pvc": { "claimName": "backups" } },
            }),
        );
        lab.server.put(
            &format!("{OURS}/engrambackups/b"),
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
                "metadata": {
                    "uid": "0a1b2c3d-uid", "finalizers": ["engram.dev/backup"],
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "spec": {
                    "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "verify": false,
                    "deletionPolicy": policy,
                },
                "status": { "phase": "Running", "startedAt": "2026-01-01T00:00:00Z" },
            }),
        );
        lab
    }

    fn pod(&self, part: &str, status: &Value) {
        let owner = json!([{
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup", "name": "b",
            "uid": "0a1b2c3d-uid",
        }]);
        self.server.put(
            &format!("{PODS}/b-{part}"),
            json!({ "metadata": { "ownerReferences": owner }, "status": status }),
        );
    }

    async fn pass(&self) -> Result<(), String> {
        let Some(seen) = self.server.object(&format!("{OURS}/engrambackups/b")) else {
            return Ok(());
        };
        let seen: EngramBackup = serde_json::from_value(seen).unwrap();
        let pass = super::reconcile(Arc::new(seen), self.context.clone());
        pass.await.map(drop).map_err(|error| error.to_string())
    }

    async fn pass_of_store(&self) {
        let seen = self.server.object(&format!("{OURS}/engrambackupstores/s"));
        let seen: EngramBackupStore = serde_json::from_value(seen.unwrap()).unwrap();
        store::reconcile(Arc::new(seen), self.context.clone())
            .await
            .unwrap();
    }

    fn phase(&self) -> String {
        let backup = self
            .server
            .object(&format!("{OURS}/engrambackups/b"))
            .unwrap();
        backup["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Deletes an object, so many seconds ago.
    fn delete(&self, path: &str, ago: i64) {
        let mut object = self.server.object(path).unwrap();
        let when = Timestamp::now() - SignedDuration::from_secs(ago);
        object["metadata"]["deletionTimestamp"] = json!(when.to_string());
        self.server.put(path, object);
    }
}

fn done() -> Value {
    done_at("file:///var/lib/engram-backups")
}

/// A backup is made, in the store that is there.
fn done_at(place: &str) -> Value {
    let said = json!({
        "id": "b-0a1b2c3d", "cluster": "demo", "clusterID": "7", "incarnation": "0", "revision": 7,
        "compactRevision": -1, "hashKV": 9, "size": 5, "createdAt": "2026-01-01T00:00:00Z",
        "engramVersion": "0.1.0", "path": format!("{place}/demo/b-0a1b2c3d"),
    });
    json!({ "phase": "Succeeded", "containerStatuses": [{
        "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 0, "message": said.to_string() } },
    }] })
}

fn failed(said: &str) -> Value {
    json!({ "phase": "Failed", "containerStatuses": [{
        "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 1, "message": said } },
    }] })
}

#[tokio::test]
async fn a_backup_whose_cluster_is_deleted_meanwhile_is_what_its_pod_says() {
    let lab = Lab::new("Retain");
    lab.pod("backup", &json!({ "phase": "Running" }));
    lab.pass().await.unwrap();
    assert_eq!(lab.phase(), "Running");
    lab.pod("backup", &done());
    lab.pass().await.unwrap();
    assert_eq!(lab.phase(), "Completed");
    // Where nothing is left that could say so, it has failed.
    let lab = Lab::new("Retain");
    lab.pass().await.unwrap();
    assert_eq!(lab.phase(), "Failed");
}

#[tokio::test]
pub(in crate::reconcile) async fn a_store_that_is_deleted_with_a_backup_goes_after_its_copy() {
    let lab = Lab::new("Delete");
    let (backup, store) = (
        format!("{OURS}/engrambackups/b"),
        format!("{OURS}/engrambackupstores/s"),
    );
    lab.pod("backup", &done());
    lab.pass().await.unwrap();
    let held = lab.server.object(&store).unwrap();
    assert_eq!(held["metadata"]["finalizers"], json!(["engram.dev/store"]));
    lab.delete(&store, 60);
    lab.delete(&backup, 60);
    lab.pass_of_store().await;
    assert!(
        lab.server.object(&store).is_some(),
        "it is needed to delete the copy"
    );
    // The pod that made it goes first; then the copy, by another one.
    lab.pass().await.unwrap();
    lab.pass().await.unwrap();
    assert_eq!(lab.server.paths("/pods/"), [format!("{PODS}/b-delete")]);
    lab.pod("delete", &json!({ "phase": "Succeeded" }));
    lab.pass().await.unwrap();
    assert!(lab.server.object(&backup).is_none());
    lab.pass_of_store().await;
    assert!(lab.server.object(&store).is_none());
}

#[tokio::test]
async fn a_good_backup_is_copied_to_the_second_store_and_no_other_is() {
    let lab = Lab::new("Retain");
    let path = format!("{OURS}/engrambackups/b");
    let mut backup = lab.server.object(&path).unwrap();
    backup["spec"]["copyTo"] = json!({ "storeRef": { "name": "second" } });
    lab.server.put(&path, backup);
    lab.pod("backup", &done());
    lab.pass().await.unwrap();
    let copied = |part: &str| {
        let backup = lab.server.object(&path).unwrap();
        let all: Vec<Value> =
            serde_json::from_value(backup["status"]["conditions"].clone()).unwrap();
        let found = all.iter().find(|one| one["type"] == "Copied");
        found.map_or(String::new(), |one| {
            one[part].as_str().unwrap_or_default().to_owned()
        })
    };
    // It may be on its way; the backup is complete all the same.
    lab.pass().await.unwrap();
    assert_eq!(
        (copied("status"), copied("reason")),
        ("False".into(), "NotFound".into())
    );
    assert!(
        copied("message").contains("no EngramBackupStore second"),
        "{}",
        copied("message")
    );
    assert_eq!(lab.phase(), "Completed");
    lab.server.put(
        &format!("{OURS}/engrambackupstores/second"),
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "metadata": { "uid": "second-uid" },
            "spec": { "gcs": { "bucket": "copies", "credentialsSecretRef": { "name": "account" } } },
        }),
    );
    lab.pass().await.unwrap();
    let command = copying(&lab)["command"].to_string();
    for part in [
        "\"copy\"",
        "--to=gs://copies",
        "--backup=b-0a1b2c3d",
        "--to-unencrypted",
    ] {
        assert!(command.contains(part), "{part} in {command}");
    }
    let env = copying(&lab)["env"].to_string();
    assert!(env.contains("TO_GOOGLE_SERVICE_ACCOUNT_KEY"), "{env}");
    assert_eq!(copied("reason"), "Running");
    lab.pod("copy", &json!({ "phase": "Succeeded" }));
    lab.pass().await.unwrap();
    assert_eq!(
        (copied("status"), copied("reason")),
        ("True".into(), "Succeeded".into())
    );
    // One that is not known to be good goes nowhere.
    let lab = Lab::new("Retain");
    let mut backup = lab.server.object(&path).unwrap();
    backup["spec"]["copyTo"] = json!({ "storeRef": { "name": "second" } });
    backup["spec"]["verify"] = json!(true);
    lab.server.put(&path, backup);
    lab.pod("backup", &done());
    lab.pass().await.unwrap();
    for _ in 0..2 {
        lab.pass().await.unwrap();
    }
    let copy = lab.server.object(&format!("{PODS}/b-copy"));
    assert_eq!(copy, None, "it is read back first");
}

/// Its backup is to be copied to another store.
fn copied_to_second(lab: &Lab, verify: bool) {
    let path = format!("{OURS}/engrambackups/b");
    let mut backup = lab.server.object(&path).unwrap();
    backup["metadata"]["generation"] = json!(1);
    backup["spec"]["copyTo"] = json!({ "storeRef": { "name": "second" } });
    backup["spec"]["verify"] = json!(verify);
    lab.server.put(&path, backup);
}

/// The container of the pod that copies.
fn copying(lab: &Lab) -> Value {
    let pod = lab.server.object(&format!("{PODS}/b-copy"));
    pod.expect("it is begun")["spec"]["containers"][0].take()
}

/// What is said of the copy: status, reason and message.
fn copied(lab: &Lab) -> [String; 3] {
    let backup = lab.server.object(&format!("{OURS}/engrambackups/b"));
    let conditions = backup.unwrap()["status"]["conditions"].clone();
    let all: Vec<Value> = serde_json::from_value(conditions).unwrap_or_default();
    let found = all.iter().find(|one| one["type"] == "Copied");
    ["status", "reason", "message"].map(|part| {
        let text = found.and_then(|one| one[part].as_str());
        text.unwrap_or_default().to_owned()
    })
}

#[tokio::test]
async fn a_second_store_is_not_asked_with_the_firsts_credentials() {
    let lab = Lab::new("Retain");
    let bucket = |path: &str, secret: Option<&str>| {
        let secret = secret.map(|name| json!({ "name": name }));
        let spec = json!({ "s3": { "bucket": path, "credentialsSecretRef": secret } });
        let store = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore", "spec": spec,
        });
        let path = format!("{OURS}/engrambackupstores/{path}");
        lab.server.put(&path, store);
    };
    bucket("s", Some("firsts"));
    bucket("second", None);
    copied_to_second(&lab, false);
    lab.pod("backup", &done_at("s3://s"));
    for _ in 0..3 {
        lab.pass().await.unwrap();
    }
    let [status, reason, message] = copied(&lab);
    assert_eq!([&*status, &*reason], ["False", "InvalidSpec"]);
    assert!(
        message.contains("second has no credentialsSecretRef"),
        "{message}"
    );
    let copy = format!("{PODS}/b-copy");
    assert_eq!(lab.server.object(&copy), None);
    assert_eq!(lab.phase(), "Completed");
    // Corrected; whoever changes the backup has it tried again.
    bucket("second", Some("its-own"));
    let path = format!("{OURS}/engrambackups/b");
    let mut backup = lab.server.object(&path).unwrap();
    backup["metadata"]["generation"] = json!(2);
    lab.server.put(&path, backup);
    lab.pass().await.unwrap();
    let env = lab.server.object(&copy).unwrap()["spec"]["containers"][0]["env"].to_string();
    assert!(env.contains("TO_AWS_ACCESS_KEY_ID"), "{env}");
    assert_eq!(copied(&lab)[1], "Running");
}

#[tokio::test]
async fn a_copy_that_was_given_up_is_begun_anew_when_its_backup_is_changed() {
    let lab = Lab::new("Retain");
    lab.server.put(
        &format!("{OURS}/engrambackupstores/second"),
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "gcs": { "bucket": "copies" } },
        }),
    );
    copied_to_second(&lab, false);
    lab.pod("backup", &done());
    for _ in 0..2 {
        lab.pass().await.unwrap();
    }
    lab.pod(
        "copy",
        &failed("Error: the store does not let these credentials write"),
    );
    lab.pass().await.unwrap();
    assert_eq!(copied(&lab)[1], "AccessDenied");
    let copy = format!("{PODS}/b-copy");
    let old = lab.server.object(&copy).expect("its log can be read");
    let path = format!("{OURS}/engrambackups/b");
    let mut backup = lab.server.object(&path).unwrap();
    backup["metadata"]["generation"] = json!(2);
    lab.server.put(&path, backup);
    for _ in 0..2 {
        lab.pass().await.unwrap();
    }
    let new = lab.server.object(&copy).expect("it is begun anew");
    assert_ne!(new["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(copied(&lab)[1], "Running");
}

#[tokio::test]
async fn a_copy_that_is_wanted_elsewhere_is_made_there_whether_it_was_complete_or_under_way() {
    for complete in [true, false] {
        let lab = Lab::new("Retain");
        for name in ["second", "third"] {
            lab.server.put(
                &format!("{OURS}/engrambackupstores/{name}"),
                json!({
                    "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
                    "spec": { "gcs": { "bucket": name } },
                }),
            );
        }
        copied_to_second(&lab, false);
        lab.pod("backup", &done());
        for _ in 0..2 {
            lab.pass().await.unwrap();
        }
        if complete {
            lab.pod("copy", &json!({ "phase": "Succeeded" }));
            lab.pass().await.unwrap();
            assert_eq!(copied(&lab)[0], "True");
        }
        lab.server
            .change(&format!("{OURS}/engrambackups/b"), |backup| {
                backup["metadata"]["generation"] = json!(2);
                backup["spec"]["copyTo"] = json!({ "storeRef": { "name": "third" } });
            });
        if !complete {
            // It comes to its end at that moment, in the store that is not wanted any more.
            lab.pod("copy", &json!({ "phase": "Succeeded" }));
        }
        for _ in 0..2 {
            lab.pass().await.unwrap();
        }
        let command = copying(&lab)["command"].to_string();
        assert!(command.contains("--to=gs://third"), "{command}");
        assert_eq!(copied(&lab)[1], "Running");
        lab.pod("copy", &json!({ "phase": "Succeeded" }));
        lab.pass().await.unwrap();
        let [status, _, message] = copied(&lab);
        assert_eq!(status, "True");
        assert!(message.contains("EngramBackupStore third"), "{message}");
        // And once is enough, whatever else is changed.
        lab.server
            .change(&format!("{OURS}/engrambackups/b"), |backup| {
                backup["metadata"]["generation"] = json!(3);
                backup["spec"]["deletionPolicy"] = json!("Delete");
            });
        lab.pass().await.unwrap();
        assert_eq!(copied(&lab)[0], "True");
    }
}

#[tokio::test]
async fn what_could_not_be_verified_is_not_copied_for_that_reason_and_is_once_it_was() {
    let lab = Lab::new("Retain");
    copied_to_second(&lab, true);
    let path = format!("{OURS}/engrambackups/b");
    let verified = |status: &str, reason: &str| {
        let mut backup = lab.server.object(&path).unwrap();
        let now = Timestamp::now().to_string();
        let mut conditions = backup["status"]["conditions"].as_array().cloned();
        let all = conditions.get_or_insert_default();
        all.retain(|one| one["type"] != "Verified");
        all.push(json!({
            "type": "Verified", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": now, "observedGeneration": 1,
        }));
        backup["status"]["phase"] = json!("Completed");
        backup["status"]["backupID"] = json!("b-0a1b2c3d");
        backup["status"]["completedAt"] = json!("2026-01-01T00:00:00Z");
        backup["status"]["conditions"] = json!(all);
        lab.server.put(&path, backup);
    };
    for (reason, said) in [
        ("StoreUnreachable", "StoreUnreachable"),
        ("DeadlineExceeded", "DeadlineExceeded"),
        ("ScratchFull", "ScratchFull"),
        // What was missing is not waited for here.
        ("NotFound", "Failed"),
    ] {
        let mut backup = lab.server.object(&path).unwrap();
        backup["status"]["conditions"] = json!([]);
        lab.server.put(&path, backup);
        verified("False", reason);
        lab.pass().await.unwrap();
        assert_eq!(copied(&lab)[..2], ["False".to_owned(), said.to_owned()]);
        let before = lab.server.object(&path);
        lab.pass().await.unwrap();
        assert_eq!(lab.server.object(&path), before, "{reason}: it is settled");
    }
    // The store it goes to is not there yet: that is what is said once it is known to be good.
    verified("True", "Succeeded");
    lab.pass().await.unwrap();
    let [_, reason, message] = copied(&lab);
    assert!(
        message.contains("EngramBackupStore second"),
        "{reason}: {message}"
    );
}

#[tokio::test]
async fn a_key_that_is_missing_is_named_and_asked_for_again() {
    let lab = Lab::new("Retain");
    let path = format!("{OURS}/engrambackupstores/s");
    let mut store = lab.server.object(&path).unwrap();
    store["metadata"]["generation"] = json!(1);
    store["spec"]["encryption"] = json!({ "keys": [{ "secretRef": { "name": "keys" } }] });
    lab.server.put(&path, store);
    let owner = json!([{
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore", "name": "s",
        "uid": "store-uid",
    }]);
    let pod = |state: Value| {
        let created = Timestamp::now() - SignedDuration::from_secs(5);
        lab.server.put(
            &format!("{PODS}/s-{}-store", generation(&lab)),
            json!({
                "metadata": { "ownerReferences": owner, "creationTimestamp": created.to_string() },
                "status": state,
            }),
        );
    };
    let conditions = || {
        let store = lab.server.object(&path).unwrap();
        let all: Vec<Value> =
            serde_json::from_value(store["status"]["conditions"].clone()).unwrap_or_default();
        let said = |one: &Value| {
            let part = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            (
                part("type"),
                part("status"),
                part("reason"),
                part("message"),
            )
        };
        all.iter().map(said).collect::<Vec<_>>()
    };
    // It is asked; and a pod that waits for a Secret does not say so.
    lab.pass_of_store().await;
    pod(json!({ "phase": "Pending" }));
    lab.pass_of_store().await;
    let found = conditions();
    let reached = found.iter().find(|one| one.0 == "Reachable").unwrap();
    let (_, status, reason, message) = reached;
    assert_eq!([status, reason], ["False", "NotFound"]);
    assert!(message.contains("there is no Secret keys"), "{message}");
    assert!(message.contains("encryption.keys[0]"), "{message}");
    // Its own key is there, and another one is needed.
    let said = |missing: Value| {
        let said = json!({ "missing": missing, "unencrypted": 0, "writes": "00" });
        json!({ "phase": "Succeeded", "containerStatuses": [{
            "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "message": said.to_string() } },
        }] })
    };
    pod(said(json!(["9ff3aee1746efa20"])));
    lab.pass_of_store().await;
    let found = conditions();
    let keys = found.iter().find(|one| one.0 == "KeysAvailable");
    let keys = keys.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((keys.1.as_str(), keys.2.as_str()), ("False", "KeyMissing"));
    assert!(keys.3.contains("9ff3aee1746efa20"), "{keys:?}");
    let reachable = found.iter().find(|one| one.0 == "Reachable").unwrap();
    assert_eq!(reachable.1, "True");
    let shown = lab.context.metrics.text();
    let gauge = r#"engram_backup_store_keys_missing{namespace="data",store="s"} 1"#;
    assert!(shown.contains(gauge), "{shown}");
    // Without encryption none is missing; and nothing is said of a store that goes.
    let keyed = lab.server.object(&path).unwrap();
    let mut plain = keyed.clone();
    plain["spec"]["encryption"] = Value::Null;
    let mut going = keyed.clone();
    going["metadata"]["deletionTimestamp"] = json!(Timestamp::now().to_string());
    for store in [plain, going] {
        let labels = ["data", "s"];
        let missing = &lab.context.metrics.store_keys_missing;
        missing.with_label_values(&labels).set(1);
        lab.server.put(&path, store);
        lab.pass_of_store().await;
        let shown = lab.context.metrics.text();
        assert!(
            !shown.contains("engram_backup_store_keys_missing{"),
            "{shown}"
        );
    }
}

/// The generation of the store, as the names of its pods have it.
fn generation(lab: &Lab) -> i64 {
    let store = lab.server.object(&format!("{OURS}/engrambackupstores/s"));
    let store = store.unwrap();
    store["metadata"]["generation"].as_i64().unwrap_or_default()
}

#[tokio::test]
async fn in_a_namespace_that_goes_a_backup_does_not_stay_for_ever() {
    let lab = Lab::new("Delete");
    lab.delete(&format!("{OURS}/engrambackups/b"), 5);
    lab.server.goes("data");
    lab.pass().await.unwrap();
    assert!(
        lab.server
            .object(&format!("{OURS}/engrambackups/b"))
            .is_none()
    );
}

#[tokio::test]
async fn a_copy_whose_maker_could_not_be_written_down_is_deleted_as_well() {
    let lab = Lab::new("Delete");
    let path = format!("{OURS}/engrambackups/b");
    let mut backup = lab.server.object(&path).unwrap();
    backup["status"] = Value::Null;
    lab.server.put(&path, backup);
    lab.delete(&path, 5);
    lab.pod("backup", &json!({ "phase": "Running" }));
    for _ in 0..2 {
        lab.pass().await.unwrap();
        assert!(lab.server.object(&path).is_some(), "it may have been made");
    }
    assert_eq!(lab.server.paths("/pods/"), [format!("{PODS}/b-delete")]);
    lab.pod("delete", &json!({ "phase": "Succeeded" }));
    lab.pass().await.unwrap();
    assert_eq!(lab.server.object(&path), None);
}

#[tokio::test]
async fn a_pod_that_only_has_the_name_is_neither_deleted_nor_waited_for_in_silence() {
    let lab = Lab::new("Delete");
    let pod = format!("{PODS}/b-backup");
    lab.server
        .put(&pod, json!({ "status": { "phase": "Running" } }));
    lab.pass().await.unwrap();
    let backup = lab
        .server
        .object(&format!("{OURS}/engrambackups/b"))
        .unwrap();
    let said = backup["status"]["conditions"].to_string();
    assert!(
        said.contains("AlreadyExists") && said.contains("Pod b-backup"),
        "{said}"
    );
    lab.delete(&format!("{OURS}/engrambackups/b"), 5);
    lab.pass().await.unwrap();
    assert!(lab.server.object(&pod).is_some(), "it is somebody else's");
    assert!(lab.server.object(&format!("{PODS}/b-delete")).is_some());
}

#[tokio::test]
async fn a_backup_whose_store_is_elsewhere_by_now_is_none_the_worse_and_not_taken_for_deleted() {
    let lab = Lab::new("Delete");
    let path = format!("{OURS}/engrambackups/b");
    lab.pod("backup", &done_at("file:///old"));
    lab.pass().await.unwrap();
    assert_eq!(lab.phase(), "Completed");
    let mut backup = lab.server.object(&path).unwrap();
    backup["spec"]["verify"] = json!(true);
    lab.server.put(&path, backup);
    lab.pass().await.unwrap();
    assert_eq!(lab.phase(), "Completed");
    let said = lab.server.object(&path).unwrap()["status"]["conditions"].to_string();
    assert!(said.contains("it lies at file:///old/demo/"), "{said}");
    lab.delete(&path, 5);
    for _ in 0..2 {
        drop(lab.pass().await);
    }
    assert!(lab.server.object(&path).is_some(), "its copy is there yet");
    assert_eq!(lab.server.object(&format!("{PODS}/b-delete")), None);
    // Once the store goes as well nobody sets it back, and neither waits for the other.
    lab.delete(&format!("{OURS}/engrambackupstores/s"), 60);
    lab.pass().await.unwrap();
    assert_eq!(lab.server.object(&path), None);
    let notes = lab.server.notes("CopyKept");
    assert!(
        notes.iter().any(|note| note.contains("file:///old/demo/")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_quota_that_is_full_costs_an_attempt_and_not_the_backup() {
    let lab = Lab::new("Retain");
    let path = format!("{OURS}/engrambackups/b");
    lab.server.put(
        &format!("{OURS}/engramclusters/demo"),
        json!({ "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster", "spec": {} }),
    );
    let began = Timestamp::now().to_string();
    lab.server
        .change(&path, |backup| backup["status"]["startedAt"] = json!(began));
    let words = "pods \"b-backup\" is forbidden: exceeded quota: all, requested: requests.cpu=100m";
    lab.server.refuses_to_make("/pods/b-backup", words);
    lab.pass().await.unwrap();
    let status = lab.server.object(&path).unwrap()["status"].clone();
    assert_eq!(
        (&status["phase"], &status["attempts"]),
        (&json!("Running"), &json!(1))
    );
    let said = status["conditions"].to_string();
    assert!(
        said.contains("Retrying") && said.contains("exceeded quota"),
        "{said}"
    );
    // There is room again, and it is time.
    lab.server.makes_all();
    lab.server.change(&path, |backup| {
        backup["status"]["retryAt"] = json!("2026-01-01T00:00:00Z");
    });
    lab.pass().await.unwrap();
    assert!(lab.server.object(&format!("{PODS}/b-backup")).is_some());
}
