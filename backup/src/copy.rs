//! Copies a backup to another store: every byte checked on its way, the manifest last.

use engram_objects::KeyId;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::Progress;
use crate::format::{ChunkEntry, Manifest};
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

impl CopyError {
    /// Whether it is this one backup that cannot be copied, and others may be.
    pub fn is_of_one(&self) -> bool {
        match self {
            CopyError::Damaged { .. } => true,
            CopyError::Store(error) => error.is_of_one(),
        }
    }
}

/// What became of a backup that was to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was.
    Now,
    /// It is there already.
    There,
    /// It is there already, but encrypted with another key than the one that writes there; none: not at all.
    Otherwise(Option<KeyId>),
}

/// Copies a backup. One that is there under its name and is the same is left alone; a copy that was cut short is
/// gone on with.
///
/// # Errors
/// See [`CopyError`]. What was copied by then is not listed, and goes with the next prune there.
pub async fn copy(
    from: &BackupStore,
    manifest: &Manifest,
    to: &BackupStore,
    progress: &dyn Progress,
) -> Result<Copied, CopyError> {
    if !manifest.names_all() {
        return Err(CopyError::Damaged {
            backup: manifest.id.to_string(),
            path: "MANIFEST".into(),
        });
    }
    match to.read_manifest(&manifest.cluster, &manifest.id).await? {
        Some((there, key)) if there == *manifest => {
            return Ok(match key == to.objects().keys().writing() {
                true => Copied::There,
                false => Copied::Otherwise(key),
            });
        }
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
        to.create_chunk(&manifest.cluster, &manifest.id, &chunk.path, bytes)
            .await?;
        progress.advance(chunk.bytes);
    }
    to.publish(manifest).await?;
    Ok(Copied::Now)
}

async fn read<'m>(
    from: &BackupStore,
    manifest: &Manifest,
    chunk: &'m ChunkEntry,
) -> Result<(&'m ChunkEntry, bytes::Bytes), CopyError> {
    let bytes = from.chunk(manifest, &chunk.path).await?;
    match chunk.digest.fits(&bytes) {
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
        let golden = format!("file://{}", crate::format::store_of_format_1().display());
        let from = BackupStore::open(&golden).expect("a store");
        let manifest = from.find(None, &[], "first").await.expect("found").manifest;
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", directory.path().display());
        let to = BackupStore::open(&url).expect("a store");
        for wanted in [Copied::Now, Copied::There] {
            let copied = copy(&from, &manifest, &to, &Silent).await;
            assert_eq!(copied.expect("copied"), wanted);
        }
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

    #[tokio::test]
    async fn a_copy_that_was_cut_short_is_gone_on_with_and_leaves_what_is_there() {
        let golden = format!("file://{}", crate::format::store_of_format_1().display());
        let from = BackupStore::open(&golden).expect("a store");
        let manifest = from.find(None, &[], "first").await.expect("found").manifest;
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", directory.path().display());
        let plain = BackupStore::open(&url).expect("a store");
        let place = |chunk: &ChunkEntry| directory.path().join("demo/first").join(&chunk.path);
        let written = || {
            let chunk = std::fs::metadata(place(&manifest.chunks[0])).expect("a chunk");
            std::os::unix::fs::MetadataExt::ino(&chunk)
        };
        copy(&from, &manifest, &plain, &Silent)
            .await
            .expect("copied");
        let before = written();
        let cut = || {
            std::fs::remove_file(directory.path().join("demo/first/MANIFEST")).expect("removed");
            std::fs::remove_file(place(&manifest.chunks[1])).expect("removed");
        };
        cut();
        let again = copy(&from, &manifest, &plain, &Silent).await;
        assert_eq!(again.expect("copied"), Copied::Now);
        assert_eq!(written(), before, "what was there is not written over");
        // What is there under another key, or is another object, is not what the manifest would say.
        let keys = |seeds: &[u8]| {
            let keys: Vec<[u8; 32]> = seeds.iter().map(|seed| [*seed; 32]).collect();
            plain.clone().with_keys(engram_objects::Keys::of(&keys))
        };
        let (new, both) = (keys(&[1]), keys(&[2, 1]));
        let there = copy(&from, &manifest, &new, &Silent).await;
        assert_eq!(there.expect("it is there"), Copied::Otherwise(None));
        cut();
        let refused = copy(&from, &manifest, &new, &Silent).await;
        assert!(
            matches!(refused, Err(CopyError::Store(StoreError::Remains(_)))),
            "{refused:?}"
        );
        std::fs::remove_dir_all(directory.path().join("demo")).expect("removed");
        copy(&from, &manifest, &new, &Silent).await.expect("copied");
        let there = copy(&from, &manifest, &both, &Silent).await;
        let key = new.objects().keys().writing();
        assert_eq!(there.expect("it is there"), Copied::Otherwise(key));
        cut();
        let refused = copy(&from, &manifest, &both, &Silent).await;
        assert!(
            matches!(refused, Err(CopyError::Store(StoreError::Remains(_)))),
            "{refused:?}"
        );
        std::fs::write(place(&manifest.chunks[0]), "nonsense").expect("written");
        let refused = copy(&from, &manifest, &plain, &Silent).await;
        assert!(
            matches!(refused, Err(CopyError::Store(StoreError::Remains(_)))),
            "{refused:?}"
        );
    }
}
