//! Without any backup: all volumes but one are lost, and that one's member goes on; the cluster is deleted, and
//! its retained volumes are adopted.

use engram_e2e::kind::{Declared, wait_for};
use serde_json::{Value, json};

use super::operator_killed::Killer;
use super::restore_in_place::{change, confirm, phase, uids};
use crate::ci::backups::object;
use crate::ci::content;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "recovered";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let retained = json!({ "storage": { "size": "1Gi", "reclaimPolicy": "Retain" } });
    let demo = lab.cluster(NAMESPACE, 3, &retained);
    content::fill(&demo);
    let last = content::put(&demo, "the-last-one");
    content::must_agree(&demo, last);
    let (keys, _) = content::everything(&demo, 0).expect("a read");
    let survivor = step("all volumes but one are lost", || lose_all_but_one(&demo));
    step(
        "whose log goes furthest is found, and nothing changed",
        || {
            restore(
                &demo,
                "quorum",
                &json!({ "kind": "QuorumRecovery", "target": { "name": "demo" } }),
            );
            let planned = phase(&demo, "quorum", "Planned");
            assert_eq!(planned["status"]["survivor"], *survivor, "{planned:#}");
            let loss = planned["status"]["loss"].to_string();
            assert!(loss.contains("1 of 3 voters"), "{loss}");
        },
    );
    let killer = Killer::start(lab.kind());
    step("it goes on, and others join it, operators killed", || {
        confirm(&demo, "quorum");
        phase(&demo, "quorum", "Completed");
        demo.ready(3, READY_LIMIT);
    });
    println!("          operators killed {} times", killer.stop());
    step("it has all that it had", || {
        holds(&demo, &keys, last);
        change(&demo, "quorum", &json!({ "decision": "Accept" }));
        wait_for("it is over", READY_LIMIT, || {
            let object = demo.object()?;
            object["status"]["restoring"].is_null().then_some(())
        });
        demo.ready(3, READY_LIMIT);
    });
    let before = demo.object().expect("it is there");
    let members = demo.members();
    let volumes = uids(&demo, "persistentvolumeclaims");
    step("the cluster is deleted, and its volumes stay", || {
        demo.delete_keeping_volumes(READY_LIMIT);
        assert_eq!(volumes, uids(&demo, "persistentvolumeclaims"));
    });
    step("its volumes are adopted", || {
        adopt(
            &demo,
            &json!({ "size": "1Gi", "reclaimPolicy": "Retain" }),
            &before,
        );
        assert_eq!(demo.members(), members);
        assert_eq!(volumes, uids(&demo, "persistentvolumeclaims"));
        holds(&demo, &keys, last);
    });
    lab.clear(NAMESPACE);
}

/// Has the volumes of a cluster that is gone adopted: it is the one that it was, under its name.
pub(super) fn adopt(demo: &Declared, storage: &Value, before: &Value) {
    let spec = json!({
        "replicas": 3, "clientService": { "type": "NodePort" }, "storage": storage,
    });
    let target = json!({ "name": "demo", "spec": spec });
    let adopt = json!({ "kind": "AdoptVolumes", "target": target });
    restore(demo, "adopt", &adopt);
    let planned = phase(demo, "adopt", "Planned");
    let loss = planned["status"]["loss"].to_string();
    assert!(
        loss.contains("nothing that was acknowledged"),
        "{planned:#}"
    );
    confirm(demo, "adopt");
    phase(demo, "adopt", "Completed");
    let after = demo.ready(3, READY_LIMIT);
    assert_eq!(after["status"]["clusterID"], before["status"]["clusterID"]);
}

pub(super) fn holds(demo: &Declared, keys: &[engram_proto::mvccpb::KeyValue], last: i64) {
    let (now, revision) = content::everything(demo, 0).expect("a read");
    assert!(
        now == keys && revision == last,
        "{} keys at {revision}",
        now.len()
    );
    content::must_agree(demo, revision);
}

/// Whose volume is left.
fn lose_all_but_one(demo: &Declared) -> String {
    let members = demo.members();
    let (survivor, lost) = members.split_first().expect("three members");
    // The operator looks on: with it, the first of them would be replaced before the second is lost.
    demo.change(&json!({ "paused": true }));
    let kind = demo.kind();
    for member in lost {
        let label = format!("engram.dev/member={member}");
        let delete = |what: &str| {
            let command = [
                "-n",
                NAMESPACE,
                "delete",
                what,
                "-l",
                &label,
                "--wait=false",
            ];
            kind.must(&command);
        };
        delete("persistentvolumeclaims");
        delete("pods");
    }
    wait_for("they are gone", READY_LIMIT, || {
        let list = kind.get(NAMESPACE, &["persistentvolumeclaims"])?;
        (list["items"].as_array()?.len() == 1).then_some(())
    });
    demo.change(&json!({ "paused": false }));
    wait_for("it is said that there is no quorum", READY_LIMIT, || {
        let object = demo.object()?;
        let available = engram_e2e::kind::condition(&object, "QuorumAvailable")?;
        (available.status == "False").then_some(())
    });
    survivor.clone()
}

pub(super) fn restore(demo: &Declared, name: &str, spec: &Value) {
    let mut spec = spec.clone();
    spec["dryRun"] = json!(true);
    let restore = object("EngramRestore", name, &spec);
    demo.kind().apply(demo.namespace(), &restore.to_string());
}
