//! Services, budget and policy after what was asked for was taken back.

use serde_json::json;

use super::{CLUSTER, Lab};

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
