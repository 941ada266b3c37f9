//! The same for restores of every kind: they end alike, and no volume goes that may be the only copy.
//!
//! An operator is killed before each of its writes, and after the last: what it reads changes nothing, so that
//! there is no other moment at which another one could find anything else.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};

use super::super::in_place::{RESTORE, STORE, held, shown};
use super::super::{CLUSTER, CORE, Lab, MEMBERS};
use super::settled;
use crate::api::EngramRestore;
use crate::played::{Fault, Played};
use crate::reconcile::restore;

/// Rounds of one operator: the longest story, which is one that is accepted, has come to its end after fifteen.
const ROUNDS: usize = 16;

/// A restore, and what its user wants of it in the end.
struct Story {
    spec: Value,
    /// In which phase it is decided, and how.
    decided: Option<(&'static str, &'static str)>,
    begin: fn() -> Lab,
    /// How many calls were made before it was decided.
    before: Cell<usize>,
    /// The volumes that were there in the beginning, and what came beside them until it was decided.
    old: RefCell<BTreeMap<String, Value>>,
    restored: RefCell<BTreeMap<String, Value>>,
}

/// A restore of a cluster that is there.
fn of_demo(kind: &str, decided: Option<(&'static str, &'static str)>) -> Story {
    let source = json!({ "storeRef": { "name": "s3" }, "cluster": "demo" });
    let mut spec = json!({ "kind": kind, "target": { "name": "demo" } });
    if kind == "InPlace" {
        spec["source"] = source;
    }
    Story::of(spec, decided, running)
}

/// What is wished of clusters here. Pods of the played server are made long ago, and nobody runs them: that is not
/// waited for.
fn wish() -> Value {
    json!({
        "replicas": 3,
        "healing": { "stuckAfter": "99999h", "unhealthyAfter": "99999h" },
        "tls": { "client": { "mode": "Disabled" }, "peer": { "mode": "Disabled" } },
    })
}

/// A cluster of three.
fn running() -> Lab {
    let lab = Lab::new(wish());
    (1..=3).for_each(|number| lab.member(number));
    lab
}

/// No cluster; and where one was, its volumes.
fn gone() -> Lab {
    let lab = running();
    let mut claims = Vec::new();
    for path in lab.server.paths("/persistentvolumeclaims/") {
        let mut claim = lab.server.remove(&path).unwrap();
        claim["metadata"]["ownerReferences"] = json!([]);
        claims.push((path, claim));
    }
    let server = Played::default();
    for (path, claim) in claims {
        server.put(&path, claim);
    }
    Lab::on(server)
}

impl Story {
    fn of(spec: Value, decided: Option<(&'static str, &'static str)>, begin: fn() -> Lab) -> Self {
        Self {
            spec,
            decided,
            begin,
            before: Cell::default(),
            old: RefCell::default(),
            restored: RefCell::default(),
        }
    }

    fn begun(&self) -> Played {
        let lab = (self.begin)();
        let store = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "spec": { "s3": { "bucket": "backups" } },
        });
        lab.server.put(STORE, store);
        let restore = json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore", "spec": self.spec,
        });
        lab.server.put(RESTORE, restore);
        self.old.replace(volumes(&lab.server));
        self.restored.take();
        lab.server
    }

    /// One operator's rounds, until it is killed or has done all of them. Whether it was killed.
    async fn operator(&self, server: &Played) -> bool {
        let lab = Lab::on(server.clone());
        let work = async {
            for _ in 0..ROUNDS {
                self.meanwhile(&lab);
                let seen: EngramRestore =
                    serde_json::from_value(server.object(RESTORE).unwrap()).unwrap();
                // What fails is tried again.
                let pass = restore::reconcile(Arc::new(seen), lab.context.clone());
                drop(Box::pin(pass).await);
                if server.object(CLUSTER).is_some() {
                    drop(lab.pass().await);
                }
            }
        };
        tokio::select! {
            () = work => false,
            () = server.kills() => true,
        }
    }

    /// What nodes, members and the user do, whoever the operator is.
    fn meanwhile(&self, lab: &Lab) {
        for path in lab.server.paths("/pods/") {
            let pod = lab.server.object(&path).unwrap();
            let name = path.rsplit('/').next().unwrap();
            if !pod["status"].is_null() {
                continue;
            }
            if name == "back-show" {
                lab.says(name, &shown("7"));
            } else if name.starts_with("back-look-") {
                lab.says(name, &looked(&pod));
            } else if pod["spec"]["initContainers"].is_array() {
                lab.fills(name);
            }
        }
        serves(lab);
        self.user(lab);
    }

    /// Until it is decided nothing of what was there goes; what came beside it stays from then on.
    fn decides(&self, server: &Played) {
        let old = self.old.borrow();
        let mut found = volumes(server);
        for (path, uid) in old.iter() {
            let there = found.remove(path);
            assert_eq!(there.as_ref(), Some(uid), "before it is decided: {path}");
        }
        self.restored.replace(found);
    }

    /// As long as nobody has accepted what came of it, every volume that was there is there still; and from then on
    /// what it was accepted for.
    fn must_have_kept(&self, server: &Played, when: &str) {
        let restore = server.object(RESTORE).unwrap();
        let accepted = restore["spec"]["decision"] == "Accept";
        let wanted = match accepted {
            true => self.restored.borrow(),
            false => self.old.borrow(),
        };
        let found = volumes(server);
        assert!(
            !accepted || !wanted.is_empty(),
            "{when}: nothing was restored"
        );
        for (path, uid) in wanted.iter() {
            assert_eq!(found.get(path), Some(uid), "{when}: {path}");
        }
    }

    /// Confirms what is planned, and decides.
    fn user(&self, lab: &Lab) {
        let mut restore = lab.server.object(RESTORE).unwrap();
        let status = restore["status"].clone();
        let waits = status.to_string().contains("WaitingForConfirmation");
        let wanted = match self.decided {
            _ if waits => ("confirm", status["planHash"].clone()),
            Some((phase, decision)) if status["phase"] == phase => ("decision", json!(decision)),
            _ => return,
        };
        if restore["spec"][wanted.0] == wanted.1 {
            return;
        }
        if wanted.0 == "decision" {
            self.before.set(lab.server.asked());
            self.decides(&lab.server);
        }
        restore["spec"][wanted.0] = wanted.1;
        let generation = restore["metadata"]["generation"].as_i64().unwrap();
        restore["metadata"]["generation"] = json!(generation + 1);
        lab.server.put(RESTORE, restore);
    }
}

/// What the volume holds that such a pod looks at: the second member's log goes furthest.
fn looked(pod: &Value) -> Value {
    let text = pod["spec"].to_string();
    let of = (1..=3).find(|number| text.contains(&format!("data-demo-{number}-0000000{number}")));
    match of.unwrap() {
        2 => held(2, 4, 80),
        number => held(number, 3, 90),
    }
}

/// The restored cluster serves, as soon as a member of it has its pod.
fn serves(lab: &Lab) {
    let Some(mut cluster) = lab.server.object(CLUSTER) else {
        return;
    };
    let restoring = &cluster["status"]["restoring"];
    let stays = !restoring.is_null() && restoring["stage"] != "Kept";
    let in_force = |path: &String| {
        let number: u64 = path.rsplit('-').next().unwrap().parse().unwrap();
        let is_new = restoring["lastOldMember"]
            .as_u64()
            .is_none_or(|last| number > last);
        let survives = restoring["survivor"] == json!(format!("demo-{number}"));
        is_new || survives
    };
    let pods = lab.server.paths("/pods/demo-");
    let adopts = !cluster["spec"]["bootstrap"]["adopt"].is_null();
    let begins = !restoring.is_null() || !cluster["spec"]["bootstrap"].is_null();
    if stays || !begins || !pods.iter().any(in_force) {
        return;
    }
    let status = &mut cluster["status"];
    if !adopts && status["restoring"]["survivor"].is_null() {
        status["clusterID"] = json!("9");
        status["restored"] =
            json!({ "backupID": "n-1", "path": "p", "of": "7/0", "revision": 1040 });
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    for condition in conditions.iter_mut().filter(|one| one["type"] == "Ready") {
        condition["status"] = json!("True");
        condition["reason"] = json!("AllMembersReady");
    }
    lab.server.put(CLUSTER, cluster);
}

/// Volumes by name and UID.
fn volumes(server: &Played) -> BTreeMap<String, Value> {
    let claims = server.paths("/persistentvolumeclaims/data-demo-");
    let of = |path: String| {
        let claim = server.object(&path).unwrap();
        (path, claim["metadata"]["uid"].clone())
    };
    claims.into_iter().map(of).collect()
}

/// Has an operator be killed before each of its writes, and another one go on. What the server has in the end.
async fn whoever_is_killed_is_followed(what: &str, story: &Story) -> Played {
    let whole = story.begun();
    whole.requests();
    let killed = Box::pin(story.operator(&whole)).await;
    assert!(!killed, "{what}: nobody was to be killed");
    let requests = whole.requests();
    let writes = requests.iter().enumerate();
    // What comes before a decision is looked at where nothing is decided.
    let before_it = story.before.get();
    let writes =
        writes.filter(|(index, (method, _))| *method != Method::GET && *index >= before_it);
    let killed: Vec<usize> = writes.map(|(index, _)| index).collect();
    assert!(killed.len() > 5, "{what}: {requests:#?}");
    story.must_have_kept(&whole, what);
    let wanted = settled(&whole);
    for at in killed {
        let (method, path) = &requests[at];
        let when = format!("{what}, killed after {at} calls, before {method} {path}");
        let server = story.begun();
        server.kills_after(Some(at));
        let killed = Box::pin(story.operator(&server)).await;
        assert!(killed, "{when}: it went on");
        server.kills_after(None);
        story.must_have_kept(&server, &when);
        let killed = Box::pin(story.operator(&server)).await;
        assert!(!killed, "{when}: who came after it was killed as well");
        story.must_have_kept(&server, &when);
        let found = settled(&server);
        for path in wanted.keys().chain(found.keys()) {
            assert_eq!(found.get(path), wanted.get(path), "{when}: {path}");
        }
        // What is refused otherwise is as if it had been killed before.
        for fault in [Fault::Refused(409), Fault::Unanswered] {
            let when = format!("{when}: {fault:?}");
            let server = story.begun();
            server.goes_wrong(at, 1, fault);
            for _ in 0..2 {
                Box::pin(story.operator(&server)).await;
                story.must_have_kept(&server, &when);
            }
            assert!(server.went_wrong(), "{when}: it was not asked any more");
            let found = settled(&server);
            for path in wanted.keys().chain(found.keys()) {
                assert_eq!(found.get(path), wanted.get(path), "{when}: {path}");
            }
        }
    }
    whole
}

fn phase(server: &Played) -> Value {
    server.object(RESTORE).unwrap()["status"]["phase"].clone()
}

#[tokio::test]
async fn a_restore_in_place_is_done_accepted_and_undone_whoever_begins_it() {
    let story = of_demo("InPlace", None);
    let done = whoever_is_killed_is_followed("in place", &story).await;
    assert_eq!(phase(&done), "Completed");
    assert_eq!(done.paths("/persistentvolumeclaims/").len(), 4);
    let story = of_demo("InPlace", Some(("Completed", "Accept")));
    let done = whoever_is_killed_is_followed("accepted", &story).await;
    assert_eq!(phase(&done), "Completed");
    assert_eq!(done.paths("/persistentvolumeclaims/").len(), 1);
    for at in ["Running", "Completed"] {
        let story = of_demo("InPlace", Some((at, "Undo")));
        let done = whoever_is_killed_is_followed(&format!("undone when {at}"), &story).await;
        assert_eq!(phase(&done), "Undone", "when {at}");
        assert_eq!(done.paths("/pods/demo-").len(), 3);
        assert_eq!(done.paths("/persistentvolumeclaims/").len(), 3);
    }
}

#[tokio::test]
async fn a_lost_quorum_is_recovered_whoever_begins_it() {
    let story = of_demo("QuorumRecovery", None);
    let done = whoever_is_killed_is_followed("recovered", &story).await;
    assert_eq!(phase(&done), "Completed");
    assert_eq!(done.paths("/pods/demo-"), [format!("{CORE}/pods/demo-2")]);
    assert_eq!(done.paths("/persistentvolumeclaims/").len(), 3);
}

#[tokio::test]
async fn a_cluster_is_made_from_a_backup_whoever_begins_it() {
    let spec = json!({
        "kind": "NewCluster", "target": { "name": "demo", "spec": wish() },
        "source": { "storeRef": { "name": "s3" }, "cluster": "demo" },
    });
    let story = Story::of(spec, None, || Lab::on(Played::default()));
    let done = whoever_is_killed_is_followed("a new cluster", &story).await;
    assert_eq!(phase(&done), "Completed");
    assert_eq!(done.paths(MEMBERS).len(), 1, "nobody joins: nobody answers");
}

#[tokio::test]
async fn volumes_are_adopted_whoever_begins_it() {
    let spec = json!({
        "kind": "AdoptVolumes", "target": { "name": "demo", "spec": wish() },
    });
    let story = Story::of(spec, None, gone);
    let done = whoever_is_killed_is_followed("adopted", &story).await;
    assert_eq!(phase(&done), "Completed");
    assert_eq!(done.paths("/persistentvolumeclaims/").len(), 3);
    assert_eq!(done.paths("/pods/demo-").len(), 3);
}
