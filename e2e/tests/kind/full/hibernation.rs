//! A cluster that nobody uses is left alone; scaled to 0 it rests, and keeps its volumes; scaled back
//! it has everything that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, condition, wait_for};
use serde_json::{Value, json};

use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "rest";
/// How long clients write beforehand.
const WRITES: Duration = Duration::from_secs(3);
/// How long an idle cluster is watched: several of the operator's rounds.
const IDLE: Duration = Duration::from_secs(45);
/// What must not be written to meanwhile.
const OBJECTS: &str = "engramclusters,engrammembers,pods,services,persistentvolumeclaims";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({}));
    // Before any client comes: the status follows the revision, half a minute behind.
    step("nobody writes to objects of an idle cluster", || {
        idle(&demo);
    });
    let mut traffic = Traffic::start(&demo.access(), &demo.node_ports());
    thread::sleep(WRITES);
    traffic.pause();
    let claims = claims(&demo);
    step("scaled to 0, it rests", || rests(&demo));
    assert_eq!(claims, self::claims(&demo), "the volumes stay");
    step("scaled to 3, it is there again", || {
        demo.change(&json!({ "replicas": 3 }));
        demo.ready(3, READY_LIMIT);
    });
    assert_eq!(
        claims,
        self::claims(&demo),
        "members wake up on their own volumes"
    );
    step("every acknowledged write is there", || {
        crate::ci::audit(traffic);
    });
    lab.clear(NAMESPACE);
}

fn idle(demo: &Declared) {
    // What the last change led to is written.
    let before = wait_for("two looks see the same", LIMIT, || {
        let look = objects(demo);
        thread::sleep(WRITES);
        (look == objects(demo)).then_some(look)
    });
    thread::sleep(IDLE);
    let after = objects(demo);
    for (name, is) in &after {
        let was = before.get(name).unwrap_or(&Value::Null);
        assert!(
            was == is,
            "{name} was written for no reason: {was:#} became {is:#}"
        );
    }
    assert_eq!(before.len(), after.len(), "an object was deleted");
}

/// Every object of the cluster, by kind and name.
fn objects(demo: &Declared) -> BTreeMap<String, Value> {
    let list = demo.kind().get(demo.namespace(), &[OBJECTS]);
    let list = list.expect("objects are listed");
    let objects = list["items"].as_array().into_iter().flatten();
    let named = |object: &Value| {
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        (name, object.clone())
    };
    objects.map(named).collect()
}

fn rests(demo: &Declared) {
    demo.change(&json!({ "replicas": 0 }));
    wait_for("no member runs", READY_LIMIT, || {
        let object = demo.object()?;
        let ready = condition(&object, "Ready")?;
        (ready.reason == "Hibernated" && demo.pods().is_empty()).then_some(())
    });
}

fn claims(demo: &Declared) -> BTreeSet<String> {
    let list = demo
        .kind()
        .get(demo.namespace(), &["persistentvolumeclaims"]);
    let list = list.expect("claims are listed");
    let name = |claim: &Value| claim["metadata"]["uid"].to_string();
    let claims = list["items"].as_array().into_iter().flatten();
    claims.map(name).collect()
}
