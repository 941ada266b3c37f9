//! Puts a backup into the list, whole or not at all.

use std::collections::BTreeMap;

use engram_objects::Created;
use engram_objects::cipher::encrypted_len;
use futures_util::TryStreamExt as _;
use object_store::path::Path;

use super::{BackupStore, MANIFEST, StoreError};
use crate::format::Manifest;

impl BackupStore {
    /// Puts the manifest, and with it the backup into the list, unless there is one of this name.
    ///
    /// # Errors
    /// There is one, chunks were removed meanwhile, or the store refuses. Where the manifest may have
    /// been put all the same, and the chunks are there, the backup is whole.
    pub async fn publish(&self, manifest: &Manifest) -> Result<(), StoreError> {
        if let Err(lost) = self.must_hold(manifest).await {
            // Another attempt under this name has won, and removed what was left of this one.
            let there = self.manifest(&manifest.cluster, &manifest.id).await?;
            return Err(match there.is_some_and(|there| there != *manifest) {
                true => StoreError::Exists(manifest.id.clone()),
                false => lost,
            });
        }
        let place = self.backup(&manifest.cluster, &manifest.id).join(MANIFEST);
        let name = self.objects.name(&place);
        let bytes = manifest.encrypt(name, self.objects.keys());
        match self.objects.create_as_is(&place, bytes.into()).await? {
            Created::Now => {}
            Created::There => {
                // A put that is tried again after its answer was lost meets itself.
                let there = self.manifest(&manifest.cluster, &manifest.id).await?;
                if there.as_ref() != Some(manifest) {
                    return Err(StoreError::Exists(manifest.id.clone()));
                }
            }
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
        let sizes: BTreeMap<Path, u64> = self
            .objects_below(&attempt)
            .map_ok(|object| (object.location, object.size))
            .try_collect()
            .await?;
        for chunk in &manifest.chunks {
            let place = super::below(directory.clone(), &chunk.path);
            let size = match sizes.get(&place) {
                Some(size) => Some(*size),
                // A list may be behind what was stored; an object that is asked for is not.
                None => self.objects.size(&place).await?,
            };
            let lengths = [chunk.bytes, encrypted_len(chunk.bytes)];
            if !size.is_some_and(|size| lengths.contains(&size)) {
                return Err(StoreError::Vanished(manifest.id.clone()));
            }
        }
        Ok(())
    }
}
