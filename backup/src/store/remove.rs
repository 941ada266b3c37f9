//! Removes backups, and tells how old what was left behind is.
//!
//! Must never remove what is no part of a backup without being asked for it by its name.

use futures_util::TryStreamExt as _;
use object_store::path::Path;

use super::verification::VERIFICATION;
use super::{BackupStore, MANIFEST, StoreError};
use crate::format::{BackupId, Manifest};

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

    /// Removes what writes that were cut short before a moment have left of a cluster's objects.
    ///
    /// # Errors
    /// The store refuses.
    pub(crate) fn remove_staged(
        &self,
        cluster: &BackupId,
        before: std::time::SystemTime,
    ) -> Result<u64, StoreError> {
        let directory = self.objects.prefix().clone().join(cluster.as_ref());
        Ok(self.objects.remove_staged(&directory, before)?)
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

    /// When the youngest object of what an attempt left behind was written; none where there is none, or where
    /// something lies there that no backup has: others may use that name for their own.
    ///
    /// # Errors
    /// The store refuses.
    pub(crate) async fn left_behind(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, StoreError> {
        let directory = self.backup(cluster, id);
        let objects = self.objects.raw().list(Some(&directory));
        let failed = |error| self.failed(&directory, error);
        let mut objects = std::pin::pin!(objects.map_err(failed));
        let mut newest: Option<chrono::DateTime<chrono::Utc>> = None;
        while let Some(object) = objects.try_next().await? {
            if !is_ours(&directory, &object.location) {
                return Ok(None);
            }
            newest = newest.max(Some(object.last_modified));
        }
        Ok(newest)
    }

    /// Removes what other attempts at a whole backup have stored: none of them can be put into the list any more.
    ///
    /// # Errors
    /// The store refuses; what is left is part of no backup.
    pub(crate) async fn remove_other_attempts(
        &self,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        let directory = self.backup(&manifest.cluster, &manifest.id);
        let own = directory.clone().join(manifest.attempt());
        let objects = self.objects.raw().list(Some(&directory));
        let failed = |error| self.failed(&directory, error);
        let is_others = |object: &object_store::ObjectMeta| {
            let depth = object.location.parts().count() - directory.parts().count();
            let is_of_an_attempt = depth > 1 && is_ours(&directory, &object.location);
            std::future::ready(is_of_an_attempt && !object.location.prefix_matches(&own))
        };
        objects
            .map_err(failed)
            .try_filter(is_others)
            .try_for_each_concurrent(REMOVALS_AT_ONCE, |object| async move {
                self.remove_object(&object.location).await
            })
            .await
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

/// Whether an object in a backup's directory has a name that attempts at backups give.
fn is_ours(directory: &Path, location: &Path) -> bool {
    let below = location.as_ref().strip_prefix(directory.as_ref());
    let below = below.unwrap_or_default().trim_start_matches('/');
    let parts: Vec<&str> = below.split('/').collect();
    match parts[..] {
        [name] => name == MANIFEST || name.starts_with(VERIFICATION),
        [attempt, chunk] => {
            let is_number =
                |text: &str| text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
            let is_word = attempt.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_word && chunk.strip_suffix(".chunk").is_some_and(is_number)
        }
        _ => false,
    }
}
