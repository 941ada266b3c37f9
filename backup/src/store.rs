//! Where backups lie: an object store or a directory, and the names in it.
//!
//! ```text
//! <prefix>/<cluster>/<backup>/MANIFEST                  written last; removed first
//! <prefix>/<cluster>/<backup>/<attempt>/<sequence>.chunk
//! <prefix>/<cluster>/<backup>/VERIFICATION              what came of reading it back, the last time; VERIFICATION-2
//!                                                       and so on where the store keeps that one as it is
//! ```
//!
//! Each attempt at a backup has a directory of its own, so that two attempts under one name never
//! write over each other: the conditional put of the manifest decides which one counts. Whoever
//! publishes looks for its chunks before and after, and whoever removes takes the manifest away both first
//! and last: of a backup that is published while it is removed nothing half stays listed.
//!
//! Owns URLs, paths and the meaning of a store's errors. Must never list a backup without manifest.

mod error;
mod find;
mod list;
mod publish;
mod remove;
#[cfg(test)]
mod tests;
mod verification;

use bytes::Bytes;
use engram_objects::{Created, Keys, ObjectError, Objects};
use object_store::path::Path;

use crate::format::{BackupId, Manifest};

pub use self::error::StoreError;
pub use self::find::{Found, LATEST};
pub(crate) use self::find::{is_selected, must_be_clear};
pub use self::list::{Listed, Listing};

/// The manifest's object in a backup's directory.
const MANIFEST: &str = "MANIFEST";

/// An open store. Clones share it.
#[derive(Clone, Debug)]
pub struct BackupStore {
    objects: Objects,
}

impl BackupStore {
    /// Opens the store that a URL names ([`Objects::open`]). Nothing is asked of it yet.
    ///
    /// # Errors
    /// The URL names none.
    pub fn open(url: &str) -> Result<BackupStore, StoreError> {
        let objects = Objects::open(url)?;
        Ok(BackupStore { objects })
    }

    /// The same for a second store, whose credentials are variables that begin with `before`
    /// ([`Objects::open_as`]).
    ///
    /// # Errors
    /// The URL names none.
    pub fn open_as(url: &str, before: &str) -> Result<BackupStore, StoreError> {
        let objects = Objects::open_as(url, before)?;
        Ok(BackupStore { objects })
    }

    /// The store, where what is written is encrypted with the first of these keys, and what is read
    /// decrypted with each.
    #[must_use]
    pub fn with_keys(self, keys: Keys) -> BackupStore {
        let objects = self.objects.with_keys(keys);
        BackupStore { objects }
    }

    /// The store, for what else lies in it.
    pub fn objects(&self) -> Objects {
        self.objects.clone()
    }

    /// The store's URL without options.
    pub fn url(&self) -> &str {
        self.objects.url()
    }

    /// Where a backup lies, as a URL.
    pub fn path_of(&self, cluster: &BackupId, id: &BackupId) -> String {
        format!("{}/{cluster}/{id}", self.url())
    }

    fn backup(&self, cluster: &BackupId, id: &BackupId) -> Path {
        self.objects
            .prefix()
            .clone()
            .join(cluster.as_ref())
            .join(id.as_ref())
    }

    /// Stores a chunk; `path` is below the backup's directory.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_chunk(
        &self,
        cluster: &BackupId,
        id: &BackupId,
        path: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let place = below(self.backup(cluster, id), path);
        Ok(self.objects.put(&place, bytes).await?)
    }

    /// Stores a chunk that another attempt may have stored already, which is then left as it is: a store with a
    /// retention lets nobody write over it.
    ///
    /// # Errors
    /// Another object is there, or this one under another key; the store refuses.
    pub async fn create_chunk(
        &self,
        cluster: &BackupId,
        id: &BackupId,
        path: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let place = below(self.backup(cluster, id), path);
        if self.objects.create(&place, bytes.clone()).await? == Created::Now {
            return Ok(());
        }
        // The manifest will name one key: a chunk that needs another one would be lost with that.
        match self.objects.get_with_key(&place).await {
            Ok(Some((there, key))) if there == bytes && key == self.objects.keys().writing() => {
                Ok(())
            }
            Ok(Some(_)) | Err(ObjectError::Cipher { .. }) => {
                Err(StoreError::Remains(self.objects.show(&place)))
            }
            Ok(None) => Err(StoreError::Gone(self.objects.show(&place))),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// The store refuses, it cannot be decrypted, or it is gone.
    pub async fn chunk(&self, manifest: &Manifest, path: &str) -> Result<Bytes, StoreError> {
        let place = below(self.backup(&manifest.cluster, &manifest.id), path);
        let found = self.objects.get(&place).await?;
        found.ok_or_else(|| StoreError::Gone(self.objects.show(&place)))
    }

    /// Whether a backup of this name is listed.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn has(&self, cluster: &BackupId, id: &BackupId) -> Result<bool, StoreError> {
        let place = self.backup(cluster, id).join(MANIFEST);
        Ok(self.objects.has(&place).await?)
    }

    fn failed(&self, place: &Path, source: object_store::Error) -> StoreError {
        self.objects.failed(place, source).into()
    }
}

fn below(directory: Path, path: &str) -> Path {
    path.split('/')
        .fold(directory, |place, part| place.join(part))
}
