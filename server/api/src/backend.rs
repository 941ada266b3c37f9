//! What the edge needs of the core: one trait, so that the edge can be tested against a fake and
//! the core can change behind it.
//!
//! Owns the words of that border ([`Header`], [`ServeError`], [`StatusReport`], …). Must never name
//! a gRPC or protobuf type. Every future here ends in a bounded time (the core applies etcd's
//! request timeout) and may be dropped at any await: a proposal that was dropped may still happen.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::codec::Pages;
use crate::read::Answer;
use crate::state::{Auth, MemberRecord};
use crate::types::auth::{Identity, Secret};
use crate::types::request::{self, Op};
use crate::types::result::{self, Alarm, Applied, ApplyError, Kept, Outcome};
use crate::types::{ClusterId, LeaseId, MemberId, Revision};
use engram_watch::WatchStream;

/// What every answer's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// The store's revision now. The edge puts another one here where an answer has its own.
    pub revision: Revision,
    /// The Raft term.
    pub term: u64,
}

/// Why the core did not do what was asked. `api/error.rs` maps each to etcd's code and text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// Applying it was refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// There is no leader.
    #[error("no leader")]
    NoLeader,
    /// The leader changed while a read waited for its confirmation.
    #[error("leader changed")]
    LeaderChanged,
    /// The request timeout passed; a write's outcome is unknown.
    #[error("request timed out")]
    Timeout,
    /// As `Timeout`, and the leader was lost shortly before.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFail,
    /// As `Timeout`, and this member has no connection to a quorum.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// The member waited too long to apply what was confirmed.
    #[error("request timed out, waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    /// The member is shutting down.
    #[error("server stopped")]
    Stopped,
    /// Too much is committed and not yet applied.
    #[error("too many requests")]
    TooManyRequests,
    /// The request is larger than `--max-request-bytes`.
    #[error("request is too large")]
    RequestTooLarge,
    /// Too much is asked for at once: nothing was done.
    #[error("too much is asked for at once")]
    Overloaded,
    /// The answer would have so many bytes, more than a message can.
    #[error("the answer is too large: {0} bytes")]
    AnswerTooLarge(usize),
    /// The quota is reached (found when proposing; the alarm is being raised).
    #[error("database space exceeded")]
    NoSpace,
    /// Only the leader can do this.
    #[error("not leader")]
    NotLeader,
    /// A learner does not serve this.
    #[error("rpc not supported for learner")]
    NotSupportedForLearner,
    /// This member is no primary lessor (it stopped leading while it served a lease).
    #[error("not a primary lessor")]
    NotPrimaryLessor,
    /// The lease does not exist.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// This member can check tokens, and not make them.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    /// A member's release could not apply it.
    #[error("member {0} runs a release that does not know it")]
    OldMember(MemberId),
    /// This build cannot do it; the text says what.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Something broke that the caller can do nothing about (a snapshot's temporary file, …).
    #[error("{0}")]
    Internal(String),
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member.
    Add {
        /// Its id, new for ever.
        id: MemberId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// Whether it stays without a vote until it is promoted.
        learner: bool,
    },
    /// A member goes, for good.
    Remove {
        /// Which.
        id: MemberId,
    },
    /// A member is reached elsewhere.
    Update {
        /// Which.
        id: MemberId,
        /// Where.
        peer_urls: Vec<String>,
    },
    /// A learner gets its vote.
    Promote {
        /// Which.
        id: MemberId,
    },
}

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// The id is, or was, a member's.
    #[error("the id is taken")]
    Exists,
    /// Another member has that peer URL.
    #[error("the peer URL is another member's")]
    UrlExists,
    /// No such member.
    #[error("no such member")]
    NotFound,
    /// It votes already.
    #[error("not a learner")]
    NotLearner,
    /// It lacks too much of the log for a vote.
    #[error("the learner is not in sync with the leader")]
    LearnerNotReady,
    /// No more learners at a time.
    #[error("too many learners")]
    TooManyLearners,
    /// A member is down that the cluster would need.
    #[error("the cluster is not healthy")]
    Unhealthy,
    /// Too few have started.
    #[error("not enough started members")]
    NotEnoughStarted,
    /// Leadership cannot go there.
    #[error("leadership cannot go to that member")]
    BadTransferee,
    /// Only the leader can do this.
    #[error("not the leader")]
    NotLeader,
    /// It took too long; whether it happens is unknown.
    #[error("request timed out")]
    Timeout,
    /// The same, after a leader was lost.
    #[error("request timed out after a leader was lost")]
    TimeoutLeaderFail,
    /// The same, after a connection broke.
    #[error("request timed out after a connection was lost")]
    TimeoutConnectionLost,
    /// Handing leadership over took too long.
    #[error("leader transfer took too long")]
    TransferTimeout,
    /// The member is shutting down.
    #[error("server stopped")]
    Stopped,
    /// Consensus refuses it, which the checks before should have prevented.
    #[error("{0}")]
    Internal(String),
}

/// What a lease is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseUse {
    /// It is told of: whoever is told must be able to read its keys.
    Read,
    /// It is kept alive: whoever does must be able to write its keys.
    Write,
}

/// The answer of `LeaseTimeToLive`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseReport {
    /// Seconds left; -1 when there is no such lease.
    pub remaining_seconds: i64,
    /// Seconds granted; 0 when there is no such lease.
    pub granted_seconds: i64,
    /// The keys attached, ascending; empty unless they were asked for.
    pub keys: Vec<Bytes>,
}

/// What `Status` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusReport {
    /// The leader, where one is known.
    pub leader: Option<MemberId>,
    /// The Raft term.
    pub raft_term: u64,
    /// The committed index.
    pub raft_index: u64,
    /// The applied index.
    pub raft_applied_index: u64,
    /// Bytes the store takes; above 0 (etcdctl divides by it).
    pub db_size: i64,
    /// Bytes of what is readable.
    pub db_size_in_use: i64,
    /// The quota in force, bytes; -1 for none.
    pub db_size_quota: i64,
    /// Whether this member has no vote.
    pub learner: bool,
}

/// The answer of `HashKV`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    /// The store's revision, for the header.
    pub head: Revision,
    /// The hash.
    pub hash: u32,
    /// The compact revision it was taken at (-1 where never compacted, as etcd has it).
    pub compact_revision: Revision,
    /// The revision hashed up to.
    pub hash_revision: Revision,
}

/// Pieces of a snapshot as they are made.
pub type Pieces = mpsc::Receiver<Result<Bytes, ServeError>>;

/// A snapshot under way: a bbolt file in pieces.
#[derive(Debug)]
pub struct SnapshotSource {
    /// The file's length, bytes; the digest is not counted.
    pub total: u64,
    /// The file's pieces (32 KiB, the last one shorter), then one piece more: its SHA-256. A closed
    /// channel before the digest means that making it failed.
    pub pieces: Pieces,
}

/// A range read page by page, at one revision that stays readable as long as this lives.
pub trait RangeCursor: Send + 'static {
    /// The store's revision when the cursor was made, for the header.
    fn head(&self) -> Revision;

    /// The next key-values, at most `limit` (> 0). In the answer `more` says whether the range
    /// holds keys beyond these, and `count` how many it holds from the page's first key on. After
    /// an answer without `more` it is not called again.
    fn next_page(
        &mut self,
        limit: usize,
    ) -> impl Future<Output = Result<result::Range, ApplyError>> + Send;
}

/// The core, as the edge sees it.
pub trait Backend: Send + Sync + 'static {
    /// What [`Backend::range_cursor`] makes.
    type Cursor: RangeCursor;

    /// Ids, the store's revision and the term now. Cheap: called for every answer.
    fn header(&self) -> Header;

    /// Has `op` decided by Raft and applied. Quota, backlog and timeout are the core's.
    fn propose(&self, op: Op) -> impl Future<Output = Result<Outcome, ServeError>> + Send;

    /// Grants a lease: chooses an id where `id` is none, raises the time to live to the minimum,
    /// then as [`Backend::propose`].
    fn lease_grant(
        &self,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> impl Future<Output = Result<Outcome, ServeError>> + Send;

    /// Whether authentication is on. Cheap: called for every call.
    fn is_auth_enabled(&self) -> bool;

    /// Users and roles, as they are shown now.
    fn auth(&self) -> Arc<Auth>;

    /// Another number once what [`Backend::auth`] answers is another; streams of watches are polled
    /// then. Cheap: called for every poll.
    fn users_epoch(&self) -> u64;

    /// Whose token it is, at the auth revision that it says, else at `revision`. A simple one that this
    /// member has not heard of is waited for, if it may have been assigned before the call.
    fn holder(
        &self,
        token: &str,
        revision: u64,
    ) -> impl Future<Output = Result<Option<Identity>, ServeError>> + Send;

    /// A token that says by itself whose it is, at an auth revision; none where tokens are simple.
    fn sign_token(
        &self,
        user: &str,
        revision: u64,
    ) -> impl Future<Output = Result<Option<String>, ServeError>> + Send;

    /// A password's bcrypt hash.
    fn hash_password(
        &self,
        password: Secret,
    ) -> impl Future<Output = Result<Secret, ServeError>> + Send;

    /// Whether a password is that of a hash.
    fn check_password(
        &self,
        hash: Secret,
        password: Secret,
    ) -> impl Future<Output = Result<bool, ServeError>> + Send;

    /// Whether `by` may use leases, by the keys attached to them.
    fn check_leases(
        &self,
        by: &Identity,
        leases: Vec<LeaseId>,
        usage: LeaseUse,
    ) -> impl Future<Output = Result<(), ServeError>> + Send;

    /// Returns once everything that was acknowledged before the call is readable here.
    fn read_barrier(&self) -> impl Future<Output = Result<(), ServeError>> + Send;

    /// The same for the tables of members and alarms, which are told also where this member's data
    /// is known to be wrong: that is how an operator puts it right.
    fn table_barrier(&self) -> impl Future<Output = Result<(), ServeError>> + Send;

    /// Reads locally.
    fn range(
        &self,
        query: &request::Range,
    ) -> impl Future<Output = Result<Answer<result::Range>, ServeError>> + Send;

    /// Begins a paged local read. `query`'s limit is ignored; it has no filter, no `count_only`
    /// and is sorted by key, ascending.
    fn range_cursor(
        &self,
        query: request::Range,
    ) -> impl Future<Output = Result<Self::Cursor, ApplyError>> + Send;

    /// Runs a transaction that only reads, locally.
    fn read_txn(
        &self,
        txn: &request::Txn,
    ) -> impl Future<Output = Result<Answer<result::Txn>, ServeError>> + Send;

    /// Reads what applying an operation has left for later ([`Outcome::kept`]).
    fn complete(
        &self,
        applied: &mut Applied,
        kept: Kept,
    ) -> impl Future<Output = Result<Option<Pages>, ServeError>> + Send;

    /// Renews a lease; its time to live in seconds, 0 where there is no such lease.
    fn lease_keep_alive(&self, id: LeaseId)
    -> impl Future<Output = Result<i64, ServeError>> + Send;

    /// What a lease has left.
    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> impl Future<Output = Result<LeaseReport, ServeError>> + Send;

    /// Every lease, the soonest to expire first.
    fn leases(&self) -> impl Future<Output = Result<Vec<LeaseId>, ServeError>> + Send;

    /// A new watch stream.
    fn watch(&self) -> WatchStream;

    /// The members, ascending by id.
    fn members(&self) -> Vec<MemberRecord>;

    /// An id for a member with these peer URLs, unlike any before.
    fn choose_member_id(&self, peer_urls: &[String]) -> MemberId;

    /// Changes the members; who they are then.
    fn change_members(
        &self,
        change: MemberChange,
    ) -> impl Future<Output = Result<Vec<MemberRecord>, MemberError>> + Send;

    /// Hands leadership to a member; returns once it leads. Only the leader can.
    fn move_leader(&self, to: MemberId) -> impl Future<Output = Result<(), MemberError>> + Send;

    /// The alarms raised.
    fn alarms(&self) -> Vec<Alarm>;

    /// The leader, where one is known (none too where the leader has lost its quorum).
    fn leader(&self) -> Option<MemberId>;

    /// Resolves once nobody is known to lead: at once, where that is so now.
    fn leader_lost(&self) -> impl Future<Output = ()> + Send;

    /// Whether this member has no vote.
    fn is_learner(&self) -> bool;

    /// Whether this member's disk is short of room and another leads, which serves better.
    fn is_short_of_room(&self) -> bool;

    /// The cluster version ("3.7.0"), once decided.
    fn cluster_version(&self) -> Option<String>;

    /// The version ("3.6.0") that a downgrade under way is to.
    fn downgrade(&self) -> Option<String>;

    /// What `Status` tells.
    fn status(&self) -> StatusReport;

    /// Reclaims space; honest about what that means for the store.
    fn defragment(&self) -> impl Future<Output = Result<(), ServeError>> + Send;

    /// A hash of the whole store as it lies on disk, and the store's revision.
    fn hash(&self) -> impl Future<Output = Result<(Revision, u32), ServeError>> + Send;

    /// The hash of what is readable at `revision` (0: the latest).
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<HashKv, ServeError>> + Send;

    /// Returns once what the compaction at `revision` superseded is gone from the store.
    fn compacted_physically(
        &self,
        revision: Revision,
    ) -> impl Future<Output = Result<(), ServeError>> + Send;

    /// Begins a snapshot as backups take it: pieces of it (`engram.backup.v1.SnapshotPiece`), of which the
    /// last one says that it is.
    fn snapshot_records(&self) -> impl Future<Output = Result<Pieces, ServeError>> + Send;

    /// Begins a snapshot.
    fn snapshot(&self) -> impl Future<Output = Result<SnapshotSource, ServeError>> + Send;

    /// Resolves when a stream must end, with the reason: the member stops, or, for one that
    /// requires a leader, there has been none for three election timeouts. Pending otherwise.
    fn interrupted(&self, require_leader: bool) -> impl Future<Output = ServeError> + Send;

    /// A read took longer than `--warning-apply-duration`: to be counted with what was slow to apply.
    fn slow_read(&self);

    /// `/metrics`, in Prometheus' text format.
    fn metrics_text(&self) -> String;
}
