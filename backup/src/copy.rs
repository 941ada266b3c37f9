//! Copies a backup to another store: every byte checked on its way, the manifest last.

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::Progress;
use crate::format::{ChunkEntry, Manifest, sha256};
use crate::store::{BackupStore, StoreError};

/// Chunks that are read ahead of the one being written: with it, the memory that a copy takes.
const CHUNKS_AHEAD: usize = 2;

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the stores refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk is not what the manifest says.
    #[error(
        "backup {backup}: chunk {path}: a checksum does not fit: this backup cannot be used, take another"
    )]
    Damaged {
        /// The backup's id.
        backup: String,
        /// The chunk's object.
        path: String,
    },
}

/// Copies a backup; whether it was not there yet. One that is there under its name and is the same is
/// left alone, so that a copy which was cut short is made again.
///
/// # Errors
/// See [`CopyError`]. What was copied by then is not listed, and goes with the next prune there.
pub async fn copy(
    from: &BackupStore,
    manifest: &Manifest,
    to: &BackupStore,
    progress: &dyn Progress,
) -> Result<bool, CopyError> {
    match to.manifest(&manifest.cluster, &manifest.id).await? {
        Some(there) if there == *manifest => return Ok(false),
        Some(_) => return Err(StoreError::Exists(manifest.id.clone()).into()),
        None => {}
    }
    progress.begin("copy", Some(manifest.size));
    let reads = manifest
        .chunks
        .iter()
        .map(|chunk| read(from, manifest, chunk));
    let mut chunks = futures_util::stream::iter(reads).buffered(CHUNKS_AHEAD);
    while let Some((chunk, bytes)) = chunks.try_next().await? {
        to.put_chunk(&manifest.cluster, &manifest.id, &chunk.path, bytes)
            .await?;
        progress.advance(chunk.bytes);
    }
    to.publish(manifest).await?;
    Ok(true)
}

async fn read<'m>(
    from: &BackupStore,
    manifest: &Manifest,
    chunk: &'m ChunkEntry,
) -> Result<(&'m ChunkEntry, bytes::Bytes), CopyError> {
    let bytes = from.chunk(manifest, &chunk.path).await?;
    match sha256(&bytes) == chunk.sha256 {
        true => Ok((chunk, bytes)),
        false => Err(CopyError::Damaged {
            backup: manifest.id.to_string(),
            path: chunk.path.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;
    use std::path::Path;

    #[tokio::test]
    async fn a_copy_is_whole_or_not_there_and_is_made_once() {
        let golden = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/goldens/format-1");
        let from = BackupStore::open(golden).expect("a store");
        let manifest = from.find(None, &[], "first").await.expect("found").manifest;
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", directory.path().display());
        let to = BackupStore::open(&url).expect("a store");
        assert!(copy(&from, &manifest, &to, &Silent).await.expect("copied"));
        assert!(
            !copy(&from, &manifest, &to, &Silent)
                .await
                .expect("it is there")
        );
        let found = to.find(None, &[], "latest").await.expect("found");
        assert_eq!(found.manifest, manifest);
        // From there on: a chunk that was changed goes no further.
        let chunk = directory
            .path()
            .join("demo/first")
            .join(&manifest.chunks[0].path);
        std::fs::write(chunk, "nonsense").expect("written");
        let further = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", further.path().display());
        let next = BackupStore::open(&url).expect("a store");
        let refused = copy(&to, &manifest, &next, &Silent).await;
        assert!(
            matches!(refused, Err(CopyError::Damaged { .. })),
            "{refused:?}"
        );
        assert!(!Path::new(&further.path().join("demo/first/MANIFEST")).exists());
        let mut other = manifest.clone();
        other.revision += 1;
        let taken = copy(&from, &other, &to, &Silent).await;
        assert!(
            matches!(taken, Err(CopyError::Store(StoreError::Exists(_)))),
            "{taken:?}"
        );
    }
}
