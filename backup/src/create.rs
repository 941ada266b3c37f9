//! Taking a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use engram_proto::backup as pb;
use engram_server::snapshot::file::{DigestCheck, FileError, SnapshotFile, Tables};
use engram_server::state::RevisionRecord;
use engram_server::types::Revision;
use tokio::sync::mpsc;

use crate::Progress;
use crate::channel::Channel;
use crate::format::{
    BackupId, Chunk, ChunkEntry, Digest, FORMAT, Kind, Manifest, Packer, Selector, Whose, sha256,
};
use crate::lineage::{self, History};
use crate::members::{self, MembersError, Reached, Verdict, Voter};
use crate::receive::{self, Digests};
use crate::source::{self, MemberStatus, Records, SourceError, Spooled};
use crate::store::{BackupStore, StoreError};

/// How often a snapshot is taken again because a compaction came between it and its hash.
const ATTEMPTS_MAX: usize = 3;
/// Chunks that wait to be stored: with the one being made and the one on its way, the memory a
/// backup takes.
const CHUNKS_WAITING: usize = 1;
/// Pieces of a member's records, of a quarter of a MiB, that wait to be packed.
const PIECES_WAITING: usize = 4;

/// Why no backup was taken.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can be asked.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The member fails.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Others have other data.
    #[error("its data is not the majority's: it is not backed up")]
    Odd,
    /// Nobody knows whose data is right.
    #[error(
        "the members hold different data at revision {revision} (member and HashKV: {hashes}), and no majority agrees: nothing was backed up; `engramctl endpoint hashkv --cluster` compares them, `engramctl snapshot save` takes one member's as it is"
    )]
    Split {
        /// Where.
        revision: i64,
        /// Who has what.
        hashes: String,
    },
    /// None of them gives a good one.
    #[error("no member gives a backup: {0}")]
    EachFailed(String),
    /// Its snapshot is damaged.
    #[error("the member's snapshot: {0}")]
    Snapshot(#[from] FileError),
    /// It was compacted again and again.
    #[error("compactions came between {ATTEMPTS_MAX} snapshots and their hashes: try again")]
    Compacted,
    /// It is another cluster's.
    #[error(
        "the member is of cluster {found:x}, and --cluster-id names {wanted}: nothing was backed up"
    )]
    AnotherCluster {
        /// Its cluster's id.
        found: u64,
        /// What was named.
        wanted: String,
    },
    /// Chunks were not stored any more. Whoever stores them tells why.
    #[error("nobody takes the chunks any more")]
    Untaken,
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
    /// Whether a whole backup of that id and of this cluster that is there already is the result.
    pub or_existing: bool,
    /// Who makes it, and may prune it; none: a person.
    pub owner: Option<String>,
    /// The ids of which the member's cluster has to have one; none: any.
    pub cluster_ids: Vec<Selector>,
    /// The clusters that this one began as a restore of.
    pub continues: Vec<Whose>,
    /// Where the snapshot is written meanwhile; needs the room of the member's database.
    pub scratch_dir: PathBuf,
    /// The version to put in the manifest.
    pub version: String,
}

/// A snapshot whose hash is known, and shared by these members.
struct Taken {
    held: Held,
    examined: Examined,
    known: Known,
    at: DateTime<Utc>,
}

/// What members say of a snapshot.
struct Known {
    /// Whose it is.
    member: MemberStatus,
    hash: u32,
    /// Who has the same.
    hash_members: Vec<u64>,
    voters: usize,
}

/// Where a backup goes.
#[derive(Clone, Copy)]
struct To<'t> {
    store: &'t BackupStore,
    options: &'t CreateOptions,
}

/// Where a snapshot is.
enum Held {
    /// In a file.
    Spooled(Spooled),
    /// In the store.
    Stored(Stored),
}

/// Chunks that were stored, under this name.
struct Stored {
    id: BackupId,
    attempt: String,
    chunks: Vec<ChunkEntry>,
}

/// What a snapshot holds.
struct Examined {
    tables: Tables,
    revision: Revision,
    records: u64,
    leases: u64,
    /// SHA-256 of the last revision's records, where it has any.
    last_records: Option<String>,
    /// The same of revisions that were asked for.
    digests: BTreeMap<i64, String>,
    /// Whether etcd's revision bumps are in it.
    bumped: bool,
}

/// Takes a backup of the cluster of which these members were reached: from a follower where one
/// gives it, with the hash of all that answer. A member with a CORRUPT alarm, or with other data than
/// the majority's, is not backed up; of one that fails the next is tried.
///
/// # Errors
/// See [`CreateError`]. What was stored by then is not listed; it is removed, or goes with a prune.
pub async fn create(
    reached: &[Reached],
    store: &BackupStore,
    options: &CreateOptions,
    progress: &dyn Progress,
) -> Result<Manifest, CreateError> {
    let voters = members::voters(reached).await?;
    let member = &voters[0].status;
    must_be_meant(member, options)?;
    if let Some(id) = &options.id
        && let Some(there) = store.manifest(&options.cluster, id).await?
    {
        return existing(there, member, options);
    }
    // Before the snapshot: what is refused is refused at once, and what is listed by now is no newer
    // than the snapshot of the same cluster.
    let listing = store.list(&options.cluster).await?;
    listing.must_have_keys(store, &options.cluster)?;
    let cluster_id = format!("{:x}", member.cluster_id);
    let known = listing.backups.iter().map(|listed| &listed.manifest);
    let ends = lineage::ends(known, &cluster_id);
    let wanted = ends.iter().map(|end| end.revision).collect();
    let to = To { store, options };
    let taken = take_from_any(to, &voters, &wanted, progress).await?;
    let (examined, at) = (&taken.examined, taken.at);
    let stored = match taken.held {
        Held::Stored(stored) => stored,
        Held::Spooled(spooled) => upload(to, &spooled, examined, at, progress).await?,
    };
    let manifest = manifest(options, taken.known, taken.examined, at, &ends, stored);
    match store.publish(&manifest).await {
        Ok(()) => {
            // No other attempt can be put into the list any more.
            drop(store.remove_other_attempts(&manifest).await);
            Ok(manifest)
        }
        // Another attempt was quicker.
        Err(StoreError::Exists(id)) => {
            to.discard(&id, manifest.attempt()).await;
            let there = match options.or_existing {
                true => store.manifest(&options.cluster, &id).await?,
                false => None,
            };
            let there = there.filter(|there| there.cluster_id == manifest.cluster_id);
            Ok(there.ok_or(StoreError::Exists(id))?)
        }
        Err(error) => Err(error.into()),
    }
}

fn must_be_meant(member: &MemberStatus, options: &CreateOptions) -> Result<(), CreateError> {
    let id = format!("{:x}", member.cluster_id);
    let wanted = options
        .cluster_ids
        .iter()
        .map(|one| one.cluster_id.as_str());
    let wanted: Vec<&str> = wanted.collect();
    match wanted.is_empty() || wanted.contains(&id.as_str()) {
        true => Ok(()),
        false => Err(CreateError::AnotherCluster {
            found: member.cluster_id,
            wanted: wanted.join(", "),
        }),
    }
}

/// There is a backup of that id: the result where it is this cluster's and that was asked for.
fn existing(
    there: Manifest,
    member: &MemberStatus,
    options: &CreateOptions,
) -> Result<Manifest, CreateError> {
    let is_own = there.cluster_id == format!("{:x}", member.cluster_id);
    match options.or_existing && is_own {
        true => Ok(there),
        false => Err(StoreError::Exists(there.id).into()),
    }
}

fn manifest(
    options: &CreateOptions,
    known: Known,
    examined: Examined,
    at: DateTime<Utc>,
    ends: &[&Manifest],
    stored: Stored,
) -> Manifest {
    let Known {
        member,
        hash,
        hash_members,
        voters,
    } = known;
    let Stored {
        id,
        attempt,
        chunks,
    } = stored;
    let history = History {
        revision: examined.revision.0,
        compacted: compact(examined.tables.compacted()),
        digests: examined.digests,
    };
    let cluster_id = format!("{:x}", member.cluster_id);
    let (whose, mut continues) = lineage::whose(&cluster_id, ends, &history, &attempt);
    for one in &options.continues {
        if *one != whose && !continues.contains(one) {
            continues.push(one.clone());
        }
    }
    Manifest {
        format: FORMAT,
        id,
        cluster: options.cluster.clone(),
        cluster_id,
        incarnation: whose.incarnation,
        continues,
        owner: options.owner.clone(),
        member_id: format!("{:x}", member.member_id),
        created_at: at.to_rfc3339_opts(SecondsFormat::Secs, true),
        revision: history.revision,
        compact_revision: history.compacted,
        compact_finished: compact(examined.tables.compact_finished),
        hash_kv: hash,
        hash_members: hash_members.iter().map(|id| format!("{id:x}")).collect(),
        voters,
        bumped: examined.bumped,
        records: examined.records,
        last_records: examined.last_records,
        leases: examined.leases,
        auth_enabled: examined.tables.auth_enabled(),
        size: chunks.iter().map(|chunk| chunk.bytes).sum(),
        server_version: member.version,
        storage_version: examined.tables.version,
        engram_version: options.version.clone(),
        chunks,
    }
}

impl To<'_> {
    /// Where the chunks of this attempt lie: a name that no other one has, be it of the same moment. And the
    /// backup's name: the time and the revision; where another one has that already, with the attempt behind it.
    async fn place(
        self,
        at: DateTime<Utc>,
        revision: Revision,
    ) -> Result<(BackupId, String), StoreError> {
        let To { store, options } = self;
        let nanoseconds = Utc::now().timestamp_nanos_opt().unwrap_or_default();
        let seed = RandomState::new().hash_one(std::process::id());
        let seed = sha256(format!("{nanoseconds}{seed}").as_bytes());
        let attempt = format!("{nanoseconds:x}{}", &seed[..8]);
        if let Some(id) = &options.id {
            return Ok((id.clone(), attempt));
        }
        let name = |text: String| text.parse::<BackupId>();
        let id = format!("{}-r{revision}", at.format("%Y%m%dT%H%M%SZ"));
        let id = name(id).expect("digits and letters make a name");
        let id = match store.has(&options.cluster, &id).await? {
            false => id,
            true => name(format!("{id}-{attempt}")).expect("digits and letters make a name"),
        };
        Ok((id, attempt))
    }

    /// Removes what an attempt has stored that comes to nothing. What cannot be removed (a store's retention keeps it,
    /// the store is away) is no part of any backup.
    async fn discard(self, id: &BackupId, attempt: &str) {
        let cluster = &self.options.cluster;
        let _ = self.store.remove_attempt(cluster, id, attempt).await;
    }

    /// Stores chunks as they are made, in order.
    async fn store(
        self,
        id: &BackupId,
        attempt: &str,
        mut chunks: mpsc::Receiver<Chunk>,
        progress: &dyn Progress,
    ) -> Result<Vec<ChunkEntry>, StoreError> {
        let mut entries = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            let entry = entry(attempt, &chunk);
            let cluster = &self.options.cluster;
            let put = self.store.put_chunk(cluster, id, &entry.path, chunk.bytes);
            put.await?;
            progress.advance(entry.raw_bytes);
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Takes a snapshot from the first member that gives a good one.
async fn take_from_any(
    to: To<'_>,
    voters: &[Voter],
    wanted: &BTreeSet<i64>,
    progress: &dyn Progress,
) -> Result<Taken, CreateError> {
    let mut failures = Vec::new();
    for place in 0..voters.len() {
        let (voter, endpoint) = (&voters[place], &voters[place].endpoint);
        match take(to, voters, place, wanted, progress).await {
            // No other member can make these good.
            Err(error @ (CreateError::Split { .. } | CreateError::Worker(_))) => return Err(error),
            Err(error @ CreateError::Source(SourceError::Spool { .. })) => return Err(error),
            Err(error @ CreateError::Store(_)) => return Err(error),
            Err(error) if voters.len() == 1 => return Err(error),
            Err(error) => failures.push(format!(
                "{endpoint} ({:x}): {error}",
                voter.status.member_id
            )),
            Ok(taken) => return Ok(taken),
        }
    }
    Err(CreateError::EachFailed(failures.join("; ")))
}

/// Takes a snapshot of one of the members, and has all of them hash the same revision with the same
/// history. `wanted` are revisions whose records are digested.
async fn take(
    to: To<'_>,
    voters: &[Voter],
    place: usize,
    wanted: &BTreeSet<i64>,
    progress: &dyn Progress,
) -> Result<Taken, CreateError> {
    let Voter {
        channel, status, ..
    } = &voters[place];
    if source::corrupt(channel).await?.contains(&status.member_id) {
        return Err(CreateError::Odd);
    }
    source::catch_up(channel).await?;
    let ids = source::voters(channel).await?;
    let others = voters.iter().filter(|other| {
        let id = other.status.member_id;
        id != status.member_id && ids.contains(&id)
    });
    let others: Vec<&Voter> = others.collect();
    let mut may_stream = true;
    let mut compactions = 0;
    while compactions < ATTEMPTS_MAX {
        let at = Utc::now();
        let records = match may_stream {
            true => source::records(channel).await?,
            false => None,
        };
        let mut asked = None;
        let snapshot = match records {
            Some(records) => {
                let (revision, compacted) = records.moment();
                // At once: by the time that all is stored the others may be compacted further.
                let asking = members::ask(&others, revision, compacted);
                let streaming = stream(to, records, wanted, at, progress);
                let (streamed, answers) = tokio::join!(streaming, asking);
                asked = Some(answers);
                match streamed {
                    // It may have been the store, too slow for the member's patience: a file waits for it.
                    Err(CreateError::Source(_)) => {
                        may_stream = false;
                        continue;
                    }
                    streamed => streamed.map(Some)?,
                }
            }
            None => spool(to, channel, wanted, progress).await?,
        };
        compactions += 1;
        let Some(Snapshot {
            held,
            examined,
            hash,
        }) = snapshot
        else {
            continue;
        };
        let revision = examined.revision.0;
        let compacted = compact(examined.tables.compacted());
        let answers = match asked {
            Some(answers) => answers,
            None => members::ask(&others, revision, compacted).await,
        };
        let own = (status.member_id, hash);
        let verdict = members::judge(own, &answers, ids.len());
        if let (Held::Stored(stored), false) = (&held, matches!(verdict, Verdict::Same(_))) {
            to.discard(&stored.id, &stored.attempt).await;
        }
        match verdict {
            Verdict::Moved => {}
            Verdict::Odd => return Err(CreateError::Odd),
            Verdict::Split(hashes) => return Err(CreateError::Split { revision, hashes }),
            Verdict::Same(hash_members) => {
                let known = Known {
                    member: status.clone(),
                    hash,
                    hash_members,
                    voters: ids.len(),
                };
                return Ok(Taken {
                    held,
                    examined,
                    known,
                    at,
                });
            }
        }
    }
    Err(CreateError::Compacted)
}

/// A snapshot, and what its member says that it hashes to.
struct Snapshot {
    held: Held,
    examined: Examined,
    hash: u32,
}

/// Stores a member's records while they come, with a few chunks in memory.
async fn stream(
    to: To<'_>,
    mut records: Records,
    wanted: &BTreeSet<i64>,
    at: DateTime<Utc>,
    progress: &dyn Progress,
) -> Result<Snapshot, CreateError> {
    progress.begin("backup", None);
    let head = records.head.clone();
    let revision = Revision(head.revision);
    let (id, attempt) = to.place(at, revision).await?;
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let wanted = wanted.clone();
    let packing =
        tokio::task::spawn_blocking(move || receive::pack(head, waiting, wanted, &sender));
    let receiving = async move {
        while let Some(piece) = records.next().await? {
            // Whoever packs has an error of its own to tell.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        Ok::<_, SourceError>(())
    };
    let storing = to.store(&id, &attempt, chunks, progress);
    let (received, stored) = tokio::join!(receiving, storing);
    let packed = packing.await?;
    let came = match (stored, received, packed) {
        (Err(error), ..) => Err(error.into()),
        (_, Err(error), _) => Err(error.into()),
        (_, _, Err(error)) => Err(error),
        (Ok(chunks), Ok(()), Ok(received)) => Ok((chunks, received)),
    };
    if came.is_err() {
        to.discard(&id, &attempt).await;
    }
    let (chunks, received) = came?;
    let (digests, last_records) = received.digests.finish(revision.0);
    let examined = Examined {
        tables: received.tables,
        revision,
        records: received.records,
        leases: received.leases,
        last_records,
        digests,
        bumped: false,
    };
    Ok(Snapshot {
        held: Held::Stored(Stored {
            id,
            attempt,
            chunks,
        }),
        examined,
        hash: received.hash,
    })
}

/// Takes a member's snapshot as etcd's file, and has the member hash it; none where a compaction came between.
async fn spool(
    to: To<'_>,
    channel: &Channel,
    wanted: &BTreeSet<i64>,
    progress: &dyn Progress,
) -> Result<Option<Snapshot>, CreateError> {
    let spooled = source::spool(channel, &to.options.scratch_dir, progress).await?;
    let wanted = wanted.clone();
    let examining = tokio::task::spawn_blocking(move || {
        let examined = examine(&spooled, wanted);
        (spooled, examined)
    });
    let (spooled, examined) = examining.await?;
    let examined = examined?;
    let compacted = compact(examined.tables.compacted());
    let hash = source::hash_kv(channel, examined.revision.0, compacted).await?;
    let hash = hash.filter(|hash| hash.compact_revision == compacted);
    Ok(hash.map(|hash| Snapshot {
        held: Held::Spooled(spooled),
        examined,
        hash: hash.hash,
    }))
}

fn examine(spooled: &Spooled, wanted: BTreeSet<i64>) -> Result<Examined, FileError> {
    let file = SnapshotFile::open(spooled.file.path(), DigestCheck::Required)?;
    let tables = file.tables()?;
    let mut records = 0;
    let mut digests = Digests::of(wanted);
    let read = file.records(&mut |record| {
        records += 1;
        digests.add(&record);
        Ok(())
    })?;
    // What a compaction left behind may be older than it.
    let revision = read.last.max(tables.compacted().unwrap_or_default());
    let (digests, last_records) = digests.finish(revision.0);
    Ok(Examined {
        leases: u64::try_from(tables.leases.len()).unwrap_or(u64::MAX),
        tables,
        revision,
        records,
        last_records,
        digests,
        bumped: read.bumps > 0,
    })
}

/// Stores the chunks of a file, in order, while the next ones are made.
async fn upload(
    to: To<'_>,
    spooled: &Spooled,
    examined: &Examined,
    at: DateTime<Utc>,
    progress: &dyn Progress,
) -> Result<Stored, CreateError> {
    progress.begin("backup", Some(total_bytes(spooled)));
    let (id, attempt) = to.place(at, examined.revision).await?;
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let path = spooled.file.path().to_owned();
    let tables = examined.tables.clone();
    let packing = tokio::task::spawn_blocking(move || pack(&path, &tables, &sender));
    let chunks = to.store(&id, &attempt, chunks, progress).await?;
    packing.await??;
    Ok(Stored {
        id,
        attempt,
        chunks,
    })
}

/// A compaction's revision as it is told, -1 for none.
fn compact(revision: Option<Revision>) -> i64 {
    revision.map_or(-1, |revision| revision.0)
}

fn total_bytes(spooled: &Spooled) -> u64 {
    let metadata = spooled.file.as_file().metadata();
    metadata.map_or(0, |metadata| metadata.len())
}

fn entry(attempt: &str, chunk: &Chunk) -> ChunkEntry {
    ChunkEntry {
        path: format!("{attempt}/{:08}.chunk", chunk.sequence),
        kind: chunk.kind.name().to_owned(),
        bytes: u64::try_from(chunk.bytes.len()).expect("a length fits"),
        raw_bytes: chunk.raw_bytes,
        digest: Digest::of(&chunk.bytes),
        messages: chunk.messages,
        first_revision: chunk.first_revision,
        last_revision: chunk.last_revision,
    }
}

/// Makes chunks of a snapshot file. Ends early when nobody takes them.
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
