//! From values of flags to a [`Config`]: what must hold between them, and etcd's words if it does
//! not. The order of the checks is etcd's, so that of two faults the same one is reported.

use std::time::Duration;

use super::auth::{auth_token, auth_token_ttl, bcrypt_cost};
use super::compaction::parse_auto_compaction;
use super::discovery::discovery;
use super::golang::quote;
use super::logging::{LogError, log_options};
use super::raw::{Raw, Value};
use super::settings::{
    Advertise, Cluster, ClusterState, Config, Corruption, Http, InitialMember, Keepalive, Limits,
    Listen, MetricsDetail, Raft, Tracing, initial_from_name, path,
};
use super::table::{Effect, FlagSpec, Kind, flags};
use super::tls::{check_listeners, tls_files, tls_policy};
use super::url::{ListenUrl, UrlError};
use super::{Failure, Notice};
use crate::trace::{GoDuration, Level};

const DEFAULT_NAME: &str = "default";
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;
/// Requests larger than this work but hurt (etcd's recommendation).
const REQUEST_BYTES_RECOMMENDED: u64 = 10 * 1024 * 1024;
/// Larger ones are refused at the start: a request is held in memory several times on its way, and
/// goes into one segment of the log.
const REQUEST_BYTES_MAX: u64 = 128 * 1024 * 1024;
const ELECTION_MS_MAX: u64 = 50_000;
/// Members and URLs that `--initial-cluster` may name.
const INITIAL_URLS_MAX: usize = 1_000;
const RAFT_TIMEOUT_MIN_NANOS: i64 = 5_000_000_000;

/// What holds for command line and environment but not for config files.
pub(super) fn apply_command_line_rules(
    raw: &mut Raw,
    notices: &mut Vec<Notice>,
) -> Result<(), Failure> {
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if raw.duration(name) < RAFT_TIMEOUT_MIN_NANOS {
            raw.replace(name, Value::Duration(RAFT_TIMEOUT_MIN_NANOS));
            let message = format!("{name} increased to minimum value: 5s");
            notices.push(Notice::new(Level::Info, message));
        }
    }
    if raw.is_given("listen-client-urls") && !raw.is_given("advertise-client-urls") {
        raw.replace("advertise-client-urls", Value::Urls(Vec::new()));
    }
    let discovers = !raw.text("discovery-srv").is_empty()
        || !raw.text("discovery-srv-name").is_empty()
        || !raw.list("discovery-endpoints").is_empty();
    if discovers && !raw.is_given("initial-cluster") {
        raw.replace("initial-cluster", Value::Text(String::new()));
    }
    if raw.text("discovery-fallback") == "proxy" {
        return Err(Failure::verify(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                .to_owned(),
        ));
    }
    Ok(())
}

/// Checks everything and makes the configuration.
pub(super) fn validate(raw: &Raw, notices: &mut Vec<Notice>) -> Result<Config, Failure> {
    let log = log_options(raw, notices).map_err(|error| match error {
        LogError::Verify(message) => Failure::verify(message),
        LogError::Level(message) => Failure::plain(message, 2),
    })?;
    build(raw, log, notices).map_err(Failure::verify)
}

fn build(
    raw: &Raw,
    log: crate::trace::Options,
    notices: &mut Vec<Notice>,
) -> Result<Config, String> {
    report_flags_without_effect(raw, notices);
    report_gates_without_effect(raw, notices);
    check_urls(raw, notices)?;
    check_discovery(raw)?;
    check_raft_timing(raw)?;
    check_advertised_clients(raw)?;
    let auto = parse_auto_compaction(
        raw.text("auto-compaction-mode"),
        raw.text("auto-compaction-retention"),
    )?;
    let tracing = tracing(raw)?;
    check_gates(raw, notices)?;
    check_compact_hash_time(raw)?;
    let name = raw.text("name").to_owned();
    warn_of_default_name(&name, notices);
    let tls_policy = tls_policy(raw)?;
    check_ranges(raw)?;
    let client_tls = tls_files(raw, "", notices);
    let peer_tls = tls_files(raw, "peer-", notices);
    let listen = listen(raw);
    check_listeners(&listen, &client_tls, &peer_tls, notices)?;
    let advertise = Advertise {
        peer: raw.urls("initial-advertise-peer-urls").to_vec(),
        client: raw.urls("advertise-client-urls").to_vec(),
    };
    Ok(Config {
        data_dir: data_dir(raw, &name, notices),
        wal_dir: path(raw.text("wal-dir")),
        cluster: cluster(raw, &name, &advertise)?,
        listen,
        advertise,
        name,
        raft: raft(raw),
        limits: limits(raw, notices)?,
        keepalive: keepalive(raw),
        client_tls,
        peer_tls,
        tls_policy,
        http: http(raw)?,
        auth_token: auth_token(raw, notices)?,
        auth_token_ttl: auth_token_ttl(raw),
        bcrypt_cost: bcrypt_cost(raw),
        auto_compaction: auto,
        archive: super::archive::archive(raw)?,
        tracing,
        corruption: Corruption {
            check_time: nonzero(raw, "corrupt-check-time"),
            compact_hash_check_time: duration(raw, "compact-hash-check-time"),
        },
        watch_progress_notify_interval: nonzero(raw, "watch-progress-notify-interval")
            .unwrap_or(Duration::from_secs(600)),
        warning_apply_duration: duration(raw, "warning-apply-duration"),
        warning_unary_request_duration: nonzero(raw, "warning-unary-request-duration")
            .unwrap_or(Duration::from_millis(300)),
        bootstrap_defrag_threshold_megabytes: raw.unsigned("bootstrap-defrag-threshold-megabytes"),
        unsafe_no_fsync: raw.bool("unsafe-no-fsync"),
        feature_gates: raw.gates().clone(),
        log,
    })
}

fn report_flags_without_effect(raw: &Raw, notices: &mut Vec<Notice>) {
    for name in raw.given() {
        let spec = super::table::find(name).expect("only flags of the table are given");
        let notice = match (name, spec.kind, spec.effect) {
            ("max-snapshots", ..) => Notice::new(
                Level::Warn,
                "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
            ),
            ("v2-deprecation", ..) => Notice::new(
                Level::Warn,
                "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default \
                 value is enforced, ignoring user input.",
            ),
            (_, Kind::Ignored, _) => {
                Notice::new(Level::Warn, "flag is no longer supported - ignoring")
                    .with("flag-name", name)
            }
            (_, _, Effect::None) => {
                Notice::new(Level::Warn, "flag accepted, has no effect in Engram")
                    .with("flag-name", name)
            }
            (_, _, Effect::Used) => continue,
        };
        notices.push(notice);
    }
}

/// Gates whose feature is not here. Setting one to what Engram does anyway is reported as well: what
/// it names is etcd's.
fn report_gates_without_effect(raw: &Raw, notices: &mut Vec<Notice>) {
    let names: Vec<&str> = raw.gates().set_without_effect().collect();
    if !names.is_empty() {
        let message = "feature gates accepted, have no effect in Engram";
        notices.push(Notice::new(Level::Warn, message).with("feature-gates", names.join(",")));
    }
}

fn check_urls(raw: &Raw, notices: &mut Vec<Notice>) -> Result<(), String> {
    let check_bindable = |name: &str| -> Result<(), UrlError> {
        raw.urls(name)
            .iter()
            .try_for_each(ListenUrl::check_bindable)
    };
    let lists = [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
    ];
    lists
        .into_iter()
        .try_for_each(check_bindable)
        .map_err(|error| error.to_string())?;
    let clients = raw.urls("listen-client-urls");
    let both = |url: &&ListenUrl| clients.iter().any(|other| other.address == url.address);
    if let Some(url) = raw.urls("listen-client-http-urls").iter().find(both) {
        return Err(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ));
    }
    if raw.urls("listen-client-http-urls").is_empty() {
        let message = "Running http and grpc server on single port. This is not recommended for \
                       production.";
        notices.push(Notice::new(Level::Warn, message));
    }
    check_bindable("listen-metrics-urls").map_err(|error| error.to_string())?;
    let check_reachable = |name: &str, form: &str| {
        let urls = raw.urls(name);
        urls.iter()
            .try_for_each(ListenUrl::check_reachable)
            .map_err(|error| {
                let shown: Vec<String> = urls.iter().map(ListenUrl::to_string).collect();
                format!(
                    "--{name} {} must be {form} ({error})",
                    quote(&shown.join(","))
                )
            })
    };
    check_reachable("initial-advertise-peer-urls", "\"host:port\"")?;
    check_reachable(
        "advertise-client-urls",
        "in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\"",
    )
}

fn check_discovery(raw: &Raw) -> Result<(), String> {
    let endpoints = raw.list("discovery-endpoints");
    let ways = [
        !raw.text("initial-cluster").is_empty(),
        !raw.text("discovery-srv").is_empty(),
        !endpoints.is_empty(),
    ];
    cluster_state(raw)?;
    if ways.into_iter().filter(|&way| way).count() > 1 {
        return Err(
            "multiple discovery or bootstrap flags are set. Choose one of \
                    \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\""
                .to_owned(),
        );
    }
    if raw.text("discovery-token").is_empty() != endpoints.is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
    Ok(())
}

fn cluster_state(raw: &Raw) -> Result<ClusterState, String> {
    match raw.text("initial-cluster-state") {
        "new" => Ok(ClusterState::New),
        "existing" => Ok(ClusterState::Existing),
        other => Err(format!("unexpected clusterState {}", quote(other))),
    }
}

fn check_raft_timing(raw: &Raw) -> Result<(), String> {
    let heartbeat = raw.unsigned("heartbeat-interval");
    let election = raw.unsigned("election-timeout");
    if heartbeat == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_MS_MAX}ms"
        ));
    }
    Ok(())
}

fn check_advertised_clients(raw: &Raw) -> Result<(), String> {
    let listens = !raw.urls("listen-client-urls").is_empty();
    if listens && raw.urls("advertise-client-urls").is_empty() {
        return Err(
            "--advertise-client-urls is required when --listen-client-urls is set \
                    explicitly"
                .to_owned(),
        );
    }
    Ok(())
}

fn tracing(raw: &Raw) -> Result<Option<Tracing>, String> {
    const SPANS_MAX: u32 = 1_000_000;
    if !raw.bool("enable-distributed-tracing") {
        return Ok(None);
    }
    let refused =
        |why: &str| format!("distributed tracing configurition is not valid: (tracing {why})");
    let rate = raw.signed("distributed-tracing-sampling-rate");
    if rate < 0 {
        return Err(refused("sampling rate must be positive"));
    }
    let rate = u32::try_from(rate).ok().filter(|rate| *rate <= SPANS_MAX);
    let too_many = || refused(&format!("sampling rate must be less than {SPANS_MAX}"));
    let instance = raw.text("distributed-tracing-instance-id");
    Ok(Some(Tracing {
        address: raw.text("distributed-tracing-address").to_owned(),
        service_name: raw.text("distributed-tracing-service-name").to_owned(),
        instance_id: (!instance.is_empty()).then(|| instance.to_owned()),
        rate_per_million: rate.ok_or_else(too_many)?,
    }))
}

fn check_gates(raw: &Raw, notices: &mut Vec<Notice>) -> Result<(), String> {
    let checkpoint = raw.gates().enabled("LeaseCheckpoint");
    let persist = raw.gates().enabled("LeaseCheckpointPersist");
    if checkpoint && !persist {
        let message = "Detected that checkpointing is enabled without persistence. Consider \
                       enabling feature gate LeaseCheckpointPersist";
        notices.push(Notice::new(Level::Warn, message));
    }
    if persist && !checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                    LeaseCheckpoint"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_compact_hash_time(raw: &Raw) -> Result<(), String> {
    let nanos = raw.duration("compact-hash-check-time");
    if nanos <= 0 {
        let shown = show_nanos(nanos);
        return Err(format!(
            "--compact-hash-check-time must be >0 (set to {shown})"
        ));
    }
    Ok(())
}

fn warn_of_default_name(name: &str, notices: &mut Vec<Notice>) {
    if name == DEFAULT_NAME {
        let message = "it isn't recommended to use default name, please set a value for --name. \
                       Note that etcd might run into issue when multiple members have the same \
                       default name";
        notices.push(Notice::new(Level::Warn, message).with("name", name));
    }
}

/// The limits of the table. Limits that etcd has were checked before, with etcd's words.
fn check_ranges(raw: &Raw) -> Result<(), String> {
    flags().try_for_each(|spec| check_range(spec, raw.value(spec.name)))
}

fn check_range(spec: &FlagSpec, value: &Value) -> Result<(), String> {
    let Some((min, max)) = spec.range else {
        return Ok(());
    };
    let name = spec.name;
    let number = match value {
        Value::Unsigned(number) | Value::OptionalUnsigned(Some(number)) => i128::from(*number),
        Value::Signed(number) => i128::from(*number),
        Value::Duration(nanos) if *nanos < 0 => {
            return Err(format!(
                "--{name} must be >=0 (set to {})",
                show_nanos(*nanos)
            ));
        }
        _ => return Ok(()),
    };
    if (min..=max).contains(&number) {
        return Ok(());
    }
    let unit = spec.unit;
    Err(format!(
        "--{name} must be between {min} and {max} {unit} (set to {number})"
    ))
}

fn listen(raw: &Raw) -> Listen {
    Listen {
        peer: raw.urls("listen-peer-urls").to_vec(),
        client: raw.urls("listen-client-urls").to_vec(),
        client_http: raw.urls("listen-client-http-urls").to_vec(),
        metrics: raw.urls("listen-metrics-urls").to_vec(),
        reuse_port: raw.bool("socket-reuse-port"),
    }
}

fn data_dir(raw: &Raw, name: &str, notices: &mut Vec<Notice>) -> std::path::PathBuf {
    if let Some(dir) = path(raw.text("data-dir")) {
        return dir;
    }
    let dir = format!("{name}.etcd");
    let notice = Notice::new(Level::Warn, "'data-dir' was empty; using default");
    notices.push(notice.with("data-dir", dir.clone()));
    dir.into()
}

fn cluster(raw: &Raw, name: &str, advertise: &Advertise) -> Result<Cluster, String> {
    let text = raw.text("initial-cluster");
    let follows_name = name != DEFAULT_NAME && text == Raw::new().text("initial-cluster");
    let initial = if follows_name {
        initial_from_name(name, &advertise.peer)
    } else {
        initial_cluster(text)
            .map_err(|error| format!("error setting up initial cluster: {error}"))?
    };
    Ok(Cluster {
        initial,
        state: cluster_state(raw)?,
        token: raw.text("initial-cluster-token").to_owned(),
        discovery: discovery(raw),
        strict_reconfig_check: raw.bool("strict-reconfig-check"),
        learners_max: to_usize(raw.signed("max-learners"), 0),
        force_new_cluster: raw.bool("force-new-cluster"),
        initial_follows_name: follows_name,
    })
}

/// `name=url` separated by commas; a name may come more than once.
///
/// # Errors
/// A URL that is none; more of them than a cluster has.
pub fn initial_cluster(text: &str) -> Result<Vec<InitialMember>, UrlError> {
    let mut members: std::collections::BTreeMap<&str, Vec<ListenUrl>> = Default::default();
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    for (position, pair) in pairs.enumerate() {
        if position == INITIAL_URLS_MAX {
            return Err(UrlError::TooMany);
        }
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        members
            .entry(name)
            .or_default()
            .push(ListenUrl::parse(url)?);
    }
    let member = |(name, mut peer_urls): (&str, Vec<ListenUrl>)| {
        peer_urls.sort_by_cached_key(ListenUrl::to_string);
        InitialMember {
            name: name.to_owned(),
            peer_urls,
        }
    };
    Ok(members.into_iter().map(member).collect())
}

fn raft(raw: &Raw) -> Raft {
    let or_default = |value, default| if value == 0 { default } else { value };
    Raft {
        heartbeat_interval: Duration::from_millis(raw.unsigned("heartbeat-interval")),
        election_timeout: Duration::from_millis(raw.unsigned("election-timeout")),
        snapshot_count: or_default(raw.unsigned("snapshot-count"), 10_000),
        snapshot_catchup_entries: or_default(raw.unsigned("snapshot-catchup-entries"), 5_000),
    }
}

fn limits(raw: &Raw, notices: &mut Vec<Notice>) -> Result<Limits, String> {
    let request_bytes_max = raw.unsigned("max-request-bytes");
    if request_bytes_max > REQUEST_BYTES_MAX {
        return Err(format!(
            "--max-request-bytes={request_bytes_max} is more than a request may have ({REQUEST_BYTES_MAX}): choose at most that"
        ));
    }
    if request_bytes_max > REQUEST_BYTES_RECOMMENDED {
        let notice = Notice::new(Level::Warn, "exceeded recommended request limit")
            .with("max-request-bytes", request_bytes_max.to_string())
            .with(
                "recommended-request-bytes",
                REQUEST_BYTES_RECOMMENDED.to_string(),
            );
        notices.push(notice);
    }
    let io_threads = raw
        .optional_unsigned("io-threads")
        .map(usize::try_from)
        .transpose();
    Ok(Limits {
        quota_backend_bytes: match raw.signed("quota-backend-bytes") {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        },
        txn_ops_max: raw.unsigned("max-txn-ops"),
        request_bytes_max,
        concurrent_streams_max: u32::try_from(raw.unsigned("max-concurrent-streams"))
            .map_err(|error| error.to_string())?,
        answer_budget_bytes: raw.optional_unsigned("answer-budget-bytes"),
        value_cache_bytes: raw.optional_unsigned("value-cache-bytes"),
        io_threads: io_threads.map_err(|error| error.to_string())?,
    })
}

fn keepalive(raw: &Raw) -> Keepalive {
    Keepalive {
        client_interval_min: duration(raw, "grpc-keepalive-min-time"),
        interval: nonzero(raw, "grpc-keepalive-interval"),
        timeout: nonzero(raw, "grpc-keepalive-timeout"),
    }
}

fn http(raw: &Raw) -> Result<Http, String> {
    Ok(Http {
        cors_origins: raw.list("cors").iter().cloned().collect(),
        host_whitelist: raw.list("host-whitelist").iter().cloned().collect(),
        gateway: raw.bool("enable-grpc-gateway"),
        // etcd takes every other text for "basic".
        metrics: match raw.text("metrics") {
            "extensive" => MetricsDetail::Extensive,
            _ => MetricsDetail::Basic,
        },
        profiles: raw.bool("enable-pprof"),
    })
}

/// A duration whose range has been checked.
pub(super) fn duration(raw: &Raw, name: &str) -> Duration {
    let nanos = u64::try_from(raw.duration(name)).expect("durations were checked to be >= 0");
    Duration::from_nanos(nanos)
}

/// `None` for zero.
fn nonzero(raw: &Raw, name: &str) -> Option<Duration> {
    Some(duration(raw, name)).filter(|duration| !duration.is_zero())
}

/// A number whose range has been checked; `default` for zero.
fn to_usize(number: i64, default: usize) -> usize {
    match usize::try_from(number) {
        Ok(0) => default,
        Ok(number) => number,
        Err(_) => panic!("the range of this number was checked to fit"),
    }
}

fn show_nanos(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    format!(
        "{sign}{}",
        GoDuration(Duration::from_nanos(nanos.unsigned_abs()))
    )
}
