//! A cluster that goes on with the volumes of one whose objects are gone, pass by pass.

use serde_json::{Value, json};

use super::{CLUSTER, CORE, Lab, MEMBERS};

fn lab() -> Lab {
    let member = |number: u32| {
        json!({
            "name": format!("demo-{number}"), "memberID": format!("{number}"),
            "volumeClaim": format!("left-{number}"),
        })
    };
    let lab = Lab::new(json!({
        "bootstrap": { "adopt": { "clusterID": "7", "members": [member(4), member(6)] } },
        "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } },
    }));
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["status"] = json!({ "heldBy": "default/engram-operator" });
    lab.server.put(CLUSTER, cluster);
    lab
}

fn claim(lab: &Lab, number: u32) {
    lab.server.put(
        &format!("{CORE}/persistentvolumeclaims/left-{number}"),
        json!({ "spec": {}, "status": { "phase": "Bound" } }),
    );
}

#[tokio::test]
async fn members_have_their_names_and_volumes_again_and_none_is_founded() {
    let mut lab = lab();
    claim(&lab, 4);
    // Before all volumes are there nothing is recorded, and nobody started.
    for _ in 0..2 {
        lab = Lab::on(lab.server.clone());
        let refused = lab.pass().await.unwrap_err();
        assert!(refused.contains("left-6"), "{refused}");
    }
    assert_eq!(lab.server.paths("/pods/").len(), 0);
    claim(&lab, 6);
    for _ in 0..4 {
        lab = Lab::on(lab.server.clone());
        lab.pass().await.unwrap();
    }
    let status = lab.server.object(CLUSTER).unwrap()["status"].clone();
    assert_eq!(
        (&status["clusterID"], &status["lastMemberNumber"]),
        (&json!("7"), &json!(6))
    );
    let members = ["demo-4", "demo-6"].map(|name| format!("{MEMBERS}/{name}"));
    assert_eq!(lab.server.paths(MEMBERS), members);
    assert_eq!(
        lab.server.paths("/persistentvolumeclaims/").len(),
        2,
        "none is made"
    );
    for (number, path) in [4, 6].into_iter().zip(&members) {
        let member = lab.server.object(path).unwrap();
        assert_eq!(member["status"]["initialized"], true);
        let pod = lab
            .server
            .object(&format!("{CORE}/pods/demo-{number}"))
            .unwrap();
        let text = pod["spec"].to_string();
        assert!(
            text.contains(&format!("\"claimName\":\"left-{number}\"")),
            "{text}"
        );
        assert!(text.contains("--initial-cluster-state=existing"), "{text}");
        assert_eq!(pod["spec"]["initContainers"], Value::Null);
        // From now on it goes with its member, as the policy says.
        let claim = lab
            .server
            .object(&format!("{CORE}/persistentvolumeclaims/left-{number}"));
        let claim = claim.unwrap();
        assert_eq!(
            claim["metadata"]["ownerReferences"][0]["uid"],
            member["metadata"]["uid"]
        );
        assert_eq!(claim["metadata"]["labels"]["engram.dev/cluster"], "demo");
    }
}

#[tokio::test]
async fn an_adopted_cluster_can_be_restored_in_place_though_a_member_was_replaced_since() {
    let mut lab = lab();
    claim(&lab, 4);
    claim(&lab, 6);
    for _ in 0..4 {
        lab = Lab::on(lab.server.clone());
        lab.pass().await.unwrap();
    }
    // One of those that were adopted is gone, and so is its volume; then a backup is restored.
    lab.server.remove(&format!("{MEMBERS}/demo-4"));
    lab.server.remove(&format!("{CORE}/pods/demo-4"));
    lab.server
        .remove(&format!("{CORE}/persistentvolumeclaims/left-4"));
    lab.server.put(
        "/apis/engram.dev/v1alpha1/namespaces/data/engrambackupstores/s3",
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "backups" } },
        }),
    );
    lab.server.put(
        "/apis/engram.dev/v1alpha1/namespaces/data/engramrestores/back",
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
            "metadata": { "uid": "r" },
            "spec": { "kind": "InPlace", "target": { "name": "demo" } },
        }),
    );
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    let status = &mut cluster["status"];
    status["clusterID"] = Value::Null;
    status["restoring"] = json!({
        "restore": "back", "restoreUID": "r", "stage": "Kept", "aside": "Old", "lastOldMember": 6,
        "recovery": {
            "storeRef": { "name": "s3" }, "backup": "n-1", "revisionBump": 0, "markCompacted": false,
        },
        "kept": [{ "member": "demo-6", "volumeClaim": "left-6" }], "oldClusterID": "7",
    });
    lab.server.put(CLUSTER, cluster);
    for _ in 0..3 {
        lab = Lab::on(lab.server.clone());
        lab.pass().await.unwrap();
    }
    let status = lab.server.object(CLUSTER).unwrap()["status"].clone();
    assert_eq!(status["clusterID"], Value::Null, "it is not the old one");
    assert_eq!(
        lab.server.paths("/pods/demo-"),
        [format!("{CORE}/pods/demo-7")]
    );
}
