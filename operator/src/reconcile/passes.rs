//! Whole passes against an API server that is played.

mod adopt;
mod anew;
mod answers;
mod archive;
mod catalog;
mod children;
mod claims;
mod gone;
mod growth;
mod import;
mod in_place;
mod killed;
mod meanwhile;
mod mutants;
mod named;
mod recovery;
mod rights;
mod schedules;
mod strangers;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Context, News, Version, cluster, is_overtaken, write_cluster_status};
use crate::api::{EngramCluster, EngramClusterStatus};
use crate::desired::RESTORE_CONTAINER;
use crate::played::Played;

const CLUSTER: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engramclusters/demo";
const MEMBERS: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engrammembers";
const CORE: &str = "/api/v1/namespaces/data";

/// An operator on a played API server.
struct Lab {
    server: Played,
    context: Arc<Context>,
}

impl Lab {
    /// With a cluster of this specification, that was founded.
    fn new(spec: Value) -> Self {
        let server = Played::default();
        server.put(
            CLUSTER,
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
                "metadata": {
                    "uid": "cluster-uid", "generation": 1, "finalizers": ["engram.dev/cluster"],
                },
                "spec": spec,
                "status": {
                    "clusterID": "7", "lastMemberNumber": 3, "heldBy": "default/engram-operator",
                },
            }),
        );
        Self::on(server)
    }

    /// An operator that knows nothing yet.
    fn on(server: Played) -> Self {
        let context = Arc::new(server.context());
        Self { server, context }
    }

    /// A member that was listed, with its claim.
    fn member(&self, number: u32) {
        let name = format!("demo-{number}");
        let uid = format!("{number:08x}-0000-4000-8000-000000000000");
        let owner = |kind: &str, name: &str, uid: &str| json!([{ "apiVersion": "engram.dev/v1alpha1", "kind": kind, "name": name, "uid": uid }]);
        let labels = json!({
            "engram.dev/cluster": "demo", "app.kubernetes.io/component": "member",
            "engram.dev/member": name,
        });
        self.server.put(
            &format!("{MEMBERS}/{name}"),
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
                "metadata": {
                    "uid": uid, "labels": labels, "finalizers": ["engram.dev/member"],
                    "ownerReferences": owner("EngramCluster", "demo", "cluster-uid"),
                },
                "spec": {
                    "clusterRef": { "name": "demo" }, "origin": "Join",
                    "peerURL": format!("https://{name}.demo-peers.data.svc:2380"),
                },
                "status": { "memberID": format!("{number}"), "initialized": true },
            }),
        );
        self.server.put(
            &format!("{CORE}/persistentvolumeclaims/data-{name}-{number:08x}"),
            json!({
                "metadata": {
                    "labels": labels,
                    "ownerReferences": owner("EngramMember", &name, &uid),
                },
                "spec": { "resources": { "requests": { "storage": "8Gi" } } },
                "status": { "phase": "Bound" },
            }),
        );
    }

    /// One pass, of a cluster of which the watches told.
    async fn pass(&self) -> Result<(), String> {
        for of in [News::Members, News::Backups] {
            self.context.calm.news("data/demo", of);
        }
        self.pass_without_news().await
    }

    /// One pass.
    async fn pass_without_news(&self) -> Result<(), String> {
        let seen: EngramCluster =
            serde_json::from_value(self.server.object(CLUSTER).unwrap()).unwrap();
        let pass = Box::pin(cluster::reconcile(Arc::new(seen), self.context.clone()));
        pass.await.map(drop).map_err(|error| error.to_string())
    }

    /// What a pass does for an import, as if a quorum answered.
    async fn import(&self) -> Result<(), String> {
        let seen: EngramCluster =
            serde_json::from_value(self.server.object(CLUSTER).unwrap()).unwrap();
        cluster::import_once(&self.context, &seen)
            .await
            .map_err(|error| error.to_string())
    }

    /// A tool's pod comes to its good end, with this result.
    fn says(&self, pod: &str, said: &Value) {
        let path = format!("{CORE}/pods/{pod}");
        let mut pod = self.server.object(&path).unwrap();
        pod["status"] = json!({ "phase": "Succeeded", "containerStatuses": [{
            "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "message": said.to_string() } },
        }] });
        self.server.put(&path, pod);
    }

    /// The first new member's volume is being filled: pods here were made long ago, and one that does nothing is
    /// given up.
    fn fills(&self, pod: &str) {
        let path = format!("{CORE}/pods/{pod}");
        let mut pod = self.server.object(&path).unwrap();
        pod["status"] = json!({ "phase": "Pending", "initContainerStatuses": [{
            "name": RESTORE_CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "running": {} },
        }] });
        self.server.put(&path, pod);
    }

    /// A condition of the cluster: its status, reason and message.
    fn condition(&self, kind: &str) -> (String, String, String) {
        let cluster = self.server.object(CLUSTER).unwrap();
        let conditions = cluster["status"]["conditions"].as_array().unwrap().clone();
        let found = conditions.iter().find(|one| one["type"] == kind).unwrap();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_costs_its_part_only() {
    let lab = Lab::new(json!({
        "tls": { "client": { "mode": "Secret", "secretName": "mine" } },
    }));
    lab.member(1);
    lab.pass().await.unwrap();
    // The member's pod was gone: it is made again. Certificates of members are made, Services too.
    assert_eq!(lab.server.paths("/pods/"), [format!("{CORE}/pods/demo-1")]);
    assert!(
        lab.server
            .object(&format!("{CORE}/secrets/demo-peer-tls"))
            .is_some()
    );
    assert_eq!(lab.server.paths("/services/").len(), 2);
    for kind in ["TLSReady", "Ready"] {
        let (status, reason, message) = lab.condition(kind);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "CertificateInvalid")
        );
        assert!(message.contains("no Secret mine"), "{message}");
    }
    assert_eq!(lab.condition("Degraded").1, "CertificateInvalid");
}

#[tokio::test]
async fn the_volume_of_a_member_with_other_data_is_kept() {
    let lab = Lab::new(json!({}));
    for number in [1, 2] {
        lab.member(number);
        let path = format!("{MEMBERS}/demo-{number}");
        let mut member = lab.server.object(&path).unwrap();
        member["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        if number == 1 {
            member["metadata"]["annotations"] = json!({ "engram.dev/keep-volume": "Corrupt" });
        }
        lab.server.put(&path, member);
    }
    // Even the cluster goes, with reclaimPolicy Delete.
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster["metadata"]["finalizers"] = json!(["engram.dev/cluster"]);
    lab.server.put(CLUSTER, cluster);
    lab.pass().await.unwrap();
    assert_eq!(lab.server.paths(MEMBERS).len(), 0);
    let kept = format!("{CORE}/persistentvolumeclaims/data-demo-1-00000001");
    let left = lab.server.paths("/persistentvolumeclaims/");
    assert_eq!(left, std::slice::from_ref(&kept));
    let owners = lab.server.object(&kept).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners, json!([]));
}

#[tokio::test]
async fn a_store_that_was_corrected_reaches_the_first_member() {
    let lab = Lab::new(json!({
        "bootstrap": { "recovery": { "storeRef": { "name": "s3" } } },
        "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } },
    }));
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["status"] = json!({ "lastMemberNumber": 1, "heldBy": "default/engram-operator" });
    lab.server.put(CLUSTER, cluster);
    lab.member(1);
    let path = format!("{MEMBERS}/demo-1");
    let mut member = lab.server.object(&path).unwrap();
    (member["status"], member["spec"]["origin"]) = (json!({}), json!("Seed"));
    lab.server.put(&path, member);
    let store = "/apis/engram.dev/v1alpha1/namespaces/data/engrambackupstores/s3";
    let with = |bucket: &str| {
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": bucket } },
        })
    };
    lab.server.put(store, with("wrong"));
    lab.pass().await.unwrap();
    let pod = format!("{CORE}/pods/demo-1");
    let first = lab.server.object(&pod).unwrap();
    assert!(first["spec"].to_string().contains("s3://wrong"), "{first}");
    // It fails, again and again.
    let mut failing = first.clone();
    failing["status"] = json!({ "phase": "Pending", "initContainerStatuses": [{
        "name": "restore", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
    }] });
    lab.server.put(&pod, failing);
    lab.pass().await.unwrap();
    assert!(lab.server.object(&pod).is_some(), "nothing else is wanted");
    lab.server.put(store, with("right"));
    lab.pass().await.unwrap();
    lab.pass().await.unwrap();
    let second = lab.server.object(&pod).unwrap();
    assert_ne!(second["metadata"]["uid"], first["metadata"]["uid"]);
    assert!(
        second["spec"].to_string().contains("s3://right"),
        "{second}"
    );
}

#[tokio::test]
async fn a_store_that_is_archived_to_may_come_later_and_go_and_members_are_healed_meanwhile() {
    let lab = Lab::new(json!({
        "archive": { "storeRef": { "name": "s3" } },
        "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } },
    }));
    lab.member(1);
    let pod = format!("{CORE}/pods/demo-1");
    let archives = || {
        let made = lab.server.object(&pod).unwrap()["spec"].to_string();
        made.contains("--archive-url=s3://backups?region=us-east-1") && made.contains("demo")
    };
    let refused = lab.pass().await.unwrap_err();
    assert!(refused.contains("no EngramBackupStore s3"), "{refused}");
    assert!(!archives(), "its pod is made all the same");
    let store = "/apis/engram.dev/v1alpha1/namespaces/data/engrambackupstores/s3";
    lab.server.put(
        store,
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "backups" } },
        }),
    );
    // Once it is known it is written down, then pods are made from it.
    lab.pass().await.unwrap();
    lab.server.remove(&pod).unwrap();
    lab.pass().await.unwrap();
    assert!(archives());
    lab.server.remove(store).unwrap();
    lab.server.remove(&pod).unwrap();
    let refused = lab.pass().await.unwrap_err();
    assert!(refused.contains("no EngramBackupStore s3"), "{refused}");
    assert!(archives(), "a store's object that is gone changes nothing");
}

#[tokio::test]
async fn an_upgrade_of_the_operator_waits_for_the_clusters_turn() {
    let lab = Lab::new(json!({}));
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["status"]["image"] = json!("ghcr.io/engram-dev/engram:0.0.9");
    cluster["status"]["template"] =
        json!({ "hash": "before", "rendered": "before", "operator": "0.0.9" });
    lab.server.put(CLUSTER, cluster);
    lab.member(1);
    lab.pass().await.unwrap();
    // A pod that is made meanwhile has the image of the others.
    let pod = lab.server.object(&format!("{CORE}/pods/demo-1")).unwrap();
    assert_eq!(
        pod["spec"]["containers"][0]["image"],
        "ghcr.io/engram-dev/engram:0.0.9"
    );
    let (status, _, message) = lab.condition("UpToDate");
    assert_eq!(status, "True");
    assert!(
        message.contains("0.0.9; what the operator's upgrade brings waits"),
        "{message}"
    );
    let cluster = lab.server.object(CLUSTER).unwrap();
    assert_eq!(cluster["status"]["template"]["hash"], "before");
    // A user's change does not wait.
    let mut changed = cluster.clone();
    changed["spec"]["config"] = json!({ "maxTxnOps": 64 });
    lab.server.put(CLUSTER, changed);
    lab.pass().await.unwrap();
    let cluster = lab.server.object(CLUSTER).unwrap();
    assert_ne!(cluster["status"]["template"]["hash"], "before");
    assert_eq!(
        cluster["status"]["image"],
        "ghcr.io/engram-dev/engram:0.0.9"
    );
    assert_eq!(lab.condition("UpToDate").0, "False");
}

#[tokio::test]
async fn an_authority_that_was_deleted_leaves_nobody_without_trust() {
    let lab = Lab::new(json!({}));
    lab.pass().await.unwrap();
    let leaf = format!("{CORE}/secrets/demo-peer-tls");
    let before = lab.server.object(&leaf).unwrap()["data"].clone();
    lab.server
        .remove(&format!("{CORE}/secrets/demo-peer-ca"))
        .unwrap();
    lab.context.look_again();
    lab.pass().await.unwrap();
    let after = lab.server.object(&leaf).unwrap()["data"].clone();
    assert_eq!(
        after["tls.crt"], before["tls.crt"],
        "the next one does not sign yet"
    );
    assert_ne!(after["ca.crt"], before["ca.crt"], "it is shown");
    let again = lab
        .server
        .object(&format!("{CORE}/secrets/demo-peer-ca"))
        .unwrap();
    assert!(again["data"]["next.crt"].is_string() && again["data"]["previous.crt"].is_string());
    lab.pass().await.unwrap();
    assert_eq!(lab.server.object(&leaf).unwrap()["data"], after);
}

#[tokio::test]
async fn a_cluster_of_another_installation_is_left_alone_until_it_is_handed_over() {
    let lab = Lab::new(json!({}));
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["status"]["heldBy"] = json!("elsewhere/engram-operator");
    lab.server.put(CLUSTER, cluster);
    lab.member(1);
    lab.pass().await.unwrap();
    assert_eq!(lab.server.paths("/pods/").len(), 0);
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    assert_eq!(cluster["status"]["conditions"], Value::Null);
    cluster["metadata"]["annotations"] =
        json!({ "engram.dev/operator": "default/engram-operator" });
    lab.server.put(CLUSTER, cluster);
    for _ in 0..2 {
        lab.pass().await.unwrap();
    }
    assert_eq!(lab.server.paths("/pods/").len(), 1);
    let cluster = lab.server.object(CLUSTER).unwrap();
    assert_eq!(cluster["status"]["heldBy"], "default/engram-operator");
}

#[tokio::test]
async fn a_late_status_puts_nothing_back() {
    let lab = Lab::new(json!({}));
    let read = || -> EngramCluster {
        serde_json::from_value(lab.server.object(CLUSTER).unwrap()).unwrap()
    };
    let seen = read();
    let version = Version::of(&seen);
    let mut status = seen.status.clone().unwrap();
    status.last_member_number = 4;
    let write = async |status: &EngramClusterStatus| {
        write_cluster_status(&lab.context, &seen, &version, status).await
    };
    write(&status).await.unwrap();
    // Its own writes it knows.
    status.last_member_number = 5;
    write(&status).await.unwrap();
    // Another operator's it does not.
    let other = Version::of(&read());
    let mut newer = status.clone();
    newer.last_member_number = 6;
    write_cluster_status(&lab.context, &seen, &other, &newer)
        .await
        .unwrap();
    let refused = write(&status).await.unwrap_err();
    assert!(is_overtaken(&refused), "{refused}");
    assert_eq!(read().status.unwrap().last_member_number, 6);
}

#[tokio::test]
async fn a_member_that_was_away_for_months_has_its_time_to_start() {
    let lab = Lab::new(json!({}));
    lab.member(1);
    let path = format!("{MEMBERS}/demo-1");
    let mut member = lab.server.object(&path).unwrap();
    for key in ["awaySince", "nodeLostSince"] {
        member["status"][key] = json!("2026-01-01T00:00:00Z");
    }
    member["status"]["node"] = json!("gone");
    lab.server.put(&path, member);
    lab.pass().await.unwrap();
    // Its pod is made now, and waits for a node.
    let pod = format!("{CORE}/pods/demo-1");
    let mut made = lab.server.object(&pod).unwrap();
    made["metadata"]["creationTimestamp"] = json!("2026-03-01T00:00:00Z");
    lab.server.put(&pod, made);
    lab.pass().await.unwrap();
    let status = lab.server.object(&path).unwrap()["status"].clone();
    assert_eq!(status["awaySince"], "2026-03-01T00:00:00Z");
    assert_eq!(status["nodeLostSince"], "2026-03-01T00:00:00Z");
}

#[tokio::test]
async fn an_idle_pass_asks_for_little_and_writes_nothing() {
    let lab = Lab::new(json!({}));
    for number in [1, 2, 3] {
        lab.member(number);
    }
    for _ in 0..3 {
        lab.pass().await.unwrap();
    }
    for number in [1, 2, 3] {
        let path = format!("{CORE}/pods/demo-{number}");
        let mut pod = lab.server.object(&path).unwrap();
        pod["spec"]["nodeName"] = json!("n1");
        lab.server.put(&path, pod);
    }
    lab.server.put("/api/v1/nodes/n1", json!({ "status": {} }));
    for _ in 0..2 {
        lab.pass().await.unwrap();
    }
    lab.server.requests();
    lab.pass().await.unwrap();
    let idle = lab.server.requests();
    assert!(
        idle.iter().all(|(method, _)| method == hyper::Method::GET),
        "{idle:#?}"
    );
    assert!(idle.len() <= 8, "{idle:#?}");
    // Once a minute all of it is looked at, and nothing is written for that.
    lab.context.look_again();
    lab.pass().await.unwrap();
    let whole = lab.server.requests();
    assert!(
        whole.iter().all(|(method, _)| method == hyper::Method::GET),
        "{whole:#?}"
    );
    // What somebody changed is put right.
    let service = format!("{CORE}/services/demo-client");
    let mut changed = lab.server.object(&service).unwrap();
    changed["spec"]["selector"] = json!({ "a": "b" });
    lab.server.put(&service, changed);
    lab.context.look_again();
    lab.pass().await.unwrap();
    let after = lab.server.object(&service).unwrap();
    assert_eq!(after["spec"]["selector"]["engram.dev/cluster"], "demo");
}

#[tokio::test]
async fn a_pass_without_news_asks_for_nothing_and_what_it_would_do_is_read_first() {
    let lab = Lab::new(json!({}));
    for number in [1, 2, 3] {
        lab.member(number);
    }
    for _ in 0..4 {
        lab.pass().await.unwrap();
    }
    lab.server.requests();
    for _ in 0..3 {
        lab.pass_without_news().await.unwrap();
    }
    assert_eq!(lab.server.requests(), []);
    // Its object was changed: all of it is read.
    let cluster = lab.server.object(CLUSTER).unwrap();
    lab.server.put(CLUSTER, cluster);
    lab.pass_without_news().await.unwrap();
    assert!(lab.server.requests().len() > 3);
    lab.pass_without_news().await.unwrap();
    assert_eq!(lab.server.requests(), []);
    // A Service was changed, and the watch tells of it: it is put right, and nothing waits for a minute.
    let service = format!("{CORE}/services/demo-client");
    let mut changed = lab.server.object(&service).unwrap();
    changed["spec"]["selector"] = json!({ "a": "b" });
    lab.server.put(&service, changed);
    lab.context.calm.news("data/demo", News::Children);
    lab.pass_without_news().await.unwrap();
    let after = lab.server.object(&service).unwrap();
    assert_eq!(after["spec"]["selector"]["engram.dev/cluster"], "demo");
}

#[tokio::test]
async fn what_is_done_to_each_member_is_an_event_of_its_own() {
    let lab = Lab::new(json!({}));
    for number in [1, 2, 3] {
        lab.member(number);
    }
    lab.pass().await.unwrap();
    let events: Vec<Value> = lab
        .server
        .paths("/events/")
        .iter()
        .filter_map(|path| lab.server.object(path))
        .collect();
    let started = events
        .iter()
        .filter(|event| event["reason"] == "StartingPod");
    let mut notes: Vec<String> = started.map(|event| event["note"].to_string()).collect();
    notes.sort();
    assert_eq!(notes.len(), 3, "{events:#?}");
    assert!(notes[1].contains("demo-2 is started"), "{notes:?}");
}

#[tokio::test]
async fn labels_that_were_taken_off_come_back_and_nothing_else_is_done() {
    let lab = Lab::new(json!({}));
    lab.member(1);
    let seen: EngramCluster = serde_json::from_value(lab.server.object(CLUSTER).unwrap()).unwrap();
    let template = crate::desired::template_hash(&seen, &lab.context.settings.image);
    let owner = json!([{
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember", "name": "demo-1",
        "uid": "00000001-0000-4000-8000-000000000000",
    }]);
    let pod = format!("{CORE}/pods/demo-1");
    lab.server.put(
        &pod,
        json!({
            "metadata": {
                "ownerReferences": owner, "annotations": { "engram.dev/template": template },
                "labels": { "mine": "stays" },
            },
            "status": { "phase": "Pending" },
        }),
    );
    let claim = lab.server.paths("/persistentvolumeclaims/").remove(0);
    let member = format!("{MEMBERS}/demo-1");
    for path in [&claim, &member] {
        let mut object = lab.server.object(path).unwrap();
        object["metadata"]["labels"] = json!({});
        lab.server.put(path, object);
    }
    lab.server.requests();
    lab.pass().await.unwrap();
    for path in [&pod, &claim, &member] {
        let object = lab
            .server
            .object(path)
            .unwrap_or_else(|| panic!("{path} is gone"));
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["engram.dev/member"], "demo-1", "{path}: {labels}");
        assert_eq!(labels["engram.dev/cluster"], "demo", "{path}");
    }
    assert_eq!(
        lab.server.object(&pod).unwrap()["metadata"]["labels"]["mine"],
        "stays"
    );
    let asked = lab.server.requests();
    let changed = asked.iter().filter(|(method, path)| {
        let ends = method == hyper::Method::DELETE || path.contains("/eviction");
        ends || (method == hyper::Method::POST && path.contains("/engrammembers"))
    });
    assert_eq!(changed.count(), 0, "{asked:#?}");
}
