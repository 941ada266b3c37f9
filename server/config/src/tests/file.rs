//! Settings from a config file.

use std::time::Duration;

use super::*;
use crate::trace::Output;

/// The keys of the sample that etcd ships, with its oddities: empty values and keys long dropped.
const SAMPLE: &str = "
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
  allowed-cn:
  allowed-hostname:
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
";

#[test]
fn etcds_sample_is_understood() {
    let (config, notices) = run(parse_file(SAMPLE));
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.log.outputs, [Output::Stderr]);
    assert_eq!(
        config.auto_compaction,
        AutoCompaction::Periodic(Duration::from_secs(3_600))
    );
    assert_eq!(config.tls_policy.cipher_suites.len(), 2);
    assert_eq!(config.tls_policy.version_max, Some(TlsVersion::V1_3));
    assert!(!config.cluster.strict_reconfig_check);
    assert_eq!(config.cluster.initial[0].name, "default");
    assert_eq!(config.client_tls, TlsFiles::default());
    let unknown: Vec<&str> = notices
        .iter()
        .filter(|notice| notice.message.starts_with("config file key is not known"))
        .map(|notice| notice.fields[0].1.as_str())
        .collect();
    assert_eq!(
        unknown,
        ["discovery", "discovery-fallback", "discovery-proxy"]
    );
    assert!(
        messages(&notices)
            .iter()
            .any(|message| message.starts_with("loaded server conf"))
    );
}

#[test]
fn an_empty_file_is_all_defaults() {
    for contents in ["", "# nothing\n", "{}", "null"] {
        assert_eq!(
            run(parse_file(contents)).0,
            run(parse_with(&[], &[])).0,
            "{contents:?}"
        );
    }
}

#[test]
fn other_flags_and_the_environment_are_ignored() {
    let read = |_: &Path| Ok(b"name: file".to_vec());
    let args = ["--name=flag", "--config-file", "x"].map(OsString::from);
    let env = [("ETCD_NAME", "environment"), ("ETCD_NOPE", "")];
    let env = env.map(|(key, value)| (OsString::from(key), OsString::from(value)));
    let (config, notices) = run(parse(args.into_iter(), env.into_iter(), &read));
    assert_eq!(config.name, "file");
    assert_eq!(
        texts(&config.cluster.initial[0].peer_urls),
        ["http://localhost:2380"]
    );
    assert_eq!(config.cluster.initial[0].name, "file");
    assert!(
        !messages(&notices)
            .iter()
            .any(|message| message.starts_with("unrecognized"))
    );
}

#[test]
fn json_blocks_durations_and_lists_are_understood() {
    let (config, _) = run(parse_file(
        "{\n\t\"name\": \"j\",\n\t\"watch-progress-notify-interval\": 5000000000,\n\t\
         \"corrupt-check-time\": \"4h\",\n\t\"quota-backend-bytes\": -1,\n\t\
         \"socket-options\": {\"reuse-port\": true},\n\t\
         \"listen-peer-urls\": \"https://127.0.0.1:1\",\n\t\
         \"peer-transport-security\": {\"cert-file\": \"/c\", \"key-file\": \"/k\", \
         \"client-cert-auth\": true, \"allowed-cn\": [\"a, b\", \"c\"]},\n\t\
         \"host-whitelist\": \"b,a\", \"feature-gates\": \"PriorityRequest=true\",\n\t\
         \"value-cache-bytes\": 1048576\n}",
    ));
    assert_eq!(
        config.watch_progress_notify_interval,
        Duration::from_secs(5)
    );
    assert_eq!(
        config.corruption.check_time,
        Some(Duration::from_secs(4 * 3_600))
    );
    assert_eq!(config.limits.quota_backend_bytes, None);
    assert!(config.listen.reuse_port);
    assert_eq!(config.peer_tls.cert, Some("/c".into()));
    assert!(config.peer_tls.client_cert_auth && !config.client_tls.client_cert_auth);
    assert_eq!(config.peer_tls.allowed_common_names, ["a, b", "c"]);
    assert_eq!(config.http.host_whitelist.len(), 2);
    assert!(config.feature_gates.enabled("PriorityRequest"));
    assert_eq!(config.limits.value_cache_bytes, Some(1_048_576));
}

#[test]
fn scalars_are_read_as_etcds_yaml_reads_them() {
    let (config, _) = run(parse_file(
        "Name: 7\nauto-compaction-retention: 2\nstrict-reconfig-check: no\n\
         unsafe-no-fsync: yes\nclient-transport-security: {auto-tls: off}\n",
    ));
    assert_eq!(config.name, "7");
    assert_eq!(
        config.auto_compaction,
        AutoCompaction::Periodic(Duration::from_secs(7_200))
    );
    assert!(!config.cluster.strict_reconfig_check && config.unsafe_no_fsync);
}

#[test]
fn discovery_stands_in_a_block_and_clears_the_initial_cluster() {
    let (config, _) = run(parse_file(
        "discovery-config:\n  token: t\n  client:\n    endpoints: [http://d:1]\n    \
         dial-timeout: 1000000000\n    secure:\n      insecure-transport: false\n",
    ));
    assert!(config.cluster.discovery.is_asked_for());
    assert_eq!(config.cluster.discovery.token, "t");
    assert!(config.cluster.initial.is_empty());
}

#[test]
fn listening_without_advertising_is_allowed_in_a_file() {
    let (config, _) = run(parse_file("listen-client-urls: http://127.0.0.1:1"));
    assert_eq!(texts(&config.advertise.client), ["http://localhost:2379"]);
}

#[test]
fn of_two_keys_that_differ_in_case_the_same_one_counts_as_in_etcd() {
    for text in ["name: a\nName: b", "Name: b\nname: a"] {
        let (config, _) = run(parse_file(text));
        assert_eq!(config.name, "a", "{text}");
    }
}

#[test]
fn deprecated_keys_are_reported() {
    let (_, notices) = run(parse_file("max-snapshots: 3\nv2-deprecation: gone"));
    let deprecated = messages(&notices);
    let count = deprecated
        .iter()
        .filter(|message| message.contains("is deprecated"))
        .count();
    assert_eq!(count, 2, "{deprecated:?}");
}

#[test]
fn the_first_document_counts_and_a_mark_of_the_encoding_is_passed_over() {
    for contents in [
        "\u{feff}name: first",
        "name: first\n---\nname: second\n",
        "---\nname: first\n---\n- neither: read\n",
        "\u{feff}{\"name\": \"first\"}",
    ] {
        let (config, _) = run(parse_file(&format!("{contents}\n")));
        assert_eq!(config.name, "first", "{contents:?}");
    }
}

#[test]
fn errors_say_what_is_wrong_and_exit_with_1() {
    let table = [
        ("a: b: c", "error converting YAML to JSON: yaml: "),
        ("name: a\nname: b", "error converting YAML to JSON: yaml: "),
        ("- a", "/etc/engram.yaml: a config file is a map of keys"),
        (
            "just text",
            "/etc/engram.yaml: a config file is a map of keys",
        ),
        (
            "snapshot-count: many",
            "config file key \"snapshot-count\": invalid value \"many\": parse error",
        ),
        (
            "snapshot-count: 1.5",
            "config file key \"snapshot-count\": invalid value \"1.5\"",
        ),
        (
            "snapshot-count: [1]",
            "config file key \"snapshot-count\": expected a single value",
        ),
        (
            "name: {a: b}",
            "config file key \"name\": expected a single value",
        ),
        (
            "peer-transport-security: x",
            "invalid peer-transport-security",
        ),
        (
            "peer-transport-security: {client-cert-auth: 7}",
            "config file key \"peer-transport-security.client-cert-auth\": invalid value \"7\"",
        ),
        (
            "initial-cluster-state: old",
            "unexpected clusterState \"old\"",
        ),
        (
            "feature-gates: Nope=true",
            "unrecognized feature gate: Nope",
        ),
        (
            "listen-peer-urls: nope",
            "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or \
             unixs: nope",
        ),
    ];
    for (contents, want) in table {
        let failure = fail(parse_file(contents));
        assert!(
            failure.message.starts_with(want),
            "{contents:?}: {}",
            failure.message
        );
        assert_eq!(failure.exit_code, 1, "{contents:?}");
        assert!(failure.text.is_some() || !failure.notices.is_empty());
    }
}

#[test]
fn a_file_that_is_missing_or_too_large_is_refused() {
    let missing = fail(parse_with(&["--config-file=/nope"], &[]));
    assert_eq!(missing.message, "open /nope: no such file or directory");
    let large = fail(parse_file(&"#".repeat(1024 * 1024 + 1)));
    assert!(
        large.message.contains("at most 1048576 bytes"),
        "{}",
        large.message
    );
}
