//! The node's handle to consensus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Config, ServerState, SnapshotPolicy};
use tokio::sync::{Semaphore, oneshot};

use super::apply::ApplyThread;
use super::confirm::Promisers;
use super::contact::Contact;
use super::log_store::{HELD_FROM_PROPOSALS, LogRoom, LogView};
use super::revoking::Revoking;
use super::short_members::ShortMembers;
use super::snapshot::Sending;
use super::state_machine::StateMachine;
use super::{Batch, LogStore, Peer, Peers, Raft, TypeConfig, entry};
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::store::Store;
use crate::types::{LeaseId, MemberId};
use crate::wal::Keep;

/// How lately a member was heard of for whose sake the log is kept.
const IN_TOUCH: Duration = Duration::from_secs(5);
/// The most entries held for others: each takes some 40 bytes of memory.
const ENTRIES_HELD_MAX: u64 = 4_000_000;

/// How long another member's batch may take to be applied here before its commit is answer enough.
const APPLIED_IN: Duration = Duration::from_millis(100);

/// How consensus is run.
#[derive(Clone, Debug)]
pub struct ConsensusOptions {
    /// This member.
    pub member: MemberId,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
}

/// Why consensus does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timing flags do not fit each other.
    #[error("--heartbeat-interval and --election-timeout do not fit each other: {0}")]
    Timing(String),
    /// openraft cannot go on with what log and store hold.
    #[error("consensus does not start: {0}; restore this member from the others or from a backup")]
    Inconsistent(String),
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeRefused {
    /// Another member leads, or none does. It is known not to have happened.
    #[error("not the leader")]
    NotLeader,
    /// The log's disk does not keep up. It is known not to have happened.
    #[error("the log's disk does not keep up")]
    Busy,
    /// It was sent, and what became of it is not known.
    #[error("the outcome is unknown")]
    Unknown,
    /// Consensus has stopped.
    #[error("consensus has stopped")]
    Stopped,
}

/// Who leads, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader, where one is known and was in touch within an election timeout: for the leader
    /// itself, with a quorum.
    pub leader: Option<MemberId>,
    /// The term that this member leads, whether or not a quorum was in touch: what it alone keeps
    /// for that term (the leases' deadlines) is as good as before once a quorum is back.
    pub own_term: Option<u64>,
    /// The last committed index known here.
    pub committed_index: u64,
}

/// Tells when who leads or votes may have changed.
pub struct LeadershipChanges(WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>);

impl LeadershipChanges {
    /// Resolves at the next change; never once consensus has stopped.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The handle. Clones share it. Lives on the Raft thread's runtime.
#[derive(Clone)]
pub struct Consensus {
    pub(super) raft: Raft,
    pub(super) member: MemberId,
    /// What is known of the log, to hold what peers say against.
    pub(super) log: LogView,
    election_timeout: Duration,
    pub(super) contact: Arc<Contact>,
    /// One permit: snapshots are received one at a time.
    pub(super) receiving: Arc<Semaphore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Weak<Store>,
    pub(super) log_room: LogRoom,
    short: ShortMembers,
    sending: Sending,
    pub(super) promisers: Arc<Promisers>,
    revoking: Revoking,
}

impl Consensus {
    /// Joins log, store, apply thread and the network to peers, and starts openraft on the current
    /// runtime. Returns once what was committed before the last stop is applied.
    ///
    /// # Errors
    /// The timing flags do not fit, or log and store do not fit each other.
    pub async fn start(
        options: &ConsensusOptions,
        log: LogStore,
        store: Arc<Store>,
        apply: &ApplyThread,
        mut peers: Peers,
    ) -> Result<Consensus, StartError> {
        let config = config(options)
            .validate()
            .map_err(|e| StartError::Timing(e.to_string()))?;
        let (short, log_room) = (peers.short_members(), log.room());
        let promisers = Arc::new(peers.promisers());
        peers.send_from(log.view());
        let weak = Arc::downgrade(&store);
        let machine = StateMachine::new(store, apply.handle(), log.clone());
        let (serving, sending) = (machine.serving(), machine.sending());
        let metrics = log.metrics().clone();
        let id = options.member.0;
        let view = log.view();
        let raft = Raft::new(id, Arc::new(config), peers, log, machine)
            .await
            .map_err(|error| StartError::Inconsistent(error.to_string()))?;
        serving.begin();
        // Who votes and who leads is read from openraft's metrics, which are empty until its core
        // runs. It answers once it does: a sole voter that took itself for one of many would serve
        // before the end of its log is applied.
        raft.with_raft_state(|_| ())
            .await
            .map_err(|error| StartError::Inconsistent(error.to_string()))?;
        Ok(Consensus {
            raft,
            member: options.member,
            log: view,
            election_timeout: options.election_timeout,
            contact: Arc::default(),
            receiving: Arc::new(Semaphore::new(1)),
            metrics,
            store: weak,
            log_room,
            short,
            sending,
            promisers,
            revoking: Revoking::default(),
        })
    }

    /// Makes this the first member of a new cluster.
    ///
    /// # Errors
    /// The log is not empty.
    pub async fn initialize(
        &self,
        members: BTreeMap<MemberId, Vec<String>>,
    ) -> Result<(), StartError> {
        let nodes: BTreeMap<u64, Peer> = members
            .into_iter()
            .map(|(id, peer_urls)| {
                let pending_voter = false;
                (
                    id.0,
                    Peer {
                        peer_urls,
                        pending_voter,
                    },
                )
            })
            .collect();
        self.raft
            .initialize(nodes)
            .await
            .map_err(|error| StartError::Inconsistent(error.to_string()))
    }

    /// Has the one voter of a cluster lead, and waits until it has applied everything in its log.
    ///
    /// # Errors
    /// Consensus stopped, or it took longer than `timeout`.
    pub async fn lead(&self, timeout: Duration) -> Result<(), StartError> {
        let failed =
            |error: openraft::metrics::WaitError| StartError::Inconsistent(error.to_string());
        if !self.raft.is_leader() {
            // Nobody else can win: waiting an election timeout would only delay the start.
            let elected = self.raft.trigger().elect(false).await;
            elected.map_err(|error| StartError::Inconsistent(error.to_string()))?;
        }
        let wait = self.raft.wait(Some(timeout));
        wait.current_leader(self.member.0, "the only voter leads")
            .await
            .map_err(failed)?;
        let wait = self.raft.wait(Some(timeout));
        wait.metrics(
            |m| {
                let applied = m.last_applied.map(|id| id.index());
                applied.is_some() && applied >= m.last_log_index
            },
            "the log is applied",
        )
        .await
        .map_err(failed)?;
        self.look_whether_alone().await;
        Ok(())
    }

    /// Hands a batch to Raft and returns once it is applied: what gathers meanwhile makes the next
    /// batch larger, and what a batch costs is shared by more requests (measured against returning
    /// at the commit: 8 % less CPU a put, the same rate and latency).
    ///
    /// # Errors
    /// The batch was not taken, or what became of it is not known.
    pub async fn propose(&self, batch: Batch) -> Result<(), ProposeRefused> {
        self.write(batch, None, None).await
    }

    /// As [`Consensus::propose`], for another member: it has what is committed by itself, so that this
    /// one's engine, or its log's disk, may be long in coming and hold up nobody's clients but its own.
    ///
    /// # Errors
    /// See there.
    pub async fn propose_for_another(&self, batch: Batch) -> Result<(), ProposeRefused> {
        self.write(batch, None, Some(APPLIED_IN)).await
    }

    /// As [`Consensus::propose`], for what only the leader of `term` may decide: the entry is of
    /// that term, or there is none. In a later one another member may have decided otherwise, even
    /// where this one leads again.
    ///
    /// # Errors
    /// See there. `NotLeader`: this member does not lead `term` any more; it has not happened.
    pub async fn propose_in(&self, term: u64, batch: Batch) -> Result<(), ProposeRefused> {
        self.write(batch, Some(term), None).await
    }

    /// Waits until the batch is applied, or, where that takes longer than `applied_in`, committed.
    async fn write(
        &self,
        batch: Batch,
        term: Option<u64>,
        applied_in: Option<Duration>,
    ) -> Result<(), ProposeRefused> {
        let bytes = batch.encoded().len() as u64;
        let taken = self.log_room.take(1, bytes, HELD_FROM_PROPOSALS);
        // What this leader decides (an alarm, say) is little, and the others may wait for it.
        let has_room = taken.is_some() || term.is_some();
        if !has_room || !self.log_room.keeps_up() {
            return Err(ProposeRefused::Busy);
        }
        let (responder, committed, completed) = ProgressResponder::new();
        let revoked = self.revoking.begin(&batch);
        let write = self.raft.write(batch).responder(responder);
        let write = match term {
            Some(term) => write.with_leader(entry::leader_of(term)),
            None => write,
        };
        if write.await.is_err() {
            return Err(ProposeRefused::Stopped);
        }
        let mut completed = match revoked {
            None => completed,
            // Whoever waits for it may give up, or be answered at the commit.
            Some(revoked) => {
                let (told, awaited) = oneshot::channel();
                tokio::spawn(async move {
                    let outcome = completed.await;
                    drop(revoked);
                    // Nobody may listen any more; a sender that is dropped says that consensus has stopped.
                    let _ = outcome.map(|outcome| told.send(outcome));
                });
                awaited
            }
        };
        let Some(limit) = applied_in else {
            return outcome(completed.await);
        };
        // One wake where all is well: the commit is asked about only where applying lags.
        if let Ok(told) = tokio::time::timeout(limit, &mut completed).await {
            return outcome(told);
        }
        tokio::select! {
            biased;
            told = completed => outcome(told),
            // An error means that it is not: the other one says why.
            Ok(_) = committed => Ok(()),
        }
    }

    /// Whether a revocation of a lease was handed over by this member, as the leader, and is not applied here
    /// yet: whoever did apply it may have told a client that the lease is gone.
    pub fn is_revoking(&self, id: LeaseId) -> bool {
        self.revoking.has(id)
    }

    /// Drops what the store has persisted from the log, but for the newest entries that `keep` names.
    ///
    /// On the leader, and as long as the log takes less than `held_bytes`, also what others need is
    /// kept: those that are in touch and go on by the log, and one that is being sent a snapshot.
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn purge(
        &self,
        log: &LogStore,
        keep: Keep,
        held_bytes: u64,
    ) -> Result<(), ProposeRefused> {
        let is_sending = self.sending.is_lately();
        let persisted = self.flushed_index();
        let mut upto = log.purgeable(keep).min(persisted);
        let held = persisted.saturating_sub(log.purged_index());
        if log.bytes() < held_bytes && held < ENTRIES_HELD_MAX {
            let needed = self.needed_from(log.purged_index());
            upto = if is_sending { 0 } else { upto.min(needed) };
        }
        if upto <= log.purged_index() {
            return Ok(());
        }
        let asked = self.raft.trigger().purge_log(upto).await;
        asked.map_err(|_| ProposeRefused::Stopped)
    }

    /// The last entry that a flush for the log's sake has made durable in the store: up to there the log may be
    /// purged.
    pub fn flushed_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.snapshot.map_or(0, |id| id.index())
    }

    /// The entry after which a member in touch needs the log next; the greatest number where nobody
    /// does. Who is behind `purged` needs a snapshot first, who has no room takes neither.
    fn needed_from(&self, purged: u64) -> u64 {
        let replication = self.replication();
        let short = self.short.all();
        let takes_part = |id: &MemberId| {
            let silent_for = replication.silent_for.get(id);
            silent_for.is_some_and(|silent| *silent < IN_TOUCH) && !short.contains(id)
        };
        let others = replication.matched.iter();
        let others =
            others.filter(|(id, at)| **id != self.member && takes_part(id) && **at >= purged);
        others.map(|(_, at)| *at).min().unwrap_or(u64::MAX)
    }

    /// Flushes the store, so that the log below it can be dropped by [`Consensus::purge`].
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn snapshot(&self) -> Result<(), ProposeRefused> {
        self.raft
            .trigger()
            .snapshot()
            .await
            .map_err(|_| ProposeRefused::Stopped)
    }

    /// Waits until the entry at `index` is applied here: whether it was, in time.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> bool {
        let wait = self.raft.wait(Some(timeout));
        let applied = wait.applied_index_at_least(Some(index), "a read waits");
        applied.await.is_ok()
    }

    /// Waits until an entry of a later term than `term` is applied here; for ever once consensus has
    /// stopped.
    pub async fn applied_after(&self, term: u64) {
        let is_later = |metrics: &openraft::RaftMetrics<TypeConfig>| applied_term(metrics) > term;
        let wait = self.raft.wait(None);
        if wait.metrics(is_later, "the next leader").await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether an entry of `term`, or of a later one, is applied here: then so is all that the leaders
    /// before that term acknowledged.
    pub fn has_applied_in(&self, term: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        applied_term(&metrics) >= term
    }

    /// Who leads. A leader that has not heard from a quorum for an election timeout leads no more:
    /// another may, and it would be the last to know. Nor does one that has not been heard from for
    /// so long.
    pub fn leadership(&self) -> Leadership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (leads, term) = (metrics.state == ServerState::Leader, metrics.current_term);
        let in_touch = |leader: &u64| match leads {
            true => {
                let heard = metrics.last_quorum_acked.as_ref();
                heard.is_some_and(|at| at.elapsed() < self.election_timeout) || self.is_sole_voter()
            }
            false => self.contact.is_with(*leader, term, self.election_timeout),
        };
        let leader = metrics.current_leader.filter(in_touch);
        Leadership {
            term,
            leader: leader.map(MemberId),
            own_term: leads.then_some(term),
            committed_index: metrics.local_committed.map_or(0, |id| id.index()),
        }
    }

    /// Tells of every change of who leads or votes from now on.
    pub fn leadership_changes(&self) -> LeadershipChanges {
        LeadershipChanges(self.raft.server_metrics())
    }

    /// Why openraft has stopped by itself, if it has: it could not read its log, or found itself in
    /// a state it does not know. It takes nothing more then.
    pub fn failure(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let running = &metrics.borrow_watched().running_state;
        running.as_ref().err().map(ToString::to_string)
    }

    /// Resolves once openraft has stopped by itself: why.
    pub async fn failed(&self) -> String {
        let mut changes = self.raft.metrics();
        loop {
            if let Some(failure) = self.failure() {
                return failure;
            }
            if changes.changed().await.is_err() {
                return self
                    .failure()
                    .unwrap_or_else(|| "consensus has ended".into());
            }
        }
    }

    /// Resolves once openraft's core has come round: never, where it is stuck.
    pub async fn turn(&self) {
        // One that has stopped is told of by `failed`.
        let _ = self.raft.with_raft_state(|_| ()).await;
    }

    /// Whether this member is the one voter: whom nobody has to elect or to confirm.
    pub fn is_sole_voter(&self) -> bool {
        let voters: BTreeSet<u64> = self.raft.voter_ids().collect();
        voters.len() == 1 && voters.contains(&self.member.0)
    }

    /// Whether this member is the one voter, and nobody learns from it either: then what it has applied is all that
    /// anybody has told of.
    pub fn is_alone(&self) -> bool {
        self.is_sole_voter() && self.raft.learner_ids().next().is_none()
    }

    /// Stops openraft's clock, five ticks a heartbeat, for a leader that is alone: it has nobody to send
    /// heartbeats to, and asks nobody for votes. It runs again within a tick once it is asked to.
    pub fn tick_unless(&self, leads_alone: bool) {
        self.raft.runtime_config().tick(!leads_alone);
    }

    /// Who of the others said lately that its disk is short of room. Known to the leader.
    pub fn short_members(&self) -> Vec<MemberId> {
        self.short.all()
    }

    /// Stops openraft.
    pub async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            crate::log!(warn, "consensus did not stop cleanly", error = %error);
        }
    }
}

/// The term of the last entry that is applied; 0 for none.
fn applied_term(metrics: &openraft::RaftMetrics<TypeConfig>) -> u64 {
    let applied = metrics.last_applied.as_ref();
    applied.map_or(0, |id| id.committed_leader_id().term)
}

/// What consensus said of a batch that it was handed.
fn outcome<R, Gone>(
    told: Result<Result<R, ClientWriteError<TypeConfig>>, Gone>,
) -> Result<(), ProposeRefused> {
    match told {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeRefused::NotLeader),
        // Another leader overwrote the entry, or a snapshot that was installed here covers it, and
        // then it may have happened. To say that it did not would be a guess.
        Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeRefused::Unknown),
        Ok(Err(_)) | Err(_) => Err(ProposeRefused::Stopped),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn config(options: &ConsensusOptions) -> Config {
    let timeout = millis(options.election_timeout);
    Config {
        cluster_name: "engram".into(),
        heartbeat_interval: millis(options.heartbeat),
        // openraft waits a lease of `max` plus a random part between min and max: with these an
        // election begins after 0.75 to 1.1 timeouts without a leader (by asking, which disturbs
        // nobody who hears the leader), so that writes go on within two timeouts even where the
        // first election is contested.
        election_timeout_min: timeout / 5,
        election_timeout_max: timeout * 11 / 20,
        quorum_loss_probe_interval: Some(timeout * 2),
        enable_pre_vote: Some(true),
        allow_log_reversion: Some(false),
        // A leader that was killed has sent entries that its own disk may not have, and others may have
        // committed. In the same term again it would give their numbers to other entries.
        enable_leader_restore: Some(is_planted("leader-restored")),
        snapshot_policy: SnapshotPolicy::Never,
        // What is purged is decided by bytes: see `Consensus::purge`.
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        ..Config::default()
    }
}
