//! An alarm for lack of space: compact, reclaim, disarm.

use crate::api::EngramCluster;
use crate::observe::Sight;

use super::{Context, Error};

/// etcd's number for NOSPACE.
const NO_SPACE: i32 = 1;
/// Data has to be below this share of the quota (in percent) before the alarm is cleared: otherwise
/// it would be back at once.
const ENOUGH_PERCENT: i64 = 90;

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
    let raised: Vec<u64> = sight
        .asked
        .alarms
        .iter()
        .filter(|(kind, _)| *kind == NO_SPACE)
        .map(|(_, id)| *id)
        .collect();
    if raised.is_empty() {
        return Ok(None);
    }
    let advice = "the data has outgrown its quota: delete keys, or raise config.quotaBytes";
    if !cluster.spec.maintenance.disarm_no_space {
        return Ok(Some(format!("{advice}; then disarm the alarm")));
    }
    let Some((leader, client)) = sight.asked.leading() else {
        return Ok(Some(advice.to_owned()));
    };
    let Some(revision) = sight
        .asked
        .answers
        .get(leader)
        .map(|status| status.revision)
    else {
        return Ok(Some(advice.to_owned()));
    };
    // A refusal says that it is compacted already.
    drop(client.compact(revision).await);
    for (_, member) in sight
        .asked
        .clients
        .iter()
        .filter(|(name, _)| *name != leader)
    {
        context.reclaimed(cluster, member.defragment().await?);
    }
    context.reclaimed(cluster, client.defragment().await?);
    let size = client.status().await?.db_size;
    let quota = cluster
        .spec
        .config
        .quota_bytes
        .as_deref()
        .and_then(crate::build::bytes);
    let quota = quota.and_then(|bytes| i64::try_from(bytes).ok());
    if quota.is_some_and(|quota| size > quota / 100 * ENOUGH_PERCENT) {
        return Ok(Some(format!("{advice}; compacting left {size} bytes")));
    }
    for member in &raised {
        client.disarm_no_space(*member).await?;
    }
    let note = format!("compacted at revision {revision}, reclaimed space and disarmed NOSPACE");
    context.event(cluster, false, "NoSpaceCleared", &note).await;
    Ok(None)
}
