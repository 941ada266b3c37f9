//! A member's parts, made over its opened data directory and joined: what runs is begun with them
//! (`beginning`), and what clients reach is made of them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch::{Receiver, Sender, channel};

use crate::auth::{Jwt, Passwords, Tokens};
use crate::config::Config;
use crate::home::Homes;
use crate::node::archive;
use crate::node::backend::Core;
use crate::node::barrier::Barrier;
use crate::node::beginning::{Beginning, Begun};
use crate::node::boot::{BootError, Booted, Locks};
use crate::node::directory::MemberDirectory;
use crate::node::fence::Fence;
use crate::node::late::Lateness;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::Lessor;
use crate::node::options;
use crate::node::parts::{Arrivals, Parts, Roads, Routine};
use crate::node::serve::PeerListener;
use crate::node::sink::{Headers, Sink, WatchedStore};
use crate::node::told::Told;
use crate::peer::{self, Dial, Local};
use crate::propose::{Proposer, Quota};
use crate::raft::{ApplyStats, ApplyThread};
use crate::read::Reader;
use crate::types::request::AlarmType;
use crate::watch::Hub;
use engram_archiver::Holding;

/// The most that is held for members that are catching up, by the log or a snapshot: what 5 MB/s write
/// while 64 GiB are sent, installed and followed up. Bytes; a quarter of the filesystem at most.
const LOG_HELD_BYTES_MAX: u64 = 16 << 30;

/// What a member is given beside the opened data directory.
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

/// A member's parts, joined, before anything of it runs: what is begun, and what the edge is made of
/// afterwards.
pub struct Ready {
    pub started: Started,
    pub seeds: Seeds,
    pub holding: Option<Holding>,
}

/// What is begun.
pub struct Started {
    pub beginning: Beginning,
    pub apply: ApplyThread,
    pub stop: Sender<bool>,
    pub locks: Locks,
}

/// What the edge is made of once consensus has begun.
pub struct Seeds {
    parts: Parts,
    access: Access,
    reader: Reader,
    hub: Arc<Hub>,
    homes: Homes,
    apply_stats: Arc<ApplyStats>,
    pub stopping: Receiver<bool>,
    request_timeout: Duration,
    election_timeout: Duration,
}

/// How clients show who they are, and whether anybody is served at all.
struct Access {
    tokens: Arc<Tokens>,
    jwt: Option<Jwt>,
    passwords: Passwords,
    fence: Arc<Fence>,
}

impl Ready {
    /// Joins the parts of a member over its opened data directory. Nothing runs yet but applying and the looks at
    /// the disk.
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
        let later = log.later().clone();
        let proposer = Proposer::new(local.member, request_timeout, quota, homes.clone(), later);
        let lessor = Arc::new(Lessor::new(metrics.clone()));
        let leadership = Arc::new(LeadershipCell::new(local.member));
        let directory = Arc::new(MemberDirectory::new(
            local,
            store.clone(),
            &options::listens(config),
        ));
        let barrier = Barrier::new(leadership.clone(), homes.clone(), request_timeout);
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
        let holding = archive::holding(config.archive.as_ref(), &store);
        let sink = Sink {
            journal: holding.as_ref().map(Holding::journal),
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
        let parts = Parts {
            local,
            store,
            log,
            proposer,
            lessor,
            leadership,
            barrier,
        };
        let seeds = Seeds {
            access: Access {
                tokens,
                jwt,
                passwords: Passwords::new(config.bcrypt_cost),
                fence,
            },
            reader: crate::node::memory::reader(config, parts.store.clone()),
            hub,
            homes,
            apply_stats: apply.stats(),
            stopping,
            request_timeout,
            election_timeout: config.raft.election_timeout,
            parts: parts.clone(),
        };
        let request_bytes = usize::try_from(config.limits.request_bytes_max);
        let beginning = Beginning {
            parts,
            consensus: options::consensus_options(config, local.member),
            first_members,
            roads: Roads {
                listeners,
                dial,
                arrivals,
                directory,
                limits: peer::Limits::for_requests_of(request_bytes.unwrap_or(usize::MAX)),
                incoming,
            },
            rules: options::rules(config),
            request_timeout,
            attributes: options::attributes(config),
            routine: Routine {
                auto_compaction: config.auto_compaction,
                checks: options::checks(config),
                snapshot_count: config.raft.snapshot_count,
                keep: options::keep(config, log_disk_bytes),
                log_held_bytes: LOG_HELD_BYTES_MAX.min(log_disk_bytes / 4),
            },
        };
        // Before anything is begun, which may apply a log that takes room.
        let watching = space.watch(beginning.parts.store.clone());
        watching.map_err(|source| BootError::System {
            what: "the thread that looks after the disk".into(),
            source,
        })?;
        Ok(Ready {
            started: Started {
                beginning,
                apply,
                stop,
                locks,
            },
            seeds,
            holding,
        })
    }
}

impl Seeds {
    /// What the edge is given, once consensus has begun.
    pub fn core(self, (door, membership): Begun) -> Core {
        let Seeds {
            access,
            reader,
            hub,
            homes,
            apply_stats,
            stopping,
            request_timeout,
            election_timeout,
            parts,
        } = self;
        let Access {
            tokens,
            jwt,
            passwords,
            fence,
        } = access;
        let Parts {
            local,
            store,
            log,
            proposer,
            lessor,
            leadership,
            barrier,
        } = parts;
        Core {
            tokens,
            jwt: jwt.map(Arc::new),
            passwords,
            cluster: local.cluster,
            member: local.member,
            reader,
            snapshots: crate::node::backend::snapshot_seats(),
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
