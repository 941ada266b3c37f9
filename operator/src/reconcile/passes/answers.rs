//! Whose answers count, and what a pass does where a part of it cannot be done.

use std::time::{Duration, Instant};

use serde_json::json;

use super::gone::{Cluster, LONG_AGO, MEMBER, NODES, ROUNDS, claim, node_not_ready};
use super::{CLUSTER, CORE, Lab, MEMBERS};
use crate::played::members::Members;

/// A member that answers nothing costs a pass what a call may take, and not more.
const PASS_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_cluster_is_founded_joined_one_by_one_and_known_by_its_id_ever_after() {
    let off = json!({ "mode": "Disabled" });
    let lab = Lab::new(json!({ "tls": { "client": off, "peer": off } }));
    let members = Members::default();
    let cluster = Cluster { lab, members };
    cluster.change(CLUSTER, |cluster| cluster["status"] = json!({}));
    cluster.rounds(2 * ROUNDS).await;
    let (voters, learners) = cluster.members.listed();
    assert_eq!(voters, ["demo-1", "demo-2", "demo-3"], "{learners:?}");
    let (ready, reason, message) = cluster.lab.condition("Ready");
    assert_eq!(ready, "True", "{reason}: {message}");
    assert_eq!(cluster.notes("Bootstrapped").len(), 1);
    let status = cluster.lab.server.object(CLUSTER).unwrap()["status"].clone();
    assert_eq!(status["clusterID"], "7");
    let origin = |number: u32| {
        let path = format!("{MEMBERS}/demo-{number}");
        let member = cluster.lab.server.object(&path).unwrap();
        member["spec"]["origin"].clone()
    };
    assert_eq!([1, 2, 3].map(origin), ["Seed", "Join", "Join"]);
    // Another one that answers everywhere is none that is known.
    let before = cluster.there();
    cluster.members.another_cluster_answers("demo-1");
    cluster.rounds(ROUNDS).await;
    assert_eq!(cluster.there(), before);
    let status = cluster.lab.server.object(CLUSTER).unwrap()["status"].clone();
    assert_eq!(status["clusterID"], "7");
}

#[tokio::test]
async fn another_clusters_answer_is_an_event_and_nothing_is_done_by_it() {
    let cluster = Cluster::new(&json!({})).await;
    let before = cluster.there();
    cluster.members.another_cluster_answers("demo-3");
    // What would be replaced at once otherwise.
    cluster.lab.server.remove(&claim()).unwrap();
    cluster.rounds(ROUNDS).await;
    let mut left = before;
    left.retain(|(path, _)| *path != claim());
    assert_eq!(cluster.there(), left);
    let (_, reason, message) = cluster.lab.condition("Degraded");
    assert_eq!(reason, "WrongCluster");
    assert!(message.starts_with("demo-3: another cluster"), "{message}");
    assert_eq!(cluster.notes("WrongCluster").len(), 1);
}

#[tokio::test]
async fn a_member_that_never_answers_holds_up_neither_status_nor_the_others() {
    let cluster = Cluster::new(&json!({})).await;
    cluster.members.hangs("demo-3");
    let pod = format!("{CORE}/pods/{MEMBER}");
    cluster.lab.server.remove(&pod).unwrap();
    let began = Instant::now();
    cluster.lab.pass().await.unwrap();
    assert!(began.elapsed() < PASS_LIMIT, "{:?}", began.elapsed());
    assert!(cluster.lab.server.object(&pod).is_some(), "it is healed");
    let (healthy, _, message) = cluster.lab.condition("MembersHealthy");
    assert_eq!(healthy, "False");
    assert!(message.contains("demo-3"), "{message}");
}

#[tokio::test]
async fn a_service_of_somebody_elses_costs_its_part_only() {
    let cluster = Cluster::new(&json!({})).await;
    let service = format!("{CORE}/services/demo-client");
    let others = json!({ "spec": { "selector": { "app": "other" } } });
    cluster.lab.server.remove(&service).unwrap();
    cluster.lab.server.put(&service, others.clone());
    let pod = format!("{CORE}/pods/{MEMBER}");
    cluster.lab.server.remove(&pod).unwrap();
    cluster.lab.context.look_again();
    let refused = cluster.lab.pass().await.unwrap_err();
    assert!(refused.contains("demo-client"), "{refused}");
    assert!(cluster.lab.server.object(&pod).is_some(), "it is healed");
    let kept = cluster.lab.server.object(&service).unwrap();
    assert_eq!(kept["spec"], others["spec"]);
    let (degraded, _, message) = cluster.lab.condition("Degraded");
    assert_eq!(degraded, "True");
    assert!(message.contains("demo-client"), "{message}");
}

#[tokio::test]
async fn what_is_not_known_of_backups_and_restores_keeps_nothing_else_from_being_said() {
    for part in ["engrambackups", "engramrestores"] {
        let cluster = Cluster::new(&json!({})).await;
        cluster.change(CLUSTER, |cluster| {
            // A restore that was done, and is not decided.
            cluster["status"]["restoring"] = json!({
                "restore": "back", "restoreUID": "u", "stage": "Kept", "aside": "Old", "lastOldMember": 0,
                "survivor": "demo-9", "kept": [], "oldClusterID": "7",
            });
        });
        let server = &cluster.lab.server;
        server.forbids(&format!("/apis/engram.dev/v1alpha1/namespaces/data/{part}"));
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        cluster.falls_silent(&now, "True");
        cluster.lab.pass().await.unwrap_err();
        let (healthy, _, message) = cluster.lab.condition("MembersHealthy");
        assert_eq!(healthy, "False", "{part}");
        assert!(message.contains(MEMBER), "{message}");
        assert_eq!(cluster.lab.condition("Degraded").0, "True", "{part}");
    }
}

#[tokio::test]
async fn whoever_waits_for_a_cluster_hears_that_it_needs_a_person() {
    let cluster = Cluster::new(&json!({})).await;
    // Something is under way, and cannot get on.
    cluster.change(CLUSTER, |cluster| {
        cluster["spec"]["podTemplate"] = json!({ "sidecars": [{ "name": "logs", "image": 5 }] });
    });
    cluster.lab.server.remove(&format!("{CORE}/pods/{MEMBER}"));
    for _ in 0..2 {
        cluster.lab.pass().await.unwrap_err();
    }
    let holds = |kind: &str| cluster.lab.condition(kind).0;
    assert_eq!(holds("Progressing"), "True");
    assert_eq!([holds("Stalled"), holds("Reconciling")], ["True", "False"]);
}

#[tokio::test]
async fn what_a_template_hands_on_wrongly_is_said_and_ends_no_operator() {
    let sidecar = json!({ "name": "logs", "image": 5 });
    let cluster = Cluster::new(&json!({})).await;
    cluster.change(CLUSTER, |cluster| {
        cluster["spec"]["podTemplate"] = json!({ "sidecars": [sidecar] });
    });
    let pod = format!("{CORE}/pods/{MEMBER}");
    cluster.lab.server.remove(&pod).unwrap();
    let refused = cluster.lab.pass().await.unwrap_err();
    assert!(
        refused.contains("podTemplate.sidecars, logs: "),
        "{refused}"
    );
    let (_, reason, message) = cluster.lab.condition("Degraded");
    assert_eq!(reason, "InvalidSpec", "{message}");
}

#[tokio::test]
async fn without_a_right_over_nodes_a_member_on_a_lost_one_is_one_that_does_not_answer() {
    let cluster = Cluster::new(&json!({})).await;
    cluster.lab.server.forbids(NODES);
    node_not_ready(&cluster, LONG_AGO);
    cluster.rounds(ROUNDS).await;
    let (voters, _) = cluster.members.listed();
    assert_eq!(voters, ["demo-1", "demo-3", "demo-4"]);
    let notes = cluster.notes("ReplacingMember");
    assert!(notes[0].contains("demo-2 goes (Stuck)"), "{notes:?}");
}
