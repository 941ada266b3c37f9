//! Services, budget and policy after what was asked for was taken back.

use serde_json::json;

use super::gone::Cluster;
use super::{CLUSTER, CORE, Lab};

const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/data/networkpolicies/demo-members";

#[tokio::test]
pub(super) async fn who_is_named_no_more_is_out_of_the_policy() {
    let from = json!([{ "podSelector": { "matchLabels": { "role": "client" } } }]);
    let lab = Lab::new(json!({ "networkPolicy": { "from": from } }));
    let clients = || lab.server.object(POLICY).unwrap()["spec"]["ingress"][0]["from"].clone();
    lab.pass().await.unwrap();
    assert_eq!(clients()[0], from[0]);
    lab.server.change(CLUSTER, |cluster| {
        cluster["spec"]["networkPolicy"]["from"] = json!([]);
    });
    lab.pass().await.unwrap();
    assert!(clients().is_null(), "{}", clients());
}

#[tokio::test]
async fn what_an_operator_built_before_is_not_written_again_by_the_next_one() {
    let lab = Lab::new(json!({}));
    lab.pass().await.unwrap();
    let version = || lab.server.object(POLICY).unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    let next = Lab::on(lab.server.clone());
    next.pass().await.unwrap();
    assert_eq!(version(), before);
}

const BUDGET: &str = "/apis/policy/v1/namespaces/data/poddisruptionbudgets/demo";

#[tokio::test]
async fn a_service_that_is_refused_keeps_no_budget_and_no_policy_from_being_as_they_should() {
    let cluster = Cluster::new(&json!({})).await;
    let server = &cluster.lab.server;
    for path in [BUDGET, POLICY] {
        server.remove(path).unwrap();
    }
    let service = format!("{CORE}/services/demo-client");
    server.remove(&service).unwrap();
    server.put(
        &service,
        json!({ "spec": { "selector": { "app": "other" } } }),
    );
    cluster.lab.context.look_again();
    let refused = cluster.lab.pass().await.unwrap_err();
    assert!(refused.contains("demo-client"), "{refused}");
    for path in [BUDGET, POLICY] {
        assert!(server.object(path).is_some(), "{path}");
    }
}

#[tokio::test]
async fn as_long_as_nobody_says_who_votes_evictions_are_held_to_what_was_known() {
    let cluster = Cluster::new(&json!({})).await;
    let server = &cluster.lab.server;
    let least = || {
        server
            .object(BUDGET)
            .map(|budget| budget["spec"]["minAvailable"].clone())
    };
    assert_eq!(least(), Some(json!(2)));
    // One is to be left, and the three that vote do not answer: each of them may be needed.
    cluster.members.lose_quorum();
    cluster.change(CLUSTER, |cluster| cluster["spec"]["replicas"] = json!(1));
    cluster.lab.context.look_again();
    cluster.lab.pass().await.unwrap();
    assert_eq!(least(), Some(json!(2)));
    // There is none any more where none is wanted.
    cluster.change(CLUSTER, |cluster| {
        cluster["spec"]["podDisruptionBudget"] = json!({ "enabled": false });
    });
    cluster.lab.pass().await.unwrap();
    assert_eq!(least(), None);
}
