//! Pruning: what the rules let go of is removed, and what an attempt left behind unfinished.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use engram_archive::{Archive, ArchiveError, Span};
use engram_objects::ObjectError;
use serde::Serialize;

use crate::format::{BackupId, Manifest, ManifestError, Selector};
use crate::retention::Retention;
use crate::store::{BackupStore, Listed, Listing, StoreError, is_selected, must_be_clear};

/// How long nothing must have been written to an unfinished backup before it is taken for
/// abandoned: longer than any pause of one that is still being made.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Why not everything was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The store refuses, or it is not clear whose backups are meant.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log archive cannot be looked through.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Whose backups are pruned, and which of them are kept. Nobody else's are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Which clusters' of that name; none: there has to be but one.
    pub selectors: Vec<Selector>,
    /// Who made them; none: people.
    pub owner: Option<String>,
    /// What is kept.
    pub rules: Retention,
}

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
    /// Backups that were not good when they were read back: they stay for whoever inquires, and
    /// count for no rule.
    pub refuted: Vec<BackupId>,
    /// Backups that would be removed, and that the store's retention keeps yet: they go with a later prune.
    pub locked: Vec<BackupId>,
    /// Backups of another owner or another cluster.
    pub others: Vec<BackupId>,
    /// Segments of the log archive that no backup is gone on from with.
    pub segments: u64,
    /// Files that writes which were cut short have left, where the store is a directory.
    pub staged: u64,
}

/// Removes the backups in a cluster's directory that are in `scope` and that its rules do not keep;
/// with `dry_run` only tells of them.
///
/// # Errors
/// They are of several clusters, and `scope` does not say which is meant, or a key is missing, of a backup or of
/// the log archive: nothing was removed. The store refuses: what was removed by then is removed.
pub async fn prune(
    store: &BackupStore,
    cluster: &BackupId,
    scope: &Scope,
    dry_run: bool,
) -> Result<Pruned, PruneError> {
    let now = Utc::now();
    let mut listing = store.list(cluster).await?;
    listing.must_have_keys(store, cluster)?;
    let all: Vec<Manifest> = listing
        .backups
        .iter()
        .map(|one| one.manifest.clone())
        .collect();
    let mut pruned = Pruned {
        damaged: listing.damaged.iter().map(|(id, _)| id.clone()).collect(),
        ..Pruned::default()
    };
    narrow(&mut listing, scope, &mut pruned);
    must_be_clear(cluster, &scope.selectors, &listing.backups)?;
    decide(&listing.backups, &scope.rules, now, &mut pruned);
    for id in &listing.unfinished {
        let written = store.left_behind(cluster, id).await?;
        let idle = written.map(|at| (now - at).to_std().unwrap_or_default());
        if idle.is_some_and(|idle| idle > ABANDONED_AFTER) {
            pruned.abandoned.push(id.clone());
        }
    }
    // A newer engramctl's backups are whole for it, and nobody here can tell where they begin.
    let is_newer = |(_, error): &(_, ManifestError)| matches!(error, ManifestError::Format(_));
    let chains = match listing.damaged.iter().any(is_newer) {
        true => Chains::none(store, cluster),
        false => Chains::of(store, cluster, &all).await?,
    };
    if !dry_run {
        // What cannot be read is known before the first is removed; what the store keeps may stay.
        let gone = &pruned.removed;
        let stay = all.iter().filter(|one| !gone.contains(&one.id));
        chains.prune(stay, true).await?;
        chains.prune(all.iter(), true).await?;
        let mut locked = remove(store, cluster, &mut pruned.removed).await?;
        locked.extend(remove(store, cluster, &mut pruned.abandoned).await?);
        pruned.locked = locked;
    }
    let gone = &pruned.removed;
    let stay = all.iter().filter(|one| !gone.contains(&one.id));
    pruned.segments = chains.prune(stay, dry_run).await?;
    if !dry_run {
        let before = SystemTime::now() - ABANDONED_AFTER;
        pruned.staged = store.remove_staged(cluster, before).await?;
    }
    Ok(pruned)
}

/// Removes these backups; those that the store keeps by a retention of its own are taken out of the list, and
/// returned.
async fn remove(
    store: &BackupStore,
    cluster: &BackupId,
    ids: &mut Vec<BackupId>,
) -> Result<Vec<BackupId>, StoreError> {
    let mut locked = Vec::new();
    for id in std::mem::take(ids) {
        match store.remove(cluster, &id).await {
            Ok(()) => ids.push(id),
            Err(StoreError::Object(ObjectError::Locked { .. })) => locked.push(id),
            Err(error) => return Err(error),
        }
    }
    Ok(locked)
}

/// The log archives of the clusters that there are backups of.
struct Chains {
    archive: Archive,
    spans: Vec<Span>,
}

impl Chains {
    /// None of them, of which nothing is removed.
    fn none(store: &BackupStore, cluster: &BackupId) -> Chains {
        Chains {
            archive: Archive::new(store.objects(), cluster),
            spans: Vec::new(),
        }
    }

    async fn of(
        store: &BackupStore,
        cluster: &BackupId,
        backups: &[Manifest],
    ) -> Result<Chains, ArchiveError> {
        let archive = Archive::new(store.objects(), cluster);
        let mut spans = Vec::new();
        for whose in archive.owners().await? {
            if backups.iter().any(|one| one.cluster_id == whose.cluster_id) {
                // Of what cannot be read nothing can be told: it stays.
                spans.extend(archive.spans(&whose).await?.known);
            }
        }
        Ok(Chains { archive, spans })
    }

    /// Removes what lies before the oldest backup that stays, of whatever owner: nobody can go on from there. Of a
    /// cluster without backups everything stays.
    async fn prune<'m>(
        &self,
        stay: impl Iterator<Item = &'m Manifest>,
        dry_run: bool,
    ) -> Result<u64, ArchiveError> {
        let mut oldest: BTreeMap<&str, i64> = BTreeMap::new();
        for manifest in stay {
            let revision = oldest
                .entry(&manifest.cluster_id)
                .or_insert(manifest.revision);
            *revision = manifest.revision.min(*revision);
        }
        let mut segments = 0;
        for span in &self.spans {
            if let Some(revision) = oldest.get(span.first.whose.cluster_id.as_str()) {
                segments += self.archive.prune(span, *revision, dry_run).await?;
            }
        }
        Ok(segments)
    }
}

/// Leaves what the rules count: of this owner, of the clusters that are meant and those that these
/// began as restores of, and good as far as is known.
fn narrow(listing: &mut Listing, scope: &Scope, pruned: &mut Pruned) {
    let is_owned = |one: &Listed| one.manifest.owner == scope.owner;
    let is_meant = |one: &Listed| is_selected(&scope.selectors, &one.manifest.whose());
    let mut own = listing
        .backups
        .iter()
        .filter(|one| is_owned(one) && is_meant(one));
    let newest = own.next_back();
    let newest = newest.map(|one| one.manifest.continues.clone());
    let continued = newest.unwrap_or_default();
    listing.backups.retain(|one| {
        let is_continued = continued.contains(&one.manifest.whose());
        let side = match is_owned(one) && (is_meant(one) || is_continued) {
            false => &mut pruned.others,
            true if one.refutation().is_some() => &mut pruned.refuted,
            true => return true,
        };
        side.push(one.manifest.id.clone());
        false
    });
}

fn decide(backups: &[Listed], rules: &Retention, now: DateTime<Utc>, pruned: &mut Pruned) {
    let manifests = backups.iter().map(|listed| &listed.manifest);
    // A time that cannot be read is no reason to remove anything: it counts as new.
    let times: Vec<DateTime<Utc>> = manifests
        .clone()
        .map(|manifest| manifest.created_at.parse().unwrap_or(now))
        .collect();
    let expired = rules.expired(&times, now);
    for (index, manifest) in manifests.enumerate() {
        let side = match expired.contains(&index) {
            true => &mut pruned.removed,
            false => &mut pruned.kept,
        };
        side.push(manifest.id.clone());
    }
}
