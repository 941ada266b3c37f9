//! The core as the edge sees it: each call handed to the room that does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::backend::{
    Backend, HashKv, Header, LeaseReport, LeaseUse, MemberChange, MemberError, Pieces, ServeError,
    SnapshotSource, StatusReport,
};
use crate::auth::{Busy, Jwt, Passwords, Tokens, VerifyOnly};
use crate::budget::{Budget, Charge};
use crate::codec::Pages;
use crate::home::Homes;
use crate::metrics::Metrics;
use crate::node::barrier::Barrier;
use crate::node::door::Door;
use crate::node::fence::Fence;
use crate::node::late::Lateness;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::Lessor;
use crate::node::membership::{Membership, unmade};
use crate::node::pages::PagedRange;
use crate::node::peers::PeerCalls;
use crate::node::renew::{renewed, renewed_alone};
use crate::node::sink::WatchHome;
use crate::node::{defragment, member_id, read_index, reads, users};
use crate::propose::{ProposeError, Proposer};
use crate::raft::{ApplyStats, LogStore};
use crate::read::{Answer, ReadError, Reader};
use crate::snapshot::{self, SnapshotError};
use crate::state::{Auth, MemberRecord};
use crate::store::Store;
use crate::types::auth::{Identity, Secret};
use crate::types::request::{self, LeaseGrant, Op};
use crate::types::result::{self, Alarm, Applied, ApplyError, Kept, Outcome};
use crate::types::{ClusterId, LeaseId, MemberId, Revision};
use crate::watch::{Hub, WatchStream};

/// Pieces of a snapshot made ahead of the client: 32 KiB each.
const SNAPSHOT_PIECES_AHEAD: usize = 32;
/// The same of one in records: a quarter of a MiB each, and more where one record has more.
const RECORDS_PIECES_AHEAD: usize = 4;
/// Snapshots that are written for clients at once: each keeps a thread and a view of the store.
const SNAPSHOTS_MAX: u32 = 2;
/// Those that wait for one to end, and for how long.
const SNAPSHOTS_WAITING_MAX: usize = 16;
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take none of a snapshot before it is broken off.
const SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(30);
/// How often a wait for physical compaction looks again.
const COMPACTION_POLL: Duration = Duration::from_millis(2);

/// What the edge is given.
pub struct Core {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// This member's id.
    pub member: MemberId,
    /// The applied state.
    pub store: Arc<Store>,
    /// Reads of it.
    pub reader: Reader,
    /// Snapshots under way ([`snapshot_seats`]).
    pub snapshots: Budget,
    /// The way to change it.
    pub proposer: Proposer,
    /// The Raft thread's door.
    pub door: Door,
    /// Where linearizable reads wait.
    pub barrier: Barrier,
    /// Closed where this member's data is known to be wrong.
    pub fence: Arc<Fence>,
    /// Changes of the membership.
    pub membership: Membership,
    /// How long a request may take, and a forwarded one.
    pub request_timeout: Duration,
    /// A stream that requires a leader ends when none has led for so long.
    pub leaderless_max: Duration,
    /// Who leads, kept up to date by the Raft thread.
    pub leadership: Arc<LeadershipCell>,
    /// Leases' deadlines.
    pub lessor: Arc<Lessor>,
    /// The watch hub.
    pub hub: Arc<Hub>,
    /// The connection threads' inboxes.
    pub homes: Homes,
    /// The log.
    pub log: LogStore,
    /// What the apply thread counts.
    pub apply_stats: Arc<ApplyStats>,
    /// The least time to live of a lease, seconds.
    pub lease_ttl_min_seconds: i64,
    /// Tells why something timed out.
    pub lateness: Lateness,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Whose token is whose.
    pub tokens: Arc<Tokens>,
    /// What tokens are instead, where they tell it themselves.
    pub jwt: Option<Arc<Jwt>>,
    /// bcrypt.
    pub passwords: Passwords,
    /// Turns true when the member stops.
    pub stopping: watch::Receiver<bool>,
    /// The next id to try for a lease whose grantor chose none.
    pub next_lease_id: AtomicU64,
}

/// Why a proposal came to nothing, in the edge's words.
fn unproposed(error: ProposeError) -> ServeError {
    match error {
        ProposeError::TooManyRequests => ServeError::TooManyRequests,
        ProposeError::NoSpace => ServeError::NoSpace,
        ProposeError::Stopped => ServeError::Stopped,
        ProposeError::Timeout => ServeError::Timeout,
        ProposeError::LeaderLost => ServeError::TimeoutLeaderFail,
        ProposeError::ConnectionLost => ServeError::TimeoutConnectionLost,
        ProposeError::NotLeader => ServeError::LeaderChanged,
    }
}

/// The same of a read.
fn unread(error: ReadError) -> ServeError {
    match error {
        ReadError::Apply(error) => ServeError::Apply(error),
        ReadError::Exhausted(_) => ServeError::Overloaded,
        ReadError::TooLarge(bytes) => ServeError::AnswerTooLarge(bytes),
    }
}

/// The seats of those who are sent a snapshot.
pub fn snapshot_seats() -> Budget {
    Budget::of_seats(SNAPSHOTS_MAX, SNAPSHOTS_WAITING_MAX, SNAPSHOT_PATIENCE)
}

/// Runs blocking work away from the connection threads.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, ServeError> {
    let task = crate::threads::spawn_blocking(work);
    task.await
        .map_err(|error| ServeError::Internal(format!("a read panicked: {error}")))
}

impl Core {
    /// A positive id that no lease has: from the clock at start, counted up, so that ids of two
    /// runs do not meet; a grant of one that exists fails and is asked for again by the client.
    fn choose_lease_id(&self) -> LeaseId {
        let id = self.next_lease_id.fetch_add(1, Ordering::Relaxed);
        LeaseId((id & (u64::MAX >> 1)).max(1).cast_signed())
    }
}

impl Backend for Core {
    type Cursor = PagedRange;

    fn header(&self) -> Header {
        Header {
            cluster: self.cluster,
            member: self.member,
            revision: self.store.revision(),
            term: self.leadership.term(),
        }
    }

    async fn propose(&self, op: Op) -> Result<Outcome, ServeError> {
        if !matches!(op.bare(), Op::Alarm(_)) {
            self.fence.pass()?;
        }
        if op.needs_users() {
            Box::pin(users::require(self)).await?;
        }
        let frees = matches!(op.bare(), Op::Alarm(_));
        let outcome = self.proposer.propose(op).await.map_err(unproposed)?;
        if frees {
            self.measure();
        }
        Ok(outcome)
    }

    async fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<Outcome, ServeError> {
        let id = if id == LeaseId::NONE {
            self.choose_lease_id()
        } else {
            id
        };
        let ttl_seconds = ttl_seconds.max(self.lease_ttl_min_seconds);
        self.propose(Op::LeaseGrant(LeaseGrant { id, ttl_seconds }))
            .await
    }

    fn is_auth_enabled(&self) -> bool {
        self.store.is_auth_enabled()
    }

    fn auth(&self) -> Arc<Auth> {
        self.store.cluster().auth.clone()
    }

    fn users_epoch(&self) -> u64 {
        self.store.users_epoch()
    }

    async fn holder(&self, token: &str, revision: u64) -> Result<Option<Identity>, ServeError> {
        if let Some(jwt) = &self.jwt {
            return Ok(jwt.holder(token, unix_seconds()));
        }
        let known = |user: Arc<str>| Identity {
            user: user.as_ref().to_owned(),
            revision,
        };
        if let Some(user) = self.tokens.user(token) {
            return Ok(Some(known(user)));
        }
        let Some(index) = Tokens::index(token) else {
            return Ok(None);
        };
        if index > self.store.applied_index() {
            self.table_barrier().await?;
        }
        Ok(self.tokens.user(token).map(known))
    }

    async fn sign_token(&self, user: &str, revision: u64) -> Result<Option<String>, ServeError> {
        let Some(jwt) = self.jwt.clone() else {
            return Ok(None);
        };
        let user = user.to_owned();
        // A signature takes a millisecond or two.
        let signed = blocking(move || jwt.issue(&user, revision, unix_seconds())).await?;
        match signed {
            Ok(token) => Ok(Some(token)),
            Err(VerifyOnly) => Err(ServeError::VerifyOnly),
        }
    }

    async fn hash_password(&self, password: Secret) -> Result<Secret, ServeError> {
        let hashed = self.passwords.hash(password).await;
        hashed.map_err(|Busy| ServeError::Overloaded)
    }

    async fn check_password(&self, hash: Secret, password: Secret) -> Result<bool, ServeError> {
        let checked = self.passwords.matches(hash, password).await;
        checked.map_err(|Busy| ServeError::Overloaded)
    }

    async fn check_leases(
        &self,
        by: &Identity,
        leases: Vec<LeaseId>,
        usage: LeaseUse,
    ) -> Result<(), ServeError> {
        if self.auth().check_admin(by).is_ok() {
            return Ok(());
        }
        let (store, by) = (self.store.clone(), by.clone());
        let checked = blocking(move || reads::check_leases(&store, &by, &leases, usage)).await?;
        checked.map_err(|error| ServeError::Apply(error.into()))
    }

    async fn read_barrier(&self) -> Result<(), ServeError> {
        self.fence.pass()?;
        self.table_barrier().await
    }

    async fn table_barrier(&self) -> Result<(), ServeError> {
        if self.leadership.answers_alone() {
            // What is acknowledged is applied here, and there is nobody else who could acknowledge anything.
            return Ok(());
        }
        read_index::counted(&self.metrics.operations, self.barrier.pass()).await
    }

    async fn range(&self, query: &request::Range) -> Result<Answer<result::Range>, ServeError> {
        self.fence.pass()?;
        self.reader.range(query).await.map_err(unread)
    }

    async fn range_cursor(&self, query: request::Range) -> Result<PagedRange, ApplyError> {
        self.fence.pass()?;
        let cursor = self.reader.cursor(query).await?;
        Ok(PagedRange::new(cursor, self.reader.turns().clone()))
    }

    async fn read_txn(&self, txn: &request::Txn) -> Result<Answer<result::Txn>, ServeError> {
        self.fence.pass()?;
        self.reader.txn(txn).await.map_err(unread)
    }

    async fn complete(
        &self,
        applied: &mut Applied,
        kept: Kept,
    ) -> Result<Option<Pages>, ServeError> {
        let completed = self.reader.complete(applied, kept).await;
        completed.map_err(|error| match error {
            // It is applied all the same: whoever is told so must not take it for refused.
            ReadError::Exhausted(_) => ServeError::Timeout,
            error => unread(error),
        })
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64, ServeError> {
        if let Some(ttl) = renewed_alone(&self.lessor, &self.leadership, id) {
            return Ok(ttl);
        }
        let own = || renewed(&self.lessor, &self.barrier, &self.door.consensus, id);
        let ask = move |peers: PeerCalls, leader, limit| async move {
            peers.lease_keep_alive(leader, id, limit).await
        };
        // Boxed: this future is copied with every renewal of a stream, and as large as its largest part.
        Box::pin(self.leaders_answer(own, ask)).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseReport, ServeError> {
        let own = || async move {
            let term = self.barrier.pass_leading().await.ok()??;
            let (store, lessor) = (self.store.clone(), self.lessor.clone());
            let read = move || reads::lease_report(&store, &lessor, term, id, keys);
            blocking(read).await.ok()?
        };
        let ask = move |peers: PeerCalls, leader, limit| async move {
            let found = peers.lease_time_to_live(leader, id, keys, limit).await?;
            Ok(LeaseReport {
                remaining_seconds: found.ttl,
                granted_seconds: found.granted_ttl,
                keys: found.keys,
            })
        };
        self.leaders_answer(own, ask).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, ServeError> {
        let own = || async move {
            let term = self.barrier.pass_leading().await.ok()??;
            self.lessor.by_expiry(term)
        };
        let ask =
            move |peers: PeerCalls, leader, limit| async move { peers.leases(leader, limit).await };
        self.leaders_answer(own, ask).await
    }

    fn watch(&self) -> WatchStream {
        let home = crate::home::current().map(|home| {
            let homes = self.homes.clone();
            Arc::new(WatchHome { homes, home }) as Arc<dyn crate::watch::Home>
        });
        self.hub.open(home)
    }

    fn members(&self) -> Vec<MemberRecord> {
        self.store.cluster().members.iter().cloned().collect()
    }

    fn choose_member_id(&self, peer_urls: &[String]) -> MemberId {
        member_id::new_member_id(peer_urls, SystemTime::now())
    }

    async fn change_members(&self, change: MemberChange) -> Result<Vec<MemberRecord>, MemberError> {
        self.ask_for_change(change).await
    }

    async fn move_leader(&self, to: MemberId) -> Result<(), MemberError> {
        let (consensus, leadership) = (self.door.consensus.clone(), self.leadership.clone());
        let limit = self.request_timeout;
        crate::log!(info, "leadership transfer starting", "transferee-member-id" = %to);
        let began = Instant::now();
        let moving = self.door.run(async move {
            let asked = consensus.hand_over(to).await;
            asked.map_err(unmade)?;
            let moved = tokio::time::timeout(limit, leadership.led_by(to)).await;
            moved.map_err(|_| MemberError::TransferTimeout)?;
            crate::log!(
                info,
                "leadership transfer finished",
                "transferee-member-id" = %to,
                took = began.elapsed()
            );
            Ok(())
        });
        moving.await.map_err(|_| MemberError::Stopped)?
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.store.cluster().alarms.iter().collect()
    }

    fn leader(&self) -> Option<MemberId> {
        self.leadership.leader()
    }

    async fn leader_lost(&self) {
        self.leadership.lost().await;
    }

    fn is_learner(&self) -> bool {
        self.leadership.is_learner()
    }

    fn is_short_of_room(&self) -> bool {
        // A leader that nobody relieves stays in its Service: where there is no other room, clients
        // must be able to delete.
        self.store.headroom().is_short() && !self.leadership.leads()
    }

    fn cluster_version(&self) -> Option<String> {
        self.store.cluster().version.clone()
    }

    fn downgrade(&self) -> Option<String> {
        self.store.cluster().downgrade.clone()
    }

    fn status(&self) -> StatusReport {
        let leadership = self.door.consensus.leadership();
        let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (size, in_use) = self.store.size_and_in_use_bytes();
        StatusReport {
            leader: leadership.leader,
            raft_term: leadership.term,
            raft_index: leadership.committed_index,
            raft_applied_index: self.store.applied_index(),
            db_size: bytes(size),
            db_size_in_use: bytes(in_use),
            db_size_quota: self.proposer.quota().limit_bytes(),
            learner: self.is_learner(),
        }
    }

    async fn defragment(&self) -> Result<(), ServeError> {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        crate::log!(info, "starting defragment");
        blocking(move || defragment::measured(&store, &metrics.operations)).await?;
        crate::log!(info, "finished defragment");
        self.measure();
        Ok(())
    }

    async fn hash(&self) -> Result<(Revision, u32), ServeError> {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        blocking(move || {
            let _timed = metrics.operations.hash_seconds.start_timer();
            let mut hash = 0;
            store.engine().with_view(|scanner| {
                scanner.records(&mut |record| {
                    hash = crc32c::crc32c_append(hash, record.encoded);
                    true
                });
            });
            (store.revision(), hash)
        })
        .await
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKv, ServeError> {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let hashed = blocking(move || {
            let _timed = metrics.operations.hash_rev_seconds.start_timer();
            reads::hash_kv(&store, revision)
        });
        Ok(hashed.await??)
    }

    async fn compacted_physically(&self, revision: Revision) -> Result<(), ServeError> {
        let mut stopping = self.stopping.clone();
        loop {
            let pending = {
                let state = self.store.read();
                state.compact_pending() && state.mvcc.compact_revision() <= revision
            };
            if !pending {
                return Ok(());
            }
            tokio::select! {
                _ = stopping.changed() => return Err(ServeError::Stopped),
                () = tokio::time::sleep(COMPACTION_POLL) => {}
            }
        }
    }

    async fn snapshot_records(&self) -> Result<Pieces, ServeError> {
        let seat = self.snapshot_seat().await?;
        let store = Arc::clone(&self.store);
        let pieces = self.send_snapshot(seat, RECORDS_PIECES_AHEAD, move |send| {
            reads::snapshot_records(&store, send)
        });
        Ok(pieces)
    }

    async fn snapshot(&self) -> Result<SnapshotSource, ServeError> {
        let seat = self.snapshot_seat().await?;
        let (begin, length) = oneshot::channel();
        let engine = self.store.engine();
        let description = self.describe();
        let pieces = self.send_snapshot(seat, SNAPSHOT_PIECES_AHEAD, move |send| {
            let began = Instant::now();
            let (mut bytes, mut is_heard) = (0, true);
            // The receiver is gone only if the client is.
            let begin = |total| {
                bytes = total;
                crate::log!(
                    info,
                    "sending database snapshot to client",
                    "total-bytes" = total
                );
                let _ = begin.send(total);
            };
            let heard = |piece| {
                is_heard = send(piece);
                is_heard
            };
            snapshot::write(&engine, &description, begin, heard)?;
            if is_heard {
                // It was the last piece.
                crate::log!(
                    info,
                    "sending database sha256 checksum to client",
                    "total-bytes" = bytes,
                    "checksum-size" = 32
                );
                crate::log!(
                    info,
                    "successfully sent database snapshot to client",
                    "total-bytes" = bytes,
                    took = began.elapsed()
                );
            }
            Ok(())
        });
        let failed = || ServeError::Internal("the snapshot could not be begun".into());
        let total = length.await.map_err(|_| failed())?;
        Ok(SnapshotSource { total, pieces })
    }

    async fn interrupted(&self, require_leader: bool) -> ServeError {
        let mut stopping = self.stopping.clone();
        let leaderless = async {
            match require_leader {
                true => self.leadership.leaderless_for(self.leaderless_max).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            // An error means that the node is gone altogether.
            _ = stopping.wait_for(|stopping| *stopping) => ServeError::Stopped,
            () = leaderless => ServeError::NoLeader,
            () = self.fence.closed() => ServeError::Apply(ApplyError::Corrupt),
        }
    }

    fn slow_read(&self) {
        self.apply_stats.slow.fetch_add(1, Ordering::Relaxed);
    }

    fn metrics_text(&self) -> String {
        self.metrics.render(crate::node::gauges::families(self))
    }
}

fn unix_seconds() -> u64 {
    crate::node::drift::unix_ms() / 1_000
}

impl Core {
    /// A place among those who have a snapshot written.
    async fn snapshot_seat(&self) -> Result<Charge, ServeError> {
        let seat = self.snapshots.take(1).await;
        seat.map_err(|_| ServeError::Overloaded)
    }

    /// What `write` sends, so many pieces ahead of the client, until that takes none for too long.
    fn send_snapshot(
        &self,
        seat: Charge,
        ahead: usize,
        write: impl FnOnce(&mut dyn FnMut(Bytes) -> bool) -> Result<(), SnapshotError> + Send + 'static,
    ) -> Pieces {
        let (pieces, receiver) = mpsc::channel(ahead);
        let metrics = self.metrics.clone();
        crate::threads::spawn_blocking(move || {
            let _timed = metrics.operations.snapshot_seconds.start_timer();
            let runtime = tokio::runtime::Handle::current();
            let mut send = |piece| {
                let sending = tokio::time::timeout(SNAPSHOT_STALL_MAX, pieces.send(Ok(piece)));
                matches!(runtime.block_on(sending), Ok(Ok(())))
            };
            if let Err(error) = write(&mut send) {
                crate::log!(warn, "snapshot failed", error = %error);
                drop(pieces.try_send(Err(ServeError::Internal(error.to_string()))));
            }
            drop(seat);
        });
        receiver
    }

    /// Has the quota reckon with the space that the caller was just told is free.
    fn measure(&self) {
        let (data, size) = self.store.data_and_size_bytes();
        self.proposer.quota().measured(data, size);
    }

    fn describe(&self) -> snapshot::Description {
        let cluster = self.store.cluster();
        let ids = |learner| {
            let members = cluster
                .members
                .iter()
                .filter(move |member| member.learner == learner);
            members.map(|member| member.id).collect()
        };
        snapshot::Description {
            voters: ids(false),
            learners: ids(true),
        }
    }
}
