//! A cluster that has its image from a catalog.

use std::sync::Arc;

use serde_json::{Value, json};

use super::in_place::{RESTORE, STORE};
use super::{CLUSTER, CORE, Lab};
use crate::api::EngramRestore;
use crate::reconcile::restore;

const CATALOG: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engramimagecatalogs/engram";

fn lists(lab: &Lab, versions: &[&str]) {
    let images = versions.iter();
    let images =
        images.map(|one| json!({ "version": one, "image": format!("mirror/engram:{one}") }));
    let images: Vec<Value> = images.collect();
    lab.server.put(
        CATALOG,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramImageCatalog",
            "spec": { "images": images },
        }),
    );
}

fn asks_for(lab: &Lab, version: &str) {
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["spec"]["imageCatalog"] = json!({ "name": "engram", "version": version });
    lab.server.put(CLUSTER, cluster);
}

/// The image of a pod that is made now.
async fn image(lab: &Lab) -> String {
    let pod = format!("{CORE}/pods/demo-1");
    lab.server.remove(&pod);
    drop(lab.pass().await);
    let pod = lab.server.object(&pod).unwrap_or_default();
    let image = pod["spec"]["containers"][0]["image"].as_str();
    image.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn versions_come_from_the_catalog_and_go_forward_step_by_step() {
    let lab = Lab::new(json!({}));
    lab.member(1);
    asks_for(&lab, "1.1.0");
    let refused = lab.pass().await.unwrap_err();
    assert!(
        refused.contains("no EngramImageCatalog engram"),
        "{refused}"
    );
    lists(&lab, &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    lab.pass().await.unwrap();
    assert_eq!(image(&lab).await, "mirror/engram:1.1.0");
    // A step forward; what skips one, goes back or is not there is named, and members run what they run.
    asks_for(&lab, "1.2.0");
    lab.pass().await.unwrap();
    assert_eq!(image(&lab).await, "mirror/engram:1.2.0");
    for (version, words) in [("1.4.0", "it has 1.0.0, 1.1.0"), ("1.0.0", "it is older")] {
        asks_for(&lab, version);
        let refused = lab.pass().await.unwrap_err();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(lab.condition("Degraded").0, "True");
        assert_eq!(image(&lab).await, "mirror/engram:1.2.0");
    }
    lists(&lab, &["1.2.0", "1.4.0"]);
    asks_for(&lab, "1.4.0");
    let refused = lab.pass().await.unwrap_err();
    assert!(refused.contains("skips a version"), "{refused}");
    // Another place for the same version.
    lab.server.put(
        CATALOG,
        json!({ "spec": { "images": [{ "version": "1.2.0", "image": "other/engram:1.2.0" }] } }),
    );
    asks_for(&lab, "1.2.0");
    lab.pass().await.unwrap();
    assert_eq!(image(&lab).await, "other/engram:1.2.0");
}

#[tokio::test]
async fn a_cluster_whose_catalog_never_was_can_be_deleted() {
    let lab = Lab::new(json!({ "healing": { "unhealthyAfter": "99999999999999999999h" } }));
    asks_for(&lab, "1.1.0");
    lab.pass().await.unwrap_err();
    lab.server.deletes(CLUSTER);
    lab.pass().await.unwrap();
    assert_eq!(lab.server.object(CLUSTER), None);
}

/// One pass of the restore that is there.
async fn restores(lab: &Lab) -> Result<(), String> {
    let seen: EngramRestore = serde_json::from_value(lab.server.object(RESTORE).unwrap()).unwrap();
    let pass = Box::pin(restore::reconcile(Arc::new(seen), lab.context.clone()));
    pass.await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
pub(super) async fn a_cluster_that_is_to_be_made_is_planned_with_the_image_of_its_catalog() {
    let lab = Lab::new(json!({}));
    lab.server.put(
        STORE,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "backups" } },
        }),
    );
    let source = json!({ "storeRef": { "name": "s3" }, "cluster": "demo", "backup": "one" });
    let spec = json!({
        "imageCatalog": { "name": "engram", "version": "1.1.0" },
        "imagePullSecrets": [{ "name": "registry" }],
    });
    let wish = json!({
        "kind": "NewCluster", "dryRun": true, "source": source,
        "target": { "name": "next", "spec": spec },
    });
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    lab.server.put(
        RESTORE,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
            "metadata": { "creationTimestamp": now }, "spec": wish,
        }),
    );
    // It may be on its way with it.
    restores(&lab).await.unwrap();
    let said = || lab.server.object(RESTORE).unwrap()["status"].clone();
    assert_eq!(said()["phase"], "Pending");
    assert!(
        said().to_string().contains("no EngramImageCatalog engram"),
        "{}",
        said()
    );
    lists(&lab, &["1.1.0"]);
    restores(&lab).await.unwrap();
    let pod = lab
        .server
        .object(&format!("{CORE}/pods/back-show"))
        .expect("the store is asked");
    assert_eq!(pod["spec"]["containers"][0]["image"], "mirror/engram:1.1.0");
    assert_eq!(
        pod["spec"]["imagePullSecrets"],
        json!([{ "name": "registry" }])
    );
    // One that never comes is a refusal.
    lab.server.remove(CATALOG);
    lab.server.change(RESTORE, |one| {
        one["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    restores(&lab).await.unwrap();
    assert_eq!(said()["phase"], "Failed");
}
