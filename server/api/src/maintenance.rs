//! Alarms, status, hashes, snapshots, and what an operator asks of one member.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use futures_util::{TryFutureExt as _, stream};
use http::HeaderMap;

use super::backend::{Backend, Pieces, ServeError, SnapshotSource};
use super::caller::Caller;
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, only_request};
use super::{Edge, decode};
use crate::codec::{Frame, proto};
use crate::config::{ETCD_VERSION, cluster_version};
use crate::types::request::{Alarm, AlarmType, Op};
use crate::types::result::{self, Applied};
use crate::types::{MemberId, version};

/// What `SnapshotResponse.version` says of a snapshot in records.
const RECORDS_VERSION: &str = "engram.backup.v1";

impl<B: Backend> Edge<B> {
    pub(super) async fn alarm(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let wanted: pb::AlarmRequest = decode(message)?;
        if wanted.action != 0 {
            self.check_admin(caller)?;
        }
        let kind = match wanted.alarm {
            1 => Some(AlarmType::NoSpace),
            2 => Some(AlarmType::Corrupt),
            _ => None,
        };
        // Who names nobody means the member that is asked.
        let member = match wanted.member_id {
            0 => self.backend().header().member,
            id => MemberId(id),
        };
        let changed = match (wanted.action, kind) {
            (0, _) => self.alarms_of(wanted.alarm, kind).await?,
            (1, Some(kind)) => {
                self.change_alarm(Alarm::Activate(member, kind), caller)
                    .await?
            }
            (2, Some(kind)) => {
                self.change_alarm(Alarm::Deactivate(member, kind), caller)
                    .await?
            }
            // As in etcd: nothing to raise, nothing to clear, nothing refused.
            _ => Vec::new(),
        };
        let response = pb::AlarmResponse {
            header: Some(self.header_message()),
            alarms: changed.into_iter().map(proto::alarm).collect(),
        };
        Ok(Frame::from(&response))
    }

    async fn alarms_of(
        &self,
        wanted: i32,
        kind: Option<AlarmType>,
    ) -> Result<Vec<result::Alarm>, Refusal> {
        self.backend().table_barrier().await?;
        let mut alarms = self.backend().alarms();
        alarms.retain(|alarm| wanted == 0 || Some(alarm.alarm) == kind);
        Ok(alarms)
    }

    async fn change_alarm(
        &self,
        alarm: Alarm,
        caller: &Caller,
    ) -> Result<Vec<result::Alarm>, Refusal> {
        let (_, applied) = self.propose(caller.asks(Op::Alarm(alarm))?).await?;
        let Applied::Alarm(changed) = applied else {
            unreachable!("an alarm answers as an alarm")
        };
        Ok(changed)
    }

    pub(super) fn status(&self, message: Bytes) -> Result<Frame, Refusal> {
        let pb::StatusRequest {} = decode(message)?;
        let report = self.backend().status();
        let downgrade = self.backend().downgrade();
        let mut errors = Vec::new();
        if report.leader.is_none() {
            errors.push("etcdserver: no leader".to_owned());
        }
        errors.extend(self.backend().alarms().iter().map(alarm_text));
        let response = pb::StatusResponse {
            header: Some(self.header_message()),
            version: ETCD_VERSION.to_owned(),
            db_size: report.db_size,
            leader: report.leader.map_or(0, |leader| leader.0),
            raft_index: report.raft_index,
            raft_term: report.raft_term,
            raft_applied_index: report.raft_applied_index,
            errors,
            db_size_in_use: report.db_size_in_use,
            is_learner: report.learner,
            storage_version: self.storage_version().unwrap_or_default(),
            db_size_quota: report.db_size_quota,
            downgrade_info: Some(pb::DowngradeInfo {
                enabled: downgrade.is_some(),
                target_version: downgrade.unwrap_or_default(),
            }),
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn defragment(&self, message: Bytes) -> Result<Frame, Refusal> {
        let pb::DefragmentRequest {} = decode(message)?;
        self.backend().defragment().await?;
        // etcd answers it without a header.
        Ok(Frame::from(&pb::DefragmentResponse::default()))
    }

    pub(super) async fn hash(&self, message: Bytes) -> Result<Frame, Refusal> {
        let pb::HashRequest {} = decode(message)?;
        let (revision, hash) = self.backend().hash().await?;
        let header = pb::ResponseHeader {
            revision: revision.0,
            ..self.header_message()
        };
        Ok(Frame::from(&pb::HashResponse {
            header: Some(header),
            hash,
        }))
    }

    pub(super) async fn hash_kv(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::HashKvRequest = decode(message)?;
        let hashed = self.backend().hash_kv(wanted.revision).await?;
        let header = pb::ResponseHeader {
            revision: hashed.head.0,
            ..self.header_message()
        };
        let response = pb::HashKvResponse {
            header: Some(header),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision.0,
            hash_revision: hashed.hash_revision.0,
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn move_leader(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MoveLeaderRequest = decode(message)?;
        let target = MemberId(wanted.target_id);
        let this = self.backend().header().member;
        if self.backend().leader() != Some(this) {
            return Err(Refusal::NOT_LEADER);
        }
        let members = self.backend().members();
        if !members
            .iter()
            .any(|member| member.id == target && !member.learner)
        {
            return Err(Refusal::BAD_LEADER_TRANSFEREE);
        }
        self.backend().move_leader(target).await?;
        Ok(Frame::from(&pb::MoveLeaderResponse::default()))
    }

    /// A downgrade is the cluster's version set to the one below, and so marked; etcd's leader sets it
    /// some seconds after, so what is answered is the version before.
    pub(super) async fn downgrade(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::DowngradeRequest = decode(message)?;
        if !matches!(wanted.action, 0..=2) {
            return Err(Refusal::UNKNOWN_METHOD);
        }
        if wanted.action != 2 {
            let target = major_minor(&wanted.version);
            self.check_downgrade(target.ok_or(Refusal::WRONG_DOWNGRADE_VERSION_FORMAT)?)
                .await?;
        }
        let (major, minor) = self.cluster_minor()?;
        match wanted.action {
            1 => {
                let target = format!("{major}.{}.0", minor.saturating_sub(1));
                self.set_version(version::downgraded(&target)).await?;
            }
            // Without one under way etcd answers a cancellation as done.
            2 if self.is_downgrading().await => self.set_version(cluster_version()).await?,
            _ => {}
        }
        let response = pb::DowngradeResponse {
            header: Some(self.header_message()),
            version: format!("{major}.{minor}"),
        };
        Ok(Frame::from(&response))
    }

    async fn set_version(&self, held: String) -> Result<(), Refusal> {
        self.propose(Op::SetClusterVersion(held)).await?;
        Ok(())
    }

    async fn is_downgrading(&self) -> bool {
        self.backend().read_barrier().await.is_ok() && self.backend().downgrade().is_some()
    }

    async fn check_downgrade(&self, target: (u64, u64)) -> Result<(), Refusal> {
        self.cluster_minor()?;
        self.backend().read_barrier().await?;
        let (major, minor) = self.cluster_minor()?;
        if minor.checked_sub(1).map(|below| (major, below)) != Some(target) {
            return Err(Refusal::INVALID_DOWNGRADE_TARGET);
        }
        match self.backend().downgrade() {
            Some(_) => Err(Refusal::DOWNGRADE_IN_PROCESS),
            None => Ok(()),
        }
    }

    fn cluster_minor(&self) -> Result<(u64, u64), Refusal> {
        let version = self.backend().cluster_version();
        let version = version.as_deref().and_then(major_minor);
        version.ok_or(Refusal::CLUSTER_VERSION_UNAVAILABLE)
    }

    /// The version of the schema that a snapshot is in ("3.7.0"), once the cluster has decided one.
    pub(super) fn storage_version(&self) -> Option<String> {
        self.backend().cluster_version()
    }

    /// The snapshot as backups take it. How much is left is not known.
    pub(super) fn snapshot_records(self, mut requests: Requests) -> Answers {
        let opening = async move {
            let pb::SnapshotRequest {} = only_request(&mut requests).await?;
            Ok::<_, Refusal>(self.backend().snapshot_records().await?)
        };
        let pieces = opening.map_ok(|receiver| {
            stream::unfold(receiver, |mut receiver: Pieces| async move {
                let piece = receiver.recv().await?.map_err(Refusal::from);
                let frame = piece.map(|blob| {
                    Outgoing::Frame(Frame::of_snapshot(&pb::SnapshotResponse {
                        header: None,
                        remaining_bytes: 1,
                        blob,
                        version: RECORDS_VERSION.to_owned(),
                    }))
                });
                Some((frame, receiver))
            })
        });
        Box::pin(pieces.try_flatten_stream())
    }

    /// The snapshot's pieces, each with what is left; the digest comes last.
    pub(super) fn snapshot(self, mut requests: Requests) -> Answers {
        let version = self.storage_version().unwrap_or_default();
        let opening = async move {
            let pb::SnapshotRequest {} = only_request(&mut requests).await?;
            Ok::<_, Refusal>(self.backend().snapshot().await?)
        };
        let start = Sending::Opening(Box::pin(opening));
        Box::pin(stream::unfold(
            (start, version),
            |(sending, version)| async move {
                let (answer, next) = sending.next(&version).await?;
                Some((answer.map(Outgoing::Frame), (next, version)))
            },
        ))
    }
}

/// Whether a snapshot is asked for as backups take it. Who does not know the question answers with etcd's file, and
/// says so.
pub(super) fn wants_records(headers: &HeaderMap) -> bool {
    headers
        .get("engram-snapshot")
        .is_some_and(|form| form == "records")
}

/// As Go's prototext has it.
fn alarm_text(alarm: &result::Alarm) -> String {
    format!("memberID:{} alarm:{}", alarm.member.0, alarm.alarm.name())
}

/// Major and minor of a version, of which the patch may be missing ("3.6"). With a patch it may name a
/// release before its own, and a build ("3.6.0-rc.1+a"), as to etcd.
fn major_minor(version: &str) -> Option<(u64, u64)> {
    let (numbered, suffix) = match version.find(['-', '+']) {
        Some(at) => version.split_at(at),
        None => (version, ""),
    };
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte);
    if suffix.len() == 1 || !suffix.bytes().all(is_named) {
        return None;
    }
    let numbers: Option<Vec<u64>> = numbered
        .split('.')
        .map(|part| {
            let plain = part == "0" || !part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            (plain && digits).then(|| part.parse().ok()).flatten()
        })
        .collect();
    match numbers?.as_slice() {
        [major, minor] if suffix.is_empty() => Some((*major, *minor)),
        [major, minor, _] => Some((*major, *minor)),
        _ => None,
    }
}

type Opening =
    std::pin::Pin<Box<dyn Future<Output = Result<SnapshotSource, Refusal>> + Send + 'static>>;

/// How far a snapshot is.
enum Sending {
    Opening(Opening),
    /// The source, and the file's bytes not sent yet.
    Pieces(SnapshotSource, u64),
    Digest(SnapshotSource),
    Done,
}

impl Sending {
    async fn next(self, version: &str) -> Option<(Result<Frame, Refusal>, Sending)> {
        let (mut source, left, digest) = match self {
            Sending::Opening(opening) => match opening.await {
                Ok(source) => {
                    let total = source.total;
                    (source, total, total == 0)
                }
                Err(refusal) => return Some((Err(refusal), Sending::Done)),
            },
            Sending::Pieces(source, left) => (source, left, false),
            Sending::Digest(source) => (source, 0, true),
            Sending::Done => return None,
        };
        let piece = match source.pieces.recv().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Some((Err(ServeError::into(error)), Sending::Done)),
            None => return Some((Err(Refusal::SNAPSHOT_BROKEN), Sending::Done)),
        };
        let len = if digest { 0 } else { piece.len() as u64 };
        let remaining_bytes = left
            .checked_sub(len)
            .expect("the pieces are as long as announced");
        let message = pb::SnapshotResponse {
            header: None,
            remaining_bytes,
            blob: piece,
            version: version.to_owned(),
        };
        let next = match (digest, remaining_bytes) {
            (true, _) => Sending::Done,
            (false, 0) => Sending::Digest(source),
            (false, left) => Sending::Pieces(source, left),
        };
        Some((Ok(Frame::of_snapshot(&message)), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_their_patch() {
        assert_eq!(major_minor("3.6"), Some((3, 6)));
        assert_eq!(major_minor("3.7.0"), Some((3, 7)));
        assert_eq!(major_minor("3.6.0-alpha"), Some((3, 6)));
        assert_eq!(major_minor("3.6.0-rc.1+a"), Some((3, 6)));
        for wrong in [
            "x", "", "3", "3.", "3.06", "3.6.0.1", "-3.6", "3.+6", "3.6-a", "3.6.0-", "3.6.0- a",
        ] {
            assert_eq!(major_minor(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_alarm_reads_as_in_etcds_status() {
        let alarm = result::Alarm {
            member: MemberId(7),
            alarm: AlarmType::NoSpace,
        };
        assert_eq!(alarm_text(&alarm), "memberID:7 alarm:NOSPACE");
    }
}
