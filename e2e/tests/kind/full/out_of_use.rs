//! A node that is out of use for a while.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engram_e2e::kind::Kind;

/// A node that is out of use in some way, as long as this value lives.
pub struct OutOfUse<'a> {
    kind: &'a Kind,
    node: String,
    back: fn(&Kind, &str),
}

impl<'a> OutOfUse<'a> {
    /// It takes no more pods.
    pub fn cordoned(kind: &'a Kind, node: &str) -> OutOfUse<'a> {
        OutOfUse::until(
            kind,
            node,
            |kind, node| drop(kind.must(&["cordon", node])),
            |kind, node| drop(kind.must(&["uncordon", node])),
        )
    }

    /// It has no power.
    pub fn off(kind: &'a Kind, node: &str) -> OutOfUse<'a> {
        OutOfUse::until(
            kind,
            node,
            |kind, node| kind.power(node, false),
            |kind, node| kind.power(node, true),
        )
    }

    /// It has no object, until its kubelet, which registers it once, starts again.
    pub fn deleted(kind: &'a Kind, node: &str) -> OutOfUse<'a> {
        OutOfUse::until(
            kind,
            node,
            |kind, node| drop(kind.must(&["delete", "node", node, "--wait=false"])),
            |kind, node| drop(kind.on_node(node, &["systemctl", "restart", "kubelet"])),
        )
    }

    fn until(
        kind: &'a Kind,
        node: &str,
        away: fn(&Kind, &str),
        back: fn(&Kind, &str),
    ) -> OutOfUse<'a> {
        // Before it goes: what fails half-way is taken back as well.
        let out_of_use = OutOfUse {
            kind,
            node: node.to_owned(),
            back,
        };
        away(kind, node);
        out_of_use
    }
}

impl Drop for OutOfUse<'_> {
    fn drop(&mut self) {
        // Stories that come later need the node, and whoever waits for it finds out; a second panic would hide why.
        let back = || (self.back)(self.kind, &self.node);
        drop(catch_unwind(AssertUnwindSafe(back)));
    }
}
