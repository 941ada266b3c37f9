//! What a store holds: every backup with a manifest, and none without.

use std::collections::BTreeMap;

use engram_objects::{CipherError, KeyId};
use futures_util::StreamExt as _;
use object_store::path::Path;

use super::{BackupStore, MANIFEST, StoreError};
use crate::format::{BackupId, Manifest, ManifestError, Verification};

/// Manifests read at the same time while backups are listed.
const READS_AT_ONCE: usize = 8;

/// A backup that the store lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its manifest; in a [`Listing`] with the first of its chunks alone, so that thousands of backups take little
    /// memory: [`BackupStore::whole`] has all of them.
    pub manifest: Manifest,
    /// The key that it is encrypted with; none: it is not.
    pub key: Option<KeyId>,
    /// What came of its last verification.
    pub verification: Option<Verification>,
    /// Where it lies.
    pub path: String,
}

impl Listed {
    /// Why it was not good when it was last read back, where it was not. Such a one counts for no
    /// rule, and is never the latest.
    pub fn refutation(&self) -> Option<&str> {
        let bad = self.verification.as_ref().filter(|last| !last.good);
        bad.map(|last| last.reason.as_str())
    }
}

/// What is found in a cluster's directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// The whole backups, oldest first.
    pub backups: Vec<Listed>,
    /// Those with a manifest that cannot be read, and why.
    pub damaged: Vec<(BackupId, ManifestError)>,
    /// Those without a manifest: not finished, or being removed.
    pub unfinished: Vec<BackupId>,
}

impl Listing {
    /// The key that each of the backups is encrypted with, whether it is given or not; none: it is not
    /// encrypted.
    pub fn keys(&self) -> impl Iterator<Item = Option<KeyId>> {
        let locked = self.damaged.iter().filter_map(|(_, error)| match error {
            ManifestError::Cipher(CipherError::Key { key, .. }) => Some(Some(key.clone())),
            _ => None,
        });
        self.backups.iter().map(|one| one.key.clone()).chain(locked)
    }

    /// Whether every backup could be decrypted. What decides over several of them may not pass over those
    /// that it cannot read.
    ///
    /// # Errors
    /// A key is missing.
    pub(crate) fn must_have_keys(
        &self,
        store: &BackupStore,
        cluster: &BackupId,
    ) -> Result<(), StoreError> {
        let is_locked =
            |error: &ManifestError| matches!(error, ManifestError::Cipher(CipherError::Key { .. }));
        match self.damaged.iter().find(|(_, error)| is_locked(error)) {
            None => Ok(()),
            Some((id, error)) => Err(StoreError::Manifest {
                place: store.path_of(cluster, id),
                source: error.clone(),
            }),
        }
    }
}

/// The oldest first. Within one history that is the order of revisions: a clock that was wrong once makes no old backup
/// the latest. Of different ones it is that of times, where none is earlier than one that its own history had before it.
fn put_in_order(backups: &mut [Listed]) {
    // Format 1 tells no histories apart.
    let history = |one: &Listed| {
        let manifest = &one.manifest;
        let alone = (manifest.format == 1).then(|| manifest.id.clone());
        (manifest.whose().to_string(), alone)
    };
    let order = |one: &Listed| {
        let manifest = &one.manifest;
        (
            manifest.revision,
            manifest.created_at.clone(),
            manifest.id.clone(),
        )
    };
    backups.sort_by_cached_key(order);
    let mut latest: BTreeMap<_, String> = BTreeMap::new();
    let mut ranks: BTreeMap<BackupId, String> = BTreeMap::new();
    for one in backups.iter() {
        let latest = latest.entry(history(one)).or_default();
        if *latest < one.manifest.created_at {
            latest.clone_from(&one.manifest.created_at);
        }
        ranks.insert(one.manifest.id.clone(), latest.clone());
    }
    // What has the same rank stays in order.
    backups.sort_by_cached_key(|one| ranks.get(&one.manifest.id).cloned());
}

impl BackupStore {
    /// The clusters that the store holds something of.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn clusters(&self) -> Result<Vec<BackupId>, StoreError> {
        self.names(self.objects.prefix()).await
    }

    /// The names of directories in a directory; what is no name of ours is not looked at.
    async fn names(&self, place: &Path) -> Result<Vec<BackupId>, StoreError> {
        let names = self.objects.directories(place).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// A cluster's backups.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list(&self, cluster: &BackupId) -> Result<Listing, StoreError> {
        let ids = self
            .names(&self.objects.prefix().clone().join(cluster.as_ref()))
            .await?;
        let reads = ids.into_iter().map(|id| async move {
            let read = self.listed(cluster, &id).await;
            (id, read)
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        let mut listing = Listing::default();
        while let Some((id, listed)) = reads.next().await {
            match listed {
                Ok(Some(mut listed)) => {
                    listed.manifest.chunks.truncate(1);
                    listed.manifest.chunks.shrink_to_fit();
                    listing.backups.push(listed);
                }
                Ok(None) => listing.unfinished.push(id),
                Err(StoreError::Manifest { source, .. }) => listing.damaged.push((id, source)),
                Err(error) => return Err(error),
            }
        }
        put_in_order(&mut listing.backups);
        listing.unfinished.sort();
        Ok(listing)
    }

    /// The whole manifest of a backup that was listed.
    ///
    /// # Errors
    /// It is gone by now, or another one has its name; the store refuses.
    pub async fn whole(&self, listed: &Manifest) -> Result<Manifest, StoreError> {
        let there = self.manifest(&listed.cluster, &listed.id).await?;
        let there = there.filter(|there| there.attempt() == listed.attempt());
        there.ok_or_else(|| StoreError::NoBackup {
            wanted: listed.id.to_string(),
            store: self.url().to_owned(),
        })
    }

    /// A backup; none where there is no manifest.
    pub(super) async fn listed(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<Listed>, StoreError> {
        let Some((manifest, key)) = self.read_manifest(cluster, id).await? else {
            return Ok(None);
        };
        Ok(Some(Listed {
            key,
            verification: self.verification(cluster, &manifest).await?,
            path: self.path_of(cluster, id),
            manifest,
        }))
    }

    /// A backup's manifest; none where there is none.
    ///
    /// # Errors
    /// The store refuses, or it cannot be read.
    pub async fn manifest(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<Manifest>, StoreError> {
        let read = self.read_manifest(cluster, id).await?;
        Ok(read.map(|(manifest, _)| manifest))
    }

    /// The same, with the key that it is encrypted with.
    pub(crate) async fn read_manifest(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<(Manifest, Option<KeyId>)>, StoreError> {
        let place = self.backup(cluster, id).join(MANIFEST);
        let Some(bytes) = self.objects.get(&place).await? else {
            return Ok(None);
        };
        let refuse = |source| StoreError::Manifest {
            place: self.objects.show(&place),
            source,
        };
        let name = self.objects.name(&place);
        let read = Manifest::decrypt(&bytes, name, self.objects.keys());
        let (manifest, key) = read.map_err(refuse)?;
        // One that was copied to another name would be pruned and restored as another.
        match manifest.id == *id && manifest.cluster == *cluster {
            true => Ok(Some((manifest, key))),
            false => Err(refuse(ManifestError::Damaged)),
        }
    }
}
