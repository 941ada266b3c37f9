//! Every way of being gone (`plan/lost`, `docs/failure-modes.md`), as Kubernetes and the members show it: what whole
//! passes do about it, and what they leave alone.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{CORE, Lab, MEMBERS};
use crate::played::members::Members;

/// Enough for a member to be taken out, put away and replaced.
pub(super) const ROUNDS: usize = 14;
/// Longer than any state may last.
pub(super) const LONG_AGO: &str = "2026-01-01T00:00:00Z";
/// Whom it befalls; another one leads.
pub(super) const MEMBER: &str = "demo-2";
pub(super) const NODES: &str = "/api/v1/nodes";
/// What a member's log ends with where its own data is to blame.
const DAMAGED: &str = r#"{"level":"fatal","error":"the log is damaged at 17"}"#;

/// What befalls a member, and since when.
type Way = fn(&Cluster, &str);

/// What becomes of it.
enum Then {
    /// Its pod is made again, on its volume.
    MadeAgain,
    /// Another one takes its place, for this cause; its volume goes, or is kept.
    Replaced(&'static str, bool),
    /// Nothing is done; the condition `Degraded` says this.
    Said(&'static str),
}

/// Members that answer.
pub(super) struct Cluster {
    pub(super) lab: Lab,
    pub(super) members: Members,
}

impl Cluster {
    /// Three of them.
    pub(super) async fn new(spec: &Value) -> Self {
        let mut all =
            json!({ "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } } });
        for (key, value) in spec.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let lab = Lab::new(all);
        (1..=3).for_each(|number| lab.member(number));
        let members = Members::of(&["demo-1", MEMBER, "demo-3"]);
        let cluster = Self { lab, members };
        cluster.rounds(3).await;
        let (ready, reason, message) = cluster.lab.condition("Ready");
        assert_eq!(ready, "True", "{reason}: {message}");
        cluster
    }

    /// Passes, after each of which the kubelets have their turn.
    pub(super) async fn rounds(&self, count: usize) {
        for _ in 0..count {
            self.lab.pass().await.unwrap();
            self.kubelets().await;
        }
    }

    /// Pods that are new run, each on a node of its own; one that does not end does once nobody lists its member.
    async fn kubelets(&self) {
        for path in self.lab.server.paths("/pods/") {
            let mut pod = self.lab.server.object(&path).unwrap();
            let member = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let (voters, learners) = self.members.listed();
            let listed = voters.contains(&member) || learners.contains(&member);
            if !listed && !voters.is_empty() {
                self.lab.server.remove(&path);
            } else if pod["status"].is_null() {
                let node = format!("n-{member}");
                let ready = json!([{ "type": "Ready", "status": "True" }]);
                let status = json!({ "conditions": ready });
                let node_path = format!("{NODES}/{node}");
                self.lab.server.put(&node_path, json!({ "status": status }));
                pod["spec"]["nodeName"] = json!(node);
                pod["status"] = running(&self.members.run(&member).await.to_string(), "True");
                self.lab.server.put(&path, pod);
            }
        }
    }

    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        self.lab.server.change(path, change);
    }

    fn pod(&self, change: impl FnOnce(&mut Value)) {
        self.change(&format!("{CORE}/pods/{MEMBER}"), change);
    }

    fn member(&self, change: impl FnOnce(&mut Value)) {
        self.change(&format!("{MEMBERS}/{MEMBER}"), change);
    }

    fn claim(&self, change: impl FnOnce(&mut Value)) {
        self.change(&claim(), change);
    }

    /// Its process does not answer any more, to nobody.
    pub(super) fn falls_silent(&self, since: &str, ready: &str) {
        self.pod(|pod| pod["status"] = running(&Members::nowhere().to_string(), ready));
        self.member(|member| member["status"]["awaySince"] = json!(since));
    }

    /// What is there of members, pods and claims, and who each of them is.
    pub(super) fn there(&self) -> Vec<(String, Value)> {
        let mut all = self.lab.server.all();
        let of_members = |path: &String| {
            ["/engrammembers/", "/pods/", "/persistentvolumeclaims/"]
                .iter()
                .any(|part| path.contains(part))
        };
        all.retain(|path, _| of_members(path));
        let uid = |object: Value| object["metadata"]["uid"].clone();
        all.into_iter()
            .map(|(path, object)| (path, uid(object)))
            .collect()
    }

    /// What was said for this reason.
    pub(super) fn notes(&self, reason: &str) -> Vec<String> {
        self.lab.server.notes(reason)
    }
}

pub(super) fn claim() -> String {
    format!("{CORE}/persistentvolumeclaims/data-{MEMBER}-00000002")
}

/// A pod whose container runs.
fn running(address: &str, ready: &str) -> Value {
    json!({
        "phase": "Running", "podIP": address,
        "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": LONG_AGO },
            { "type": "Ready", "status": ready, "lastTransitionTime": LONG_AGO },
        ],
        "containerStatuses": [{
            "name": "engram", "image": "i", "imageID": "", "ready": ready == "True", "restartCount": 0,
            "state": { "running": { "startedAt": LONG_AGO } },
        }],
    })
}

/// A pod on a node whose container waits, after it ended like this.
fn waiting(since: &str, reason: &str, ended: &Value) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": since },
            { "type": "ContainersReady", "status": "False", "lastTransitionTime": since },
        ],
        "containerStatuses": [{
            "name": "engram", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "in Kubernetes' words" } },
            "lastState": ended,
        }],
    })
}

fn ended(reason: &str, message: &str) -> Value {
    json!({ "terminated": { "exitCode": 1, "reason": reason, "message": message } })
}

/// A pod that no node takes.
fn unplaced(since: &str, words: &str) -> Value {
    json!({ "phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words,
        "lastTransitionTime": since,
    }] })
}

/// It happens, and becomes of it what should.
async fn comes_to(what: &str, way: Way, then: Then) {
    let cluster = Cluster::new(&json!({})).await;
    let before = cluster.there();
    way(&cluster, LONG_AGO);
    cluster.rounds(ROUNDS).await;
    let (voters, learners) = cluster.members.listed();
    assert!(learners.is_empty(), "{what}: {learners:?}");
    let notes = cluster.notes("ReplacingMember");
    match then {
        Then::MadeAgain => {
            let differs = |one: &&(String, Value)| !before.contains(one);
            let after = cluster.there();
            let new: Vec<&(String, Value)> = after.iter().filter(differs).collect();
            assert_eq!(new.len(), 1, "{what}: {new:?}");
            assert!(new[0].0.ends_with("/pods/demo-2"), "{what}: {new:?}");
        }
        Then::Replaced(cause, keeps) => {
            assert_eq!(voters, ["demo-1", "demo-3", "demo-4"], "{what}: {notes:?}");
            assert_eq!(cluster.lab.server.paths(MEMBERS).len(), 3, "{what}");
            let said = format!("{MEMBER} goes ({cause})");
            assert!(
                notes.iter().any(|note| note.contains(&said)),
                "{what}: {notes:?}"
            );
            let left = cluster.lab.server.object(&claim());
            assert_eq!(left.is_some(), keeps, "{what}");
            if let Some(claim) = left {
                assert_eq!(claim["metadata"]["ownerReferences"], json!([]), "{what}");
            }
        }
        Then::Said(words) => {
            assert_eq!(cluster.there(), before, "{what}");
            let (degraded, reason, message) = cluster.lab.condition("Degraded");
            let is_said = degraded == "True" && reason == "MemberNotReady";
            assert!(
                is_said && message.contains(words),
                "{what}: {reason}: {message}"
            );
            return;
        }
    }
    let (ready, reason, message) = cluster.lab.condition("Ready");
    assert_eq!(ready, "True", "{what}: {reason}: {message}");
}

/// What a member may come back from within its time.
const WITHIN_A_TIME: [(&str, Way, &str); 8] = [
    ("its node is not ready", node_not_ready, "NodeLost"),
    ("its node has no object", node_gone, "NodeLost"),
    ("its container fails", fails, "Unhealthy"),
    ("its volume is not mounted", not_mounted, "Stuck"),
    (
        "its volume is where it cannot run",
        volume_elsewhere,
        "Stuck",
    ),
    ("its volume is none any more", volume_none, "Stuck"),
    ("its pod does not end", does_not_end, "Stuck"),
    ("it runs and never answers", silent, "Stuck"),
];

pub(super) fn node_not_ready(cluster: &Cluster, since: &str) {
    cluster.falls_silent(since, "False");
    let path = format!("{NODES}/n-{MEMBER}");
    let ready = json!([{ "type": "Ready", "status": "Unknown", "lastTransitionTime": since }]);
    cluster.change(&path, |node| node["status"]["conditions"] = ready);
}

fn node_gone(cluster: &Cluster, since: &str) {
    cluster.falls_silent(since, "False");
    let path = format!("{NODES}/n-{MEMBER}");
    cluster.lab.server.remove(&path).unwrap();
    // As the passes since have written it down.
    cluster.member(|member| member["status"]["nodeLostSince"] = json!(since));
}

fn fails(cluster: &Cluster, since: &str) {
    let status = waiting(since, "CrashLoopBackOff", &ended("Error", DAMAGED));
    cluster.pod(|pod| pod["status"] = status);
}

fn not_mounted(cluster: &Cluster, since: &str) {
    let status = waiting(since, "ContainerCreating", &json!({}));
    cluster.pod(|pod| pod["status"] = status);
}

fn volume_elsewhere(cluster: &Cluster, since: &str) {
    let words = "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match \
                 PersistentVolume's node affinity.";
    cluster.pod(|pod| pod["status"] = unplaced(since, words));
}

fn volume_none(cluster: &Cluster, since: &str) {
    let words = "0/3 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to \
                 non-existent pv(s).";
    cluster.pod(|pod| pod["status"] = unplaced(since, words));
}

fn does_not_end(cluster: &Cluster, since: &str) {
    cluster.falls_silent(since, "False");
    cluster.pod(|pod| {
        pod["metadata"]["deletionTimestamp"] = json!(since);
        pod["metadata"]["finalizers"] = json!(["tests.engram.dev/held"]);
    });
}

fn silent(cluster: &Cluster, since: &str) {
    cluster.falls_silent(since, "False");
}

#[tokio::test]
async fn whoever_is_gone_for_longer_than_its_time_is_replaced_and_nobody_sooner() {
    for (what, way, cause) in WITHIN_A_TIME {
        comes_to(what, way, Then::Replaced(cause, false)).await;
        let cluster = Cluster::new(&json!({})).await;
        let before = cluster.there();
        way(&cluster, &Timestamp::now().to_string());
        cluster.rounds(ROUNDS).await;
        assert_eq!(cluster.there(), before, "{what}, since a moment");
    }
}

#[tokio::test]
pub(super) async fn what_is_gone_for_good_is_not_waited_for() {
    let no_pod: Way = |cluster, _| {
        let path = format!("{CORE}/pods/{MEMBER}");
        cluster.lab.server.remove(&path).unwrap();
    };
    let evicted: Way = |cluster, _| {
        let status = json!({ "phase": "Failed", "reason": "Evicted" });
        cluster.pod(|pod| pod["status"] = status);
    };
    let no_claim: Way = |cluster, _| drop(cluster.lab.server.remove(&claim()).unwrap());
    let going: Way = |cluster, since| {
        cluster.claim(|claim| claim["metadata"]["deletionTimestamp"] = json!(since));
    };
    let lost: Way = |cluster, _| cluster.claim(|claim| claim["status"]["phase"] = json!("Lost"));
    let corrupt: Way = |cluster, _| cluster.members.corrupt(MEMBER);
    for (what, way, then) in [
        ("it has no pod", no_pod, Then::MadeAgain),
        ("its pod was evicted", evicted, Then::MadeAgain),
        (
            "its claim is gone",
            no_claim,
            Then::Replaced("VolumeLost", false),
        ),
        ("its claim goes", going, Then::Replaced("VolumeLost", false)),
        (
            "its claim has lost its volume",
            lost,
            Then::Replaced("VolumeLost", false),
        ),
        ("its data differs", corrupt, Then::Replaced("Corrupt", true)),
    ] {
        comes_to(what, way, then).await;
    }
}

#[tokio::test]
async fn what_another_member_would_lack_as_well_is_said() {
    fn fails_for(cluster: &Cluster, since: &str, reason: &str, ended: &Value) {
        cluster.pod(|pod| pod["status"] = waiting(since, reason, ended));
    }
    let memory: Way = |cluster, since| {
        fails_for(cluster, since, "CrashLoopBackOff", &ended("OOMKilled", ""));
    };
    let disk: Way = |cluster, since| {
        let words = r#"{"level":"fatal","error":"wal: No space left on device (os error 28)"}"#;
        fails_for(cluster, since, "CrashLoopBackOff", &ended("Error", words));
    };
    let certificate: Way = |cluster, since| {
        let words =
            r#"{"level":"fatal","error":"open /etc/engram/tls/client/tls.crt: No such file"}"#;
        fails_for(cluster, since, "CrashLoopBackOff", &ended("Error", words));
    };
    let image: Way = |cluster, since| fails_for(cluster, since, "ImagePullBackOff", &json!({}));
    let secret: Way =
        |cluster, since| fails_for(cluster, since, "CreateContainerConfigError", &json!({}));
    let room: Way = |cluster, since| {
        let words = "0/3 nodes are available: 3 Insufficient memory.";
        cluster.pod(|pod| pod["status"] = unplaced(since, words));
    };
    let unreached: Way = |cluster, since| cluster.falls_silent(since, "True");
    for (what, way, words) in [
        ("it lacks memory", memory, "demo-2: CrashLoopBackOff"),
        ("it lacks disk", disk, "No space left on device"),
        (
            "it lacks its certificate",
            certificate,
            "tls.crt: No such file",
        ),
        ("it lacks its image", image, "demo-2: ImagePullBackOff"),
        (
            "it lacks a Secret",
            secret,
            "demo-2: CreateContainerConfigError",
        ),
        ("no node has room", room, "no node takes the pod of demo-2"),
        (
            "the operator does not reach it",
            unreached,
            "the operator does not reach it",
        ),
    ] {
        comes_to(what, way, Then::Said(words)).await;
    }
}

#[tokio::test]
async fn a_nodes_clock_that_is_ahead_does_not_put_off_what_is_done() {
    let cluster = Cluster::new(&json!({})).await;
    silent(&cluster, LONG_AGO);
    cluster.pod(|pod| {
        pod["status"]["conditions"][1]["lastTransitionTime"] = json!("2126-01-01T00:00:00Z");
    });
    cluster.rounds(ROUNDS).await;
    let (voters, _) = cluster.members.listed();
    assert_eq!(voters, ["demo-1", "demo-3", "demo-4"]);
}

#[tokio::test]
async fn where_healing_is_off_it_is_said_and_not_done() {
    let cluster = Cluster::new(&json!({ "healing": { "enabled": false } })).await;
    let before = cluster.there();
    not_mounted(&cluster, LONG_AGO);
    cluster.rounds(ROUNDS).await;
    assert_eq!(cluster.there(), before);
    let (_, _, message) = cluster.lab.condition("Degraded");
    assert!(message.contains("healing is off: delete it"), "{message}");
}

#[tokio::test]
async fn without_a_quorum_every_member_stays_whatever_it_lacks() {
    let cluster = Cluster::new(&json!({})).await;
    let before = cluster.there();
    not_mounted(&cluster, LONG_AGO);
    cluster.members.lose_quorum();
    cluster.rounds(ROUNDS).await;
    assert_eq!(cluster.there(), before);
    let (available, reason, message) = cluster.lab.condition("Available");
    assert_eq!(
        (available.as_str(), reason.as_str()),
        ("False", "QuorumLost")
    );
    assert!(message.contains("starts and does not run"), "{message}");
}

#[tokio::test]
async fn a_learner_that_applies_nothing_is_taken_out_and_another_one_waits() {
    let cluster = Cluster::new(&json!({})).await;
    cluster.members.unvote(MEMBER);
    cluster.member(|member| {
        member["status"]["catchingUp"] = json!({ "applied": 100, "since": LONG_AGO });
    });
    cluster.rounds(ROUNDS).await;
    let (voters, learners) = cluster.members.listed();
    assert_eq!(voters, ["demo-1", "demo-3"], "{learners:?}");
    assert!(learners.is_empty(), "{learners:?}");
    assert_eq!(cluster.lab.server.paths(MEMBERS).len(), 2);
    let (_, reason, message) = cluster.lab.condition("Degraded");
    assert_eq!(reason, "LearnerStuck", "{message}");
}
