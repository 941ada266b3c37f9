//! How a member begins and ends, in the words of etcd's log.

use crate::config::{Config, ETCD_VERSION, ListenUrl};
use crate::types::{ClusterId, MemberId, Revision};

/// What etcd calls its one quota that is told of.
const QUOTA: &str = "v3-applier";

/// Its data, its log, or the others keep the member from beginning.
pub fn bootstrap_failed(error: &impl std::fmt::Display) {
    crate::log!(error, "bootstrap failed", error = %error);
}

/// Tells with what the process starts. Not its arguments, as etcd does: passwords may be among them.
pub fn starting(config: &Config) {
    let (listen, advertise) = (&config.listen, &config.advertise);
    let (peers, clients) = (urls(&listen.peer), urls(&listen.client));
    crate::log!(
        info,
        "configuring peer listeners",
        "listen-peer-urls" = peers
    );
    crate::log!(
        info,
        "configuring client listeners",
        "listen-client-urls" = clients
    );
    let members = config.cluster.initial.iter();
    let initial = members.flat_map(|member| {
        let urls = member.peer_urls.iter();
        urls.map(|url| format!("{}={url}", member.name))
    });
    let initial: Vec<String> = initial.collect();
    crate::log!(
        info, "starting an etcd server",
        "etcd-version" = ETCD_VERSION,
        "engram-version" = env!("CARGO_PKG_VERSION"),
        "max-cpu-available" = std::thread::available_parallelism().map_or(1, usize::from),
        name = config.name.as_str(),
        "data-dir" = %config.data_dir.display(),
        "force-new-cluster" = config.cluster.force_new_cluster,
        "heartbeat-interval" = config.raft.heartbeat_interval,
        "election-timeout" = config.raft.election_timeout,
        "snapshot-count" = config.raft.snapshot_count,
        "snapshot-catchup-entries" = config.raft.snapshot_catchup_entries,
        "initial-advertise-peer-urls" = urls(&advertise.peer),
        "listen-peer-urls" = peers,
        "advertise-client-urls" = urls(&advertise.client),
        "listen-client-urls" = clients,
        "listen-metrics-urls" = urls(&listen.metrics),
        "initial-cluster" = initial.join(","),
        "initial-cluster-token" = config.cluster.token.as_str(),
        "quota-backend-bytes" = quota(config),
        "max-request-bytes" = config.limits.request_bytes_max,
        "max-concurrent-streams" = config.limits.concurrent_streams_max,
        "max-learners" = config.cluster.learners_max
    );
    let what = match config.limits.quota_backend_bytes {
        Some(_) => "enabled backend quota",
        None => "disabled backend quota",
    };
    crate::log!(
        info,
        what,
        "quota-name" = QUOTA,
        "quota-size-bytes" = quota(config)
    );
}

fn quota(config: &Config) -> i64 {
    let bytes = config.limits.quota_backend_bytes;
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Tells whether there was a member in the data directory.
pub fn directory(config: &Config, is_known: bool) {
    let (what, kind) = match is_known {
        true => ("server has already been initialized", "member"),
        false => ("Initialize and start etcd server", "empty"),
    };
    crate::log!(info, what, "data-dir" = %config.data_dir.display(), "dir-type" = kind);
}

/// What a member was found to be when its directory was opened.
pub struct Opened<'a> {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The member.
    pub local: MemberId,
    /// Whether nothing was ever written to its log.
    pub is_new: bool,
    /// The last index that is known to be committed.
    pub commit_index: u64,
    /// Where its store is.
    pub revision: Revision,
    /// The cluster's version, once it is decided.
    pub version: Option<&'a str>,
}

/// Tells that its parts are there, and begin.
pub fn opened(opened: &Opened<'_>) {
    let (cluster, local) = (opened.cluster, opened.local);
    match opened.is_new {
        true => crate::log!(
            info, "starting local member",
            "local-member-id" = %local, "cluster-id" = %cluster
        ),
        false => crate::log!(
            info, "restarting local member",
            "cluster-id" = %cluster, "local-member-id" = %local, "commit-index" = opened.commit_index
        ),
    }
    crate::log!(info, "kvstore restored", "current-rev" = opened.revision.0);
    crate::log!(
        info, "starting etcd server",
        "local-member-id" = %local, "local-server-version" = ETCD_VERSION,
        "cluster-id" = %cluster, "cluster-version" = opened.version.unwrap_or("to_be_decided")
    );
}

/// Tells where the member serves, once it does.
pub fn serving(config: &Config, local: MemberId) {
    let (listen, advertise) = (&config.listen, &config.advertise);
    crate::log!(
        info, "now serving peer/client/metrics",
        "local-member-id" = %local,
        "initial-advertise-peer-urls" = urls(&advertise.peer),
        "listen-peer-urls" = urls(&listen.peer),
        "advertise-client-urls" = urls(&advertise.client),
        "listen-client-urls" = urls(&listen.client),
        "listen-metrics-urls" = urls(&listen.metrics)
    );
    crate::log!(
        info,
        "grpc service status changed",
        service = "",
        status = "SERVING"
    );
}

/// Tells that the member stops.
pub fn closing(config: &Config) {
    tell_end("closing etcd server", config);
    for url in &config.listen.peer {
        crate::log!(info, "stopping serving peer traffic", address = %url);
    }
}

/// Tells that it has stopped: everything is closed.
pub fn closed(config: &Config) {
    for url in &config.listen.peer {
        crate::log!(info, "stopped serving peer traffic", address = %url);
    }
    tell_end("closed etcd server", config);
}

fn tell_end(what: &'static str, config: &Config) {
    crate::log!(
        info, what,
        name = config.name.as_str(),
        "data-dir" = %config.data_dir.display(),
        "advertise-peer-urls" = urls(&config.advertise.peer),
        "advertise-client-urls" = urls(&config.advertise.client)
    );
}

fn urls(urls: &[ListenUrl]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}
