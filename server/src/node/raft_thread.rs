//! The Raft thread: consensus, the connections to peers, the proposer's batches, and the member's
//! periodic duties.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::sync::watch::{Receiver, Sender, channel};

use super::archive;
use super::backend::Core;
use super::barrier::Barrier;
use super::boot::{BootError, Booted, Locks};
use super::corruption::Checks;
use super::counted_dial::CountedDial;
use super::directory::MemberDirectory;
use super::door::Door;
use super::duties::Duties;
use super::fence::Fence;
use super::identity::FirstMember;
use super::late::Lateness;
use super::leadership::LeadershipCell;
use super::lessor::Lessor;
use super::membership::{Membership, Rules};
use super::options;
use super::peer_service::PeerService;
use super::peers::PeerCalls;
use super::reclaim::Reclaimer;
use super::route::LeaderRoute;
use super::serve::PeerListener;
use super::sink::{Headers, Sink, WatchedStore};
use super::space::SpaceGuard;
use super::told::Told;
use crate::auth::{Jwt, Passwords, Tokens};
use crate::config::{Config, cluster_version};
use crate::fatal::end_process;
use crate::home::Homes;
use crate::net::{PeerAddress, PeerInfo};
use crate::peer::{self, BoxedIo, Clients, Dial, Local, Refusal};
use crate::propose::{Proposer, Quota};
use crate::raft::{ApplyStats, ApplyThread, Consensus, ConsensusOptions, LogStore, Peers};
use crate::read::Reader;
use crate::store::Store;
use crate::threads;
use crate::types::MemberId;
use crate::types::request::{AlarmType, MemberAttributes};
use crate::wal::Keep;
use crate::watch::Hub;
use engram_archiver::Journal;

/// The most that is held for members that are catching up, by the log or a snapshot: what 5 MB/s write
/// while 64 GiB are sent, installed and followed up. Bytes; a quarter of the filesystem at most.
const LOG_HELD_BYTES_MAX: u64 = 16 << 30;
/// How long a member that was alone when it stopped may take to replay its log and lead again.
const LEAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long consensus may take to stop. It waits with a vote for the log's disk, which may be full;
/// nothing that waits so was promised to anybody.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long a start waits for the cluster to know this member, and for what was committed while it
/// was away, before clients are served anyway.
/// Source: etcd's `--experimental-wait-cluster-ready-timeout`.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the thread is given beside the opened data directory.
pub struct Outside {
    /// The connection threads' inboxes.
    pub homes: Homes,
    /// Where peers connect.
    pub listeners: Vec<PeerListener>,
    /// How peers are connected to.
    pub dial: Arc<dyn Dial>,
    /// Connections from peers that come another way than by a listener.
    pub arrivals: Option<Arrivals>,
}

/// Connections from peers, accepted elsewhere.
pub type Arrivals = UnboundedReceiver<BoxedIo>;

/// A member's parts, joined, before anything of it runs: what is begun, and what the edge is made of
/// afterwards.
pub struct Ready {
    pub started: Started,
    pub seeds: Seeds,
    space: Arc<SpaceGuard>,
    journal: Option<Arc<Journal>>,
}

/// What the edge is made of once consensus has begun.
pub struct Seeds {
    tokens: Arc<Tokens>,
    jwt: Option<Jwt>,
    passwords: Passwords,
    reader: Reader,
    fence: Arc<Fence>,
    hub: Arc<Hub>,
    homes: Homes,
    apply_stats: Arc<ApplyStats>,
    stopping: Receiver<bool>,
    local: Local,
    request_timeout: Duration,
    election_timeout: Duration,
    store: Arc<Store>,
    log: LogStore,
    proposer: Proposer,
    lessor: Arc<Lessor>,
    leadership: Arc<LeadershipCell>,
    barrier: Barrier,
}

/// What is begun.
pub struct Started {
    pub beginning: Beginning,
    pub apply: ApplyThread,
    pub stop: Sender<bool>,
    pub locks: Locks,
}

/// The running thread.
pub struct RaftThread {
    thread: JoinHandle<()>,
    store: Arc<Store>,
    stop: Sender<bool>,
    proposer: Proposer,
    door: Door,
    leadership: Arc<LeadershipCell>,
    expelled: Receiver<Option<Refusal>>,
    election_timeout: Duration,
    _locks: Locks,
}

/// What the thread begins with.
pub struct Beginning {
    local: Local,
    options: ConsensusOptions,
    first_members: Vec<FirstMember>,
    listeners: Vec<PeerListener>,
    incoming: PathBuf,
    dial: Arc<dyn Dial>,
    arrivals: Option<Arrivals>,
    directory: Arc<MemberDirectory>,
    limits: peer::Limits,
    rules: Rules,
    request_timeout: Duration,
    attributes: MemberAttributes,
    store: Arc<Store>,
    log: LogStore,
    proposer: Proposer,
    lessor: Arc<Lessor>,
    leadership: Arc<LeadershipCell>,
    barrier: Barrier,
    auto_compaction: crate::config::AutoCompaction,
    checks: Checks,
    snapshot_count: u64,
    keep: Keep,
    log_held_bytes: u64,
}

impl Ready {
    /// Joins the parts of a member over its opened data directory. Nothing runs yet but applying.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn new(config: &Config, booted: Booted, outside: Outside) -> Result<Ready, BootError> {
        let Booted {
            locks,
            identity,
            first_members,
            incoming,
            store,
            log,
            jwt,
            metrics,
            space,
            log_disk_bytes,
        } = booted;
        let local = Local {
            cluster: identity.cluster,
            member: identity.member,
            incarnation: identity.incarnation,
        };
        let Outside {
            homes,
            listeners,
            dial,
            arrivals,
        } = outside;
        let alarm = {
            let state = store.read();
            state.alarms.is_raised(AlarmType::NoSpace, &state.members)
        };
        let quota = Quota::new(config.limits.quota_backend_bytes, alarm);
        let (data, size) = store.data_and_size_bytes();
        quota.measured(data, size);
        let request_timeout = config.request_timeout();
        let proposer = Proposer::new(local.member, request_timeout, quota, homes.clone());
        let lessor = Arc::new(Lessor::new(metrics.clone()));
        let leadership = Arc::new(LeadershipCell::new(local.member));
        let directory = Arc::new(MemberDirectory::new(
            local,
            store.clone(),
            &options::listens(config),
        ));
        let barrier = Barrier::new(leadership.clone(), request_timeout);
        let fence = Arc::new(Fence::new(local.member, &store.read().alarms));
        let headers = Headers {
            cluster: local.cluster,
            member: local.member,
            leadership: leadership.clone(),
        };
        let hub = Hub::new(
            Arc::new(WatchedStore(store.clone())),
            Arc::new(headers),
            options::watch_config(config),
        );
        let tokens = Arc::new(Tokens::new(config.auth_token_ttl, log.last_index()));
        let journal = archive::journal(config.archive.as_ref(), &store);
        let sink = Sink {
            journal: journal.clone(),
            tokens: tokens.clone(),
            hub: hub.clone(),
            proposer: proposer.clone(),
            lessor: lessor.clone(),
            directory: directory.clone(),
            fence: fence.clone(),
            store: store.clone(),
            told: Told::new(local.cluster, local.member, &store.cluster()),
        };
        let warning = config.warning_apply_duration;
        let apply = ApplyThread::start(store.clone(), Arc::new(sink), metrics, warning).map_err(
            |source| BootError::System {
                what: "the apply thread".into(),
                source,
            },
        )?;
        let (stop, stopping) = channel(false);
        let seeds = Seeds {
            tokens,
            jwt,
            passwords: Passwords::new(config.bcrypt_cost),
            reader: super::memory::reader(config, store.clone()),
            fence,
            hub,
            homes,
            apply_stats: apply.stats(),
            stopping,
            local,
            request_timeout,
            election_timeout: config.raft.election_timeout,
            store: store.clone(),
            log: log.clone(),
            proposer: proposer.clone(),
            lessor: lessor.clone(),
            leadership: leadership.clone(),
            barrier: barrier.clone(),
        };
        let request_bytes = usize::try_from(config.limits.request_bytes_max);
        let beginning = Beginning {
            local,
            options: options::consensus_options(config, local.member),
            first_members,
            listeners,
            incoming,
            dial,
            arrivals,
            directory,
            limits: peer::Limits::for_requests_of(request_bytes.unwrap_or(usize::MAX)),
            rules: options::rules(config),
            request_timeout,
            attributes: options::attributes(config),
            store,
            log,
            proposer,
            lessor,
            leadership,
            barrier,
            auto_compaction: config.auto_compaction,
            checks: options::checks(config),
            snapshot_count: config.raft.snapshot_count,
            keep: options::keep(config, log_disk_bytes),
            log_held_bytes: LOG_HELD_BYTES_MAX.min(log_disk_bytes / 4),
        };
        Ok(Ready {
            started: Started {
                beginning,
                apply,
                stop,
                locks,
            },
            seeds,
            space,
            journal,
        })
    }
}

impl Seeds {
    /// What the edge is given, once consensus has begun.
    pub fn core(self, (door, membership): Begun) -> Core {
        let Seeds {
            tokens,
            jwt,
            passwords,
            reader,
            fence,
            hub,
            homes,
            apply_stats,
            stopping,
            local,
            request_timeout,
            election_timeout,
            store,
            log,
            proposer,
            lessor,
            leadership,
            barrier,
        } = self;
        Core {
            tokens,
            jwt: jwt.map(Arc::new),
            passwords,
            cluster: local.cluster,
            member: local.member,
            reader,
            snapshots: super::backend::snapshot_seats(),
            store,
            proposer,
            lateness: Lateness::new(
                local.member,
                leadership.clone(),
                election_timeout,
                door.peers.clone(),
            ),
            door,
            barrier,
            membership,
            fence,
            request_timeout,
            leaderless_max: options::leaderless_max(election_timeout),
            leadership,
            lessor,
            hub,
            homes,
            metrics: log.metrics().clone(),
            log,
            lease_ttl_min_seconds: options::lease_ttl_min(election_timeout),
            apply_stats,
            stopping,
            next_lease_id: AtomicU64::new(options::first_lease_id(local.member)),
        }
    }
}

impl RaftThread {
    /// Starts consensus. Returns once this member has published itself and applied what is committed:
    /// at once where it is alone, else when a leader has said so, or after [`READY_TIMEOUT`].
    ///
    /// # Errors
    /// See [`BootError`].
    pub fn start(
        config: &Config,
        booted: Booted,
        outside: Outside,
    ) -> Result<(Core, RaftThread), BootError> {
        let Ready {
            started,
            seeds,
            space,
            journal,
        } = Ready::new(config, booted, outside)?;
        let watching = space.watch(started.beginning.store.clone());
        watching.map_err(|source| BootError::System {
            what: "the thread that looks after the disk".into(),
            source,
        })?;
        let directory = started.beginning.directory.clone();
        let local = started.beginning.local;
        let (thread, begun) = spawn(started.beginning, started.apply, seeds.stopping.clone())?;
        let core = seeds.core(begun);
        if let Some((to, journal)) = config.archive.as_ref().zip(journal) {
            let asked = archive::Asked {
                leadership: core.leadership.clone(),
                barrier: core.barrier.clone(),
                log: core.log.clone(),
                proposer: core.proposer.clone(),
            };
            let (store, stopping) = (core.store.clone(), core.stopping.clone());
            archive::start(to, local, store, journal, asked, &core.metrics, stopping).map_err(
                |source| BootError::System {
                    what: "the log archive's thread".into(),
                    source,
                },
            )?;
        }
        let thread = RaftThread {
            thread,
            store: core.store.clone(),
            stop: started.stop,
            proposer: core.proposer.clone(),
            door: core.door.clone(),
            leadership: core.leadership.clone(),
            expelled: directory.expelled(),
            election_timeout: config.raft.election_timeout,
            _locks: started.locks,
        };
        Ok((core, thread))
    }

    /// Tells when this member is one no more, and why.
    pub fn expelled(&self) -> Receiver<Option<Refusal>> {
        self.expelled.clone()
    }

    /// Hands leadership to another voter where this member leads, and waits until that one leads:
    /// an election timeout at most. Clients are still served meanwhile.
    pub fn hand_over(&self) {
        let Some(to) = self.successor() else {
            return;
        };
        crate::log!(info, "leadership transfer starting", "transferee-member-id" = %to);
        let (sender, handed) = mpsc::channel();
        let (door, leadership) = (self.door.clone(), self.leadership.clone());
        drop(self.door.spawn(async move {
            if door.consensus.hand_over(to).await.is_ok() {
                leadership.led_by(to).await;
            }
            // Whoever waited may have given up.
            let _ = sender.send(());
        }));
        match handed.recv_timeout(self.election_timeout) {
            Ok(()) => {
                crate::log!(info, "leadership transfer finished", "transferee-member-id" = %to);
            }
            Err(_) => crate::log!(warn, "leadership was not taken over in time", to = %to),
        }
    }

    fn successor(&self) -> Option<MemberId> {
        if !self.leadership.leads() {
            return None;
        }
        self.door
            .consensus
            .replication()
            .successor(self.election_timeout)
    }

    /// Tells streams to end and refuses new proposals.
    pub fn announce_stop(&self) {
        self.stop.send_replace(true);
        self.proposer.stop();
    }

    /// Stops consensus, waits for what is committed to be applied, closes the log, and flushes the
    /// store: the process may end while a reader still has it open.
    pub fn stop(self) {
        self.announce_stop();
        if self.thread.join().is_err() {
            crate::log!(error, "the raft thread panicked");
        }
        self.store.engine().flush_for_stop();
    }
}

/// What the rest of the member gets of the thread.
pub type Begun = (Door, Membership);

fn spawn(
    beginning: Beginning,
    apply: ApplyThread,
    stopping: Receiver<bool>,
) -> Result<(JoinHandle<()>, Begun), BootError> {
    let system = |source| BootError::System {
        what: "the raft thread".into(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    let (started, starting) = oneshot::channel();
    let work = move || {
        run(&runtime, beginning, &apply, stopping, started);
        drop(runtime);
        apply.join();
    };
    let thread = threads::spawn("engram-raft", work).map_err(system)?;
    match starting.blocking_recv() {
        Ok(Ok(begun)) => Ok((thread, begun)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(BootError::FirstEntries(
            "the raft thread ended early".into(),
        )),
    }
}

fn run(
    runtime: &Runtime,
    beginning: Beginning,
    apply: &ApplyThread,
    mut stopping: Receiver<bool>,
    started: oneshot::Sender<Result<Begun, BootError>>,
) {
    runtime.block_on(async {
        threads::spawn_endless(threads::beat());
        let duties = match beginning.begin(apply, &stopping).await {
            Ok(duties) => duties,
            Err(error) => {
                // The starter waits for this; it cannot be gone.
                drop(started.send(Err(error)));
                return;
            }
        };
        drop(started.send(Ok((duties.door.clone(), duties.membership.clone()))));
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {}
            never = duties.tick() => match never {},
            failure = duties.door.consensus.failed() => end_process(
                failure,
                "start again; if it comes back, restore this member",
            ),
        }
        duties.store.headroom().close();
        duties.proposer.stop();
        duties.reclaimer.end();
        let stopped = tokio::time::timeout(STOP_MAX, duties.door.consensus.stop()).await;
        if stopped.is_err() {
            crate::log!(
                warn,
                "consensus waits for the log's disk: stopping all the same",
                waited = STOP_MAX
            );
        }
    });
}

impl Beginning {
    /// Starts everything that lives on this thread.
    pub async fn begin(
        mut self,
        apply: &ApplyThread,
        stopping: &Receiver<bool>,
    ) -> Result<Duties, BootError> {
        let dial = Arc::new(CountedDial {
            dial: self.dial.clone(),
            store: self.store.clone(),
            metrics: self.log.metrics().clone(),
        });
        let clients = Clients::new(self.directory.clone(), dial, self.limits);
        let network = Peers::new(
            clients.clone(),
            self.local.member,
            self.log.metrics().clone(),
        );
        let (log, store) = (self.log.clone(), self.store.clone());
        let is_new = log.is_pristine();
        let consensus = Consensus::start(&self.options, log, store, apply, network).await?;
        if is_new && !self.first_members.is_empty() {
            let members = self.first_members.iter().cloned().collect();
            consensus.initialize(members).await?;
        }
        let duties = self.duties(consensus.clone(), clients);
        let listeners = std::mem::take(&mut self.listeners);
        let arrivals = self.arrivals.take();
        self.serve_peers(listeners, arrivals, &duties, stopping)?;
        if consensus.is_sole_voter() {
            consensus.lead(LEAD_TIMEOUT).await?;
        }
        duties.observe().await;
        duties.spawn_tasks(LeaderRoute {
            leadership: self.leadership.clone(),
            consensus,
            peers: duties.door.peers.clone(),
            limit: self.request_timeout,
        });
        let joined = tokio::time::timeout(READY_TIMEOUT, async {
            duties.publish().await;
            duties.catch_up().await;
        });
        if joined.await.is_err() {
            crate::log!(
                warn,
                "no leader has told this member what is committed: serving what is here all the same",
                waited = READY_TIMEOUT
            );
            let duties = duties.clone();
            tokio::spawn(async move { duties.publish().await });
        }
        if self.checks.at_start
            && duties
                .comparison()
                .compare()
                .await
                .suspects(self.local.member)
        {
            return Err(BootError::Inconsistent(self.local.member));
        }
        Ok(duties)
    }

    fn duties(&self, consensus: Consensus, clients: Clients) -> Duties {
        let peers = PeerCalls::new(clients, self.store.clone(), self.log.metrics().clone());
        let membership = Membership::new(
            self.local.member,
            self.store.clone(),
            self.leadership.clone(),
            self.rules,
            self.log.metrics().clone(),
        );
        Duties {
            local: self.local,
            attributes: self.attributes.clone(),
            cluster_version: cluster_version(),
            election_timeout: self.options.election_timeout,
            snapshot_count: self.snapshot_count,
            keep: self.keep,
            log_held_bytes: self.log_held_bytes,
            store: self.store.clone(),
            log: self.log.clone(),
            proposer: self.proposer.clone(),
            lessor: self.lessor.clone(),
            leadership: self.leadership.clone(),
            barrier: self.barrier.clone(),
            membership,
            auto_compaction: self.auto_compaction,
            checks: self.checks,
            reclaimer: Reclaimer::new(self.store.clone()),
            directory: self.directory.clone(),
            looks_from: tokio::time::Instant::now(),
            lateness: Lateness::new(
                self.local.member,
                self.leadership.clone(),
                self.options.election_timeout,
                peers.clone(),
            ),
            door: Door::of_this_thread(consensus, peers),
        }
    }

    fn serve_peers(
        &self,
        listeners: Vec<PeerListener>,
        arrivals: Option<Arrivals>,
        duties: &Duties,
        stopping: &Receiver<bool>,
    ) -> Result<(), BootError> {
        let service = PeerService {
            local: self.local,
            consensus: duties.door.consensus.clone(),
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            lessor: self.lessor.clone(),
            barrier: self.barrier.clone(),
            membership: duties.membership.clone(),
            metrics: self.log.metrics().clone(),
            incoming: self.incoming.clone(),
        };
        let server = peer::Server::new(Arc::new(service), self.directory.clone(), self.limits);
        for bound in listeners {
            let listener = bound.socket.into_listener();
            let listener = listener.map_err(|source| BootError::System {
                what: "listening to peers".into(),
                source,
            })?;
            crate::log!(info, "serving peer traffic", address = %bound.url);
            let serving = peer::serve(listener, bound.security, server.clone(), stopping.clone());
            tokio::spawn(serving);
        }
        if let Some(arrivals) = arrivals {
            tokio::spawn(serve_arrivals(arrivals, server, stopping.clone()));
        }
        Ok(())
    }
}

/// Serves the connections that come another way than by a listener.
async fn serve_arrivals(
    mut arrivals: Arrivals,
    server: peer::Server<PeerService>,
    stopping: Receiver<bool>,
) {
    while let Some(io) = arrivals.recv().await {
        let (server, stop) = (server.clone(), stopping.clone());
        let info = PeerInfo::new(PeerAddress::Unix, false, None);
        tokio::spawn(threads::ForCaller::new(async move {
            server.serve_connection(io, info, stop).await;
        }));
    }
}
