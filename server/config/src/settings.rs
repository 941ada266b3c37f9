//! The configuration as the rest of the server sees it: checked, typed, immutable.
//!
//! Defaults, units and limits stand in [`super::table`]; where a setting means "off" or "not
//! given" the type says so.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gates::FeatureGates;
use super::url::{Address, ListenUrl};
use crate::trace;

/// The configuration of one member. Made by [`super::parse`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the member, not empty in practice but not checked, as in etcd.
    pub name: String,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Directory of the write-ahead log if it is not to lie in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where to listen.
    pub listen: Listen,
    /// What to tell others about where this member is.
    pub advertise: Advertise,
    /// The cluster to form or to join.
    pub cluster: Cluster,
    /// Timing and log of Raft.
    pub raft: Raft,
    /// Limits on size and number.
    pub limits: Limits,
    /// Pings on client connections.
    pub keepalive: Keepalive,
    /// TLS towards clients.
    pub client_tls: TlsFiles,
    /// TLS between members.
    pub peer_tls: TlsFiles,
    /// What holds for all TLS.
    pub tls_policy: TlsPolicy,
    /// HTTP on the client's listeners.
    pub http: Http,
    /// The kind of token.
    pub auth_token: AuthToken,
    /// How long a simple token counts after its last use, > 0. Default 300 s.
    pub auth_token_ttl: Duration,
    /// The cost of new passwords' hashes, 4 to 31. Default 10.
    pub bcrypt_cost: u32,
    /// What is compacted without being asked.
    pub auto_compaction: AutoCompaction,
    /// Comparisons of members' data.
    pub corruption: Corruption,
    /// Where the leader archives every revision, if it does.
    pub archive: Option<Archive>,
    /// Where spans of calls go, if there are any.
    pub tracing: Option<Tracing>,
    /// Time between two progress notifications of a watch, > 0. Default 10 min.
    pub watch_progress_notify_interval: Duration,
    /// Applying a request longer than this is logged. Default 100 ms.
    pub warning_apply_duration: Duration,
    /// A unary request longer than this is logged, > 0. Default 300 ms.
    pub warning_unary_request_duration: Duration,
    /// Reclaimable space, in megabytes, that starts a defragmentation at start; 0 is off.
    pub bootstrap_defrag_threshold_megabytes: u64,
    /// Do not wait for the disk. Loses acknowledged writes when the machine fails.
    pub unsafe_no_fsync: bool,
    /// Feature gates.
    pub feature_gates: FeatureGates,
    /// The log.
    pub log: trace::Options,
}

/// Where to listen. Each list is sorted by its text and holds a URL once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For other members.
    pub peer: Vec<ListenUrl>,
    /// For clients.
    pub client: Vec<ListenUrl>,
    /// For HTTP only. If not empty, `client` serves gRPC only.
    pub client_http: Vec<ListenUrl>,
    /// For metrics and health only. `https` uses the client's TLS files.
    pub metrics: Vec<ListenUrl>,
    /// Set SO_REUSEPORT.
    pub reuse_port: bool,
}

/// URLs to tell others, sorted by their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// For other members.
    pub peer: Vec<ListenUrl>,
    /// For clients.
    pub client: Vec<ListenUrl>,
}

/// Whether a member without data forms a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Form it.
    New,
    /// Join it.
    Existing,
}

/// A member that `--initial-cluster` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name; members without one share the empty name.
    pub name: String,
    /// Its peer URLs, sorted by their text.
    pub peer_urls: Vec<ListenUrl>,
}

/// The cluster to form or to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its members in the order of names, each name once. Empty if they are to be discovered.
    pub initial: Vec<InitialMember>,
    /// Form it or join it.
    pub state: ClusterState,
    /// Goes into the ids of cluster and members.
    pub token: String,
    /// How to find its members, if not by `initial`.
    pub discovery: Discovery,
    /// Refuse membership changes that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// Learners that may exist at a time. Default 1.
    pub learners_max: usize,
    /// Make this member the only one, keeping its data.
    pub force_new_cluster: bool,
    /// Whether `initial` follows from the name and the advertised URLs.
    pub initial_follows_name: bool,
}

/// How to find a cluster that `--initial-cluster` does not name. All empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Endpoints of a discovery service.
    pub endpoints: Vec<String>,
    /// The cluster's token at the discovery service.
    pub token: String,
    /// Domain with SRV records.
    pub srv_domain: String,
    /// Suffix of the service's name in the SRV records.
    pub srv_name: String,
    /// How long the discovery service may take to be reached.
    pub dial_timeout: Duration,
    /// How long it may take to answer.
    pub request_timeout: Duration,
    /// How often it is asked whether it still is there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
    /// Whether an endpoint without a scheme is asked over TLS.
    pub requires_tls: bool,
    /// The files for TLS with it.
    pub tls: TlsFiles,
    /// Who asks, and the password. Shown by no message.
    pub user: Option<(String, String)>,
}

impl Discovery {
    /// Whether endpoints without a scheme are asked over TLS.
    #[must_use]
    pub fn is_over_tls(&self) -> bool {
        self.requires_tls || self.tls.cert.is_some() || self.tls.trusted_ca.is_some()
    }

    /// Whether the cluster is to be discovered.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        !self.endpoints.is_empty() || !self.srv_domain.is_empty()
    }
}

/// Timing and log of Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Time between two heartbeats, 1 ms to 10 s.
    pub heartbeat_interval: Duration,
    /// Election timeout, at least 5 heartbeat intervals and at most 50 s.
    pub election_timeout: Duration,
    /// Log entries between two snapshots, > 0. Default 10 000.
    pub snapshot_count: u64,
    /// Log entries kept behind a snapshot, > 0. Default 5 000.
    pub snapshot_catchup_entries: u64,
}

/// Limits on size and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the store, in bytes, at which writes are refused; `None` is no limit. Default 2 GiB.
    pub quota_backend_bytes: Option<u64>,
    /// Operations in a transaction. Default 128.
    pub txn_ops_max: u64,
    /// Bytes of a request. Default 1.5 MiB.
    pub request_bytes_max: u64,
    /// Streams of a client connection. Default 2^32 - 1.
    pub concurrent_streams_max: u32,
    /// Bytes for current values in memory; `None` leaves the choice to the caller, who knows the
    /// machine: the smaller of 512 MiB and a quarter of the memory limit.
    pub value_cache_bytes: Option<u64>,
    /// Bytes for answers under construction; `None` leaves the choice to the caller: a quarter of
    /// the memory limit.
    pub answer_budget_bytes: Option<u64>,
    /// Threads that serve connections, 1 to 256; `None` leaves the choice to the caller.
    pub io_threads: Option<usize>,
}

/// Pings on client connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Time that a client must leave between pings. Default 5 s.
    pub client_interval_min: Duration,
    /// Time between the server's pings; `None` is off. Default 2 h.
    pub interval: Option<Duration>,
    /// Time that a client has to answer; `None` is no limit. Default 20 s.
    pub timeout: Option<Duration>,
}

/// TLS of one side, by files. All absent by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate and intermediates.
    pub cert: Option<PathBuf>,
    /// Key of `cert`. Present exactly when `cert` is, if a listener has TLS.
    pub key: Option<PathBuf>,
    /// Certificate for connections that this member makes, if not `cert`.
    pub client_cert: Option<PathBuf>,
    /// Key of `client_cert`. Present exactly when `client_cert` is, if a listener has TLS.
    pub client_key: Option<PathBuf>,
    /// CA bundle that verifies the other end.
    pub trusted_ca: Option<PathBuf>,
    /// Revoked certificates.
    pub crl: Option<PathBuf>,
    /// Ask the other end for a certificate.
    pub client_cert_auth: bool,
    /// Common names of which the other end's certificate must hold one; empty allows all.
    pub allowed_common_names: Vec<String>,
    /// Names of which the other end's certificate must hold one; empty allows all.
    pub allowed_hostnames: Vec<String>,
    /// Do not compare the other end's address with its certificate.
    pub skip_client_san_verification: bool,
    /// Make a certificate, because none is given and one is asked for.
    pub self_signed: bool,
}

impl TlsFiles {
    /// Whether neither certificate nor key is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert.is_none() && self.key.is_none()
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What holds for all TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Oldest version.
    pub version_min: TlsVersion,
    /// Newest version; `None` is the newest there is.
    pub version_max: Option<TlsVersion>,
    /// Suites for TLS 1.2 by their IANA names, all of them known to etcd but not all of them
    /// implemented here; empty means a safe choice.
    pub cipher_suites: Vec<String>,
    /// Years that a certificate made here is valid.
    pub self_signed_cert_validity_years: u64,
}

/// How much detail metrics have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsDetail {
    /// Counters for every RPC.
    Basic,
    /// Histograms for every RPC as well.
    Extensive,
}

/// HTTP on the client's listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Origins whose pages may read answers; `*` is all of them.
    pub cors_origins: BTreeSet<String>,
    /// Host names that requests without TLS may ask for; `*` is all of them.
    pub host_whitelist: BTreeSet<String>,
    /// Whether the JSON gateway answers under `/v3`.
    pub gateway: bool,
    /// Detail of metrics.
    pub metrics: MetricsDetail,
    /// Whether profiles are answered under `/debug/pprof`.
    pub profiles: bool,
}

/// Spans of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The collector, `host:port`.
    pub address: String,
    /// The service's name in them.
    pub service_name: String,
    /// This member's id in them.
    pub instance_id: Option<String>,
    /// Calls out of a million that have spans where the caller does not say, 0 to 1,000,000.
    pub rate_per_million: u32,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    /// No tokens: only certificates.
    None,
    /// Random, known to the cluster.
    Simple,
    /// Signed.
    Jwt {
        /// Name of the method, as RFC 7518 has it; checked by whoever signs.
        sign_method: String,
        /// Public key.
        public_key: Option<PathBuf>,
        /// Private key.
        private_key: Option<PathBuf>,
        /// Time that a token is valid. Default 5 min.
        ttl: Duration,
    },
}

/// What is compacted without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Nothing.
    Off,
    /// History older than this, > 0.
    Periodic(Duration),
    /// All but this many of the newest revisions, > 0.
    Revision(i64),
}

/// Comparisons of members' data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Time between two comparisons of everything; `None` is off, the default.
    pub check_time: Option<Duration>,
    /// Time between two comparisons of hashes of compacted data, > 0. Default 1 min.
    pub compact_hash_check_time: Duration,
}

/// The log archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The URL of the store of objects; it is not looked for before it is written to.
    pub url: String,
    /// The cluster's name there.
    pub cluster: String,
    /// Files with the keys that it is encrypted with, the one that writes first; none: it is not.
    pub key_files: Vec<PathBuf>,
    /// How far the archive may be behind while its store answers. Default 10 s.
    pub delay_max: Duration,
    /// Bytes of records after which a segment ends. Default 8 MiB.
    pub segment_bytes: usize,
    /// Bytes written to the log for which compaction waits for the archive. Default 1 GiB.
    pub backlog_bytes: u64,
}

impl Config {
    /// `<data-dir>/member`, which holds all of the member's data.
    #[must_use]
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// The directory of the write-ahead log.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        match &self.wal_dir {
            Some(dir) => dir.clone(),
            None => self.member_dir().join("wal"),
        }
    }

    /// Time that a request may take before it is answered with "request timed out": 5 s for
    /// queues, computing and disk, and two election timeouts for an election (etcd's rule).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.raft.election_timeout
    }

    /// Whether a data directory without a member forms a new cluster.
    #[must_use]
    pub fn is_new_cluster(&self) -> bool {
        self.cluster.state == ClusterState::New
    }

    /// This configuration with default advertised URLs made reachable, as etcd does it: where the
    /// member listens on `0.0.0.0` and advertises only the default `localhost`, it advertises
    /// `host`, the machine's address on its default route, instead.
    #[must_use]
    pub fn with_default_host(mut self, host: IpAddr) -> Self {
        replace_default_host(&mut self.advertise.peer, &self.listen.peer, 2380, host);
        if self.cluster.initial_follows_name {
            self.cluster.initial = initial_from_name(&self.name, &self.advertise.peer);
        }
        replace_default_host(&mut self.advertise.client, &self.listen.client, 2379, host);
        self
    }
}

fn replace_default_host(
    advertised: &mut [ListenUrl],
    listened: &[ListenUrl],
    default_port: u16,
    host: IpAddr,
) {
    let [advertised] = advertised else { return };
    let Some(Address::Tcp { host: bound, port }) = listened.first().map(|url| &url.address) else {
        return;
    };
    if bound != "0.0.0.0" || advertised.to_string() != format!("http://localhost:{default_port}") {
        return;
    }
    advertised.address = Address::Tcp {
        host: host.to_string(),
        port: *port,
    };
}

/// The cluster of this member alone.
pub(super) fn initial_from_name(name: &str, peer_urls: &[ListenUrl]) -> Vec<InitialMember> {
    if peer_urls.is_empty() {
        return Vec::new();
    }
    let name = if name.is_empty() { "default" } else { name };
    vec![InitialMember {
        name: name.to_owned(),
        peer_urls: peer_urls.to_vec(),
    }]
}

/// `None` for the empty text.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| Path::new(text).to_path_buf())
}
