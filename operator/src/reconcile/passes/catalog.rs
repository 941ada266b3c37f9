//! A cluster that has its image from a catalog.

use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab};

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
