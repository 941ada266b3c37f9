//! A Namespace is deleted with a cluster in it whose PersistentVolumes are retained: they are bound anew, and the
//! cluster goes on with them, under its name, its ID and with all that it had.

use std::time::Duration;

use engram_e2e::kind::{Declared, wait_for};
use serde_json::{Value, json};

use super::bad_image::plugin;
use super::recovered::{adopt, holds};
use crate::ci::content;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "deleted";
/// kubectl's own time beside the one that it is told to wait.
const SLACK: Duration = Duration::from_secs(30);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let storage = json!({ "size": "1Gi", "reclaimPolicy": "Retain" });
    let demo = lab.cluster(NAMESPACE, 3, &json!({ "storage": storage }));
    content::fill(&demo);
    let last = content::put(&demo, "the-last-one");
    content::must_agree(&demo, last);
    let (keys, _) = content::everything(&demo, 0).expect("a read");
    let (before, members) = (demo.object().expect("it is there"), demo.members());
    let volumes = step("its volumes are retained", || keep(&demo, "Retain"));
    assert_eq!(volumes.len(), 3);
    step("its Namespace is deleted, and with it all claims", || {
        let timeout = format!("--timeout={}s", READY_LIMIT.as_secs());
        let delete = ["delete", "namespace", NAMESPACE, &timeout];
        demo.kind().must_within(READY_LIMIT + SLACK, &delete);
        wait_for("the volumes are released", READY_LIMIT, || {
            let phases: Vec<String> = volumes.iter().map(|one| volume_phase(&demo, one)).collect();
            phases.iter().all(|one| one == "Released").then_some(())
        });
    });
    lab.namespace(NAMESPACE);
    step("they are bound anew", || {
        let would = plugin(&demo, &["rebind", "demo", "--dry-run"]);
        for (volume, member) in volumes.iter().zip(&members) {
            assert!(would.contains(volume), "{would}");
            assert!(would.contains(&format!("which was {member}'s")), "{would}");
            assert_eq!(volume_phase(&demo, volume), "Released");
        }
        plugin(&demo, &["rebind", "demo"]);
        wait_for("they are bound", READY_LIMIT, || {
            let phases: Vec<String> = volumes.iter().map(|one| volume_phase(&demo, one)).collect();
            phases.iter().all(|one| one == "Bound").then_some(())
        });
    });
    step("the cluster goes on with them", || {
        adopt(&demo, &storage, &before);
        assert_eq!(demo.members(), members);
        holds(&demo, &keys, last);
    });
    // What this story has retained goes with it.
    keep(&demo, "Delete");
    lab.clear(NAMESPACE);
}

/// Sets what becomes of the members' volumes once their claims are gone; by member, which volumes they are.
fn keep(demo: &Declared, policy: &str) -> Vec<String> {
    let list = demo.kind().get(NAMESPACE, &["persistentvolumeclaims"]);
    let list = list.expect("a list");
    let mut claims: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    claims.sort_by_key(|claim| claim["metadata"]["name"].to_string());
    let volume = |claim: &&Value| claim["spec"]["volumeName"].as_str().map(str::to_owned);
    let volumes: Vec<String> = claims.iter().filter_map(volume).collect();
    let patch = json!({ "spec": { "persistentVolumeReclaimPolicy": policy } }).to_string();
    for volume in &volumes {
        let patch = ["patch", "pv", volume, "--type=merge", "-p", &patch];
        demo.kind().must(&patch);
    }
    volumes
}

fn volume_phase(demo: &Declared, volume: &str) -> String {
    let path = "jsonpath={.status.phase}";
    demo.kind().must(&["get", "pv", volume, "-o", path])
}
