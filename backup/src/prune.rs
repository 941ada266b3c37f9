//! Pruning: what the rules let go of is removed, and what an attempt left behind unfinished.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::format::BackupId;
use crate::retention::Retention;
use crate::store::{BackupStore, Listing, StoreError};

/// How long nothing must have been written to an unfinished backup before it is taken for
/// abandoned: longer than any pause of one that is still being made.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What was, or would be, removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Whole backups, oldest first.
    pub removed: Vec<BackupId>,
    /// Whole backups that stay, oldest first.
    pub kept: Vec<BackupId>,
    /// Abandoned attempts.
    pub abandoned: Vec<BackupId>,
    /// Backups whose manifest cannot be read: they stay, and are of no use.
    pub damaged: Vec<BackupId>,
}

/// Removes a cluster's backups that the rules do not keep; with `dry_run` only tells of them.
///
/// # Errors
/// The store refuses. What was removed by then is removed.
pub async fn prune(
    store: &BackupStore,
    cluster: &BackupId,
    rules: &Retention,
    dry_run: bool,
) -> Result<Pruned, StoreError> {
    let now = Utc::now();
    let listing = store.list(cluster).await?;
    let mut pruned = decide(&listing, rules, now);
    for id in &listing.unfinished {
        let written = store.last_written(cluster, id).await?;
        let idle = written.map(|at| (now - at).to_std().unwrap_or_default());
        if idle.is_some_and(|idle| idle > ABANDONED_AFTER) {
            pruned.abandoned.push(id.clone());
        }
    }
    if !dry_run {
        for id in pruned.removed.iter().chain(&pruned.abandoned) {
            store.remove(cluster, id).await?;
        }
    }
    Ok(pruned)
}

fn decide(listing: &Listing, rules: &Retention, now: DateTime<Utc>) -> Pruned {
    let manifests = listing.backups.iter().map(|listed| &listed.manifest);
    // A time that cannot be read is no reason to remove anything: it counts as new.
    let times: Vec<DateTime<Utc>> = manifests
        .clone()
        .map(|manifest| manifest.created_at.parse().unwrap_or(now))
        .collect();
    let expired = rules.expired(&times, now);
    let mut pruned = Pruned {
        damaged: listing.damaged.iter().map(|(id, _)| id.clone()).collect(),
        ..Pruned::default()
    };
    for (index, manifest) in manifests.enumerate() {
        let side = match expired.contains(&index) {
            true => &mut pruned.removed,
            false => &mut pruned.kept,
        };
        side.push(manifest.id.clone());
    }
    pruned
}
