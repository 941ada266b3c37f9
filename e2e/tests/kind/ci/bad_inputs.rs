//! What is wrong is refused, or said in a condition, and the words say what to do.

use std::sync::Arc;

use engram_e2e::kind::{Condition, Declared, Kind, condition, wait_for};
use serde_json::{Value, json};

use crate::lab::LIMIT;
use crate::s3::{BUCKET, S3};

/// The namespace of the quick start.
const NAMESPACE: &str = "default";
/// More characters than names of a cluster's objects have room for.
const LONG: usize = 41;

/// Declares what is only found out by trying: the answers come while other things go on.
pub fn begin(kind: &Arc<Kind>) {
    let objects = [
        S3::credentials("s3-wrong", "not-the-secret"),
        S3::store("wrong-credentials", BUCKET, "s3-wrong"),
        S3::store("missing-bucket", "not-there", "s3"),
        S3::store("missing-secret", BUCKET, "no-such-secret"),
        S3::store_over_tls("missing-authority", BUCKET, "s3", "no-such-secret"),
        S3::store_over_tls("other-authority", BUCKET, "s3", "demo-client-tls"),
    ];
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    kind.apply(NAMESPACE, &list.to_string());
}

/// Tells the story.
pub fn tell(demo: &Declared) {
    let kind = demo.kind();
    for (store, reason, advice) in [
        ("wrong-credentials", "AccessDenied", "credentialsSecretRef"),
        ("missing-bucket", "BucketNotFound", "make the bucket"),
        ("missing-secret", "NotFound", "make the Secret"),
        ("missing-authority", "NotFound", "caSecretRef names"),
        ("other-authority", "StoreUnreachable", "caSecretRef"),
    ] {
        let said = unreachable(kind, store);
        assert_eq!(said.reason, reason, "{store}: {said:?}");
        assert!(said.message.contains(advice), "{store}: {said:?}");
    }
    let cluster = |name: &str, replicas: usize, size: &str| {
        let spec = json!({ "replicas": replicas, "storage": { "size": size } });
        object("EngramCluster", name, &spec)
    };
    refused(
        kind,
        &cluster("two", 2, "1Gi"),
        "replicas has to be 0, 1, 3, 5 or 7",
    );
    let long = "a".repeat(LONG);
    refused(kind, &cluster(&long, 3, "1Gi"), "at most 40 characters");
    refused(
        kind,
        &cluster(demo.name(), 3, "512Mi"),
        "storage.size cannot shrink",
    );
    let schedule = json!({
        "clusterRef": { "name": demo.name() }, "storeRef": { "name": "bucket" },
        "schedule": "0 0 3 * * *",
    });
    refused(
        kind,
        &object("EngramBackupSchedule", "six-fields", &schedule),
        "exactly five fields",
    );
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name }, "spec": spec,
    })
}

fn refused(kind: &Kind, object: &Value, words: &str) {
    let applied = kind.try_apply(NAMESPACE, &object.to_string());
    let text = applied.text();
    assert!(!applied.status.success(), "accepted: {object}");
    assert!(text.contains(words), "{text}");
}

fn unreachable(kind: &Kind, store: &str) -> Condition {
    wait_for(&format!("store {store} is found out"), LIMIT, || {
        let object = kind.get(NAMESPACE, &["engrambackupstore", store])?;
        condition(&object, "Reachable").filter(|found| found.status == "False")
    })
}
