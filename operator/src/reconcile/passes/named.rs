//! What an object names and is not there: that is said, and goes by itself when it comes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab};
use crate::api::{EngramOperation, EngramRestore, EngramUser};
use crate::clock;
use crate::played::Played;
use crate::reconcile::{access, operation, restore};

const OURS: &str = "/apis/engram.dev/v1alpha1/namespaces/data";

/// An object of ours that was made so many seconds ago.
fn put(server: &Played, plural: &str, kind: &str, spec: Value, ago: i64) -> String {
    let path = format!("{OURS}/{plural}/one");
    let made = clock::now().as_second() - ago;
    let made = k8s_openapi::jiff::Timestamp::from_second(made).unwrap();
    server.put(
        &path,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": { "creationTimestamp": made.to_string() },
        }),
    );
    path
}

/// Its phase, and a condition's reason and message.
fn said(server: &Played, path: &str, kind: &str) -> (String, String, String) {
    let status = server.object(path).unwrap()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == kind);
    let found = found.unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&status["phase"]),
        text(&found["reason"]),
        text(&found["message"]),
    )
}

async fn operate(lab: &Lab, path: &str) {
    let seen: EngramOperation = serde_json::from_value(lab.server.object(path).unwrap()).unwrap();
    let pass = operation::reconcile(Arc::new(seen), lab.context.clone());
    Box::pin(pass).await.unwrap();
}

#[tokio::test]
async fn an_operation_waits_for_a_cluster_that_comes_with_it() {
    let spec = json!({ "clusterRef": { "name": "demo" }, "compact": {} });
    let lab = Lab::new(json!({
        "tls": { "client": { "mode": "Secret", "secretName": "mine" } },
    }));
    let cluster = lab.server.remove(CLUSTER).unwrap();
    let path = put(
        &lab.server,
        "engramoperations",
        "EngramOperation",
        spec.clone(),
        5,
    );
    operate(&lab, &path).await;
    let (phase, reason, message) = said(&lab.server, &path, "Complete");
    assert_eq!((phase.as_str(), reason.as_str()), ("Pending", "NotFound"));
    assert!(message.contains("no EngramCluster demo"), "{message}");
    // It is there, and its Secret is not.
    lab.server.put(CLUSTER, cluster);
    operate(&lab, &path).await;
    let (phase, reason, message) = said(&lab.server, &path, "Complete");
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Pending", "CertificateInvalid")
    );
    assert!(message.contains("no Secret mine"), "{message}");
    // Not for ever.
    let path = put(
        &lab.server,
        "engramoperations",
        "EngramOperation",
        spec,
        700,
    );
    operate(&lab, &path).await;
    let (phase, reason, _) = said(&lab.server, &path, "Complete");
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Rejected", "CertificateInvalid")
    );
}

#[tokio::test]
async fn an_operation_that_a_finalizer_holds_holds_no_other_one_up() {
    let lab = Lab::new(json!({
        "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } },
    }));
    let spec = json!({ "clusterRef": { "name": "demo" }, "compact": {} });
    let path = put(&lab.server, "engramoperations", "EngramOperation", spec, 5);
    let earlier = format!("{OURS}/engramoperations/earlier");
    let mut held = lab.server.object(&path).unwrap();
    held["metadata"] = json!({ "finalizers": ["somebody/else"] });
    lab.server.put(&earlier, held);
    operate(&lab, &path).await;
    assert_eq!(said(&lab.server, &path, "Complete").1, "WaitingForTurn");
    lab.server.deletes(&earlier);
    operate(&lab, &path).await;
    assert_eq!(said(&lab.server, &path, "Complete").1, "WaitingForCluster");
}

#[tokio::test]
async fn a_restore_waits_a_while_for_the_cluster_that_it_restores() {
    let server = Played::default();
    for kind in ["InPlace", "QuorumRecovery"] {
        let mut spec = json!({ "kind": kind, "target": { "name": "demo" } });
        if kind == "InPlace" {
            spec["source"] = json!({ "storeRef": { "name": "s3" }, "cluster": "demo" });
        }
        for (ago, wanted) in [(5, "Pending"), (90, "Failed")] {
            let path = put(
                &server,
                "engramrestores",
                "EngramRestore",
                spec.clone(),
                ago,
            );
            let seen: EngramRestore =
                serde_json::from_value(server.object(&path).unwrap()).unwrap();
            let pass = restore::reconcile(Arc::new(seen), Arc::new(server.context()));
            Box::pin(pass).await.unwrap();
            let (phase, reason, message) = said(&server, &path, "Complete");
            assert_eq!((phase.as_str(), reason.as_str()), (wanted, "NotFound"));
            assert!(message.contains("no EngramCluster demo"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_user_says_that_its_cluster_is_not_there_and_then_that_it_does_not_serve() {
    let lab = Lab::new(json!({ "auth": { "enabled": true } }));
    let cluster = lab.server.remove(CLUSTER).unwrap();
    let spec = json!({ "clusterRef": { "name": "demo" }, "deletionPolicy": "Retain" });
    let path = put(&lab.server, "engramusers", "EngramUser", spec, 5);
    let pass = async || {
        let seen: EngramUser = serde_json::from_value(lab.server.object(&path).unwrap()).unwrap();
        Box::pin(access::user(Arc::new(seen), lab.context.clone()))
            .await
            .unwrap();
        said(&lab.server, &path, "Ready")
    };
    let (_, reason, message) = pass().await;
    assert_eq!(reason, "NotFound");
    assert!(message.contains("no EngramCluster demo"), "{message}");
    lab.server.put(CLUSTER, cluster);
    let (_, reason, message) = pass().await;
    assert_eq!(reason, "WaitingForCluster");
    assert!(message.contains("EngramCluster demo"), "{message}");
}

/// Two installations see the same objects: only the one that looks after the cluster says anything of them.
#[tokio::test]
async fn what_is_asked_of_anothers_cluster_is_left_to_it() {
    let lab = Lab::new(json!({ "auth": { "enabled": true } }));
    lab.server.change(CLUSTER, |cluster| {
        cluster["status"]["heldBy"] = json!("elsewhere/engram-operator");
    });
    let of = json!({ "clusterRef": { "name": "demo" } });
    let compact = json!({ "clusterRef": { "name": "demo" }, "compact": {} });
    let recovery = json!({ "kind": "QuorumRecovery", "target": { "name": "demo" } });
    let paths = [
        put(&lab.server, "engramusers", "EngramUser", of, 5),
        put(
            &lab.server,
            "engramoperations",
            "EngramOperation",
            compact,
            5,
        ),
        put(&lab.server, "engramrestores", "EngramRestore", recovery, 5),
    ];
    let status = json!({ "phase": "Running", "conditions": [{
        "type": "Complete", "status": "False", "reason": "Running", "message": "the other one's words",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] });
    for path in &paths {
        lab.server
            .change(path, |object| object["status"] = status.clone());
    }
    lab.server.requests();
    let [user, operation, back] = &paths;
    let seen: EngramUser = serde_json::from_value(lab.server.object(user).unwrap()).unwrap();
    Box::pin(access::user(Arc::new(seen), lab.context.clone()))
        .await
        .unwrap();
    operate(&lab, operation).await;
    let seen: EngramRestore = serde_json::from_value(lab.server.object(back).unwrap()).unwrap();
    Box::pin(restore::reconcile(Arc::new(seen), lab.context.clone()))
        .await
        .unwrap();
    let asked = lab.server.requests();
    let writes = asked
        .iter()
        .filter(|(method, _)| *method != hyper::Method::GET);
    assert_eq!(writes.count(), 0, "{asked:#?}");
}

/// The operator's machine has a clock of its own.
#[tokio::test]
async fn ages_are_told_by_the_api_servers_clock() {
    use std::time::Duration;

    use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::rfc2822};
    use kube::{Api, Client};
    use tower_layer::Layer as _;

    use crate::api::EngramCluster;
    use crate::apiserver::Bound;

    for minutes in [-10, 10] {
        let lab = Lab::new(json!({}));
        // By the API server it is that much later or earlier.
        let there = Timestamp::now() + SignedDuration::from_mins(minutes);
        let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&there);
        lab.server.dates(&date.unwrap());
        let client = Client::new(
            Bound(Duration::from_secs(9)).layer(lab.server.clone()),
            "data",
        );
        let clusters: Api<EngramCluster> = Api::default_namespaced(client);
        clusters.get("demo").await.unwrap();
        let off = clock::now().as_second() - there.as_second();
        assert!(off.abs() <= 2, "{minutes} minutes: {off} s");
        // A pod that was made just now has all of its time.
        lab.member(1);
        lab.pass().await.unwrap();
        let path = format!("{CORE}/pods/demo-1");
        lab.server.change(&path, |pod| {
            pod["metadata"]["creationTimestamp"] = json!(there.to_string());
            pod["status"] = json!({ "phase": "Pending" });
        });
        lab.pass().await.unwrap();
        let member = format!("{}/demo-1", super::MEMBERS);
        let away = lab.server.object(&member).unwrap()["status"]["awaySince"].clone();
        let away: Timestamp = away.as_str().unwrap().parse().unwrap();
        let off = away.as_second() - there.as_second();
        assert!(off.abs() <= 2, "{minutes} minutes: away for {off} s");
    }
}
