//! Whether every member can apply what concerns users and roles. One of a release from before them
//! would stop at the first entry of their kind, so no such entry is made before that is known.

use std::time::Duration;

use crate::api::backend::ServeError;
use crate::codec::entry::APPLY_VERSION;
use crate::node::backend::Core;
use crate::state::auth::FIRST_REVISION;
use crate::types::MemberId;

/// How long a member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Whether an entry that concerns users may be made. Members tell what they know where they publish
/// themselves; whoever was heard of through an older release is asked.
///
/// # Errors
/// A member is of an older release, or does not answer.
pub async fn require(core: &Core) -> Result<(), ServeError> {
    let cluster = core.store.cluster();
    // Once there was one such entry, every member has had to apply it.
    if cluster.auth.revision() > FIRST_REVISION {
        return Ok(());
    }
    let silent = cluster.members.iter().filter(|member| {
        // Whoever was never started will be by a release that somebody chooses then.
        let started = member.incarnation != 0 && member.id != core.member;
        started && member.attributes.apply_version < APPLY_VERSION
    });
    for id in silent.map(|member| member.id).collect::<Vec<_>>() {
        ask(core, id).await?;
    }
    Ok(())
}

async fn ask(core: &Core, id: MemberId) -> Result<(), ServeError> {
    let peers = core.door.peers.clone();
    let asking = core
        .door
        .run(async move { peers.apply_version(id, ANSWER_LIMIT).await });
    match asking.await? {
        Ok(version) if version >= APPLY_VERSION => Ok(()),
        _ => Err(ServeError::OldMember(id)),
    }
}
