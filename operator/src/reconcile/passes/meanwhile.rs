//! What somebody else does between any two calls of a pass: what another operator has written into a status is there
//! in the end, and what a person asks for at that moment is heeded.

use std::sync::Arc;

use hyper::Method;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::access;
use super::super::{Context, Error, cluster};
use super::super::{backup, operation, restore, schedule, status::is_overtaken, store};
use super::{CLUSTER, CORE, Lab, MEMBERS};
use crate::played::Played;

const OURS: &str = "/apis/engram.dev/v1alpha1/namespaces/data";
/// No pass makes more calls.
const CALLS_MAX: usize = 150;

/// An object of a kind, and what it needs.
struct Story {
    kind: &'static str,
    path: String,
    begin: fn() -> Played,
}

fn put(server: &Played, plural: &str, kind: &str, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": kind, "metadata": { "generation": 1 }, "spec": spec,
    });
    server.put(&format!("{OURS}/{plural}/{name}"), object);
}

fn with_store() -> Played {
    let server = Played::default();
    let spec = json!({ "s3": { "bucket": "backups" } });
    put(
        &server,
        "engrambackupstores",
        "EngramBackupStore",
        "s3",
        spec,
    );
    server
}

fn backups() -> Value {
    json!({ "clusterRef": { "name": "demo" }, "storeRef": { "name": "s3" } })
}

/// One of each kind whose first pass says something.
fn stories() -> Vec<Story> {
    let story = |kind, plural: &str, name: &str, begin: fn() -> Played| Story {
        kind,
        path: format!("{OURS}/{plural}/{name}"),
        begin,
    };
    vec![
        story("EngramMember", "engrammembers", "demo-1", || {
            let lab = Lab::new(json!({}));
            lab.member(1);
            lab.server
        }),
        story("EngramBackup", "engrambackups", "nightly", || {
            let server = with_store();
            let available = json!([{
                "type": "Available", "status": "True", "reason": "AsExpected", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]);
            put(
                &server,
                "engramclusters",
                "EngramCluster",
                "demo",
                json!({}),
            );
            server.change(CLUSTER, |one| {
                one["status"] = json!({ "conditions": available })
            });
            put(
                &server,
                "engrambackups",
                "EngramBackup",
                "nightly",
                backups(),
            );
            server
        }),
        story(
            "EngramBackupSchedule",
            "engrambackupschedules",
            "hourly",
            || {
                let server = with_store();
                let mut spec = backups();
                spec["schedule"] = json!("0 * * * *");
                put(
                    &server,
                    "engrambackupschedules",
                    "EngramBackupSchedule",
                    "hourly",
                    spec,
                );
                server
            },
        ),
        story("EngramBackupStore", "engrambackupstores", "s3", || {
            let server = with_store();
            let pod = json!({ "spec": { "containers": [] } });
            server.put(&format!("{CORE}/pods/s3-1-store"), pod);
            server
        }),
        story("EngramRestore", "engramrestores", "back", || {
            let server = with_store();
            let source =
                json!({ "storeRef": { "name": "s3" }, "cluster": "demo", "backup": "one" });
            let spec =
                json!({ "kind": "NewCluster", "target": { "name": "next" }, "source": source });
            put(&server, "engramrestores", "EngramRestore", "back", spec);
            server
        }),
        story("EngramOperation", "engramoperations", "compact", || {
            let server = Played::default();
            let spec = json!({ "clusterRef": { "name": "demo" }, "compact": { "revision": 7 } });
            put(
                &server,
                "engramoperations",
                "EngramOperation",
                "compact",
                spec,
            );
            server
        }),
        story("EngramUser", "engramusers", "app", || {
            let server = Played::default();
            let spec = json!({ "clusterRef": { "name": "demo" }, "deletionPolicy": "Retain" });
            put(&server, "engramusers", "EngramUser", "app", spec);
            server
        }),
        story("EngramRole", "engramroles", "reads", || {
            let server = Played::default();
            let spec = json!({ "clusterRef": { "name": "demo" }, "deletionPolicy": "Retain" });
            put(&server, "engramroles", "EngramRole", "reads", spec);
            server
        }),
    ]
}

/// One pass of whoever looks after such an object.
async fn pass(kind: &str, server: &Played, path: &str, context: Arc<Context>) -> Result<(), Error> {
    let of = if kind == "EngramMember" {
        CLUSTER
    } else {
        path
    };
    let seen = server.object(of).expect("it is there");
    macro_rules! by {
        ($reconcile:path) => {{
            let seen = serde_json::from_value(seen).expect("one of its kind");
            Box::pin($reconcile(Arc::new(seen), context))
                .await
                .map(drop)
        }};
    }
    match kind {
        "EngramMember" => by!(cluster::reconcile),
        "EngramBackup" => by!(backup::reconcile),
        "EngramBackupSchedule" => by!(schedule::reconcile),
        "EngramBackupStore" => by!(store::reconcile),
        "EngramRestore" => by!(restore::reconcile),
        "EngramOperation" => by!(operation::reconcile),
        "EngramUser" => by!(access::user),
        "EngramRole" => by!(access::role),
        other => panic!("{other}"),
    }
}

/// Another operator's word.
fn says(server: &Played, path: &str) {
    let word = json!({
        "type": "Elses", "status": "True", "reason": "AsExpected", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    if server.object(path).is_none() {
        return;
    }
    server.change(path, |one| {
        match one["status"]["conditions"].as_array_mut() {
            Some(all) => all.push(word),
            None => one["status"]["conditions"] = json!([word]),
        }
    });
}

fn is_said(server: &Played, path: &str) -> bool {
    let object = server.object(path).unwrap();
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Elses"))
}

#[tokio::test]
pub(super) async fn what_another_operator_writes_between_two_calls_is_not_put_back() {
    for Story { kind, path, begin } in stories() {
        let mut overtaken = 0;
        for at in 0..CALLS_MAX {
            let server = begin();
            let of = path.clone();
            server.after(at, move |server| says(server, &of));
            let context = Arc::new(server.context());
            server.requests();
            let result = pass(kind, &server, &path, context).await;
            if server.asked() <= at {
                break;
            }
            assert!(at + 1 < CALLS_MAX, "{kind}: it makes more calls");
            assert!(
                is_said(&server, &path),
                "{kind}: written over after {at} calls: {:#?}",
                server.requests()
            );
            overtaken += usize::from(result.is_err_and(|error| is_overtaken(&error)));
        }
        // A cluster's pass is looked at again by itself.
        assert!(
            overtaken > 0 || kind == "EngramMember",
            "{kind}: it wrote nothing"
        );
    }
}

#[tokio::test]
pub(super) async fn a_backup_that_is_complete_by_now_is_not_ended_for_the_next_one() {
    let server = with_store();
    let mut spec = backups();
    (spec["schedule"], spec["concurrencyPolicy"]) = (json!("0 * * * *"), json!("Replace"));
    spec["startingDeadlineSeconds"] = json!(7200);
    put(
        &server,
        "engrambackupschedules",
        "EngramBackupSchedule",
        "hourly",
        spec,
    );
    let schedule = format!("{OURS}/engrambackupschedules/hourly");
    let last = Timestamp::now() - SignedDuration::from_hours(1);
    server.change(&schedule, |one| {
        one["status"] = json!({ "lastScheduleTime": last.to_string() });
    });
    let path = format!("{OURS}/engrambackups/hourly-202601010100");
    put(
        &server,
        "engrambackups",
        "EngramBackup",
        "hourly-202601010100",
        backups(),
    );
    server.change(&path, |one| {
        one["metadata"]["labels"] = json!({ "engram.dev/schedule": "hourly" });
        one["status"] = json!({ "phase": "Running" });
    });
    let of = path.clone();
    server.meanwhile(
        Method::DELETE,
        "/engrambackups/hourly-202601010100",
        move |server| {
            server.change(&of, |one| one["status"]["phase"] = json!("Completed"));
        },
    );
    let context = Arc::new(server.context());
    let once = async || pass("EngramBackupSchedule", &server, &schedule, context.clone()).await;
    assert!(once().await.is_err_and(|error| is_overtaken(&error)));
    once().await.unwrap();
    assert!(server.object(&path).is_some(), "it was complete");
    assert_eq!(server.paths("/engrambackups/").len(), 2);
}

#[tokio::test]
async fn a_tool_that_has_begun_by_now_has_not_failed() {
    let server = with_store();
    let (probe, store) = (
        format!("{CORE}/pods/s3-1-store"),
        format!("{OURS}/engrambackupstores/s3"),
    );
    let context = Arc::new(server.context());
    let once = async || pass("EngramBackupStore", &server, &store, context.clone()).await;
    once().await.unwrap();
    // It was made long ago, and waits.
    server.change(&probe, |pod| {
        pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["status"] = json!({ "phase": "Pending" });
    });
    let of = probe.clone();
    server.meanwhile(Method::DELETE, "/pods/s3-1-store", move |server| {
        server.change(&of, |pod| pod["status"]["phase"] = json!("Running"));
    });
    once().await.unwrap();
    assert_eq!(server.object(&probe).unwrap()["status"]["phase"], "Running");
    assert!(server.object(&store).unwrap()["status"].is_null());
}

#[tokio::test]
async fn a_volume_that_is_to_be_kept_is_kept_until_it_is_decided_otherwise() {
    for at in 0..CALLS_MAX {
        let lab = Lab::new(json!({ "storage": { "reclaimPolicy": "Delete" } }));
        (1..=2).for_each(|number| lab.member(number));
        let member = format!("{MEMBERS}/demo-2");
        lab.server.deletes(&member);
        lab.server.deletes(CLUSTER);
        let of = member.clone();
        lab.server.after(at, move |server| {
            if server.object(&of).is_some() {
                server.change(&of, |one| {
                    one["metadata"]["annotations"] = json!({ "engram.dev/keep-volume": "Mine" });
                });
            }
        });
        lab.server.requests();
        lab.pass().await.unwrap();
        let requests = lab.server.requests();
        let mut calls = requests.iter();
        // Its volume goes in this pass, by what its object says just before.
        let decided = calls.position(|(method, path)| {
            *method == Method::GET && path.contains("/engrammembers/demo-2?")
        });
        let decided = decided.expect("it is looked at again");
        let there = lab.server.paths("/persistentvolumeclaims/data-demo-2");
        assert_eq!(
            there.is_empty(),
            at > decided,
            "said after {at} calls: {requests:#?}"
        );
        if at >= requests.len() {
            return;
        }
    }
    panic!("a pass makes more calls");
}
