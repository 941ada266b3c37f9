//! `/debug/vars`: what Go's `expvar` shows of an etcd, as far as there is the same here.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::Edge;
use super::backend::Backend;
use crate::types::MemberId;
use engram_metrics::process;

impl<B: Backend> Edge<B> {
    /// One line a variable, in the order of their names.
    pub(super) fn variables(&self) -> String {
        let arguments: Vec<_> = std::env::args().collect();
        let (resident, mapped) = process::memory().unwrap_or_default();
        let variables = BTreeMap::from([
            ("cmdline", json!(arguments)),
            (
                "file_descriptor_limit",
                json!(process::file_limit().unwrap_or_default()),
            ),
            // The two of Go's some thirty that mean something here.
            ("memstats", json!({ "Alloc": resident, "Sys": mapped })),
            ("raft.status", self.raft_status()),
        ]);
        let mut text = String::from("{\n");
        for (number, (name, value)) in variables.iter().enumerate() {
            let separator = if number == 0 { "" } else { ",\n" };
            write!(text, "{separator}\"{name}\": {value}")
                .expect("a string takes what is written to it");
        }
        text + "\n}\n"
    }

    fn raft_status(&self) -> Value {
        let (status, header) = (self.backend().status(), self.backend().header());
        let id = |member: Option<MemberId>| member.map_or_else(|| "0".into(), |id| id.to_string());
        let state = match status.leader {
            Some(leader) if leader == header.member => "StateLeader",
            Some(_) => "StateFollower",
            None => "StateCandidate",
        };
        json!({
            "id": id(Some(header.member)),
            "term": status.raft_term,
            "commit": status.raft_index,
            "applied": status.raft_applied_index,
            "lead": id(status.leader),
            "raftState": state,
        })
    }
}
