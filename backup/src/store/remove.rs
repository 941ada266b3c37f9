//! Removes backups, and tells what was left behind.
//!
//! Must never remove what is no part of a backup without being asked for it by its name.

use futures_util::{Stream, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::verification::VERIFICATION;
use super::{BackupStore, MANIFEST, StoreError};
use crate::format::{BackupId, Manifest};

/// What a list of a directory says of a link that leads round in a circle.
const LOOP: &str = "File system loop found";
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
    pub(crate) async fn remove_staged(
        &self,
        cluster: &BackupId,
        before: std::time::SystemTime,
    ) -> Result<u64, StoreError> {
        let directory = self.objects.prefix().clone().join(cluster.as_ref());
        let removed = self.objects.remove_staged(&directory, before, is_object);
        Ok(removed.await?)
    }

    /// The objects below a directory.
    pub(super) fn objects_below(
        &self,
        directory: &Path,
    ) -> impl Stream<Item = Result<ObjectMeta, StoreError>> {
        let objects = self.objects.raw().list(Some(directory));
        objects.map_err(move |error| self.failed(directory, error))
    }

    async fn remove_below(&self, directory: &Path) -> Result<(), StoreError> {
        self.remove_those(directory, |_| true).await
    }

    /// Removes the objects below a directory of whose places `is_meant` is true.
    async fn remove_those(
        &self,
        directory: &Path,
        is_meant: impl Fn(&Path) -> bool,
    ) -> Result<(), StoreError> {
        self.objects_below(directory)
            .try_filter(|object: &ObjectMeta| std::future::ready(is_meant(&object.location)))
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
        let mut objects = std::pin::pin!(self.objects_below(&directory));
        let mut newest: Option<chrono::DateTime<chrono::Utc>> = None;
        loop {
            let object = match objects.try_next().await {
                // No attempt makes links, least of all one that leads to where it lies.
                Err(error) if error.to_string().contains(LOOP) => return Ok(None),
                object => object?,
            };
            let Some(object) = object else {
                break;
            };
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
        let is_others = |place: &Path| {
            attempt_of(&directory, place).is_some_and(|attempt| attempt != manifest.attempt())
        };
        self.remove_those(&directory, is_others).await
    }

    /// Whether anything of a backup is there, listed or not.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn has_anything(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<bool, StoreError> {
        let directory = self.backup(cluster, id);
        let mut objects = std::pin::pin!(self.objects_below(&directory));
        Ok(objects.try_next().await?.is_some())
    }
}

/// Whether an object of ours may have this name, of a backup or of an archive.
fn is_object(name: &str) -> bool {
    name.ends_with(".chunk")
        || name.ends_with(".segment")
        || name == MANIFEST
        || name.starts_with(VERIFICATION)
}

fn name_below<'p>(directory: &Path, location: &'p Path) -> &'p str {
    let below = location.as_ref().strip_prefix(directory.as_ref());
    below.unwrap_or_default().trim_start_matches('/')
}

/// The attempt of which an object in a backup's directory is a chunk, by its name; none where it is none.
fn attempt_of<'p>(directory: &Path, location: &'p Path) -> Option<&'p str> {
    let (attempt, chunk) = name_below(directory, location).split_once('/')?;
    let number = chunk.strip_suffix(".chunk")?;
    let is_number = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = attempt.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_number && is_word).then_some(attempt)
}

/// Whether an object in a backup's directory has a name that attempts at backups give.
fn is_ours(directory: &Path, location: &Path) -> bool {
    let name = name_below(directory, location);
    let is_mark = name.starts_with(VERIFICATION) && !name.contains('/');
    name == MANIFEST || is_mark || attempt_of(directory, location).is_some()
}
