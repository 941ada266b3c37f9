//! Removes backups, and tells how old what was left behind is.

use futures_util::TryStreamExt as _;
use object_store::path::Path;

use super::{BackupStore, MANIFEST, StoreError};
use crate::format::BackupId;

/// Objects removed at the same time.
const REMOVALS_AT_ONCE: usize = 8;

impl BackupStore {
    /// Removes a backup: the manifest first, so that what is listed is always whole; and again last,
    /// for one that was published meanwhile.
    ///
    /// # Errors
    /// The store refuses; what is left is not listed any more, and can be removed again.
    pub async fn remove(&self, cluster: &BackupId, id: &BackupId) -> Result<(), StoreError> {
        let directory = self.backup(cluster, id);
        let manifest = directory.clone().join(MANIFEST);
        self.remove_object(&manifest).await?;
        self.remove_below(&directory).await?;
        self.remove_object(&manifest).await
    }

    /// Removes what one attempt at a backup has stored: no prune looks for it once another attempt of that name is
    /// whole.
    ///
    /// # Errors
    /// The store refuses; what is left is not listed.
    pub(crate) async fn remove_attempt(
        &self,
        cluster: &BackupId,
        id: &BackupId,
        attempt: &str,
    ) -> Result<(), StoreError> {
        self.remove_below(&self.backup(cluster, id).join(attempt))
            .await
    }

    async fn remove_below(&self, directory: &Path) -> Result<(), StoreError> {
        let objects = self.objects.raw().list(Some(directory));
        let failed = |error| self.failed(directory, error);
        objects
            .map_err(failed)
            .try_for_each_concurrent(REMOVALS_AT_ONCE, |object| async move {
                self.remove_object(&object.location).await
            })
            .await
    }

    pub(super) async fn remove_object(&self, place: &Path) -> Result<(), StoreError> {
        Ok(self.objects.remove(place).await?)
    }

    /// When the youngest object of an unfinished backup was written; none where there is none.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn last_written(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, StoreError> {
        let directory = self.backup(cluster, id);
        let objects = self.objects.raw().list(Some(&directory));
        let failed = |error| self.failed(&directory, error);
        let newest = |newest: Option<_>, object: object_store::ObjectMeta| async move {
            Ok(newest.max(Some(object.last_modified)))
        };
        objects.map_err(failed).try_fold(None, newest).await
    }
}
