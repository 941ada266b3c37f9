//! Passes of stores against an API server that is played: what is reached by Secrets that change.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action as Next;
use serde_json::{Value, json};

use super::super::Context;
use crate::api::EngramBackupStore;
use crate::played::Played;

const STORE: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engrambackupstores/s3";
const SECRET: &str = "/api/v1/namespaces/data/secrets/cloud";
const POD: &str = "/api/v1/namespaces/data/pods/s3-1-store";

struct Lab {
    server: Played,
    context: Arc<Context>,
}

impl Lab {
    /// A store that was asked with what is in its Secret.
    async fn new() -> Self {
        let server = Played::default();
        server.put(
            STORE,
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
                "metadata": { "uid": "store-uid", "generation": 1 },
                "spec": { "s3": { "bucket": "b", "credentialsSecretRef": { "name": "cloud" } } },
            }),
        );
        server.put(SECRET, json!({ "data": { "AWS_ACCESS_KEY_ID": "YQ==" } }));
        let lab = Self::on(server);
        lab.asks().await;
        lab.pod(&json!({ "phase": "Succeeded" }));
        lab.pass().await;
        assert_eq!(lab.reachable(), ("True".into(), "AsExpected".into()));
        assert_eq!(lab.server.object(POD), None);
        lab
    }

    fn on(server: Played) -> Self {
        let context = Arc::new(server.context());
        Self { server, context }
    }

    async fn pass(&self) -> Next {
        let seen = self.server.object(STORE).unwrap();
        let seen: EngramBackupStore = serde_json::from_value(seen).unwrap();
        let pass = super::reconcile(Arc::new(seen), self.context.clone());
        Box::pin(pass).await.unwrap()
    }

    /// Passes that have it asked anew: what an earlier one had begun goes first.
    async fn asks(&self) {
        let uid = || Some(self.server.object(POD)?["metadata"]["uid"].clone());
        let before = uid();
        for _ in 0..2 {
            if uid().is_none() || uid() == before {
                self.pass().await;
            }
        }
        assert!(uid().is_some() && uid() != before, "it is asked");
    }

    fn pod(&self, status: &Value) {
        // It was made just now.
        self.server.change(POD, |pod| {
            pod["status"] = status.clone();
            pod["metadata"]["creationTimestamp"] = json!(Timestamp::now().to_string());
        });
    }

    /// What tools that go by kstatus make of it.
    fn stands(&self) -> &'static str {
        let conditions = self.server.object(STORE).unwrap()["status"]["conditions"].clone();
        let all: Vec<Value> = serde_json::from_value(conditions).unwrap();
        let holds = |kind: &str| {
            all.iter()
                .any(|one| one["type"] == kind && one["status"] == "True")
        };
        match (holds("Reconciling"), holds("Stalled"), holds("Ready")) {
            (true, false, false) => "InProgress",
            (false, true, false) => "Failed",
            (false, false, true) => "Current",
            other => panic!("{other:?}: {all:?}"),
        }
    }

    fn reachable(&self) -> (String, String) {
        let store = self.server.object(STORE).unwrap();
        let one = store["status"]["conditions"][0].clone();
        assert_eq!(one["type"], "Reachable");
        let text = |key: &str| one[key].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }
}

#[tokio::test]
pub(in crate::reconcile) async fn what_becomes_of_its_secret_is_seen_within_minutes_and_nothing_costs_little()
 {
    let lab = Lab::new().await;
    lab.server.requests();
    for _ in 0..3 {
        let next = lab.pass().await;
        assert_eq!(next, Next::requeue(Duration::from_secs(120)));
    }
    let asked = lab.server.requests();
    assert_eq!(asked.len(), 3, "{asked:?}");
    let of_it =
        |(method, path): &(Method, String)| *method == Method::GET && path.contains("/secrets/");
    assert!(asked.iter().all(of_it), "{asked:?}");
    // Other credentials: they may open nothing.
    lab.server.change(SECRET, |one| {
        one["data"]["AWS_ACCESS_KEY_ID"] = json!("Yg==")
    });
    lab.asks().await;
    lab.pod(&json!({ "phase": "Failed", "containerStatuses": [{
        "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 1, "message": "Error: the store does not know these credentials" } },
    }] }));
    lab.pass().await;
    assert_eq!(lab.reachable(), ("False".into(), "AccessDenied".into()));
    assert_eq!(lab.stands(), "Failed");
    // The right ones are not waited for until it would be asked again anyhow.
    lab.server.change(SECRET, |one| {
        one["data"]["AWS_ACCESS_KEY_ID"] = json!("YQ==")
    });
    lab.asks().await;
    lab.pod(&json!({ "phase": "Succeeded" }));
    lab.pass().await;
    assert_eq!(lab.reachable().0, "True");
    assert_eq!(lab.stands(), "Current");
    // None.
    lab.server.remove(SECRET);
    lab.asks().await;
    lab.pod(&json!({ "phase": "Pending", "containerStatuses": [{
        "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": {
            "reason": "CreateContainerConfigError", "message": "secret \"cloud\" not found",
        } },
    }] }));
    lab.pass().await;
    assert_eq!(lab.reachable(), ("False".into(), "NotFound".into()));
    assert_eq!(lab.stands(), "InProgress");
    assert_eq!(lab.server.notes("NotFound").len(), 1);
}

#[tokio::test]
async fn an_answer_by_secrets_that_are_others_by_now_is_none() {
    let lab = Lab::new().await;
    let change = |text: &str| {
        lab.server
            .change(SECRET, |one| one["data"]["AWS_ACCESS_KEY_ID"] = json!(text));
    };
    change("Yg==");
    lab.asks().await;
    let first = lab.server.object(POD).unwrap()["metadata"]["uid"].clone();
    lab.pod(&json!({ "phase": "Succeeded" }));
    // Changed while it was asked.
    change("Yw==");
    lab.asks().await;
    let second = lab.server.object(POD).unwrap()["metadata"]["uid"].clone();
    assert_ne!(first, second);
    // Nor is one that another operator has begun, who knows by what.
    lab.pod(&json!({ "phase": "Succeeded" }));
    let next = Lab::on(lab.server.clone());
    next.asks().await;
    assert_ne!(lab.server.object(POD).unwrap()["metadata"]["uid"], second);
}

#[tokio::test]
async fn a_store_that_an_earlier_operator_asked_is_not_asked_anew_for_that() {
    let lab = Lab::new().await;
    let now = Timestamp::now() - SignedDuration::from_secs(60);
    lab.server.change(STORE, |store| {
        store["status"].as_object_mut().unwrap().remove("secrets");
        store["status"]["conditions"][0]["lastTransitionTime"] = json!(now.to_string());
    });
    for _ in 0..2 {
        lab.pass().await;
    }
    assert_eq!(lab.server.object(POD), None);
}
