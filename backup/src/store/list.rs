//! What a store holds: every backup with a manifest, and none without.

use futures_util::StreamExt as _;
use object_store::path::Path;

use super::{BackupStore, MANIFEST, StoreError};
use crate::format::{BackupId, Manifest, ManifestError, Verification};

/// Manifests read at the same time while backups are listed.
const READS_AT_ONCE: usize = 8;

/// A backup that the store lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its manifest.
    pub manifest: Manifest,
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

impl BackupStore {
    /// The clusters that the store holds something of.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn clusters(&self) -> Result<Vec<BackupId>, StoreError> {
        self.names(&self.prefix).await
    }

    /// The names of directories in a directory; what is no name of ours is not looked at.
    async fn names(&self, place: &Path) -> Result<Vec<BackupId>, StoreError> {
        let listed = self.objects.list_with_delimiter(Some(place)).await;
        let listed = match listed {
            Err(object_store::Error::NotFound { .. }) if self.is_directory() => return Ok(vec![]),
            other => other.map_err(|error| self.failed(place, error))?,
        };
        let names = listed.common_prefixes.iter();
        let mut names: Vec<BackupId> = names
            .filter_map(|path| path.filename()?.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn is_directory(&self) -> bool {
        self.shown.starts_with("file:")
    }

    /// A cluster's backups.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list(&self, cluster: &BackupId) -> Result<Listing, StoreError> {
        let ids = self
            .names(&self.prefix.clone().join(cluster.as_ref()))
            .await?;
        let reads = ids.into_iter().map(|id| async move {
            let read = self.listed(cluster, &id).await;
            (id, read)
        });
        let read: Vec<_> = futures_util::stream::iter(reads)
            .buffer_unordered(READS_AT_ONCE)
            .collect()
            .await;
        let mut listing = Listing::default();
        for (id, listed) in read {
            match listed {
                Ok(Some(listed)) => listing.backups.push(listed),
                Ok(None) => listing.unfinished.push(id),
                Err(StoreError::Manifest { source, .. }) => listing.damaged.push((id, source)),
                Err(error) => return Err(error),
            }
        }
        // Equal times are told apart by revision, so that "latest" is one and the same for all.
        let order = |a: &Listed| {
            let manifest = &a.manifest;
            (
                manifest.created_at.clone(),
                manifest.revision,
                manifest.id.clone(),
            )
        };
        listing.backups.sort_by_key(order);
        listing.unfinished.sort();
        Ok(listing)
    }

    /// A backup; none where there is no manifest.
    pub(super) async fn listed(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<Listed>, StoreError> {
        let Some(manifest) = self.manifest(cluster, id).await? else {
            return Ok(None);
        };
        Ok(Some(Listed {
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
        let place = self.backup(cluster, id).join(MANIFEST);
        let Some(bytes) = self.get_if_there(&place).await? else {
            return Ok(None);
        };
        let refuse = |source| StoreError::Manifest {
            place: self.show(&place),
            source,
        };
        let manifest = Manifest::decode(&bytes).map_err(refuse)?;
        // One that was copied to another name would be pruned and restored as another.
        match manifest.id == *id && manifest.cluster == *cluster {
            true => Ok(Some(manifest)),
            false => Err(refuse(ManifestError::Damaged)),
        }
    }
}
