//! An operator upgraded from the release before, by its chart: objects that were stored by then are as good as
//! before under the new definitions, clusters that name their image or wait for a person keep their pods, the others
//! take up what is new in their turn, and clients notice nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engram_e2e::kind::image::{self, RunsAs};
use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, Kind, Nodes, wait_for};
use serde_json::{Value, json};

use super::access;
use crate::ci::audit;
use crate::lab::{IMAGE, LIMIT, OPERATOR, OPERATOR_NAMESPACE, READY_LIMIT, install_operator};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "upgraded";
/// The image of the release before, under an older version.
const BEFORE: &str = "ghcr.io/engram-dev/engram:0.0.9";
/// How long its turn and what it brings may take: a new operator looks for a minute who was at it before.
const TURN_LIMIT: Duration = Duration::from_secs(600);
/// How long building the release before may take.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Tells the story.
pub fn tell() {
    let before = step("the release before", || Kind::before(BUILD_LIMIT));
    let images = step("images", || {
        [
            image::of(&before.join("bin"), BEFORE, RunsAs::Nonroot),
            image::engram(IMAGE, RunsAs::Nonroot),
        ]
    });
    let kind = Arc::new(step("a cluster of one node", || {
        Kind::create("engram-upgraded", Nodes::One, None)
    }));
    images.iter().for_each(|image| kind.load(image));
    step("its operator", || install(&kind, &before));
    kind.must(&["create", "namespace", NAMESPACE]);
    let [demo, named, waits] = step("clusters of the release before", || clusters(&kind));
    step("a backup of the release before", || access::backup(&demo));
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let kept = [&named, &waits].map(pods);
    let (first, volumes) = (pods(&demo), demo.uids("persistentvolumeclaims"));
    let stored = objects(&kind);
    step_under(&traffic, "the operator is upgraded", || {
        let chart = "charts/engram-operator";
        let upgrade = [
            "upgrade",
            OPERATOR,
            chart,
            "--namespace",
            OPERATOR_NAMESPACE,
        ];
        kind.helm_must(&[&upgrade[..], &["--reset-values", "--wait"]].concat());
    });
    step_under(
        &traffic,
        "stored objects are good under what is new",
        || {
            assert!(stored.is_subset(&objects(&kind)), "{stored:?}");
            readmitted(&kind, &stored);
        },
    );
    step_under(&traffic, "its turn comes, one member at a time", || {
        wait_for("every member runs what is new", TURN_LIMIT, || {
            let images = demo.pods();
            let images = images.iter();
            let mut images = images.map(|pod| &pod["spec"]["containers"][0]["image"]);
            (images.len() == 3 && images.all(|image| *image == IMAGE)).then_some(())
        });
        demo.ready(3, READY_LIMIT);
    });
    assert!(first.is_disjoint(&pods(&demo)), "each pod is another one");
    assert_eq!(volumes, demo.uids("persistentvolumeclaims"));
    step("no other pod is touched", || {
        for (cluster, before) in [&named, &waits].into_iter().zip(&kept) {
            let operator = format!("{} {IMAGE}", env!("CARGO_PKG_VERSION"));
            wait_for("the new operator looks after it", LIMIT, || {
                let object = cluster.object()?;
                (object["status"]["template"]["operator"] == *operator).then_some(())
            });
            assert_eq!(&pods(cluster), before, "{}", cluster.name());
            assert_eq!(cluster.pods()[0]["spec"]["containers"][0]["image"], BEFORE);
        }
    });
    step("what the release before kept is restored", || {
        let spec = json!({
            "replicas": 1, "storage": { "size": "1Gi" },
            "bootstrap": { "recovery": { "storeRef": { "name": "volume" }, "cluster": "demo" } },
        });
        Declared::declare(&kind, NAMESPACE, "again", &spec).ready(1, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
}

fn install(kind: &Kind, before: &Path) {
    let chart = before.join("source/charts/engram-operator");
    let chart = chart.to_str().expect("the cache's path is text");
    let tag = BEFORE.rsplit(':').next().expect("a tag");
    let set = format!("image.tag={tag}");
    install_operator(kind, chart, &["--set", &set]);
}

/// One that takes what the operator brings, one that names its image, and one whose pods a person deletes.
fn clusters(kind: &Arc<Kind>) -> [Declared; 3] {
    let declare = |name: &str, replicas: usize, more: &Value| {
        let mut spec = json!({
            "replicas": replicas, "storage": { "size": "1Gi" },
            "clientService": { "type": "NodePort" },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        Declared::declare(kind, NAMESPACE, name, &spec)
    };
    let all = [
        declare("demo", 3, &json!({})),
        declare("named", 1, &json!({ "image": BEFORE })),
        declare("waits", 1, &json!({ "update": { "strategy": "OnDelete" } })),
    ];
    for (cluster, members) in all.iter().zip([3, 1, 1]) {
        cluster.ready(members, READY_LIMIT);
    }
    all
}

fn pods(of: &Declared) -> BTreeSet<String> {
    of.uids("pods")
}

/// Kind and name of each object of the group.
fn objects(kind: &Kind) -> BTreeSet<String> {
    let kinds = kind.must(&["api-resources", "--api-group=engram.dev", "-o", "name"]);
    let kinds: Vec<&str> = kinds.lines().collect();
    let listed = ["-n", NAMESPACE, "get", "-o", "name"];
    let names = kind.must(&[&listed[..], &[&kinds.join(",")]].concat());
    names.lines().map(str::to_owned).collect()
}

/// Whatever was stored may be written as it is.
fn readmitted(kind: &Kind, stored: &BTreeSet<String>) {
    assert!(stored.len() > 8, "{stored:?}");
    for name in stored {
        let touch = ["annotate", name, "tests/touched=yes", "--overwrite"];
        kind.must(&[&["-n", NAMESPACE][..], &touch].concat());
    }
}
