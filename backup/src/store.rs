//! Where backups lie: an object store or a directory, and the names in it.
//!
//! ```text
//! <prefix>/<cluster>/<backup>/MANIFEST                  written last; removed first
//! <prefix>/<cluster>/<backup>/<attempt>/<sequence>.chunk
//! <prefix>/<cluster>/<backup>/VERIFICATION              what came of reading it back, the last time
//! ```
//!
//! Each attempt at a backup has a directory of its own, so that two attempts under one name never
//! write over each other: the conditional put of the manifest decides which one counts. Whoever
//! publishes looks for its chunks afterwards, and whoever removes takes the manifest away both first
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

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use engram_objects::Objects;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::format::{BackupId, Manifest};

pub use self::error::StoreError;
pub use self::find::{Found, LATEST};
pub(crate) use self::find::{is_selected, must_be_clear};
pub use self::list::{Listed, Listing};

/// The manifest's object in a backup's directory.
const MANIFEST: &str = "MANIFEST";

/// An open store. Clones share it.
#[derive(Clone)]
pub struct BackupStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The URL without options, which may hold secrets.
    shown: String,
}

impl fmt::Debug for BackupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackupStore").field(&self.shown).finish()
    }
}

impl BackupStore {
    /// Opens the store that a URL names ([`Objects::open`]). Nothing is asked of it yet.
    ///
    /// # Errors
    /// The URL names none.
    pub fn open(url: &str) -> Result<BackupStore, StoreError> {
        let opened = Objects::open(url)?;
        Ok(BackupStore {
            objects: opened.raw().clone(),
            prefix: opened.prefix().clone(),
            shown: opened.url().to_owned(),
        })
    }

    /// The store, for what else lies in it.
    pub fn objects(&self) -> Objects {
        Objects::new(
            self.objects.clone(),
            self.prefix.clone(),
            self.shown.clone(),
        )
    }

    /// The store's URL without options.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Where a backup lies, as a URL.
    pub fn path_of(&self, cluster: &BackupId, id: &BackupId) -> String {
        format!("{}/{cluster}/{id}", self.shown)
    }

    fn backup(&self, cluster: &BackupId, id: &BackupId) -> Path {
        self.prefix.clone().join(cluster.as_ref()).join(id.as_ref())
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
        let put = self.objects.put(&place, bytes.into()).await;
        put.map(drop).map_err(|error| self.failed(&place, error))
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// The store refuses, or it is gone.
    pub async fn chunk(&self, manifest: &Manifest, path: &str) -> Result<Bytes, StoreError> {
        let place = below(self.backup(&manifest.cluster, &manifest.id), path);
        self.get(&place).await
    }

    async fn get(&self, place: &Path) -> Result<Bytes, StoreError> {
        let failed = |error| self.failed(place, error);
        let got = self.objects.get(place).await.map_err(failed)?;
        got.bytes().await.map_err(failed)
    }

    async fn get_if_there(&self, place: &Path) -> Result<Option<Bytes>, StoreError> {
        match self.get(place).await {
            Err(StoreError::Store {
                source: object_store::Error::NotFound { .. },
                ..
            }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Whether a backup of this name is listed.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn has(&self, cluster: &BackupId, id: &BackupId) -> Result<bool, StoreError> {
        let place = self.backup(cluster, id).join(MANIFEST);
        match self.objects.head(&place).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(&place, error)),
        }
    }

    fn show(&self, place: &Path) -> String {
        let within = place.as_ref().strip_prefix(self.prefix.as_ref());
        let within = within.unwrap_or_default().trim_start_matches('/');
        format!("{}/{within}", self.shown)
    }

    fn failed(&self, place: &Path, source: object_store::Error) -> StoreError {
        StoreError::Store {
            place: self.show(place),
            source,
        }
    }
}

fn below(directory: Path, path: &str) -> Path {
    path.split('/')
        .fold(directory, |place, part| place.join(part))
}
