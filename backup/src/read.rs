//! Reading a backup back, chunk by chunk, every byte checked.

use bytes::Bytes;
use engram_archive::ArchiveError;
use engram_proto::backup as pb;
use engram_server::snapshot::file::{AuthRow, auth_tables};
use engram_server::snapshot::restore::{Restore, RestoreError, Totals};
use engram_server::state::{AuthTables, RevisionRecord};
use engram_server::types::{LeaseId, Revision, RevisionPair};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use crate::Progress;
use crate::format::{ChunkEntry, ChunkError, Kind, Manifest, Unpacked, unpack_known};
use crate::store::{BackupStore, StoreError};

/// Chunks that are read ahead: one is read while another is fed.
const CHUNKS_AHEAD: usize = 1;
/// Chunks that wait to be fed: with the one that is and those that are read, the memory a restore takes.
const CHUNKS_WAITING: usize = 1;

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store refuses, or a chunk is gone.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk is damaged.
    #[error("backup {backup}: chunk {path}: {source}: this backup cannot be used, take another")]
    Chunk {
        /// The backup's id.
        backup: String,
        /// The chunk's object.
        path: String,
        /// What is wrong with it.
        source: ChunkError,
    },
    /// The chunks are not what the manifest counts.
    #[error("backup {backup}: {what}: this backup cannot be used, take another")]
    Contents {
        /// The backup's id.
        backup: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The log archive behind it cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It cannot be written to the data directory.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A worker ended early.
    #[error("the worker ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl ReadError {
    /// Whether the backup itself is not what it should be, and not what was to read it.
    pub fn is_damage(&self) -> bool {
        match self {
            // One of a newer format is whole for whoever knows that.
            ReadError::Chunk { source, .. } => !matches!(source, ChunkError::Format(_)),
            ReadError::Contents { .. } => true,
            ReadError::Store(error) => error.is_damage(),
            ReadError::Archive(error) => error.is_damage(),
            ReadError::Restore(error) => matches!(
                error,
                RestoreError::Record(_) | RestoreError::OutOfOrder(_) | RestoreError::State(_)
            ),
            ReadError::Worker(_) => false,
        }
    }
}

/// What a chunk's messages led to.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// A restore that is being fed, and what it is to be finished with.
pub(crate) struct Feeding {
    pub(crate) restore: Restore,
    pub(crate) totals: Totals,
    records: u64,
    auth: Vec<AuthRow>,
}

/// Feeds a backup's records to a restore; what is returned is to be finished.
///
/// # Errors
/// See [`ReadError`].
pub(crate) async fn feed(
    store: &BackupStore,
    manifest: &Manifest,
    restore: Restore,
    progress: &dyn Progress,
) -> Result<Feeding, ReadError> {
    if !manifest.names_all() {
        return Err(ReadError::Contents {
            backup: manifest.id.to_string(),
            what: "its manifest does not name all of its chunks",
        });
    }
    progress.begin("restore", Some(manifest.size));
    let compact = |revision: i64| (revision >= 0).then_some(Revision(revision));
    let mut feeding = Feeding {
        restore,
        totals: Totals {
            revision: Revision(manifest.revision),
            compact_scheduled: compact(manifest.compact_revision),
            compact_finished: compact(manifest.compact_finished),
            leases: Vec::new(),
            auth: AuthTables::default(),
            ..Totals::default()
        },
        records: 0,
        auth: Vec::new(),
    };
    let (sender, mut waiting) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let entries = manifest.chunks.clone();
    // One thread from the first chunk to the last: what it frees it takes again. It unpacks them too, so that one
    // alone is in memory both as it is stored and as it is.
    let taking = tokio::task::spawn_blocking(move || {
        for (place, entry) in entries.iter().enumerate() {
            let Some(bytes) = waiting.blocking_recv() else {
                break;
            };
            let taken = unpack(&bytes, entry, place).map_err(FeedError::from);
            let taken = taken.and_then(|unpacked| {
                drop(bytes);
                take(&mut feeding, &unpacked)
            });
            taken.map_err(|error| (place, error))?;
        }
        Ok::<_, (usize, FeedError)>(feeding)
    });
    let came = send(store, manifest, &sender, progress).await;
    drop(sender);
    // Before anything is told: by then nobody works in the directory any more.
    let taken = taking.await?;
    let mut feeding = taken.map_err(|(place, error)| match error {
        FeedError::Chunk(source) => damaged(manifest, place, source),
        FeedError::Restore(error) => error.into(),
    })?;
    came?;
    let auth = auth_tables(&std::mem::take(&mut feeding.auth));
    feeding.totals.auth = auth.map_err(RestoreError::from)?;
    let leases = u64::try_from(feeding.totals.leases.len()).unwrap_or(u64::MAX);
    match (feeding.records, leases) == (manifest.records, manifest.leases) {
        true => Ok(feeding),
        false => Err(ReadError::Contents {
            backup: manifest.id.to_string(),
            what: "it holds another number of records or leases than its manifest says",
        }),
    }
}

/// Reads the chunks in order, until there are no more or nobody takes them.
async fn send(
    store: &BackupStore,
    manifest: &Manifest,
    sender: &mpsc::Sender<Bytes>,
    progress: &dyn Progress,
) -> Result<(), ReadError> {
    let reads = (0..manifest.chunks.len()).map(|place| chunk(store, manifest, place));
    let chunks = futures_util::stream::iter(reads).buffered(CHUNKS_AHEAD);
    let mut chunks = std::pin::pin!(chunks);
    let mut place = 0;
    while let Some(bytes) = chunks.try_next().await? {
        if sender.send(bytes).await.is_err() {
            break;
        }
        progress.advance(manifest.chunks[place].bytes);
        place += 1;
    }
    Ok(())
}

/// Reads a chunk and compares it with what the manifest says of it.
async fn chunk(store: &BackupStore, manifest: &Manifest, place: usize) -> Result<Bytes, ReadError> {
    let entry = &manifest.chunks[place];
    let bytes = store.chunk(manifest, &entry.path).await?;
    match entry.digest.fits(&bytes) {
        true => Ok(bytes),
        false => Err(damaged(manifest, place, ChunkError::Checksum)),
    }
}

/// Unpacks a chunk that was compared, which has to be the one that its place says.
fn unpack(bytes: &Bytes, entry: &ChunkEntry, place: usize) -> Result<Unpacked, ChunkError> {
    let unpacked = unpack_known(bytes)?;
    let is_expected = unpacked.kind.name() == entry.kind
        && u64::try_from(place).is_ok_and(|place| place == unpacked.sequence);
    match is_expected {
        true => Ok(unpacked),
        false => Err(ChunkError::Nonsense("it is another chunk")),
    }
}

fn damaged(manifest: &Manifest, place: usize, source: ChunkError) -> ReadError {
    ReadError::Chunk {
        backup: manifest.id.to_string(),
        path: manifest.chunks[place].path.clone(),
        source,
    }
}

fn take(feeding: &mut Feeding, chunk: &Unpacked) -> Result<(), FeedError> {
    match chunk.kind {
        Kind::Records => chunk.messages(|record: pb::Record| {
            feeding.records += 1;
            Ok(feeding.restore.record(record_of(record))?)
        }),
        Kind::Leases => chunk.messages(|lease: pb::Lease| {
            let lease = (LeaseId(lease.id), lease.ttl_seconds);
            feeding.totals.leases.push(lease);
            Ok(())
        }),
        Kind::Auth => chunk.messages(|row: pb::AuthRow| {
            feeding.auth.push(auth_row(row));
            Ok(())
        }),
        // Members are made by the restore. They are read all the same, so that a verified backup is
        // whole.
        Kind::Members => chunk.messages(|_: pb::Member| Ok(())),
        Kind::Notes | Kind::Moments => {
            Err(ChunkError::Nonsense("it is a chunk of a log archive").into())
        }
    }
}

pub(crate) fn auth_row(row: pb::AuthRow) -> AuthRow {
    AuthRow {
        bucket: row.bucket,
        key: row.key.into(),
        value: row.value.into(),
    }
}

pub(crate) fn record_of(record: pb::Record) -> RevisionRecord {
    RevisionRecord {
        pair: RevisionPair {
            main: Revision(record.revision),
            sub: record.sub,
        },
        tombstone: record.tombstone,
        encoded: record.key_value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verification of it says nothing of the backup: an older engramctl would have nobody use a good one any more.
    #[test]
    fn a_chunk_of_a_newer_format_is_no_damage() {
        let of = |source| ReadError::Chunk {
            backup: "a".into(),
            path: "b".into(),
            source,
        };
        assert!(!of(ChunkError::Format(9)).is_damage());
        assert!(of(ChunkError::Checksum).is_damage() && of(ChunkError::NoChunk).is_damage());
    }
}
