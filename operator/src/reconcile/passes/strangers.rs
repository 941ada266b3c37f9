//! Members' objects that are not, or not any more, their cluster's own.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{member, owners};
use super::gone::{Cluster, ROUNDS};
use super::{CLUSTER, CORE, Lab, MEMBERS};
use crate::api::{EngramCluster, EngramMember};
use crate::observe::{Form, observe};

fn path(number: u32) -> String {
    format!("{MEMBERS}/demo-{number}")
}

fn owners_of(lab: &Lab, number: u32) -> Value {
    let member = lab.server.object(&path(number)).unwrap();
    member["metadata"]["ownerReferences"].clone()
}

/// Changes what is there of a member.
fn change(lab: &Lab, number: u32, change: impl FnOnce(&mut Value)) {
    lab.server.change(&path(number), change);
}

/// A pass of the member's own loop.
async fn pass_of(lab: &Lab, number: u32) {
    let seen = lab.server.object(&path(number)).unwrap();
    let seen: EngramMember = serde_json::from_value(seen).unwrap();
    let pass = member::reconcile(Arc::new(seen), lab.context.clone());
    pass.await.unwrap();
}

#[tokio::test]
async fn a_member_that_has_lost_its_owner_has_it_again_before_anything_is_decided() {
    let lab = Lab::new(json!({}));
    for number in [1, 2, 3] {
        lab.member(number);
        change(&lab, number, |member| {
            member["metadata"]["ownerReferences"] = json!([]);
        });
    }
    lab.pass().await.unwrap();
    for number in [1, 2, 3] {
        assert_eq!(owners_of(&lab, number)[0]["uid"], "cluster-uid", "{number}");
    }
    assert_eq!(lab.server.paths(MEMBERS).len(), 3);
    lab.pass().await.unwrap();
    assert_eq!(lab.server.paths("/pods/").len(), 3, "they are looked after");
}

#[tokio::test]
async fn what_a_cluster_of_the_name_left_keeps_another_one_from_being_founded() {
    let lab = Lab::new(json!({}));
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["status"] = json!({ "heldBy": "default/engram-operator" });
    lab.server.put(CLUSTER, cluster);
    for (number, owner) in [(1, json!([])), (2, json!("gone"))] {
        lab.member(number);
        change(&lab, number, |member| match owner {
            Value::Array(_) => member["metadata"]["ownerReferences"] = owner,
            uid => member["metadata"]["ownerReferences"][0]["uid"] = uid,
        });
    }
    for _ in 0..5 {
        lab.pass().await.unwrap();
        assert_eq!(lab.server.paths(MEMBERS).len(), 2, "none is made");
        assert_eq!(lab.server.paths("/pods/").len(), 0);
    }
    let (status, reason, message) = lab.condition("Degraded");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "AlreadyExists")
    );
    assert!(message.contains("demo-1, demo-2"), "{message}");
    let status = lab.server.object(CLUSTER).unwrap()["status"].clone();
    assert_eq!(status["lastMemberNumber"], 0, "no number is spent");
    // A person deletes them: nobody else lets them go.
    for number in [1, 2] {
        lab.server.deletes(&path(number));
        pass_of(&lab, number).await;
    }
    assert_eq!(lab.server.paths(MEMBERS).len(), 0);
    // Of one that was left behind the volume stays, and may be adopted; the other one's is the policy's.
    for (number, owned) in [(1, 0), (2, 1)] {
        let claim = format!("{CORE}/persistentvolumeclaims/data-demo-{number}-{number:08x}");
        let claim = lab.server.object(&claim).unwrap();
        let owners = claim["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!(owners.len(), owned, "{claim}");
    }
    lab.pass().await.unwrap();
    assert_eq!(lab.server.paths(MEMBERS), [path(1)]);
}

#[tokio::test]
async fn a_member_is_let_go_by_its_cluster_and_only_where_that_is_gone_without_it() {
    let lab = Lab::new(json!({}));
    lab.member(1);
    lab.server.deletes(&path(1));
    pass_of(&lab, 1).await;
    assert!(
        lab.server.object(&path(1)).is_some(),
        "its cluster is there"
    );
    // Somebody takes the cluster's finalizer off, and it is gone.
    lab.server.remove(CLUSTER);
    pass_of(&lab, 1).await;
    assert_eq!(lab.server.object(&path(1)), None);
    // One that is not deleted runs on.
    lab.member(2);
    pass_of(&lab, 2).await;
    assert!(lab.server.object(&path(2)).is_some());
}

#[tokio::test]
async fn who_deletes_a_cluster_and_leaves_what_it_owns_loses_no_member() {
    let lab = Lab::new(json!({}));
    lab.member(1);
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster["metadata"]["finalizers"] = json!(["engram.dev/cluster", "orphan"]);
    lab.server.put(CLUSTER, cluster);
    lab.pass().await.unwrap();
    let cluster = lab.server.object(CLUSTER).unwrap();
    assert_eq!(cluster["metadata"]["finalizers"], json!(["orphan"]));
    let member = lab.server.object(&path(1)).unwrap();
    assert_eq!(member["metadata"]["deletionTimestamp"], Value::Null);
    let claim = format!("{CORE}/persistentvolumeclaims/data-demo-1-00000001");
    assert!(lab.server.object(&claim).is_some());
}

#[tokio::test]
async fn whom_a_cluster_leaves_behind_that_was_deleted_since_it_was_read_is_not_given_back() {
    let lab = Lab::new(json!({}));
    for number in [1, 2] {
        lab.member(number);
        change(&lab, number, |member| {
            member["metadata"]["ownerReferences"] = json!([]);
        });
    }
    // Somebody else's now.
    change(&lab, 2, |member| {
        member["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Other", "name": "o", "uid": "o", "controller": true,
        }]);
    });
    let there = lab.server.object(CLUSTER).unwrap();
    let seen: EngramCluster = serde_json::from_value(there.clone()).unwrap();
    let sight = observe(&lab.context, &seen, None, &Form::default())
        .await
        .unwrap();
    let mut goes = there.clone();
    goes["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut another = there.clone();
    another["metadata"]["uid"] = json!("another");
    for (now, uid) in [
        (Some(goes), Value::Null),
        (Some(another), Value::Null),
        (None, Value::Null),
        (Some(there), json!("cluster-uid")),
    ] {
        lab.server.remove(CLUSTER);
        if let Some(now) = now {
            lab.server.put(CLUSTER, now);
        }
        let any = owners::repair(&lab.context, &seen, &sight).await.unwrap();
        assert!(any, "nothing else is decided by what was seen");
        assert_eq!(owners_of(&lab, 1)[0]["uid"], uid);
        assert_eq!(owners_of(&lab, 2).as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_member_without_an_owner_that_is_deleted_is_put_away_by_the_cluster_that_it_names() {
    let restoring = json!({
        "restore": "back", "restoreUID": "u", "stage": "Kept", "aside": "Old", "lastOldMember": 3,
        "oldClusterID": "7",
    });
    for part in [
        json!({ "clusterID": "7" }),
        json!({ "restoring": restoring }),
    ] {
        let lab = Lab::new(json!({}));
        let mut cluster = lab.server.object(CLUSTER).unwrap();
        cluster["status"] = part;
        cluster["status"]["heldBy"] = json!("default/engram-operator");
        lab.server.put(CLUSTER, cluster);
        lab.member(1);
        // The list never had it.
        change(&lab, 1, |member| {
            member["metadata"]["ownerReferences"] = json!([]);
            member["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            member["status"] = json!({});
        });
        pass_of(&lab, 1).await;
        assert!(lab.server.object(&path(1)).is_some(), "its cluster's there");
        lab.pass().await.unwrap();
        assert_eq!(owners_of(&lab, 1)[0]["uid"], "cluster-uid");
    }
}

#[tokio::test]
async fn a_copy_of_a_members_pod_says_nothing_of_the_cluster() {
    let cluster = Cluster::new(&json!({})).await;
    let mut copy = cluster
        .lab
        .server
        .object(&format!("{CORE}/pods/demo-1"))
        .unwrap();
    copy["metadata"]["ownerReferences"] = json!([]);
    copy["metadata"]["uid"] = json!("copy");
    copy["status"] = json!({ "phase": "Running", "containerStatuses": [{
        "name": "engram", "image": "i", "imageID": "", "ready": false, "restartCount": 7,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
    }] });
    let path = format!("{CORE}/pods/demo-1-copy");
    cluster.lab.server.put(&path, copy);
    for _ in 0..2 {
        cluster.lab.pass().await.unwrap();
    }
    let (ready, reason, message) = cluster.lab.condition("Ready");
    assert_eq!(ready, "True", "{reason}: {message}");
    assert_eq!(cluster.lab.condition("Degraded").0, "False");
    let text = cluster.lab.context.metrics.text();
    let mut shared = text
        .lines()
        .filter(|line| line.starts_with("engram_cluster_members_on_shared_node{"));
    assert!(shared.all(|line| line.ends_with(" 0")), "{text}");
    assert!(cluster.lab.server.object(&path).is_some());
}

#[tokio::test]
async fn somebody_elses_finalizer_holds_an_object_and_not_its_cluster() {
    let cluster = Cluster::new(&json!({})).await;
    let held = path(3);
    cluster.change(&held, |member| {
        member["metadata"]["finalizers"] = json!(["engram.dev/member", "else.where/one"]);
    });
    cluster.lab.server.deletes(&held);
    cluster.rounds(ROUNDS).await;
    let (voters, learners) = cluster.members.listed();
    assert_eq!(voters, ["demo-1", "demo-2", "demo-4"], "{learners:?}");
    let object = cluster.lab.server.object(&held).expect("it is held");
    assert_eq!(object["metadata"]["finalizers"], json!(["else.where/one"]));
    assert_eq!(cluster.lab.server.paths("/data-demo-3").len(), 0);
    let (ready, reason, message) = cluster.lab.condition("Ready");
    assert_eq!(ready, "True", "{reason}: {message}");
}
