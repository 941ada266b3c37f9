//! Puts a backup into the list, whole or not at all.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{PutMode, PutOptions};

use super::{BackupStore, MANIFEST, StoreError};
use crate::format::Manifest;

impl BackupStore {
    /// Puts the manifest, and with it the backup into the list, unless there is one of this name.
    ///
    /// # Errors
    /// There is one, chunks were removed meanwhile, or the store refuses. Where the manifest may have
    /// been put all the same, and the chunks are there, the backup is whole.
    pub async fn publish(&self, manifest: &Manifest) -> Result<(), StoreError> {
        self.must_hold(manifest).await?;
        let place = self.backup(&manifest.cluster, &manifest.id).join(MANIFEST);
        let options = PutOptions::from(PutMode::Create);
        let put = self
            .objects
            .put_opts(&place, manifest.encode().into(), options);
        match put.await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => {
                // A put that is tried again after its answer was lost meets itself.
                let there = self.manifest(&manifest.cluster, &manifest.id).await?;
                if there.as_ref() != Some(manifest) {
                    return Err(StoreError::Exists(manifest.id.clone()));
                }
            }
            Err(error) => return Err(self.failed(&place, error)),
        }
        // Whoever removes the backup at this moment has either not begun with the chunks, and takes
        // the manifest with them at its end; or some are gone by now.
        let held = self.must_hold(manifest).await;
        if let Err(StoreError::Vanished(_)) = &held {
            self.remove_object(&place).await?;
        }
        held
    }

    /// Whether every chunk is there, with its length.
    async fn must_hold(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let directory = self.backup(&manifest.cluster, &manifest.id);
        let attempt = directory.clone().join(manifest.attempt());
        let listed = self.objects.list(Some(&attempt));
        let sizes: BTreeMap<Path, u64> = listed
            .map_ok(|object| (object.location, object.size))
            .try_collect()
            .await
            .map_err(|error| self.failed(&attempt, error))?;
        let is_there = |chunk: &crate::format::ChunkEntry| {
            let place = super::below(directory.clone(), &chunk.path);
            sizes.get(&place) == Some(&chunk.bytes)
        };
        match manifest.chunks.iter().all(is_there) {
            true => Ok(()),
            false => Err(StoreError::Vanished(manifest.id.clone())),
        }
    }
}
