//! Storage is asked to grow: a StorageClass that cannot do it is named, and keeps nothing else from
//! being done; where it can, the claim asks for more, and no member restarts.

use engram_e2e::kind::{Condition, Declared, condition, wait_for};
use serde_json::{Value, json};

use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "grows";
/// A StorageClass of its own, of the provisioner of both node images.
const CLASS: &str = "engram-grows";
const PROVISIONER: &str = "rancher.io/local-path";
const SIZE: &str = "1Gi";
const GROWN: &str = "2Gi";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let kind = lab.with_operator();
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": CLASS },
        "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer",
    });
    kind.apply("default", &class.to_string());
    let storage = |size: &str| json!({ "size": size, "storageClassName": CLASS });
    let demo = lab.cluster(NAMESPACE, 1, &json!({ "storage": storage(SIZE) }));
    let first = uids(&demo);
    step("a StorageClass that cannot grow volumes is named", || {
        demo.change(&json!({ "storage": { "size": GROWN } }));
        wait_for("why it cannot grow is said", LIMIT, || {
            let said = degraded(&demo)?;
            let told = said.message.contains("set allowVolumeExpansion in it");
            (said.status == "True" && said.reason == "InvalidSpec" && told).then_some(())
        });
    });
    step("members are added all the same", || {
        demo.change(&json!({ "replicas": 3 }));
        demo.ready(3, READY_LIMIT);
    });
    assert_eq!(sizes(&demo), [SIZE, GROWN, GROWN]);
    assert_eq!(degraded(&demo).expect("it is said").reason, "InvalidSpec");
    step("where it can, the claim asks for more", || {
        let patch = ["--type=merge", "-p", r#"{"allowVolumeExpansion":true}"#];
        kind.must(&[&["patch", "storageclass", CLASS][..], &patch].concat());
        wait_for("the claim asks for more", LIMIT, || {
            (sizes(&demo) == [GROWN; 3]).then_some(())
        });
        wait_for("nothing is wrong any more", LIMIT, || {
            (degraded(&demo)?.status == "False").then_some(())
        });
    });
    let all = uids(&demo);
    let stays = first.iter().all(|uid| all.contains(uid));
    assert!(
        stays,
        "nobody restarts for a larger volume: {first:?} {all:?}"
    );
    step("and down to one member again", || {
        demo.change(&json!({ "replicas": 1 }));
        demo.ready(1, READY_LIMIT);
    });
    lab.clear(NAMESPACE);
}

fn degraded(demo: &Declared) -> Option<Condition> {
    condition(&demo.object()?, "Degraded")
}

/// What the claims ask for, the smallest first.
fn sizes(demo: &Declared) -> Vec<String> {
    let list = demo.kind().get(NAMESPACE, &["persistentvolumeclaims"]);
    let list = list.expect("claims are listed");
    let asked = |claim: &Value| {
        let size = claim["spec"]["resources"]["requests"]["storage"].as_str();
        size.expect("a claim asks for storage").to_owned()
    };
    let claims = list["items"].as_array().into_iter().flatten();
    let mut sizes: Vec<String> = claims.map(asked).collect();
    sizes.sort();
    sizes
}

fn uids(demo: &Declared) -> Vec<Value> {
    let uid = |pod: &Value| pod["metadata"]["uid"].clone();
    demo.pods().iter().map(uid).collect()
}
