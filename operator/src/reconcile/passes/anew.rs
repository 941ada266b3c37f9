//! Restores into new clusters that do not come up: no wait is for ever, and none is given up that may yet end well.

use std::sync::Arc;

use serde_json::{Value, json};

use super::gone::LONG_AGO;
use super::{CORE, Lab};
use crate::api::{EngramCluster, EngramRestore};
use crate::reconcile::{cluster, restore};

const GROUP: &str = "/apis/engram.dev/v1alpha1/namespaces/data";
const NEXT: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engramclusters/next";
const RESTORE: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engramrestores/again";
const POD: &str = "/api/v1/namespaces/data/pods/next-1";

/// A restore of that backup into a cluster that is made for it, which has begun.
async fn begun() -> Lab {
    let lab = Lab::new(json!({}));
    lab.server.put(
        &format!("{GROUP}/engrambackupstores/s3"),
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "b", "credentialsSecretRef": { "name": "cloud" } } },
        }),
    );
    lab.server
        .put(&format!("{CORE}/secrets/cloud"), json!({ "data": {} }));
    // Pods of the played server are made long ago: nobody is given up for that here.
    let tls = json!({ "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } });
    lab.server.put(
        RESTORE,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
            "spec": {
                "source": { "storeRef": { "name": "s3" }, "cluster": "demo", "backup": "b" },
                "target": { "name": "next", "spec": { "tls": tls, "healing": { "enabled": false } } },
            },
        }),
    );
    for _ in 0..2 {
        restores(&lab).await;
    }
    passes(&lab, 5).await;
    assert!(
        lab.server.object(POD).is_some(),
        "{:?}",
        lab.server.paths("/data/")
    );
    lab
}

async fn restores(lab: &Lab) {
    let seen: EngramRestore = serde_json::from_value(lab.server.object(RESTORE).unwrap()).unwrap();
    let pass = restore::reconcile(Arc::new(seen), lab.context.clone());
    Box::pin(pass).await.map(drop).unwrap();
}

async fn passes(lab: &Lab, count: usize) {
    for _ in 0..count {
        let seen: EngramCluster = serde_json::from_value(lab.server.object(NEXT).unwrap()).unwrap();
        let fresh = Lab::on(lab.server.clone());
        let pass = cluster::reconcile(Arc::new(seen), fresh.context.clone());
        Box::pin(pass).await.map(drop).unwrap();
    }
}

/// Its phase, and what the condition Complete says.
fn stands(lab: &Lab) -> (String, String) {
    let status = lab.server.object(RESTORE).unwrap()["status"].clone();
    let conditions: Vec<Value> = serde_json::from_value(status["conditions"].clone()).unwrap();
    let complete = conditions
        .iter()
        .find(|one| one["type"] == "Complete")
        .unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = format!(
        "{}: {}",
        text(&complete["reason"]),
        text(&complete["message"])
    );
    (text(&status["phase"]), said)
}

/// One whose first member's pod no node takes, for longer than it may.
async fn stuck() -> Lab {
    let lab = begun().await;
    lab.server.change(POD, |pod| {
        pod["status"] = json!({ "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: insufficient memory", "lastTransitionTime": LONG_AGO,
        }] });
    });
    passes(&lab, 1).await;
    restores(&lab).await;
    lab
}

#[tokio::test]
async fn a_new_cluster_that_never_starts_ends_its_restore_and_says_what_to_do() {
    let lab = stuck().await;
    let (phase, said) = stands(&lab);
    assert_eq!(phase, "Failed", "{said}");
    for part in [
        "RestoreStuck: next-1",
        "since 2026-01-01T00:00:00Z",
        "insufficient memory",
        "goes on by itself",
        "delete EngramCluster next",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let ended = lab.server.object(RESTORE).unwrap()["status"]["completedAt"].clone();
    assert!(ended.is_string());
    // A node is added.
    lab.server.change(POD, |pod| pod["status"] = Value::Null);
    lab.fills("next-1");
    passes(&lab, 1).await;
    restores(&lab).await;
    let (phase, said) = stands(&lab);
    assert_eq!(phase, "Running", "{said}");
    assert!(lab.server.object(RESTORE).unwrap()["status"]["completedAt"].is_null());
}

#[tokio::test]
async fn one_that_comes_up_after_its_restore_had_failed_is_restored() {
    let lab = stuck().await;
    assert_eq!(stands(&lab).0, "Failed");
    let answers = |ready: &'static str| {
        lab.server.change(NEXT, |one| {
            one["status"]["clusterID"] = json!("9");
            for condition in one["status"]["conditions"].as_array_mut().unwrap() {
                if condition["type"] == "Ready" {
                    condition["status"] = json!(ready);
                    condition["reason"] = json!("AsExpected");
                    condition["message"] = json!("next-2 joins");
                }
                if condition["type"] == "QuorumAvailable" {
                    condition["status"] = json!("True");
                }
            }
        });
    };
    answers("False");
    restores(&lab).await;
    let (phase, said) = stands(&lab);
    assert_eq!(phase, "Running", "{said}");
    assert!(
        said.contains("its data is there, and is served: next-2 joins"),
        "{said}"
    );
    answers("True");
    restores(&lab).await;
    assert_eq!(stands(&lab).0, "Completed");
}
