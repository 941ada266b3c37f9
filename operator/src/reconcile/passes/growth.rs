//! A volume that is asked to grow, and is not let.

use serde_json::{Value, json};

use super::CLUSTER;
use super::gone::Cluster;

/// As Kubernetes says it of a claim whose class does not do that.
const WORDS: &str = "persistentvolumeclaims \"data-demo-1\" is forbidden: only dynamically provisioned pvc can be \
    resized and the storageclass that provisions the pvc must support resize";

/// How often claims were asked to grow since the last time.
fn asked(cluster: &Cluster) -> usize {
    let asked = cluster.lab.server.requests();
    let claims = asked.iter().filter(|(method, path)| {
        method == hyper::Method::PATCH && path.contains("/persistentvolumeclaims/")
    });
    claims.count()
}

fn sizes(cluster: &Cluster) -> Vec<Value> {
    let server = &cluster.lab.server;
    let claims = server.paths("/persistentvolumeclaims/").into_iter();
    let claims = claims.filter_map(|path| server.object(&path));
    claims
        .map(|claim| claim["spec"]["resources"]["requests"]["storage"].clone())
        .collect()
}

#[tokio::test]
async fn a_volume_that_is_not_let_grow_is_asked_again_after_a_minute_and_costs_nothing_until_then()
{
    let cluster = Cluster::new(&json!({})).await;
    let server = &cluster.lab.server;
    server.refuses_to_change("/persistentvolumeclaims/", WORDS);
    server.change(CLUSTER, |one| {
        one["spec"]["storage"] = json!({ "size": "16Gi" });
        one["metadata"]["generation"] = json!(2);
    });
    server.requests();
    cluster.rounds(3).await;
    assert_eq!(asked(&cluster), 3, "each once");
    let said = || cluster.lab.condition("Degraded");
    let is_said = || {
        let (status, reason, message) = said();
        assert_eq!((status.as_str(), reason.as_str()), ("True", "InvalidSpec"));
        assert!(message.contains("set allowVolumeExpansion"), "{message}");
    };
    is_said();
    assert_eq!(cluster.lab.condition("Ready").0, "True");
    // Where nothing is heard of the cluster nobody is asked anything.
    for _ in 0..2 {
        cluster.lab.pass_without_news().await.unwrap();
    }
    assert_eq!(server.requests(), []);
    is_said();
    // Another size is asked for at once.
    server.change(CLUSTER, |one| {
        one["spec"]["storage"] = json!({ "size": "32Gi" });
        one["metadata"]["generation"] = json!(3);
    });
    cluster.rounds(2).await;
    assert_eq!(asked(&cluster), 3);
    // The class lets them grow by now.
    server.changes_all();
    cluster.lab.context.look_again();
    cluster.rounds(2).await;
    assert_eq!(
        sizes(&cluster),
        [json!("32Gi"), json!("32Gi"), json!("32Gi")]
    );
    assert_eq!(said().0, "False");
}
