//! A member whose process stands still.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engram_e2e::kind::Declared;

/// A member that answers nobody, as long as this value lives.
pub struct Frozen<'a> {
    demo: &'a Declared,
    node: String,
    process: String,
}

impl<'a> Frozen<'a> {
    /// Has its process stand still.
    pub fn member(demo: &'a Declared, member: &str) -> Frozen<'a> {
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

    /// Has it stand still again: another process may be in its place by now, or none.
    pub fn again(&self) {
        // The shell itself is not meant: in its own words the pattern's dots have backslashes before them.
        let stop = format!("pkill -STOP -f -- '{}' || true", self.process);
        self.demo.kind().on_node(&self.node, &["sh", "-c", &stop]);
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
