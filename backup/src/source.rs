//! The member a backup is taken from, by etcd's own API: `Maintenance.Snapshot` is the one answer
//! that holds every revision since the last compaction, with leases, users, roles and members.
//!
//! A member of Engram's streams its records as they are, with what they hash to ([`records`]). Who answers with
//! etcd's file has it written to a file here first, since etcd's tree is not in the order it is read in, and since
//! nothing may be trusted before its digest has come.

use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use engram_proto::backup::{SnapshotHead, SnapshotPiece};
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use engram_proto::etcdserverpb::{
    AlarmRequest, AlarmType, HashKvRequest, MemberListRequest, RangeRequest, SnapshotRequest,
    SnapshotResponse, StatusRequest,
};
use prost::Message as _;
use tempfile::NamedTempFile;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};

use crate::Progress;
use crate::channel::Channel;

/// Bytes of one message that are taken: a member sends 32 KiB at a time.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What a member says of a snapshot in records.
const RECORDS_VERSION: &str = "engram.backup.v1";

/// Why a member gives no backup.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It answered so.
    #[error("{what}: {}", .source.message())]
    Member {
        /// What it was asked.
        what: &'static str,
        /// What it said.
        source: Status,
    },
    /// What came is not what was sent.
    #[error("the snapshot stream is damaged ({0}): take it again")]
    Damaged(&'static str),
    /// The records ended before their end.
    #[error("the snapshot stream ended early: take it again")]
    Endless,
    /// The stream ended before the file.
    #[error("the snapshot stream ended {0} bytes early: take it again")]
    Short(u64),
    /// The file cannot be written.
    #[error("the snapshot cannot be written to {place}: {source}")]
    Spool {
        /// Where.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its cluster's id.
    pub cluster_id: u64,
    /// Its id.
    pub member_id: u64,
    /// Its version.
    pub version: String,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// What a member hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberHash {
    /// HashKV.
    pub hash: u32,
    /// The compact revision it was taken at; -1 if there is none.
    pub compact_revision: i64,
}

/// A snapshot in a file.
#[derive(Debug)]
pub struct Spooled {
    /// The file, digest included; removed when this is dropped.
    pub file: NamedTempFile,
    /// The version of etcd's schema it is in.
    pub version: String,
}

/// Asks a member who it is.
///
/// # Errors
/// It does not answer.
pub async fn status(channel: &Channel) -> Result<MemberStatus, SourceError> {
    let mut client = maintenance(channel);
    let answer = client.status(StatusRequest {}).await;
    let status = answer.map_err(failed("status"))?.into_inner();
    let header = status.header.unwrap_or_default();
    Ok(MemberStatus {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        version: status.version,
        is_leader: status.leader == header.member_id,
        is_learner: status.is_learner,
    })
}

/// The members whose data is known to differ from the others': a CORRUPT alarm names them.
///
/// # Errors
/// It does not answer.
pub async fn corrupt(channel: &Channel) -> Result<Vec<u64>, SourceError> {
    let answer = maintenance(channel).alarm(AlarmRequest::default()).await;
    let alarms = answer.map_err(failed("the alarms"))?.into_inner().alarms;
    let corrupt = alarms
        .iter()
        .filter(|alarm| alarm.alarm == i32::from(AlarmType::Corrupt));
    Ok(corrupt.map(|alarm| alarm.member_id).collect())
}

/// The ids of the members with a vote.
///
/// # Errors
/// It does not answer.
pub async fn voters(channel: &Channel) -> Result<Vec<u64>, SourceError> {
    let mut client = ClusterClient::new(channel.clone());
    let request = MemberListRequest { linearizable: true };
    let answer = client.member_list(request).await;
    let members = answer.map_err(failed("the members"))?.into_inner().members;
    let voters = members.iter().filter(|member| !member.is_learner);
    Ok(voters.map(|member| member.id).collect())
}

/// Waits until the member has applied everything that was acknowledged by now: a backup taken from
/// it then lacks nothing that was written before.
///
/// # Errors
/// It does not answer, or has no quorum to ask.
pub async fn catch_up(channel: &Channel) -> Result<(), SourceError> {
    let request = RangeRequest {
        key: vec![0].into(),
        limit: 1,
        keys_only: true,
        ..RangeRequest::default()
    };
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = client.range(request).await;
    answer
        .map(drop)
        .map_err(failed("a read at the latest revision"))
}

/// A member's records, as they come.
#[derive(Debug)]
pub struct Records {
    /// What holds of all of them.
    pub head: SnapshotHead,
    pieces: Streaming<SnapshotResponse>,
}

/// Asks a member for its records as they are; none from one that answers with etcd's file.
///
/// # Errors
/// The member fails.
pub async fn records(channel: &Channel) -> Result<Option<Records>, SourceError> {
    let mut request = Request::new(SnapshotRequest {});
    let asked = MetadataValue::from_static("records");
    request.metadata_mut().insert("engram-snapshot", asked);
    let answer = maintenance(channel).snapshot(request).await;
    let mut pieces = answer.map_err(failed("snapshot"))?.into_inner();
    let first = pieces.message().await.map_err(failed("snapshot"))?;
    let Some(first) = first.filter(|first| first.version == RECORDS_VERSION) else {
        return Ok(None);
    };
    let piece = SnapshotPiece::decode(first.blob).map_err(|_| SourceError::Damaged("its head"))?;
    let head = piece.head.ok_or(SourceError::Damaged("its head"))?;
    Ok(Some(Records { head, pieces }))
}

impl Records {
    /// Their revision, and that of the last compaction, -1 before the first: what a hash of the same is asked by.
    pub fn moment(&self) -> (i64, i64) {
        let SnapshotHead {
            revision,
            compact_scheduled,
            compact_finished,
            ..
        } = &self.head;
        (*revision, *compact_scheduled.max(compact_finished))
    }

    /// The next piece; none after the last one.
    ///
    /// # Errors
    /// The member fails.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let piece = self.pieces.message().await.map_err(failed("snapshot"))?;
        Ok(piece.map(|piece| piece.blob))
    }
}

/// Writes a member's snapshot to a file in `dir`, with the digest at its end. The digest is not
/// checked here.
///
/// # Errors
/// The member or the disk fails.
pub async fn spool(
    channel: &Channel,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<Spooled, SourceError> {
    let unwritten = |source| SourceError::Spool {
        place: dir.display().to_string(),
        source,
    };
    let mut file = NamedTempFile::with_prefix_in("engram-snapshot-", dir).map_err(unwritten)?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(unwritten);
    let version = stream(channel, progress, &mut write).await?;
    file.flush().map_err(unwritten)?;
    Ok(Spooled { file, version })
}

/// Hands a member's snapshot to `take`, piece by piece; returns the version of its schema.
///
/// # Errors
/// The member fails, ends early, or `take` fails.
pub async fn stream(
    channel: &Channel,
    progress: &dyn Progress,
    take: &mut (dyn FnMut(&[u8]) -> Result<(), SourceError> + Send),
) -> Result<String, SourceError> {
    let mut client = maintenance(channel);
    let answer = client.snapshot(SnapshotRequest {}).await;
    let mut pieces = answer.map_err(failed("snapshot"))?.into_inner();
    let mut version = String::new();
    let mut remaining = None;
    while let Some(piece) = pieces.message().await.map_err(failed("snapshot"))? {
        if remaining.is_none() {
            let total = piece.remaining_bytes + u64::try_from(piece.blob.len()).unwrap_or(0);
            progress.begin("snapshot", Some(total));
            version = piece.version;
        }
        take(&piece.blob)?;
        progress.advance(u64::try_from(piece.blob.len()).unwrap_or(0));
        remaining = Some(piece.remaining_bytes);
    }
    match remaining {
        Some(0) => Ok(version),
        other => Err(SourceError::Short(other.unwrap_or_default())),
    }
}

/// HashKV of a member at a revision, of a store that is compacted to `compacted` (-1: not at all); none if it
/// is compacted further by now.
///
/// Of the very revision of a compaction, members keep what it hashed to before (as in etcd). Where nothing
/// was written since, what is there now is what the latest revision hashes to.
///
/// # Errors
/// It does not answer.
pub async fn hash_kv(
    channel: &Channel,
    revision: i64,
    compacted: i64,
) -> Result<Option<MemberHash>, SourceError> {
    let is_latest = revision == compacted;
    let asked = if is_latest { 0 } else { revision };
    let request = HashKvRequest { revision: asked };
    match maintenance(channel).hash_kv(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            // Members before 3.6 do not say which revision they hashed.
            let at = match answer.hash_revision {
                0 => answer.header.unwrap_or_default().revision,
                at => at,
            };
            if is_latest && at != revision {
                return Ok(None);
            }
            Ok(Some(MemberHash {
                hash: answer.hash,
                compact_revision: answer.compact_revision,
            }))
        }
        // Every revision it can have been asked for is there or was compacted away.
        Err(status) if status.code() == Code::OutOfRange => Ok(None),
        Err(status) => Err(failed("hashkv")(status)),
    }
}

fn maintenance(channel: &Channel) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

fn failed(what: &'static str) -> impl Fn(Status) -> SourceError {
    move |source| SourceError::Member { what, source }
}
