//! What this member does for its peers: each request handed to the room that does it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use prost::Message;

use crate::api::backend::{MemberChange, MemberError};
use crate::codec::entry::APPLY_VERSION;
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::node::barrier::Barrier;
use crate::node::drift;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::Lessor;
use crate::node::membership::Membership;
use crate::node::reads;
use crate::node::renew::renewed;
use crate::peer::message::{
    self, AppendRequest, AppendResponse, ChangeMembersRequest, HashKvResponse,
    LeaseTimeToLiveResponse, Member, MembersResponse, PromisedResponse, SnapshotAnswer,
    SnapshotPart, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use crate::peer::{CallError, Declined, Local, PeerHandler};
use crate::raft::Consensus;
use crate::state::MemberRecord;
use crate::store::Store;
use crate::types::request::MemberAttributes;
use crate::types::result::ApplyError;
use crate::types::{LeaseId, MemberId, Revision};

/// See the module.
pub struct PeerService {
    pub local: Local,
    pub consensus: Consensus,
    pub store: Arc<Store>,
    pub leadership: Arc<LeadershipCell>,
    pub lessor: Arc<Lessor>,
    pub barrier: Barrier,
    pub membership: Membership,
    pub metrics: Arc<Metrics>,
    /// Where a snapshot is received.
    pub incoming: PathBuf,
}

impl PeerService {
    /// Leases' deadlines are the leader's, and whoever answers for them must still lead: the term
    /// in which that was confirmed after the call.
    async fn require_lead(&self) -> Result<u64, Declined> {
        if is_planted("lease-unconfirmed") {
            return self.lessor.term().ok_or(Declined::NotLeader);
        }
        if !self.leadership.leads() {
            return Err(Declined::NotLeader);
        }
        let passed = self.barrier.pass_leading().await;
        passed
            .map_err(|_| Declined::TimedOut)?
            .ok_or(Declined::NotLeader)
    }
}

impl PeerHandler for PeerService {
    fn append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, AppendResponse> {
        let metrics = self.metrics.clone();
        let mut received = None;
        let counted = requests.inspect(move |request| {
            let count = received.get_or_insert_with(|| {
                let leader = request.vote.as_ref().map_or(0, |vote| vote.node);
                metrics.network.received_bytes(MemberId(leader))
            });
            count.inc_by(request.encoded_len() as u64);
        });
        self.consensus.serve_append(counted.boxed())
    }

    fn promised(&self) -> PromisedResponse {
        self.consensus.serve_promised()
    }

    async fn vote(&self, request: VoteRequest) -> Result<VoteResponse, Declined> {
        self.consensus.serve_vote(request).await
    }

    async fn install_snapshot(
        &self,
        parts: BoxStream<'static, Result<SnapshotPart, CallError>>,
    ) -> Result<SnapshotAnswer, Declined> {
        self.consensus.serve_snapshot(parts, &self.incoming).await
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> Result<TransferLeaderResponse, Declined> {
        self.consensus.serve_transfer_leader(request).await
    }

    async fn propose(&self, batch: Bytes) -> Result<(), Declined> {
        self.consensus.serve_propose(batch).await
    }

    async fn read_index(&self) -> Result<u64, Declined> {
        self.consensus.read_index().await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64, Declined> {
        if !is_planted("lease-unconfirmed") && !self.leadership.leads() {
            return Err(Declined::NotLeader);
        }
        let renewed = renewed(&self.lessor, &self.barrier, &self.consensus, id).await;
        renewed.ok_or(Declined::NotLeader)
    }

    async fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Declined> {
        let term = self.require_lead().await?;
        let (store, lessor) = (self.store.clone(), self.lessor.clone());
        let read = move || reads::lease_report(&store, &lessor, term, id, keys);
        let report = crate::threads::spawn_blocking(read).await;
        let report = report.map_err(|_| Declined::Stopped)?;
        let report = report.ok_or(Declined::NotLeader)?;
        Ok(LeaseTimeToLiveResponse {
            ttl: report.remaining_seconds,
            granted_ttl: report.granted_seconds,
            keys: report.keys,
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Declined> {
        let term = self.require_lead().await?;
        self.lessor.by_expiry(term).ok_or(Declined::NotLeader)
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HashKvResponse, Declined> {
        let store = self.store.clone();
        let hashed =
            crate::threads::spawn_blocking(move || reads::hash_kv_now(&store, revision.0)).await;
        let hashed = hashed.map_err(|_| Declined::Stopped)?;
        let hash = hashed.map_err(|error| match error {
            ApplyError::FutureRevision => Declined::FutureRevision,
            _ => Declined::Compacted,
        })?;
        Ok(HashKvResponse {
            hash: hash.hash,
            revision: hash.hash_revision.0,
            compact_revision: hash.compact_revision.0,
        })
    }

    fn members(&self) -> MembersResponse {
        let cluster = self.store.cluster();
        MembersResponse {
            cluster: self.local.cluster.0,
            answered_by: self.local.member.0,
            leader: self.leadership.leader().map_or(0, |leader| leader.0),
            members: cluster.members.iter().map(to_message).collect(),
            removed: cluster.members.removed().map(|id| id.0).collect(),
            unix_ms: drift::unix_ms(),
            apply_version: APPLY_VERSION,
        }
    }

    async fn change_members(&self, change: ChangeMembersRequest) -> Result<Vec<Member>, Declined> {
        let change = read_change(change).ok_or(Declined::Invalid)?;
        let changed = self.membership.change(&self.consensus, change).await;
        let members = changed.map_err(|error| declined(&error))?;
        Ok(members.iter().map(to_message).collect())
    }

    async fn move_leader(&self, to: MemberId) -> Result<(), Declined> {
        self.consensus.serve_move_leader(to).await
    }

    fn versions(&self) -> (Option<String>, Option<String>) {
        let version = self.store.cluster().version.clone();
        (version.clone(), version)
    }

    fn is_downgrading(&self) -> bool {
        self.store.cluster().downgrade.is_some()
    }
}

fn to_message(member: &MemberRecord) -> Member {
    Member {
        id: member.id.0,
        name: member.attributes.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.attributes.client_urls.clone(),
        learner: member.learner,
        incarnation: member.incarnation,
        apply_version: member.attributes.apply_version,
    }
}

/// A member as another member tells of it.
pub fn from_message(member: Member) -> MemberRecord {
    MemberRecord {
        id: MemberId(member.id),
        incarnation: member.incarnation,
        peer_urls: member.peer_urls,
        learner: member.learner,
        attributes: MemberAttributes {
            name: member.name,
            client_urls: member.client_urls,
            apply_version: member.apply_version,
        },
    }
}

/// A change as it is asked of the leader.
pub fn change_message(change: MemberChange) -> ChangeMembersRequest {
    use message::change_members_request::Change;
    let change = match change {
        MemberChange::Add {
            id,
            peer_urls,
            learner,
        } => Change::Add(message::AddMember {
            id: id.0,
            peer_urls,
            learner,
        }),
        MemberChange::Remove { id } => Change::Remove(message::RemoveMember { id: id.0 }),
        MemberChange::Update { id, peer_urls } => Change::Update(message::UpdateMember {
            id: id.0,
            peer_urls,
        }),
        MemberChange::Promote { id } => Change::Promote(message::PromoteMember { id: id.0 }),
    };
    ChangeMembersRequest {
        change: Some(change),
    }
}

fn read_change(request: ChangeMembersRequest) -> Option<MemberChange> {
    use message::change_members_request::Change;
    Some(match request.change? {
        Change::Add(add) => MemberChange::Add {
            id: MemberId(add.id),
            peer_urls: add.peer_urls,
            learner: add.learner,
        },
        Change::Remove(remove) => MemberChange::Remove {
            id: MemberId(remove.id),
        },
        Change::Update(update) => MemberChange::Update {
            id: MemberId(update.id),
            peer_urls: update.peer_urls,
        },
        Change::Promote(promote) => MemberChange::Promote {
            id: MemberId(promote.id),
        },
    })
}

fn declined(error: &MemberError) -> Declined {
    match error {
        MemberError::Exists => Declined::MemberExists,
        MemberError::UrlExists => Declined::PeerUrlExists,
        MemberError::NotFound => Declined::MemberNotFound,
        MemberError::NotLearner => Declined::MemberNotLearner,
        MemberError::LearnerNotReady => Declined::LearnerNotReady,
        MemberError::TooManyLearners => Declined::TooManyLearners,
        MemberError::Unhealthy => Declined::Unhealthy,
        MemberError::NotEnoughStarted => Declined::NotEnoughStarted,
        MemberError::BadTransferee => Declined::BadTransferee,
        MemberError::NotLeader => Declined::NotLeader,
        MemberError::Timeout
        | MemberError::TimeoutLeaderFail
        | MemberError::TimeoutConnectionLost
        | MemberError::TransferTimeout => Declined::TimedOut,
        MemberError::Stopped => Declined::Stopped,
        MemberError::Internal(_) => Declined::Invalid,
    }
}

/// What the leader's answer to a forwarded change means.
pub fn member_error(error: CallError) -> MemberError {
    let CallError::Declined(declined) = error else {
        return MemberError::Timeout;
    };
    match declined {
        Declined::MemberExists => MemberError::Exists,
        Declined::PeerUrlExists => MemberError::UrlExists,
        Declined::MemberNotFound => MemberError::NotFound,
        Declined::MemberNotLearner => MemberError::NotLearner,
        Declined::LearnerNotReady => MemberError::LearnerNotReady,
        Declined::TooManyLearners => MemberError::TooManyLearners,
        Declined::Unhealthy => MemberError::Unhealthy,
        Declined::NotEnoughStarted => MemberError::NotEnoughStarted,
        Declined::BadTransferee => MemberError::BadTransferee,
        Declined::Invalid => MemberError::Internal("the leader refused the change".into()),
        _ => MemberError::Timeout,
    }
}
