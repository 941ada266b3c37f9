//! No flag is passed over in silence: what is marked as used is read by the server, what is not is
//! reported where it is given.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::table::{Effect, Kind, flags};

/// Where a flag that is marked as used is read.
enum Read {
    /// In this room, for what the reason says.
    Here(&'static str),
    /// Outside, by this text.
    Outside(&'static str),
}

use Read::{Here, Outside};

/// A row for every flag that is marked as used.
const READ: &[(&str, Read)] = &[
    ("config-file", Here("other settings come from it")),
    ("version", Here("printed")),
    ("logger", Here("only one value is accepted")),
    ("discovery-fallback", Here("only one value is accepted")),
    ("auto-compaction-mode", Outside("config.auto_compaction")),
    (
        "auto-compaction-retention",
        Outside("config.auto_compaction"),
    ),
    ("name", Outside("config.name")),
    ("data-dir", Outside("config.data_dir")),
    ("wal-dir", Outside("config.wal_dir")),
    ("snapshot-count", Outside("raft.snapshot_count")),
    (
        "snapshot-catchup-entries",
        Outside("raft.snapshot_catchup_entries"),
    ),
    ("heartbeat-interval", Outside("raft.heartbeat_interval")),
    ("election-timeout", Outside("raft.election_timeout")),
    ("listen-peer-urls", Outside("listen.peer")),
    ("listen-client-urls", Outside("listen.client")),
    ("listen-client-http-urls", Outside("listen.client_http")),
    ("listen-metrics-urls", Outside("listen.metrics")),
    ("quota-backend-bytes", Outside("limits.quota_backend_bytes")),
    ("max-txn-ops", Outside("limits.txn_ops_max")),
    ("max-request-bytes", Outside("limits.request_bytes_max")),
    (
        "max-concurrent-streams",
        Outside("limits.concurrent_streams_max"),
    ),
    (
        "grpc-keepalive-min-time",
        Outside("keepalive.client_interval_min"),
    ),
    ("grpc-keepalive-interval", Outside("keepalive.interval")),
    ("grpc-keepalive-timeout", Outside("keepalive.timeout")),
    ("socket-reuse-port", Outside("listen.reuse_port")),
    ("feature-gates", Outside("feature_gates.enabled")),
    ("initial-advertise-peer-urls", Outside("advertise")),
    ("initial-cluster", Outside("cluster\n.initial")),
    ("initial-cluster-state", Outside("cluster.state")),
    ("initial-cluster-token", Outside("cluster.token")),
    ("advertise-client-urls", Outside("advertise\n.client")),
    ("discovery-token", Outside("discovery.token")),
    ("discovery-endpoints", Outside("discovery.endpoints")),
    ("discovery-srv", Outside("discovery.srv_domain")),
    ("discovery-srv-name", Outside("discovery.srv_name")),
    ("discovery-dial-timeout", Outside("discovery.dial_timeout")),
    (
        "discovery-request-timeout",
        Outside("discovery.request_timeout"),
    ),
    (
        "discovery-keepalive-time",
        Outside("discovery.keepalive_interval"),
    ),
    (
        "discovery-keepalive-timeout",
        Outside("discovery.keepalive_timeout"),
    ),
    (
        "discovery-insecure-transport",
        Outside("discovery.is_over_tls"),
    ),
    (
        "discovery-insecure-skip-tls-verify",
        Outside("discovery.tls"),
    ),
    ("discovery-cert", Outside("discovery.tls")),
    ("discovery-key", Outside("discovery.tls")),
    ("discovery-cacert", Outside("discovery.tls")),
    ("discovery-user", Outside("discovery.user")),
    ("discovery-password", Outside("discovery.user")),
    (
        "strict-reconfig-check",
        Outside("cluster.strict_reconfig_check"),
    ),
    ("max-learners", Outside("cluster.learners_max")),
    ("force-new-cluster", Outside("cluster.force_new_cluster")),
    ("cert-file", Outside("config.client_tls")),
    ("key-file", Outside("config.client_tls")),
    ("client-cert-auth", Outside("files.client_cert_auth")),
    ("client-cert-file", Outside("client_cert")),
    ("client-key-file", Outside("client_key")),
    ("client-crl-file", Outside("files.crl")),
    (
        "client-cert-allowed-hostname",
        Outside("files.allowed_hostnames"),
    ),
    (
        "client-cert-allowed-cn",
        Outside("files.allowed_common_names"),
    ),
    ("trusted-ca-file", Outside("trusted_ca")),
    ("auto-tls", Outside("self_signed")),
    ("peer-cert-file", Outside("config.peer_tls")),
    ("peer-key-file", Outside("config.peer_tls")),
    ("peer-client-cert-auth", Outside("files.client_cert_auth")),
    ("peer-client-cert-file", Outside("client_cert")),
    ("peer-client-key-file", Outside("client_key")),
    ("peer-trusted-ca-file", Outside("trusted_ca")),
    ("peer-crl-file", Outside("files.crl")),
    (
        "peer-cert-allowed-cn",
        Outside("files.allowed_common_names"),
    ),
    (
        "peer-cert-allowed-hostname",
        Outside("files.allowed_hostnames"),
    ),
    ("peer-auto-tls", Outside("self_signed")),
    (
        "peer-skip-client-san-verification",
        Outside("files.skip_client_san_verification"),
    ),
    (
        "self-signed-cert-validity",
        Outside("tls_policy.self_signed_cert_validity_years"),
    ),
    ("cipher-suites", Outside("cipher_suites")),
    ("tls-min-version", Outside("version_min")),
    ("tls-max-version", Outside("version_max")),
    ("auth-token", Outside("config.auth_token)")),
    ("auth-token-ttl", Outside("config.auth_token_ttl")),
    ("bcrypt-cost", Outside("config.bcrypt_cost")),
    ("cors", Outside("http.cors_origins")),
    ("enable-grpc-gateway", Outside("config.http.gateway")),
    ("host-whitelist", Outside("http.host_whitelist")),
    ("metrics", Outside("http.metrics")),
    ("enable-pprof", Outside("config.http.profiles")),
    ("enable-distributed-tracing", Outside("config.tracing")),
    ("distributed-tracing-address", Outside("tracing.address")),
    (
        "distributed-tracing-service-name",
        Outside("tracing.service_name"),
    ),
    (
        "distributed-tracing-instance-id",
        Outside("tracing.instance_id"),
    ),
    (
        "distributed-tracing-sampling-rate",
        Outside("tracing.rate_per_million"),
    ),
    ("log-outputs", Outside("options.outputs")),
    ("log-level", Outside("options.level")),
    ("log-format", Outside("options.format")),
    ("enable-log-rotation", Outside("options.rotation")),
    ("log-rotation-config-json", Outside("size_megabytes_max")),
    (
        "warning-unary-request-duration",
        Outside("config.warning_unary_request_duration"),
    ),
    (
        "warning-apply-duration",
        Outside("config.warning_apply_duration"),
    ),
    ("corrupt-check-time", Outside("corruption.check_time")),
    (
        "compact-hash-check-time",
        Outside("corruption.compact_hash_check_time"),
    ),
    (
        "watch-progress-notify-interval",
        Outside("config.watch_progress_notify_interval"),
    ),
    (
        "bootstrap-defrag-threshold-megabytes",
        Outside("config.bootstrap_defrag_threshold_megabytes"),
    ),
    ("unsafe-no-fsync", Outside("config.unsafe_no_fsync")),
    ("answer-budget-bytes", Outside("limits.answer_budget_bytes")),
    ("archive-url", Outside("archive.url")),
    ("archive-cluster", Outside("archive.cluster")),
    ("archive-encryption-key-files", Outside("archive.key_files")),
    ("archive-max-delay", Outside("archive.delay_max")),
    ("archive-segment-bytes", Outside("archive.segment_bytes")),
    ("archive-backlog-bytes", Outside("archive.backlog_bytes")),
    ("io-threads", Outside("limits\n.io_threads")),
    ("value-cache-bytes", Outside("limits\n.value_cache_bytes")),
];

/// The server's source outside this crate and without tests, blanks taken out so that a chain over
/// several lines reads as one.
fn source_outside() -> String {
    let mut text = String::new();
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"));
    let mut left = vec![here.join("..")];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "config" && name != "tests" {
                left.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let whole = fs::read_to_string(&path).unwrap();
                let product = whole.split("#[cfg(test)]\nmod tests {").next().unwrap();
                text.extend(product.split_whitespace());
            }
        }
    }
    text
}

#[test]
fn every_flag_that_is_marked_as_used_is_read() {
    let rows: BTreeMap<&str, &Read> = READ.iter().map(|(name, read)| (*name, read)).collect();
    let source = source_outside();
    for spec in flags() {
        let used = spec.effect == Effect::Used;
        assert_eq!(
            used,
            rows.contains_key(spec.name),
            "a row for {}",
            spec.name
        );
        match rows.get(spec.name) {
            None => {}
            Some(Here(why)) => assert!(!why.is_empty()),
            Some(Outside(text)) => {
                let text: String = text.split_whitespace().collect();
                assert!(
                    source.contains(&text),
                    "--{}: nobody reads {text}",
                    spec.name
                );
            }
        }
    }
    assert_eq!(rows.len(), READ.len(), "a flag is listed twice");
}

#[test]
fn every_flag_without_effect_is_reported_where_it_is_given() {
    for spec in flags().filter(|spec| spec.effect == Effect::None) {
        let value = match spec.kind {
            Kind::Bool => "true",
            Kind::Duration => "7s",
            Kind::Unsigned | Kind::Signed => "7",
            _ if spec.default.is_empty() => "x",
            _ => spec.default,
        };
        let (_, notices) = run(parse_with(&[&format!("--{}={value}", spec.name)], &[]));
        let names = |notice: &&Notice| {
            let named = |field: &(&str, String)| *field == ("flag-name", spec.name.to_owned());
            notice.fields.iter().any(named)
                || notice.message.starts_with(&format!("--{}", spec.name))
        };
        assert!(
            notices.iter().any(|notice| names(&notice)),
            "{}: {notices:?}",
            spec.name
        );
    }
}

#[test]
fn gates_without_effect_are_reported_in_one_line() {
    let said = |gates: &str| {
        let (_, notices) = run(parse_with(&[&format!("--feature-gates={gates}")], &[]));
        let of_gates = notices
            .into_iter()
            .filter(|notice| notice.message.contains("gates"));
        of_gates
            .map(|notice| notice.fields[0].1.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(said("AllAlpha=true,CompactHashCheck=true"), [""; 0]);
    let both = "PriorityRequest=true,FastLeaseKeepAlive=false,InitialCorruptCheck=true";
    assert_eq!(said(both), ["FastLeaseKeepAlive,PriorityRequest"]);
}
