//! The Raft thread: consensus, the proposer's batches, and the member's periodic duties.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::sync::watch::{Receiver, Sender, channel};

use super::backend::{Core, LeadershipCell};
use super::boot::{BootError, Booted};
use super::compactor::Schedule;
use super::lessor::Lessor;
use super::sink::{Headers, Sink, WatchedStore};
use super::space::SpaceGuard;
use crate::config::{Config, ETCD_VERSION};
use crate::fatal::end_process;
use crate::fs::DirLock;
use crate::home::Homes;
use crate::propose::{self, Proposer, Quota};
use crate::raft::{ApplyThread, Consensus, ConsensusOptions, LogStore};
use crate::read::Reader;
use crate::store::Store;
use crate::types::request::{AlarmType, Compact, MemberAttributes, Op};
use crate::types::{LeaseId, MemberId};
use crate::watch::{self, Hub};

/// How often consensus, the store's size and the log's length are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Every how many looks the size of a store that nobody writes to is measured.
const IDLE_LOOKS: u64 = 10;
/// How often leases are looked at, and how many are revoked at once. Source: etcd's lessor revokes
/// up to 1,000 a second, in steps of 500 ms.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// The most leases revoked a step: one batch.
const EXPIRE_MAX: usize = 4000;
/// A log that grew by this much since the last flush is cut: bounds disk use and replay. Bytes.
const LOG_GROWTH_MAX: u64 = 64 << 20;
/// The most applied entries kept in the log. `--snapshot-catchup-entries` counts requests; an entry
/// here carries up to thousands of them.
const ENTRIES_KEPT_MAX: u64 = 500;
/// How long a member that was alone when it stopped may take to replay its log and lead again.
const LEAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// The running thread.
pub struct RaftThread {
    thread: JoinHandle<()>,
    stop: Sender<bool>,
    proposer: Proposer,
    _lock: DirLock,
}

/// What the thread works with.
#[derive(Clone)]
struct Duties {
    member: MemberId,
    incarnation: u64,
    first_members: Vec<(MemberId, Vec<String>)>,
    attributes: MemberAttributes,
    options: ConsensusOptions,
    store: Arc<Store>,
    log: LogStore,
    proposer: Proposer,
    lessor: Arc<Lessor>,
    leadership: Arc<LeadershipCell>,
    auto_compaction: crate::config::AutoCompaction,
    space: Arc<SpaceGuard>,
}

impl RaftThread {
    /// Starts consensus and waits until this member leads and has published itself.
    ///
    /// # Errors
    /// See [`BootError`].
    pub fn start(
        config: &Config,
        booted: Booted,
        homes: Homes,
    ) -> Result<(Core, RaftThread), BootError> {
        let Booted {
            lock,
            identity,
            members,
            store,
            log,
            metrics,
            space,
        } = booted;
        let alarm = store.read().alarms.is_raised(AlarmType::NoSpace);
        let quota = Quota::new(config.limits.quota_backend_bytes, alarm);
        quota.measured(store.engine().size_bytes());
        let proposer = Proposer::new(
            identity.member,
            config.request_timeout(),
            quota,
            homes.clone(),
        );
        let lessor = Arc::new(Lessor::new(metrics.clone()));
        let leadership = Arc::new(LeadershipCell::default());
        let headers = Headers {
            cluster: identity.cluster,
            member: identity.member,
            leadership: leadership.clone(),
        };
        let hub = Hub::new(
            Arc::new(WatchedStore(store.clone())),
            Arc::new(headers),
            watch_config(config),
        );
        let sink = Sink {
            hub: hub.clone(),
            proposer: proposer.clone(),
            lessor: lessor.clone(),
        };
        let warning = config.warning_apply_duration;
        let apply = ApplyThread::start(store.clone(), Arc::new(sink), metrics.clone(), warning)
            .map_err(|source| BootError::System {
                what: "the apply thread".into(),
                source,
            })?;
        let apply_stats = apply.stats();
        let duties = Duties {
            member: identity.member,
            incarnation: identity.incarnation,
            first_members: members,
            attributes: attributes(config),
            options: consensus_options(config, identity.member),
            store: store.clone(),
            log: log.clone(),
            proposer: proposer.clone(),
            lessor: lessor.clone(),
            leadership: leadership.clone(),
            auto_compaction: config.compaction.auto,
            space,
        };
        let (stop, stopping) = channel(false);
        let (thread, consensus) = spawn(duties, apply, stopping.clone())?;
        let core = Core {
            cluster: identity.cluster,
            member: identity.member,
            reader: Reader::new(store.clone()),
            store,
            proposer: proposer.clone(),
            consensus,
            leadership,
            lessor,
            hub,
            homes,
            log,
            lease_ttl_min_seconds: lease_ttl_min(config.raft.election_timeout),
            metrics,
            apply_stats,
            stopping,
            next_lease_id: AtomicU64::new(first_lease_id(identity.member)),
        };
        Ok((
            core,
            RaftThread {
                thread,
                stop,
                proposer,
                _lock: lock,
            },
        ))
    }

    /// Tells streams to end and refuses new proposals.
    pub fn announce_stop(&self) {
        self.stop.send_replace(true);
        self.proposer.stop();
    }

    /// Stops consensus, waits for what is committed to be applied, closes the log.
    pub fn stop(self) {
        self.announce_stop();
        if self.thread.join().is_err() {
            crate::log!(error, "the raft thread panicked");
        }
    }
}

/// What the looks remember: bytes appended to the log when it was last cut, and when the store was
/// last measured.
struct LogWatch {
    cut_at: u64,
    measured_at: Option<u64>,
    looks: u64,
}

type Started = Result<Consensus, BootError>;

fn spawn(
    duties: Duties,
    apply: ApplyThread,
    stopping: Receiver<bool>,
) -> Result<(JoinHandle<()>, Consensus), BootError> {
    let system = |source| BootError::System {
        what: "the raft thread".into(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    let (started, starting) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("engram-raft".into())
        .spawn(move || {
            runtime.block_on(duties.run(&apply, stopping, started));
            drop(runtime);
            apply.join();
        })
        .map_err(system)?;
    match starting.blocking_recv() {
        Ok(Ok(consensus)) => Ok((thread, consensus)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(BootError::FirstEntries(
            "the raft thread ended early".into(),
        )),
    }
}

impl Duties {
    async fn run(
        self,
        apply: &ApplyThread,
        mut stopping: Receiver<bool>,
        started: oneshot::Sender<Started>,
    ) {
        let consensus = match self.begin(apply).await {
            Ok(consensus) => consensus,
            Err(error) => {
                // The starter waits for this; it cannot be gone.
                drop(started.send(Err(error)));
                return;
            }
        };
        drop(started.send(Ok(consensus.clone())));
        let duties = self.clone();
        let raft = consensus.clone();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = duties.tick(raft) => {}
        }
        self.proposer.stop();
        consensus.stop().await;
    }

    async fn begin(&self, apply: &ApplyThread) -> Started {
        let is_new = self.log.is_pristine();
        let consensus =
            Consensus::start(&self.options, self.log.clone(), self.store.clone(), apply).await?;
        if is_new {
            let members: BTreeMap<_, _> = self.first_members.iter().cloned().collect();
            consensus.initialize(members).await?;
        }
        consensus.lead(LEAD_TIMEOUT).await?;
        let learner = self
            .store
            .read()
            .members
            .get(self.member)
            .is_some_and(|m| m.learner);
        self.leadership
            .set(consensus.leadership(), consensus.is_sole_voter(), learner);
        tokio::spawn({
            let (proposer, consensus) = (self.proposer.clone(), consensus.clone());
            async move { proposer.run(consensus).await }
        });
        self.publish().await?;
        self.lessor
            .promote(&self.store.read().leases, self.extend_ms());
        Ok(consensus)
    }

    /// Renewals of the last run are unknown: leases live an election timeout longer than granted.
    fn extend_ms(&self) -> u64 {
        u64::try_from(self.options.election_timeout.as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes the first entries of a new cluster, and this member's attributes where they changed.
    async fn publish(&self) -> Result<(), BootError> {
        let (version, known) = {
            let state = self.store.read();
            let known = state.members.get(self.member).cloned();
            (state.cluster_version.clone(), known)
        };
        let is_published = known.is_some_and(|member| {
            member.attributes == self.attributes && member.incarnation == self.incarnation
        });
        if !is_published {
            let (member, incarnation) = (self.member, self.incarnation);
            let attributes = self.attributes.clone();
            self.write(Op::PublishMember {
                member,
                incarnation,
                attributes,
            })
            .await?;
        }
        let ours = cluster_version();
        if version.as_ref() != Some(&ours) {
            self.write(Op::SetClusterVersion(ours)).await?;
        }
        Ok(())
    }

    async fn write(&self, op: Op) -> Result<(), BootError> {
        match self.proposer.propose(op).await {
            Ok(outcome) => match outcome.result {
                Ok(_) => Ok(()),
                Err(error) => Err(BootError::FirstEntries(error.to_string())),
            },
            Err(error) => Err(BootError::FirstEntries(error.to_string())),
        }
    }

    async fn tick(&self, consensus: Consensus) {
        let mut sweep = tokio::time::interval(propose::SWEEP_EVERY);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        let mut watch = LogWatch {
            cut_at: self.log.appended_bytes(),
            measured_at: None,
            looks: 0,
        };
        let mut schedule = Schedule::new(&self.auto_compaction);
        let mut compact_at = schedule
            .as_ref()
            .map(|schedule| Instant::now() + schedule.interval());
        loop {
            tokio::select! {
                _ = look.tick() => {
                    self.look(&consensus, &mut watch).await;
                    if let (Some(at), Some(schedule)) = (compact_at, schedule.as_mut())
                        && Instant::now() >= at
                    {
                        compact_at = Some(at + schedule.interval());
                        self.auto_compact(schedule);
                    }
                }
                _ = expire.tick() => self.revoke_expired(),
                _ = sweep.tick() => self.proposer.sweep(),
            }
        }
    }

    /// Looks after consensus, the disk and the log's length.
    async fn look(&self, consensus: &Consensus, watch: &mut LogWatch) {
        if let Some(failure) = consensus.failure() {
            end_process(
                failure,
                "start again; if it comes back, restore this member",
            );
        }
        if self.space.is_exhausted() {
            self.proposer.raise_no_space();
        }
        let appended = self.log.appended_bytes();
        watch.looks += 1;
        // An idle member is measured less often: asking the engine costs more than looking.
        if watch.measured_at != Some(appended) || watch.looks.is_multiple_of(IDLE_LOOKS) {
            watch.measured_at = Some(appended);
            self.proposer
                .quota()
                .measured(self.store.engine().size_bytes());
        }
        if appended.saturating_sub(watch.cut_at) > LOG_GROWTH_MAX {
            watch.cut_at = appended;
            self.cut_log(consensus).await;
        }
    }

    async fn cut_log(&self, consensus: &Consensus) {
        if consensus.snapshot().await.is_err() {
            crate::log!(warn, "the log could not be cut: consensus has stopped");
        }
    }

    /// Revokes what has expired; the next look finds what could not be revoked now.
    fn revoke_expired(&self) {
        for id in self.lessor.expired(EXPIRE_MAX) {
            self.spawn_proposal("revoking an expired lease", Op::LeaseRevoke(id), Some(id));
        }
    }

    fn auto_compact(&self, schedule: &mut Schedule) {
        if let Some(revision) = schedule.tick(self.store.revision()) {
            crate::log!(info, "starting auto compaction", revision = revision.0);
            let op = Op::Compact(Compact {
                revision: revision.0,
            });
            self.spawn_proposal("auto compaction", op, None);
        }
    }

    fn spawn_proposal(&self, what: &'static str, op: Op, lease: Option<LeaseId>) {
        let (proposer, lessor) = (self.proposer.clone(), self.lessor.clone());
        tokio::spawn(async move {
            match (proposer.propose(op).await, lease) {
                (Ok(outcome), Some(_)) if outcome.result.is_ok() => lessor.count_expired(),
                (Ok(_), _) => {}
                (Err(error), lease) => {
                    let lease = lease.unwrap_or_default();
                    crate::log!(warn, "a duty of the leader failed and is tried again",
                        what = what, lease = %lease, error = %error);
                }
            }
        });
    }
}

fn attributes(config: &Config) -> MemberAttributes {
    MemberAttributes {
        name: config.name.clone(),
        client_urls: config
            .advertise
            .client
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn consensus_options(config: &Config, member: MemberId) -> ConsensusOptions {
    ConsensusOptions {
        member,
        heartbeat: config.raft.heartbeat_interval,
        election_timeout: config.raft.election_timeout,
        entries_kept: config.raft.snapshot_catchup_entries.min(ENTRIES_KEPT_MAX),
    }
}

fn watch_config(config: &Config) -> watch::Config {
    let request_bytes = usize::try_from(config.limits.request_bytes_max).unwrap_or(usize::MAX);
    watch::Config {
        fragment_bytes: request_bytes.saturating_add(512 << 10),
        progress_interval: config.watch_progress_notify_interval,
        ..watch::Config::default()
    }
}

/// etcd's least time to live: one and a half election timeouts, rounded up to seconds.
fn lease_ttl_min(election_timeout: Duration) -> i64 {
    let millis = election_timeout.as_millis() * 3 / 2;
    i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// "3.7.3" speaks "3.7.0".
fn cluster_version() -> String {
    let minor = ETCD_VERSION
        .rsplit_once('.')
        .map_or(ETCD_VERSION, |(minor, _)| minor);
    format!("{minor}.0")
}

/// Where lease ids begin in this run: member in the high bits, milliseconds below, a counter last,
/// as etcd's idutil does it.
fn first_lease_id(member: MemberId) -> u64 {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let millis = (millis as u64) & ((1 << 40) - 1);
    (member.0 << 48) | (millis << 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_lease_lives_two_seconds_by_default() {
        assert_eq!(lease_ttl_min(Duration::from_millis(1000)), 2);
        assert_eq!(lease_ttl_min(Duration::from_millis(2000)), 3);
        assert_eq!(cluster_version(), "3.7.0");
    }
}
