//! Taking a backup.

use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use engram_proto::backup as pb;
use engram_server::snapshot::file::{DigestCheck, FileError, SnapshotFile, Tables};
use engram_server::state::RevisionRecord;
use engram_server::types::Revision;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::Progress;
use crate::format::{BackupId, Chunk, ChunkEntry, FORMAT, Kind, Manifest, Packer, sha256};
use crate::source::{self, MemberStatus, SourceError, Spooled};
use crate::store::{BackupStore, StoreError};

/// How often a snapshot is taken again because a compaction came between it and its hash.
const ATTEMPTS_MAX: usize = 3;
/// Chunks that wait to be stored: with the one being made and the one on its way, the memory a
/// backup takes.
const CHUNKS_WAITING: usize = 1;

/// Why no backup was taken.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The member fails.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its snapshot is damaged.
    #[error("the member's snapshot: {0}")]
    Snapshot(#[from] FileError),
    /// It was compacted again and again.
    #[error("compactions came between {ATTEMPTS_MAX} snapshots and their hashes: try again")]
    Compacted,
    /// A worker ended early.
    #[error("the backup's worker ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

/// What to take, and how to call it.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The cluster's name in the store.
    pub cluster: BackupId,
    /// The backup's id; by default the time and the revision.
    pub id: Option<BackupId>,
    /// Where the snapshot is written meanwhile; needs the room of the member's database.
    pub scratch_dir: PathBuf,
    /// The version to put in the manifest.
    pub version: String,
}

/// A snapshot whose hash is known.
struct Taken {
    spooled: Spooled,
    member: MemberStatus,
    tables: Tables,
    revision: Revision,
    records: u64,
    hash: u32,
    at: DateTime<Utc>,
}

/// Takes a backup of the cluster from the member behind `channel`.
///
/// # Errors
/// See [`CreateError`]. What was stored by then is not listed, and goes with the next prune.
pub async fn create(
    channel: &Channel,
    store: &BackupStore,
    options: &CreateOptions,
    progress: &dyn Progress,
) -> Result<Manifest, CreateError> {
    if let Some(id) = &options.id
        && store.has(&options.cluster, id).await?
    {
        return Err(StoreError::Exists(id.clone()).into());
    }
    // Before the snapshot: what is refused is refused at once.
    store.clusters().await?;
    let taken = take(channel, options, progress).await?;
    let id = options.id.clone().unwrap_or_else(|| id_of(&taken));
    let chunks = upload(store, options, &id, &taken, progress).await?;
    let compact = |revision: Option<Revision>| revision.map_or(-1, |revision| revision.0);
    let manifest = Manifest {
        format: FORMAT,
        id,
        cluster: options.cluster.clone(),
        cluster_id: format!("{:x}", taken.member.cluster_id),
        member_id: format!("{:x}", taken.member.member_id),
        created_at: taken.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        revision: taken.revision.0,
        compact_revision: compact(taken.tables.compacted()),
        compact_finished: compact(taken.tables.compact_finished),
        hash_kv: taken.hash,
        records: taken.records,
        leases: u64::try_from(taken.tables.leases.len()).unwrap_or(u64::MAX),
        auth_enabled: taken.tables.auth_enabled(),
        size: chunks.iter().map(|chunk| chunk.bytes).sum(),
        server_version: taken.member.version,
        storage_version: taken.tables.version,
        engram_version: options.version.clone(),
        chunks,
    };
    store.publish(&manifest).await?;
    Ok(manifest)
}

fn id_of(taken: &Taken) -> BackupId {
    let text = format!(
        "{}-r{}",
        taken.at.format("%Y%m%dT%H%M%SZ"),
        taken.revision.0
    );
    text.parse().expect("digits and letters make a name")
}

/// Takes a snapshot, and has the member hash the same revision with the same history.
async fn take(
    channel: &Channel,
    options: &CreateOptions,
    progress: &dyn Progress,
) -> Result<Taken, CreateError> {
    let member = source::status(channel).await?;
    source::catch_up(channel).await?;
    for _ in 0..ATTEMPTS_MAX {
        let at = Utc::now();
        let spooled = source::spool(channel, &options.scratch_dir, progress).await?;
        let (spooled, tables, revision, records) =
            tokio::task::spawn_blocking(|| examine(spooled)).await??;
        let compacted = tables.compacted().map_or(-1, |revision| revision.0);
        let hash = source::hash_kv(channel, revision.0).await?;
        let hash = hash.filter(|hash| hash.compact_revision == compacted);
        if let Some(hash) = hash {
            return Ok(Taken {
                spooled,
                member,
                tables,
                revision,
                records,
                hash: hash.hash,
                at,
            });
        }
    }
    Err(CreateError::Compacted)
}

fn examine(spooled: Spooled) -> Result<(Spooled, Tables, Revision, u64), FileError> {
    let file = SnapshotFile::open(spooled.file.path(), DigestCheck::Required)?;
    let tables = file.tables()?;
    let mut records = 0;
    let last = file.records(&mut |_| {
        records += 1;
        Ok(())
    })?;
    // What a compaction left behind may be older than it.
    let revision = last.max(tables.compacted().unwrap_or_default());
    Ok((spooled, tables, revision, records))
}

/// Stores the chunks, in order, while the next ones are made.
async fn upload(
    store: &BackupStore,
    options: &CreateOptions,
    id: &BackupId,
    taken: &Taken,
    progress: &dyn Progress,
) -> Result<Vec<ChunkEntry>, CreateError> {
    progress.begin("backup", Some(total_bytes(taken)));
    let attempt = format!("{:x}", Utc::now().timestamp_nanos_opt().unwrap_or_default());
    let (sender, mut receiver) = mpsc::channel(CHUNKS_WAITING);
    let path = taken.spooled.file.path().to_owned();
    let tables = taken.tables.clone();
    let packing = tokio::task::spawn_blocking(move || pack(&path, &tables, &sender));
    let mut entries = Vec::new();
    while let Some(chunk) = receiver.recv().await {
        let entry = entry(&attempt, &chunk);
        let put = store.put_chunk(&options.cluster, id, &entry.path, chunk.bytes);
        put.await?;
        progress.advance(entry.raw_bytes);
        entries.push(entry);
    }
    packing.await??;
    Ok(entries)
}

fn total_bytes(taken: &Taken) -> u64 {
    let metadata = taken.spooled.file.as_file().metadata();
    metadata.map_or(0, |metadata| metadata.len())
}

fn entry(attempt: &str, chunk: &Chunk) -> ChunkEntry {
    ChunkEntry {
        path: format!("{attempt}/{:08}.chunk", chunk.sequence),
        kind: chunk.kind.name().to_owned(),
        bytes: u64::try_from(chunk.bytes.len()).expect("a length fits"),
        raw_bytes: chunk.raw_bytes,
        sha256: sha256(&chunk.bytes),
        messages: chunk.messages,
        first_revision: chunk.first_revision,
        last_revision: chunk.last_revision,
    }
}

/// Makes chunks of a snapshot file. Ends early, without an error, when nobody takes them.
fn pack(
    path: &std::path::Path,
    tables: &Tables,
    out: &mpsc::Sender<Chunk>,
) -> Result<(), FileError> {
    let file = SnapshotFile::open(path, DigestCheck::Skipped)?;
    let mut packer = Packer::default();
    let send = |chunk: Option<Chunk>| match chunk {
        // A receiver that is gone has an error of its own to tell.
        Some(chunk) => out
            .blocking_send(chunk)
            .map_err(|_| FileError::Taker("nobody takes the chunks any more".into())),
        None => Ok(()),
    };
    file.records(&mut |record| {
        let revision = record.pair.main.0;
        send(packer.add(Kind::Records, &record_message(record), revision))
    })?;
    for lease in &tables.leases {
        let message = pb::Lease {
            id: lease.id.0,
            ttl_seconds: lease.ttl_seconds,
            remaining_seconds: lease.remaining_seconds,
        };
        send(packer.add(Kind::Leases, &message, 0))?;
    }
    for row in &tables.auth {
        let message = pb::AuthRow {
            bucket: row.bucket.clone(),
            key: row.key.clone().into(),
            value: row.value.clone().into(),
        };
        send(packer.add(Kind::Auth, &message, 0))?;
    }
    for member in &tables.members {
        let message = pb::Member {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            learner: member.learner,
        };
        send(packer.add(Kind::Members, &message, 0))?;
    }
    send(packer.close())
}

fn record_message(record: RevisionRecord) -> pb::Record {
    pb::Record {
        revision: record.pair.main.0,
        sub: record.pair.sub,
        tombstone: record.tombstone,
        key_value: record.encoded,
    }
}
