//! Opening a data directory: whose it is, its engine, its log, its state.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::adopt;
use crate::auth::Jwt;
use crate::config::{ClusterState, Config};
use crate::fatal::end_process;
use crate::fs::{self, DirLock, DirMode, FileLock};
use crate::metrics::Metrics;
use crate::node::identity::{self, FirstMember};
use crate::node::space::{self, SpaceGuard};
use crate::node::{adoption, defragment, discovery, memory, own_log, tls, token, told};
use crate::peer::{self, Dial};
use crate::raft::LogStore;
use crate::snapshot::restore;
use crate::state::{Limits, LoadError};
use crate::storage::{
    Engine, EngineOptions, IDENTITY_FILE, Identity, IdentityError, LogPosition, OpenError, Place,
    PlaceError, place,
};
use crate::store::{self, Store};
use crate::types::{ClusterId, MemberId};
use crate::wal;

/// The log's directory in the data directory, unless `--wal-dir` names another.
pub(in crate::node) const WAL_DIR: &str = "wal";
/// Encoded entries that the log itself keeps for readers, bytes.
const WAL_CACHE_BYTES: usize = 1 << 20;
/// The value cache's default: the smaller of this and a quarter of the memory. Bytes.
const VALUE_CACHE_DEFAULT: u64 = 512 << 20;

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The flags do not describe a cluster with this member in it.
    #[error(transparent)]
    Bootstrap(#[from] crate::config::BootstrapError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] fs::DirError),
    /// Another process uses it.
    #[error(transparent)]
    Lock(#[from] fs::LockError),
    /// It holds an etcd's data, and that cannot be adopted.
    #[error("{} holds data of etcd, which is not adopted: {source}; nothing was changed", dir.display())]
    EtcdData {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: adopt::AdoptError,
    },
    /// Another member of its cluster still runs etcd.
    #[error("{} holds data of etcd, which is not adopted: member {member} of its cluster still runs etcd at {url}, and etcd and engram do not speak to each other: stop etcd on every member, then start engram on all of them; nothing was changed", dir.display())]
    EtcdRuns {
        /// The directory.
        dir: PathBuf,
        /// Who answered.
        member: MemberId,
        /// Where.
        url: String,
    },
    /// An etcd was started on the directory that had been adopted.
    #[error("an etcd was started again on {} after engram had adopted it, and wrote: engram's data holds what engram acknowledged, and not what that etcd was given since; to go on with engram's data move that directory away, then start again", .0.display())]
    EtcdAgain(PathBuf),
    /// The etcd's directory that was adopted cannot be looked at, or its log not be taken over.
    #[error("adopting etcd's data directory: {0}")]
    Adopt(#[from] adopt::AdoptError),
    /// An etcd was started on it, and was written to.
    #[error(
        "{} was made by an etcd that was started on this data directory of engram, and holds what clients wrote to it: engram's own data beside it is whole; to go on with engram's data move that directory away, then start again; to keep what etcd was given, take a snapshot of it with etcd first",
        .0.display()
    )]
    EtcdBeside(PathBuf),
    /// The log was written before the data directory was restored.
    #[error(
        "the write-ahead log was not written by this restored member: move the directory of --wal-dir away, then start"
    )]
    OtherLog,
    /// The member had begun a log.
    #[error(
        "the write-ahead log in {} is missing, and this member had begun one: nothing was changed; mount the volume that holds it, or correct --wal-dir, and start again; if it is lost for good, this member must not vote on what it had promised: remove it from the cluster and add it anew with an empty --data-dir, or restore a backup if it was the only member",
        .0.display()
    )]
    LogLost(PathBuf),
    /// The log's data directory is not this one.
    #[error(
        "{} holds a write-ahead log, and the data directory {} has no identity: nothing was changed; mount the data directory that belongs to the log, or move the log away, then start",
        log.display(), data.display()
    )]
    LogWithoutData {
        /// The log's directory.
        log: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
    /// A restore into it did not finish.
    #[error("{}: a restore into this directory did not finish: run it again, then start", .0.display())]
    UnfinishedRestore(PathBuf),
    /// It is another member's.
    #[error(
        "the data directory belongs to member {found} of cluster {found_cluster}, the flags name member {wanted} of cluster {wanted_cluster}: correct --initial-cluster, --initial-advertise-peer-urls and --initial-cluster-token, or choose another --data-dir"
    )]
    OtherMember {
        /// Whose it is.
        found: MemberId,
        /// Of which cluster.
        found_cluster: ClusterId,
        /// Whom the flags name.
        wanted: MemberId,
        /// Of which cluster.
        wanted_cluster: ClusterId,
    },
    /// This member had a data directory once.
    #[error(
        "member {0} has already been bootstrapped: its data directory was lost or is not this one, and without what it promised it must not vote; on another member run `etcdctl member remove {0}` and `etcdctl member add`, then start this one with an empty --data-dir and --initial-cluster-state=existing"
    )]
    AlreadyBootstrapped(MemberId),
    /// Nobody told who the members of the cluster to join are.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs: {0}"
    )]
    NobodyToJoin(String),
    /// The flags and the cluster to join name other members.
    #[error(
        "error validating peerURLs: {0}: --initial-cluster must name the members that `etcdctl member list` shows, and this one as `etcdctl member add` printed it"
    )]
    OtherMembers(String),
    /// This member's data differs from the others'.
    #[error(
        "{0} found data inconsistency with peers: remove this member and add it anew with an empty --data-dir"
    )]
    Inconsistent(MemberId),
    /// The cluster knows this member by another data directory.
    #[error(
        "{0}; on another member run `etcdctl member remove` and `etcdctl member add`, then start this one with an empty --data-dir and --initial-cluster-state=existing"
    )]
    Replaced(crate::peer::Refusal),
    /// Its identity cannot be told.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Which store counts cannot be told.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its store is damaged.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Its log is damaged.
    #[error(transparent)]
    Log(#[from] wal::RecoverError),
    /// Its log says what consensus cannot go on with.
    #[error(transparent)]
    LogRefused(#[from] crate::raft::LogRefused),
    /// Its log has lost its end.
    #[error(
        "the log ends at entry {last} but entry {applied} was applied: the log's last segment is missing; restore this member from the others or from a backup"
    )]
    LogBehindStore {
        /// The last entry applied.
        applied: u64,
        /// The last entry in the log.
        last: u64,
    },
    /// Its state is damaged.
    #[error(transparent)]
    State(#[from] LoadError),
    /// Log and store do not fit each other, or consensus refuses the flags.
    #[error(transparent)]
    Consensus(#[from] crate::raft::StartError),
    /// TLS files do not do what the flags ask of them.
    #[error(transparent)]
    Tls(#[from] crate::net::tls::TlsError),
    /// The keys of `--auth-token` are not what it says.
    #[error(transparent)]
    Token(#[from] crate::node::token::TokenError),
    /// The cluster that the flags ask to be found was not.
    #[error(transparent)]
    Discovery(#[from] crate::node::discovery::DiscoveryError),
    /// A thread, signal or socket is not to be had.
    #[error("{what}: {source}")]
    System {
        /// What was wanted.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The first entries of a new cluster could not be written.
    #[error("the new cluster could not be written to the log: {0}")]
    FirstEntries(String),
}

/// What keeps other processes out of a data directory: our lock, and etcd's where its files still
/// lie beside ours.
pub struct Locks {
    _ours: DirLock,
    _etcds: Option<FileLock>,
}

/// A data directory, opened.
pub struct Booted {
    /// Holds the directory against a second process.
    pub locks: Locks,
    /// Whose it is.
    pub identity: Identity,
    /// The first members of a cluster that this member forms; none where it joins one.
    pub first_members: Vec<FirstMember>,
    /// Where a snapshot from the leader is received.
    pub incoming: PathBuf,
    /// The applied state.
    pub store: Arc<Store>,
    /// The log.
    pub log: LogStore,
    /// JSON Web Tokens, where `--auth-token` asks for them.
    pub jwt: Option<Jwt>,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// What looks after the disk.
    pub space: Arc<SpaceGuard>,
    /// Bytes of the filesystem that the log lies on.
    pub log_disk_bytes: u64,
}

/// Opens the data directory that `config` names, making it where it is not there.
///
/// # Errors
/// See [`BootError`]; nothing that was there is changed then.
pub fn open(config: &Config, dial: &Arc<dyn Dial>) -> Result<Booted, BootError> {
    open_with(config, dial, |log| log)
}

/// The same with the log's options tuned.
///
/// # Errors
/// See [`open`].
pub fn open_with(
    config: &Config,
    dial: &Arc<dyn Dial>,
    tune: impl FnOnce(wal::Options) -> wal::Options,
) -> Result<Booted, BootError> {
    let jwt = token::open(&config.auth_token)?;
    let started = Instant::now();
    let dir = &config.data_dir;
    refuse_foreign(dir)?;
    let wal_dir = config.wal_dir.clone().unwrap_or_else(|| dir.join(WAL_DIR));
    let etcds = adoption::settle(config, dial, &wal_dir)?;
    let found = match Identity::load(dir) {
        // The others know nothing of that, and would say something else.
        Err(error @ (IdentityError::Damaged | IdentityError::Format(_))) => {
            return Err(error.into());
        }
        found => found,
    };
    told::life::directory(config, matches!(found, Ok(Some(_))));
    if let Ok(found) = &found {
        own_log::refuse_other(dir, &wal_dir, found.as_ref())?;
    }
    let discovered = match &found {
        Ok(Some(_)) => None,
        Ok(None) | Err(_) => discovery::settle(config)?,
    };
    let config = discovered.as_ref().unwrap_or(config);
    let chosen = match found {
        Ok(Some(_)) => None,
        // Before anything is made: a corrected start finds nothing in its way. A directory that
        // cannot be read says so better below.
        Ok(None) | Err(_) => Some(identity::choose(config, dial)?),
    };
    make_private(dir)?;
    let lock = DirLock::acquire(dir)?;
    let identity = identify(config, dir, chosen, dial)?;
    let metrics = Arc::new(Metrics::new());
    let gates = config.feature_gates.all();
    let gates = gates.map(|(name, stage, on)| (name, stage.name(), on));
    metrics.operations.features(gates);
    let (place, installed) = Place::find(dir)?;
    remove_leftovers(&place)?;
    make_private(&wal_dir)?;
    let space = Arc::new(SpaceGuard::new(dir, &wal_dir));
    let store = Arc::new(open_store(config, &place)?);
    let threshold = config.bootstrap_defrag_threshold_megabytes;
    defragment::at_boot(&store, threshold, &metrics.operations);
    let options = tune(wal_options(
        config,
        own_log::owner(&identity),
        space.clone(),
        metrics.clone(),
    ));
    let (wal, recovered) = wal::open(&wal_dir, options)?;
    if let Some(cut) = &recovered.cut {
        crate::log!(warn, "cut a torn write off the log's end", file = %cut.file.display(),
            offset = cut.offset, bytes = cut.bytes);
    }
    let log = LogStore::new(wal, recovered, metrics.clone())?;
    finish_install(installed, &store, &log)?;
    // The log is durable by now, and nothing was promised in it yet.
    if !Identity::log_is_begun(dir)? {
        adopt::carry_log(dir, &log, adoption::rules(config))?;
        identity.note_log_begun(dir)?;
    }
    refuse_shorter_log(&store, &log)?;
    log.refuse_mark_beyond()?;
    if config.cluster.force_new_cluster {
        force_new_cluster(config, &identity, &store, &log)?;
    }
    crate::log!(info, "opened data directory", "data-dir" = %dir.display(),
        "member-id" = %identity.member, "cluster-id" = %identity.cluster,
        revision = store.revision().0, keys = store.read().mvcc.keys_total(), took = started.elapsed());
    told::life::opened(&told::life::Opened {
        cluster: identity.cluster,
        local: identity.member,
        is_new: log.is_pristine(),
        commit_index: log.committed_index(),
        revision: store.revision(),
        version: store.cluster().version.as_deref(),
    });
    Ok(Booted {
        locks: Locks {
            _ours: lock,
            _etcds: etcds,
        },
        identity,
        first_members: match config.cluster.state {
            ClusterState::New => identity::first_members(config),
            ClusterState::Existing => Vec::new(),
        },
        incoming: place::incoming_dir(dir),
        store,
        log,
        jwt,
        metrics,
        space,
        // Where it cannot be told, the constants hold.
        log_disk_bytes: fs::space(&wal_dir).map_or(u64::MAX, |disk| disk.total_bytes),
    })
}

fn make_private(dir: &Path) -> Result<(), BootError> {
    match fs::create_private_dir(dir)? {
        DirMode::Created | DirMode::Private => {}
        DirMode::Tightened { from } => {
            crate::log!(warn, "others could read the directory: made it private",
                dir = %dir.display(), mode = format!("{from:o}"));
        }
        DirMode::Shared { mode } => {
            crate::log!(warn, "the directory belongs to another user and others may read it",
                dir = %dir.display(), mode = format!("{mode:o}"));
        }
    }
    Ok(())
}

/// An entry that was applied was in the log, durably: a log that ends before it has lost its end
/// (its youngest segment was deleted, or a backup of it was put back).
fn refuse_shorter_log(store: &Store, log: &LogStore) -> Result<(), BootError> {
    let (applied, last) = (store.applied_index(), log.last_index());
    if applied > last {
        return Err(BootError::LogBehindStore { applied, last });
    }
    Ok(())
}

/// What other stores, transfers and checkpoints a crash left.
fn remove_leftovers(place: &Place) -> Result<(), BootError> {
    place.clean().map_err(|source| BootError::System {
        what: "removing what a snapshot left behind".into(),
        source,
    })
}

/// The log is purged after a snapshot is in force. A crash between leaves a log that ends before the
/// store: as long as nothing was applied after the snapshot, the log has lost nothing, and begins
/// after it.
fn finish_install(
    installed: Option<LogPosition>,
    store: &Store,
    log: &LogStore,
) -> Result<(), BootError> {
    let Some(installed) = installed else {
        return Ok(());
    };
    // Terms begin with 1: at 0 is what a restore wrote, and its log begins with it.
    if installed.term == 0 && log.last_index() > 0 && log.purged_index() < installed.index {
        return Err(BootError::OtherLog);
    }
    if store.applied_index() != installed.index || log.last_index() >= installed.index {
        return Ok(());
    }
    crate::log!(
        info,
        "the log begins after the snapshot that was installed last",
        index = installed.index,
        last = log.last_index()
    );
    log.begin_after(installed)
        .map_err(|source| BootError::System {
            what: "the log's new beginning".into(),
            source,
        })
}

/// Makes this member the only one, keeping its data.
fn force_new_cluster(
    config: &Config,
    identity: &Identity,
    store: &Store,
    log: &LogStore,
) -> Result<(), BootError> {
    if log.is_pristine() {
        return Ok(());
    }
    let known = store.read().members.get(identity.member).cloned();
    let peer_urls = match known {
        Some(member) => member.peer_urls,
        None => config
            .advertise
            .peer
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    crate::log!(warn, "--force-new-cluster: this member goes on alone", member = %identity.member);
    let forced = log.make_sole(identity.member, peer_urls);
    forced.map_err(|source| BootError::System {
        what: "the log's new configuration".into(),
        source,
    })
}

/// Refuses a directory that may be another database's. Whatever else lies in it is left alone and
/// named, as etcd does.
fn refuse_foreign(dir: &Path) -> Result<(), BootError> {
    let names = match fs::file_names(dir) {
        Ok(names) => names,
        // Not there, or not readable: making or locking it says so better.
        Err(_) => return Ok(()),
    };
    if names.iter().any(|name| name == restore::UNFINISHED) {
        return Err(BootError::UnfinishedRestore(dir.to_path_buf()));
    }
    for name in names.iter().filter(|name| !is_known(name)) {
        crate::log!(warn, "found invalid file under data directory", filename = name.as_str(),
            "data-dir" = %dir.display());
    }
    Ok(())
}

/// Whether engram, an etcd or the file system makes such a name in a data directory.
fn is_known(name: &str) -> bool {
    name.starts_with(IDENTITY_FILE)
        || place::is_ours(name)
        || name == WAL_DIR
        || name == adopt::ETCD_DIR
        || name == adopt::UNFINISHED
        || name.starts_with(adopt::FILE)
        || name.starts_with("LOCK")
        || name == space::FILE
        || name == tls::FIXTURES_DIR
        || name.starts_with(restore::ORIGIN)
        || name.starts_with(crate::node::offline::ALONE)
        || name == "lost+found"
}

/// The identity of the directory, which is given the chosen one where it has none.
fn identify(
    config: &Config,
    dir: &Path,
    chosen: Option<Identity>,
    dial: &Arc<dyn Dial>,
) -> Result<Identity, BootError> {
    if let Some(found) = Identity::load(dir)? {
        // As etcd does, whose flags an adopted directory goes on with: the directory counts.
        // And so it does where the flags name nobody.
        if !config.cluster.discovery.is_asked_for()
            && adopt::Adoption::load(dir)
                .map_err(adopt::AdoptError::from)?
                .is_none()
        {
            identity::refuse_other(config, &found)?;
        }
        return Ok(found);
    }
    // Nothing is chosen only where somebody has emptied the directory a moment ago.
    let identity = chosen.map_or_else(|| identity::choose(config, dial), Ok)?;
    identity.store(dir)?;
    Ok(identity)
}

fn open_store(config: &Config, place: &Place) -> Result<Store, BootError> {
    let quarter = memory::limit_bytes() / 4;
    let cache = config
        .limits
        .value_cache_bytes
        .unwrap_or(VALUE_CACHE_DEFAULT.min(quarter));
    let limits = Limits {
        value_cache_bytes: usize::try_from(cache).unwrap_or(usize::MAX),
    };
    let store_dir = place.dir();
    make_private(&store_dir)?;
    let engine = Engine::open(&store_dir, EngineOptions::default())?;
    let tables = engine.tables()?;
    let state = store::load(limits, tables, &engine)?;
    let applied = engine
        .applied()?
        .log_position
        .map_or(0, |position| position.index);
    Ok(Store::new(state, engine, applied))
}

fn wal_options(
    config: &Config,
    owner: wal::Owner,
    space: Arc<SpaceGuard>,
    metrics: Arc<Metrics>,
) -> wal::Options {
    let request = usize::try_from(config.limits.request_bytes_max).unwrap_or(usize::MAX);
    let entry = peer::Limits::for_requests_of(request).message_bytes;
    let guard = space.clone();
    wal::Options {
        owner,
        sync: !config.unsafe_no_fsync,
        on_fatal: Arc::new(|error| {
            end_process(
                error,
                "once the disk is healthy, start again: nothing acknowledged is lost",
            )
        }),
        on_space: Arc::new(move |found| space.found(found)),
        on_written: Arc::new(move |took| metrics.parts.wal_write.observe(took.as_secs_f64())),
        may_grow: Arc::new(move |bytes| guard.may_grow_log(bytes)),
        segment_bytes: own_log::segment_bytes(entry),
        // The log store above it keeps the recent entries already, decoded.
        cache_bytes: WAL_CACHE_BYTES,
        ..wal::Options::default()
    }
}
