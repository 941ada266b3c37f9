//! A node that is out of use for a while.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engram_e2e::kind::Kind;

/// A node that takes no more pods, as long as this value lives.
pub struct Cordoned<'a> {
    kind: &'a Kind,
    node: String,
}

impl<'a> Cordoned<'a> {
    /// Has it take no more.
    pub fn node(kind: &'a Kind, node: &str) -> Cordoned<'a> {
        kind.must(&["cordon", node]);
        Cordoned {
            kind,
            node: node.to_owned(),
        }
    }
}

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        // Stories that come later need the node; a second panic would hide why.
        let free = || self.kind.must(&["uncordon", &self.node]);
        drop(catch_unwind(AssertUnwindSafe(free)));
    }
}
