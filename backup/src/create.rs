//! Taking a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use engram_proto::backup as pb;
use engram_server::snapshot::file::{DigestCheck, FileError, SnapshotFile, Tables};
use engram_server::state::RevisionRecord;
use engram_server::types::Revision;
use tokio::sync::mpsc;

use crate::Progress;
use crate::format::{
    BackupId, Chunk, ChunkEntry, FORMAT, Kind, Manifest, Packer, Selector, Whose, sha256, sha256_of,
};
use crate::lineage::{self, History};
use crate::members::{self, MembersError, Reached, Verdict, Voter};
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
    spooled: Spooled,
    member: MemberStatus,
    examined: Examined,
    hash: u32,
    hash_members: Vec<u64>,
    voters: usize,
    at: DateTime<Utc>,
}

/// What a snapshot holds.
struct Examined {
    tables: Tables,
    revision: Revision,
    records: u64,
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
/// See [`CreateError`]. What was stored by then is not listed, and goes with the next prune.
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
    let taken = take_from_any(&voters, options, &wanted, progress).await?;
    let attempt = attempt(&taken);
    let id = match &options.id {
        Some(id) => id.clone(),
        None => id_of(store, options, &taken, &attempt).await?,
    };
    let chunks = upload(store, options, &id, &taken, &attempt, progress).await?;
    let manifest = manifest(options, taken, &ends, &attempt, id, chunks);
    match store.publish(&manifest).await {
        // Another attempt was quicker.
        Err(StoreError::Exists(id)) if options.or_existing => {
            let there = store.manifest(&options.cluster, &id).await?;
            let there = there.filter(|there| there.cluster_id == manifest.cluster_id);
            Ok(there.ok_or(StoreError::Exists(id))?)
        }
        published => published.map(|()| manifest).map_err(CreateError::from),
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
    taken: Taken,
    ends: &[&Manifest],
    attempt: &str,
    id: BackupId,
    chunks: Vec<ChunkEntry>,
) -> Manifest {
    let compact = |revision: Option<Revision>| revision.map_or(-1, |revision| revision.0);
    let Taken {
        spooled: _,
        member,
        examined,
        hash,
        hash_members,
        voters,
        at,
    } = taken;
    let history = History {
        revision: examined.revision.0,
        compacted: compact(examined.tables.compacted()),
        digests: examined.digests,
    };
    let cluster_id = format!("{:x}", member.cluster_id);
    let (whose, mut continues) = lineage::whose(&cluster_id, ends, &history, attempt);
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
        leases: u64::try_from(examined.tables.leases.len()).unwrap_or(u64::MAX),
        auth_enabled: examined.tables.auth_enabled(),
        size: chunks.iter().map(|chunk| chunk.bytes).sum(),
        server_version: member.version,
        storage_version: examined.tables.version,
        engram_version: options.version.clone(),
        chunks,
    }
}

/// Where the chunks of this attempt lie: a name that no other one has, be it of the same moment.
fn attempt(taken: &Taken) -> String {
    let nanoseconds = Utc::now().timestamp_nanos_opt().unwrap_or_default();
    let path = taken.spooled.file.path().to_string_lossy();
    let seed = format!("{nanoseconds}{path}{}", std::process::id());
    format!("{nanoseconds:x}{}", &sha256(seed.as_bytes())[..8])
}

/// The time and the revision; where another one has that name already, with the attempt behind it.
async fn id_of(
    store: &BackupStore,
    options: &CreateOptions,
    taken: &Taken,
    attempt: &str,
) -> Result<BackupId, StoreError> {
    let (at, revision) = (taken.at.format("%Y%m%dT%H%M%SZ"), taken.examined.revision);
    let name = |text: String| text.parse::<BackupId>();
    let id = name(format!("{at}-r{revision}")).expect("digits and letters make a name");
    match store.has(&options.cluster, &id).await? {
        false => Ok(id),
        true => Ok(name(format!("{id}-{attempt}")).expect("digits and letters make a name")),
    }
}

/// Takes a snapshot from the first member that gives a good one.
async fn take_from_any(
    voters: &[Voter],
    options: &CreateOptions,
    wanted: &BTreeSet<i64>,
    progress: &dyn Progress,
) -> Result<Taken, CreateError> {
    let mut failures = Vec::new();
    for place in 0..voters.len() {
        let (voter, endpoint) = (&voters[place], &voters[place].endpoint);
        match take(voters, place, options, wanted, progress).await {
            // No other member can make these good.
            Err(error @ (CreateError::Split { .. } | CreateError::Worker(_))) => return Err(error),
            Err(error @ CreateError::Source(SourceError::Spool { .. })) => return Err(error),
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
    voters: &[Voter],
    place: usize,
    options: &CreateOptions,
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
    for _ in 0..ATTEMPTS_MAX {
        let at = Utc::now();
        let spooled = source::spool(channel, &options.scratch_dir, progress).await?;
        let wanted = wanted.clone();
        let examining = tokio::task::spawn_blocking(move || {
            let examined = examine(&spooled, &wanted);
            (spooled, examined)
        });
        let (spooled, examined) = examining.await?;
        let examined = examined?;
        let revision = examined.revision.0;
        let compacted = examined.tables.compacted();
        let compacted = compacted.map_or(-1, |revision| revision.0);
        let hash = source::hash_kv(channel, revision, compacted).await?;
        let hash = hash.filter(|hash| hash.compact_revision == compacted);
        let Some(hash) = hash else {
            continue;
        };
        let answers = members::ask(&others, revision, compacted).await;
        let own = (status.member_id, hash.hash);
        match members::judge(own, &answers, ids.len()) {
            Verdict::Moved => {}
            Verdict::Odd => return Err(CreateError::Odd),
            Verdict::Split(hashes) => return Err(CreateError::Split { revision, hashes }),
            Verdict::Same(hash_members) => {
                return Ok(Taken {
                    spooled,
                    member: status.clone(),
                    examined,
                    hash: hash.hash,
                    hash_members,
                    voters: ids.len(),
                    at,
                });
            }
        }
    }
    Err(CreateError::Compacted)
}

fn examine(spooled: &Spooled, wanted: &BTreeSet<i64>) -> Result<Examined, FileError> {
    let file = SnapshotFile::open(spooled.file.path(), DigestCheck::Required)?;
    let tables = file.tables()?;
    let mut records = 0;
    let mut digests = BTreeMap::new();
    let mut current: (i64, Vec<Bytes>) = (0, Vec::new());
    let digest = |parts: &[Bytes]| sha256_of(parts.iter().map(Bytes::as_ref));
    let read = file.records(&mut |record| {
        records += 1;
        let revision = record.pair.main.0;
        if revision != current.0 {
            if wanted.contains(&current.0) {
                digests.insert(current.0, digest(&current.1));
            }
            current = (revision, Vec::new());
        }
        current.1.push(record.encoded);
        Ok(())
    })?;
    // What a compaction left behind may be older than it.
    let revision = read.last.max(tables.compacted().unwrap_or_default());
    let is_last = current.0 == revision.0;
    let last_records = is_last.then(|| digest(&current.1));
    if let Some(records) = last_records
        .clone()
        .filter(|_| wanted.contains(&revision.0))
    {
        digests.insert(revision.0, records);
    }
    Ok(Examined {
        tables,
        revision,
        records,
        last_records,
        digests,
        bumped: read.bumps > 0,
    })
}

/// Stores the chunks, in order, while the next ones are made.
async fn upload(
    store: &BackupStore,
    options: &CreateOptions,
    id: &BackupId,
    taken: &Taken,
    attempt: &str,
    progress: &dyn Progress,
) -> Result<Vec<ChunkEntry>, CreateError> {
    progress.begin("backup", Some(total_bytes(taken)));
    let (sender, mut receiver) = mpsc::channel(CHUNKS_WAITING);
    let path = taken.spooled.file.path().to_owned();
    let tables = taken.examined.tables.clone();
    let packing = tokio::task::spawn_blocking(move || pack(&path, &tables, &sender));
    let mut entries = Vec::new();
    while let Some(chunk) = receiver.recv().await {
        let entry = entry(attempt, &chunk);
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
