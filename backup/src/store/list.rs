//! What a store holds: every backup with a manifest, and none without.

use futures_util::StreamExt as _;
use object_store::path::Path;

use super::{BackupStore, MANIFEST, StoreError};
use crate::format::{BackupId, Manifest, ManifestError};

/// Manifests read at the same time while backups are listed.
const READS_AT_ONCE: usize = 8;

/// A backup that the store lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its manifest.
    pub manifest: Manifest,
    /// Where it lies.
    pub path: String,
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
            let read = self.manifest(cluster, &id).await;
            (id, read)
        });
        let read: Vec<_> = futures_util::stream::iter(reads)
            .buffer_unordered(READS_AT_ONCE)
            .collect()
            .await;
        let mut listing = Listing::default();
        for (id, manifest) in read {
            match manifest {
                Ok(Some(manifest)) => listing.backups.push(Listed {
                    path: self.path_of(cluster, &id),
                    manifest,
                }),
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

    /// A backup's manifest; none where there is none.
    async fn manifest(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<Manifest>, StoreError> {
        let place = self.backup(cluster, id).join(MANIFEST);
        let bytes = match self.get(&place).await {
            Err(StoreError::Store {
                source: object_store::Error::NotFound { .. },
                ..
            }) => return Ok(None),
            other => other?,
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

    /// Finds a backup: `wanted` is its id, or `latest`. Without a cluster all are searched.
    ///
    /// # Errors
    /// There is none, or several clusters have one; the store refuses.
    pub async fn find(
        &self,
        cluster: Option<&BackupId>,
        wanted: &str,
    ) -> Result<Manifest, StoreError> {
        let clusters = match cluster {
            Some(cluster) => vec![cluster.clone()],
            None => self.clusters().await?,
        };
        let mut found = Vec::new();
        for cluster in &clusters {
            found.extend(self.find_in(cluster, wanted).await?);
        }
        if let [one] = &found[..] {
            return Ok(one.clone());
        }
        let names: Vec<String> = found.iter().map(|m| m.cluster.to_string()).collect();
        Err(match names.is_empty() {
            true => StoreError::NoBackup {
                wanted: wanted.to_owned(),
                store: self.shown.clone(),
            },
            false => StoreError::Ambiguous {
                wanted: wanted.to_owned(),
                found: names.join(", "),
            },
        })
    }

    async fn find_in(
        &self,
        cluster: &BackupId,
        wanted: &str,
    ) -> Result<Option<Manifest>, StoreError> {
        if wanted == "latest" {
            let mut listing = self.list(cluster).await?;
            // It may be the newest: nobody is given an older one without being told.
            if let Some((id, error)) = listing.damaged.pop() {
                return Err(StoreError::LatestUnknown {
                    path: self.path_of(cluster, &id),
                    error,
                });
            }
            return Ok(listing.backups.pop().map(|listed| listed.manifest));
        }
        match wanted.parse() {
            Ok(id) => self.manifest(cluster, &id).await,
            Err(_) => Ok(None),
        }
    }
}
