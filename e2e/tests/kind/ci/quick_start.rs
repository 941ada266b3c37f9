//! The README's quick start: its commands are taken out of it and run as they are.

use std::time::Duration;

use engram_e2e::kind::Declared;
use engram_e2e::tools;

use crate::lab::{Lab, READY_LIMIT};

/// Images are in the nodes: seconds for the operator, half a minute for the members.
const QUICK_START_LIMIT: Duration = Duration::from_secs(600);

/// What a reader would apply next.
const SAMPLES: &str = "../manifests/samples";

/// Runs it and returns the cluster that it leaves.
pub fn tell(lab: &Lab) -> Declared {
    let kind = lab.kind();
    let ran = kind.script("quick-start.sh", QUICK_START_LIMIT);
    assert!(ran.status.success(), "the quick start: {}", ran.text());
    assert!(
        ran.stdout.contains("greeting\nhello"),
        "etcdctl did not read what it wrote: {}",
        ran.text()
    );
    lab.operator_is_installed();
    let samples = tools::directory().join(SAMPLES);
    let samples = samples.to_str().expect("the clone's path is text");
    kind.must(&["apply", "--dry-run=server", "-f", samples]);
    let demo = Declared::named(kind, "default", "demo");
    let nodes = one_a_node(&demo);
    assert_eq!(
        nodes, 3,
        "three members and three nodes, but {nodes} are used"
    );
    demo.ready(3, READY_LIMIT);
    demo
}

/// How many nodes the members use.
fn one_a_node(demo: &Declared) -> usize {
    let pods = demo.pods();
    let nodes = pods
        .iter()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str());
    nodes.collect::<std::collections::BTreeSet<_>>().len()
}
