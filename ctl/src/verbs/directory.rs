//! `inspect` and `force-new-cluster`.

use engram_server::node::offline::{go_alone, look};
use serde_json::json;

use crate::cli::{ForceNewCluster, Global, Inspect};
use crate::failure::Failure;
use crate::output;

/// `inspect`.
pub fn inspect(global: &Global, inspect: &Inspect) -> Result<(), Failure> {
    let held = look(&inspect.data_dir, inspect.wal_dir.as_deref())?;
    let members: Vec<_> = held
        .members
        .iter()
        .map(|member| {
            json!({
                "id": member.id.to_string(), "peerURLs": member.peer_urls, "isLearner": member.learner,
                "incarnation": format!("{:x}", member.incarnation),
            })
        })
        .collect();
    let value = json!({
        "dataDir": inspect.data_dir,
        "clusterID": held.identity.cluster.to_string(),
        "memberID": held.identity.member.to_string(),
        "incarnation": format!("{:x}", held.identity.incarnation),
        "term": held.term,
        "lastTerm": held.last.term,
        "lastIndex": held.last.index,
        "appliedIndex": held.applied.index,
        "revision": held.revision.0,
        "requestsBehind": held.requests_behind,
        "members": members,
    });
    output::result(global, &value)?;
    let line = format!(
        "member {} of cluster {}: term {}, last entry {} of term {}; revision {} at entry {}, and {} requests \
         behind it\n",
        held.identity.member,
        held.identity.cluster,
        held.term,
        held.last.index,
        held.last.term,
        held.revision,
        held.applied.index,
        held.requests_behind
    );
    output::answer(global, || line.into(), || value.clone())
}

/// `force-new-cluster`.
pub fn force(global: &Global, force: &ForceNewCluster) -> Result<(), Failure> {
    let done = go_alone(&force.data_dir, force.wal_dir.as_deref(), &force.once)?;
    let shown = force.data_dir.display();
    let line = match done {
        true => format!("the member of {shown} is the only one of its cluster\n"),
        false => format!("that was done to {shown} before: nothing to do\n"),
    };
    let value = json!({ "dataDir": force.data_dir, "alone": true, "now": done });
    output::result(global, &value)?;
    output::answer(global, || line.into(), || value.clone())
}
