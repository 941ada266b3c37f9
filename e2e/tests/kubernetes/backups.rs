//! The real operator's backups before the real kube-apiserver. There is no kubelet: the test plays it,
//! and says of each pod how it ended.

use std::process::Command;
use std::time::Duration;

use engram_e2e::ports;
use serde_json::{Value, json};

use crate::api::{Api, Body, items, name};
use crate::cluster::Cluster;
use crate::process::{Program, wait_for};

const NAMESPACE: &str = "backups";
const CORE: &str = "/api/v1/namespaces/backups";
const OURS: &str = "/apis/engram.dev/v1alpha1/namespaces/backups";
const LIMIT: Duration = Duration::from_secs(90);
/// What `engramctl backup create` says of a backup.
const SUMMARY: &str = r#"{"id":"one-1","cluster":"demo","clusterID":"cdf8","incarnation":"0","revision":7,"compactRevision":-1,"hashKV":9,"size":5,"createdAt":"2026-01-01T00:00:00Z","engramVersion":"0.1.0","path":"file:///var/lib/engram-backups/demo/one-1","agreed":true}"#;

/// The whole story.
pub fn are_made_and_tried_again(cluster: &Cluster) {
    let api = cluster.api();
    cluster.create_kinds();
    cluster.kubectl(&["create", "namespace", NAMESPACE], "");
    for path in [
        format!("{CORE}/serviceaccounts/default"),
        format!("{OURS}/engrambackups"),
    ] {
        wait_for(&path, LIMIT, || api.answers(&path).then_some(()));
    }
    let mut command = cluster.operator(ports::free());
    command.arg(format!("--watch-namespace={NAMESPACE}"));
    let mut operator = Program::start("engram-operator", &mut command, cluster.log("operator"));
    create(
        api,
        "EngramBackupStore",
        "s",
        &json!({ "pvc": { "claimName": "c" } }),
    );
    // Its members are nobody's concern here: it makes none.
    let demo = json!({ "paused": true, "replicas": 1, "storage": { "size": "3Gi" } });
    create(api, "EngramCluster", "demo", &demo);
    what_may_pass_is_tried_again(api);
    a_refusal_is_none(api);
    a_restore_is_planned_and_confirmed(api);
    what_is_forgotten_stays_in_the_store(api);
    operator.must_run();
}

fn create(api: Api, kind: &str, name: &str, spec: &Value) -> Value {
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": kind, "metadata": { "name": name },
        "spec": spec,
    });
    api.create(&format!("{OURS}/{}s", kind.to_lowercase()), &object)
}

/// A backup of a cluster that served when it began.
fn backup(api: Api, name: &str) {
    let spec = json!({
        "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "verify": true,
    });
    create(api, "EngramBackup", name, &spec);
    let now = k8s_now();
    set_status(api, name, &json!({ "startedAt": now }));
}

fn k8s_now() -> String {
    let output = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    let output = output.expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn set_status(api: Api, backup: &str, status: &Value) {
    let path = format!("{OURS}/engrambackups/{backup}/status");
    let patch = json!({ "status": status });
    api.request("PATCH", &path, Some((Body::MergePatch, &patch)))
        .ok("a status");
}

fn backup_is(api: Api, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("backup {name}: {what}"), LIMIT, || {
        let backup = api.get(&format!("{OURS}/engrambackups/{name}"));
        is(&backup["status"]).then_some(backup)
    })
}

/// A condition's reason.
fn reason<'s>(status: &'s Value, kind: &str) -> &'s str {
    let conditions = status["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|one| one["type"] == kind));
    found
        .and_then(|one| one["reason"].as_str())
        .unwrap_or_default()
}

/// The pod of that name that is not the one before.
fn next_pod(api: Api, name: &str, before: &Value) -> Value {
    wait_for(&format!("pod {name}"), LIMIT, || {
        let answer = api.request("GET", &format!("{CORE}/pods/{name}"), None);
        let is_new = answer.status == 200 && answer.body["metadata"]["uid"] != *before;
        is_new.then_some(answer.body)
    })
}

/// Says how a pod ended; returns its uid.
fn end(api: Api, pod: &Value, status: &Value) -> Value {
    let path = format!("{CORE}/pods/{}/status", name(pod));
    let patch = json!({ "status": status });
    api.request("PATCH", &path, Some((Body::MergePatch, &patch)))
        .ok("a pod's end");
    pod["metadata"]["uid"].clone()
}

fn ended(phase: &str, code: i32, message: &str) -> Value {
    let state = json!({ "terminated": { "exitCode": code, "message": message } });
    json!({ "phase": phase, "containerStatuses": [{
        "name": "engramctl", "image": "engram:1", "imageID": "", "ready": false,
        "restartCount": 0, "state": state,
    }] })
}

/// The next attempt is due. It is said in the operator's name: what another one wrote the operator
/// could not take away again.
fn hurry(api: Api, backup: &str) {
    let path = format!("{OURS}/engrambackups/{backup}");
    let mut status = api.get(&path)["status"].clone();
    status["retryAt"] = json!("2026-01-01T00:00:00Z");
    let object = json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
        "metadata": { "name": backup }, "status": status,
    });
    let path = format!("{path}/status?fieldManager=engram-operator&force=true");
    api.request("PATCH", &path, Some((Body::ApplyPatch, &object)))
        .ok("a status");
}

fn what_may_pass_is_tried_again(api: Api) {
    backup(api, "one");
    let pod = next_pod(api, "one-backup", &Value::Null);
    let spec = &pod["spec"];
    assert_eq!(
        spec["containers"][0]["resources"]["requests"]["memory"],
        "256Mi"
    );
    let volumes = spec["volumes"].as_array().expect("volumes");
    let scratch = volumes.iter().find(|volume| volume["name"] == "scratch");
    assert_eq!(
        scratch.expect("it is there")["emptyDir"]["sizeLimit"],
        "3Gi"
    );
    let evicted = json!({
        "phase": "Failed", "reason": "Evicted",
        "message": "The node was low on resource: ephemeral-storage.",
    });
    let first = end(api, &pod, &evicted);
    let waiting = backup_is(api, "one", "it is to be tried again", |status| {
        status["attempts"] == 1 && reason(status, "Complete") == "Retrying"
    });
    assert_eq!(waiting["status"]["phase"], "Running");
    assert!(waiting["status"]["retryAt"].is_string());
    hurry(api, "one");
    let pod = next_pod(api, "one-backup", &first);
    end(api, &pod, &ended("Succeeded", 0, SUMMARY));
    let pod = next_pod(api, "one-verify", &Value::Null);
    let away = "Error: file:///var/lib/engram-backups: the store failed: connection refused";
    let first = end(api, &pod, &ended("Failed", 1, away));
    backup_is(
        api,
        "one",
        "its verification is to be tried again",
        |status| status["attempts"] == 1 && reason(status, "Verified") == "Retrying",
    );
    hurry(api, "one");
    let pod = next_pod(api, "one-verify", &first);
    end(
        api,
        &pod,
        &ended("Succeeded", 0, r#"{"id":"one-1","agreed":true}"#),
    );
    let done = backup_is(api, "one", "it is verified", |status| {
        status["phase"] == "Completed" && reason(status, "Verified") == "Succeeded"
    });
    let status = &done["status"];
    assert_eq!(
        (&status["clusterID"], &status["incarnation"]),
        (&json!("cdf8"), &json!("0"))
    );
    assert!(
        status["attempts"].is_null() && status["retryAt"].is_null(),
        "{status}"
    );
}

fn a_refusal_is_none(api: Api) {
    backup(api, "refused");
    let pod = next_pod(api, "refused-backup", &Value::Null);
    let said =
        "Error: s3://b/demo: the store does not know these credentials: check AWS_ACCESS_KEY_ID";
    end(api, &pod, &ended("Failed", 1, said));
    let failed = backup_is(api, "refused", "it has failed", |status| {
        status["phase"] == "Failed"
    });
    assert_eq!(reason(&failed["status"], "Complete"), "AccessDenied");
}

/// A dry run changes nothing; what is done afterwards is the plan that was confirmed, or nothing.
fn a_restore_is_planned_and_confirmed(api: Api) {
    let path = format!("{OURS}/engramrestores/r");
    let restored = format!("{OURS}/engramclusters/again");
    let spec = json!({
        "source": { "storeRef": { "name": "s" }, "cluster": "demo" }, "dryRun": true,
        "target": { "name": "again", "spec": { "paused": true, "replicas": 1 } },
    });
    create(api, "EngramRestore", "r", &spec);
    let show = |before: &Value, summary: &str| {
        let pod = next_pod(api, "r-show", before);
        let command = pod["spec"]["containers"][0]["command"].to_string();
        assert!(command.contains("--backup=latest"), "{command}");
        end(api, &pod, &ended("Succeeded", 0, summary))
    };
    let is = |what: &str, is: &dyn Fn(&Value) -> bool| {
        wait_for(&format!("the restore: {what}"), LIMIT, || {
            let status = api.get(&path)["status"].clone();
            is(&status).then_some(status)
        })
    };
    let first = show(&Value::Null, SUMMARY);
    let planned = is("it is planned", &|status| status["phase"] == "Planned");
    let plan = planned["plan"].to_string();
    assert!(plan.contains("one-1") && plan.contains("cdf8/0"), "{plan}");
    let loss = planned["loss"].as_str().expect("it is said");
    assert!(loss.contains("after revision 7"), "{loss}");
    assert!(!api.answers(&restored), "nothing was changed");
    let change = |spec: Value| {
        let patch = json!({ "spec": spec });
        api.request("PATCH", &path, Some((Body::MergePatch, &patch)))
            .ok("a change of the restore");
    };
    change(json!({ "dryRun": false }));
    let waits = |status: &Value| reason(status, "Complete") == "WaitingForConfirmation";
    is("it waits for a confirmation", &waits);
    // Another backup has become the latest meanwhile.
    change(json!({ "confirm": planned["planHash"] }));
    let second = show(&first, &SUMMARY.replace("one-1", "two-2"));
    let other = is("it is another plan", &|status| {
        waits(status) && status["planHash"] != planned["planHash"]
    });
    assert!(other["plan"].to_string().contains("two-2"), "{other}");
    assert!(!api.answers(&restored), "nothing was changed");
    change(json!({ "confirm": other["planHash"] }));
    show(&second, &SUMMARY.replace("one-1", "two-2"));
    let again = wait_for("the cluster", LIMIT, || {
        let answer = api.request("GET", &restored, None);
        (answer.status == 200).then_some(answer.body)
    });
    let recovery = &again["spec"]["bootstrap"]["recovery"];
    assert_eq!(
        (&recovery["backup"], &recovery["clusterID"]),
        (&json!("two-2"), &json!("cdf8/0"))
    );
}

/// A schedule's history limit takes objects, and never a copy in the store, whatever their policy says.
fn what_is_forgotten_stays_in_the_store(api: Api) {
    let schedule = json!({
        "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "schedule": "0 3 * * *",
        "suspend": true, "successfulHistoryLimit": 1,
    });
    // In the order of their names, too: they may be of one second.
    let [first, second] = ["nightly-202601010300", "nightly-202601020300"];
    for name in [first, second] {
        let object = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
            "metadata": { "name": name, "labels": { "engram.dev/schedule": "nightly" } },
            "spec": {
                "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" },
                "deletionPolicy": "Delete",
            },
        });
        api.create(&format!("{OURS}/engrambackups"), &object);
        // It has been seen, and nothing more is written of it.
        backup_is(api, name, "it waits", |status| status["phase"] == "Pending");
        let now = k8s_now();
        let status = json!({
            "phase": "Completed", "startedAt": now, "completedAt": now, "backupID": name,
        });
        set_status(api, name, &status);
        backup_is(api, name, "it is complete", |status| {
            status["phase"] == "Completed"
        });
        wait_for("its finalizer", LIMIT, || {
            let backup = api.get(&format!("{OURS}/engrambackups/{name}"));
            backup["metadata"]["finalizers"].is_array().then_some(())
        });
    }
    create(api, "EngramBackupSchedule", "nightly", &schedule);
    wait_for("the older object is forgotten", LIMIT, || {
        let answer = api.request("GET", &format!("{OURS}/engrambackups/{first}"), None);
        (answer.status == 404).then_some(())
    });
    assert!(api.answers(&format!("{OURS}/engrambackups/{second}")));
    let pods = api.get(&format!("{CORE}/pods"));
    let deletion = format!("{first}-delete");
    let deletes = items(&pods).iter().any(|pod| name(pod) == deletion);
    assert!(!deletes, "its copy in the store is to stay");
}
