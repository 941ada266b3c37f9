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
    let said = json!({
        "id": "b-0a1b2c3d", "cluster": "demo", "clusterID": "7", "incarnation": "0", "revision": 7,
        "compactRevision": -1, "hashKV": 9, "size": 5, "createdAt": "2026-01-01T00:00:00Z",
        "engramVersion": "0.1.0", "path": "file:///backups/demo/b-0a1b2c3d",
    });
    json!({ "phase": "Succeeded", "containerStatuses": [{
        "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 0, "message": said.to_string() } },
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
async fn a_store_that_is_deleted_with_a_backup_goes_after_its_copy() {
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
