//! One alert, seen firing in a real Prometheus: a member that does not answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engram_e2e::kind::Declared;

use crate::prometheus::Prometheus;

/// Tells the story.
pub fn tell(demo: &Declared) {
    let prometheus = Prometheus::start(demo.kind(), &[]);
    prometheus.wait("up{job=\"engram\"} == 1", 3);
    member_down(demo, &prometheus);
}

/// Stops a follower's process until the alert fires, and has it go on.
pub fn member_down(demo: &Declared, prometheus: &Prometheus) {
    let frozen = Frozen::member(demo, &demo.follower());
    prometheus.fires("etcdMembersDown", "engram_cluster", demo.namespace());
    drop(frozen);
    prometheus.wait("up{job=\"engram\"} == 1", 3);
}

/// A member whose process stands still, as long as this value lives.
struct Frozen<'a> {
    demo: &'a Declared,
    node: String,
    process: String,
}

impl<'a> Frozen<'a> {
    fn member(demo: &'a Declared, member: &str) -> Frozen<'a> {
        let pod = demo.kind().get(demo.namespace(), &["pod", member]);
        let pod = pod.expect("the member has a pod");
        let node = pod["spec"]["nodeName"].as_str().expect("it is on a node");
        let frozen = Frozen {
            demo,
            node: node.to_owned(),
            // Members of other clusters may have this name as well, in other namespaces.
            process: format!("--name={member} .*\\.{}\\.svc", demo.namespace()),
        };
        frozen.signal("-STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        let kill = ["pkill", signal, "-f", "--", &self.process];
        self.demo.kind().on_node(&self.node, &kill);
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // Nobody may be left to hear it, and a second panic would hide why.
        let heard = catch_unwind(AssertUnwindSafe(|| self.signal("-CONT")));
        drop(heard);
    }
}
