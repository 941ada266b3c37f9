//! An alarm for lack of space: compact, reclaim, disarm.

use crate::api::EngramCluster;
use crate::etcd::MemberClient;
use crate::observe::Sight;

use super::{Context, Error};

/// etcd's number for NOSPACE.
const NO_SPACE: i32 = 1;
/// Data has to be below this share of the quota (in percent) before the alarm is cleared: otherwise
/// it would be back at once.
const ENOUGH_PERCENT: i64 = 90;

/// How long an attempt that left too much data is not made again, in seconds: it works through all of
/// it, at every member.
const PAUSE_SECONDS: i64 = 600;

/// Clears an alarm for lack of space, where history and unreclaimed space were what lacked. Returns
/// what a person should know where that was not enough.
///
/// # Errors
/// A member refused.
pub(super) async fn clear_no_space(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
) -> Result<Option<String>, Error> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let raised = sight.asked.alarms.iter();
    let raised = raised.filter(|(kind, _)| *kind == NO_SPACE);
    let raised: Vec<u64> = raised.map(|(_, id)| *id).collect();
    if raised.is_empty() {
        context.made_room(uid);
        return Ok(None);
    }
    let advice = "the data has outgrown its quota: delete keys, or raise config.quotaBytes";
    if !cluster.spec.maintenance.disarm_no_space {
        return Ok(Some(format!("{advice}; then disarm the alarm")));
    }
    let Some((leader, client)) = sight.asked.leading() else {
        return Ok(Some(advice.to_owned()));
    };
    if !context.may_make_room(uid, sight.observed.now, PAUSE_SECONDS) {
        return Ok(Some(format!("{advice}; compacting left too much")));
    }
    let made = make_room(context, cluster, sight, (leader, client)).await;
    if made.is_err() {
        // It is not known what was left.
        context.made_room(uid);
    }
    let Some(revision) = made? else {
        return Ok(Some(format!("{advice}; compacting left too much")));
    };
    for member in &raised {
        client.disarm_no_space(*member).await?;
    }
    let note = format!("compacted at revision {revision}, reclaimed space and disarmed NOSPACE");
    context.event(cluster, false, "NoSpaceCleared", &note).await;
    Ok(None)
}

/// Forgets history and gives its space back, the leader's last. The revision, if that was enough.
async fn make_room(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    (leader, client): (&str, &MemberClient),
) -> Result<Option<i64>, Error> {
    let revision = client.status().await?.revision;
    // A refusal says that it is compacted already.
    drop(client.compact(revision).await);
    let clients = sight.asked.clients.iter();
    for (_, member) in clients.filter(|(name, _)| *name != leader) {
        context.reclaimed(cluster, member.defragment().await?);
    }
    context.reclaimed(cluster, client.defragment().await?);
    let left = client.status().await?;
    let enough = left.db_size <= left.db_quota / 100 * ENOUGH_PERCENT;
    Ok(enough.then_some(revision))
}
