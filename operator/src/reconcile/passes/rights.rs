//! The operator's rights: each is one that it has a use for.

use std::sync::Arc;

use serde_json::{Value, json};

use super::gone::Cluster;
use super::{CLUSTER, Lab, catalog, claims, gone, import, schedules};
use crate::api::{EngramCluster, EngramOperation, EngramRestore, EngramRole, EngramUser};
use crate::played::{Played, rights};
use crate::reconcile::{access, backup, operation, restore};

const OURS: &str = "/apis/engram.dev/v1alpha1/namespaces/data";

/// What controllers watch (`reconcile/run`): listed and watched, and by no pass.
const WATCHED: [&str; 15] = [
    "engramclusters",
    "engrammembers",
    "engrambackups",
    "engrambackupschedules",
    "engrambackupstores",
    "engramrestores",
    "engramoperations",
    "engramusers",
    "engramroles",
    "engramimagecatalogs",
    "pods",
    "persistentvolumeclaims",
    "services",
    "poddisruptionbudgets",
    "networkpolicies",
];

/// Whether it is not by a pass that a right is used.
fn is_used_otherwise((verb, group, resource): &(String, String, String)) -> bool {
    let watched = ["list", "watch"].contains(&verb.as_str()) && WATCHED.contains(&&**resource);
    // The API server asks for it itself, of whoever names an owner that is not to go before.
    let owns = verb == "update" && resource.ends_with("/finalizers");
    // By the election, which is not played.
    watched || owns || group == "coordination.k8s.io"
}

/// An object of ours.
fn put(server: &Played, plural: &str, kind: &str, spec: Value) -> String {
    let path = format!("{OURS}/{plural}/one");
    let object = json!({ "apiVersion": "engram.dev/v1alpha1", "kind": kind, "spec": spec });
    server.put(&path, object);
    path
}

/// A pass of an object there.
macro_rules! pass {
    ($lab:expr, $path:expr, $kind:ty, $reconcile:path) => {{
        let seen: $kind = serde_json::from_value($lab.server.object($path).unwrap()).unwrap();
        let pass = Box::pin($reconcile(Arc::new(seen), $lab.context.clone()));
        pass.await.map(drop).unwrap();
    }};
}

/// What is restarted that works is evicted; what is not asked for any more goes; what is told twice is one event.
async fn changes() {
    let cluster = Cluster::new(&json!({})).await;
    cluster.change(CLUSTER, |one| {
        one["metadata"]["annotations"] = json!({ "engram.dev/restarted-at": "now" });
        one["spec"]["networkPolicy"] = json!({ "enabled": false });
        one["spec"]["podDisruptionBudget"] = json!({ "enabled": false });
        one["spec"]["clientService"] = json!({ "annotations": { "a": "b" } });
    });
    cluster.rounds(8).await;
}

/// Certificates of cert-manager's, asked for and then for more names.
async fn certificates() {
    let side = |names: &[&str]| json!({ "mode": "CertManager", "issuerRef": { "name": "ca" }, "extraNames": names });
    let lab = Lab::new(json!({ "tls": { "client": side(&[]), "peer": side(&[]) } }));
    drop(lab.pass().await);
    lab.server.change(CLUSTER, |one| {
        one["spec"]["tls"]["client"] = side(&["more"])
    });
    drop(lab.pass().await);
}

/// Labels that are put back, and volumes that grow.
async fn repairs() {
    let lab = Lab::new(json!({ "storage": { "size": "16Gi" } }));
    lab.member(1);
    lab.pass().await.unwrap();
    for part in ["/engrammembers/", "/pods/", "/persistentvolumeclaims/"] {
        for path in lab.server.paths(part) {
            lab.server
                .change(&path, |one| one["metadata"]["labels"] = json!({}));
        }
    }
    lab.pass().await.unwrap();
}

/// A restore that makes a cluster, an operation whose time is over, a user and a role.
async fn others() {
    let lab = Lab::new(json!({}));
    let server = &lab.server;
    server.put(
        &format!("{OURS}/engrambackupstores/s3"),
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "b", "credentialsSecretRef": { "name": "cloud" } } },
        }),
    );
    let source = json!({ "storeRef": { "name": "s3" }, "cluster": "demo", "backup": "b" });
    let wish = json!({ "source": source, "target": { "name": "next", "spec": {} } });
    let path = put(server, "engramrestores", "EngramRestore", wish);
    pass!(lab, &path, EngramRestore, restore::reconcile);
    let wish = json!({ "clusterRef": { "name": "gone" }, "compact": {} });
    let path = put(server, "engramoperations", "EngramOperation", wish);
    pass!(lab, &path, EngramOperation, operation::reconcile);
    server.change(&path, |one| {
        one["status"]["completedAt"] = json!("2026-01-01T00:00:00Z");
    });
    pass!(lab, &path, EngramOperation, operation::reconcile);
    assert_eq!(server.object(&path), None, "its time is over");
    let demo: EngramCluster = serde_json::from_value(server.object(CLUSTER).unwrap()).unwrap();
    for _ in 0..2 {
        lab.context
            .event(&demo, false, "Twice", "it is told twice")
            .await;
    }
    let of = json!({ "clusterRef": { "name": "demo" }, "permissions": [] });
    let user = put(server, "engramusers", "EngramUser", of.clone());
    let role = put(server, "engramroles", "EngramRole", of);
    for _ in 0..2 {
        pass!(lab, &user, EngramUser, access::user);
        pass!(lab, &role, EngramRole, access::role);
    }
}

#[test]
fn there_is_no_right_that_nothing_needs() {
    let stories: [fn(); 8] = [
        gone::what_is_gone_for_good_is_not_waited_for,
        claims::what_is_to_be_retained_outlives_its_members_and_its_cluster,
        schedules::an_object_that_nobody_may_change_keeps_no_backup_from_being_made,
        catalog::a_cluster_that_is_to_be_made_is_planned_with_the_image_of_its_catalog,
        import::it_follows_until_it_is_cut_over_and_says_at_which_revisions,
        backup::passes::a_store_that_is_deleted_with_a_backup_goes_after_its_copy,
        super::an_authority_that_was_deleted_leaves_nobody_without_trust,
        crate::reconcile::store::passes::what_becomes_of_its_secret_is_seen_within_minutes_and_nothing_costs_little,
    ];
    for story in stories {
        story();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        changes().await;
        certificates().await;
        repairs().await;
        others().await;
    });
    let mut unused = rights::unused();
    unused.retain(|right| !is_used_otherwise(right));
    assert!(
        unused.is_empty(),
        "manifests/rbac has rights that nothing needs: {unused:?}"
    );
}
