//! The command line's syntax, and the defaults.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::trace::{Format, Options, Output, Rotation};

#[test]
fn without_arguments_everything_is_etcds_default() {
    let (config, notices) = run(parse_with(&[], &[]));
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.wal_dir(), PathBuf::from("default.etcd/member/wal"));
    assert_eq!(texts(&config.listen.peer), ["http://localhost:2380"]);
    assert_eq!(texts(&config.listen.client), ["http://localhost:2379"]);
    assert!(config.listen.client_http.is_empty() && config.listen.metrics.is_empty());
    assert_eq!(texts(&config.advertise.peer), ["http://localhost:2380"]);
    assert_eq!(texts(&config.advertise.client), ["http://localhost:2379"]);
    assert_eq!(config.cluster.initial.len(), 1);
    assert_eq!(config.cluster.initial[0].name, "default");
    assert_eq!(config.cluster.token, "etcd-cluster");
    assert!(config.is_new_cluster() && config.cluster.strict_reconfig_check);
    assert_eq!(config.cluster.learners_max, 1);
    assert_eq!(config.raft.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.raft.election_timeout, Duration::from_secs(1));
    assert_eq!(config.raft.snapshot_count, 10_000);
    assert_eq!(config.raft.snapshot_catchup_entries, 5_000);
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
    assert_eq!(
        config.limits.quota_backend_bytes,
        Some(2 * 1024 * 1024 * 1024)
    );
    assert_eq!(config.limits.txn_ops_max, 128);
    assert_eq!(config.limits.request_bytes_max, 1_572_864);
    assert_eq!(config.limits.concurrent_streams_max, u32::MAX);
    assert_eq!(
        (config.limits.value_cache_bytes, config.limits.io_threads),
        (None, None)
    );
    assert_eq!(config.keepalive.interval, Some(Duration::from_secs(7_200)));
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert_eq!(config.corruption.check_time, None);
    assert_eq!(
        config.corruption.compact_hash_check_time,
        Duration::from_secs(60)
    );
    assert_eq!(
        config.watch_progress_notify_interval,
        Duration::from_secs(600)
    );
    assert_eq!(
        config.warning_unary_request_duration,
        Duration::from_millis(300)
    );
    assert_eq!(config.auth_token, AuthToken::Simple);
    assert_eq!(config.tls_policy.version_min, TlsVersion::V1_2);
    assert_eq!(config.client_tls, TlsFiles::default());
    assert!(config.http.cors_origins.contains("*"));
    assert_eq!(config.log, Options::default());
    let levels: Vec<Level> = notices.iter().map(|notice| notice.level).collect();
    assert_eq!(levels, [Level::Warn; 3], "{notices:?}");
    assert!(
        notices
            .iter()
            .any(|notice| notice.message == "'data-dir' was empty; using default")
    );
}

#[test]
fn kubeadms_command_line_is_understood() {
    let (config, notices) = run(parse_with(
        &[
            "--advertise-client-urls=https://10.0.0.1:2379",
            "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
            "--client-cert-auth=true",
            "--data-dir=/var/lib/etcd",
            "--feature-gates=InitialCorruptCheck=true",
            "--initial-advertise-peer-urls=https://10.0.0.1:2380",
            "--initial-cluster=cp-1=https://10.0.0.1:2380",
            "--key-file=/etc/kubernetes/pki/etcd/server.key",
            "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--listen-peer-urls=https://10.0.0.1:2380",
            "--name=cp-1",
            "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
            "--peer-client-cert-auth=true",
            "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
            "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
            "--snapshot-count=10000",
            "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
            "--watch-progress-notify-interval=5s",
        ],
        &[],
    ));
    assert_eq!(
        texts(&config.listen.client),
        ["https://10.0.0.1:2379", "https://127.0.0.1:2379"]
    );
    assert!(config.feature_gates.enabled("InitialCorruptCheck"));
    assert_eq!(
        config.watch_progress_notify_interval,
        Duration::from_secs(5)
    );
    let peer = &config.peer_tls;
    assert_eq!(peer.cert, Some("/etc/kubernetes/pki/etcd/peer.crt".into()));
    assert_eq!(
        peer.trusted_ca,
        Some("/etc/kubernetes/pki/etcd/ca.crt".into())
    );
    assert!(peer.client_cert_auth && config.client_tls.client_cert_auth);
    assert!(
        !messages(&notices)
            .iter()
            .any(|message| message.contains("ignoring")),
        "{notices:?}"
    );
}

#[test]
fn kubernetes_integration_tests_start_it_on_a_socket() {
    let config = config(&[
        "--data-dir",
        "/tmp/d",
        "--listen-client-urls",
        "unix:///tmp/d/etcd.sock",
        "--advertise-client-urls",
        "http://127.0.0.111:0",
        "--listen-peer-urls",
        "http://127.0.0.1:0",
        "-log-level",
        "warn",
        "--quota-backend-bytes",
        "8589934592",
    ]);
    assert_eq!(
        config.listen.client[0].address,
        Address::Socket("/tmp/d/etcd.sock".into())
    );
    assert_eq!(config.limits.quota_backend_bytes, Some(8_589_934_592));
    assert_eq!(config.log.level, Level::Warn);
}

#[test]
fn dashes_values_booleans_and_repetition_follow_go() {
    let by_equals = config(&[
        "-name=a",
        "--strict-reconfig-check=false",
        "--name",
        "b",
        "--",
    ]);
    assert_eq!(
        (
            by_equals.name.as_str(),
            by_equals.cluster.strict_reconfig_check
        ),
        ("b", false)
    );
    let by_presence = config(&["--unsafe-no-fsync", "--strict-reconfig-check=F", "--name="]);
    assert!(by_presence.unsafe_no_fsync && !by_presence.cluster.strict_reconfig_check);
    assert_eq!(by_presence.name, "");
    assert_eq!(
        config(&["--name", "--strict-reconfig-check"]).name,
        "--strict-reconfig-check",
        "the next argument counts"
    );
    assert_eq!(
        config(&["--heartbeat-interval=0x64"])
            .raft
            .heartbeat_interval
            .as_millis(),
        100
    );
    assert_eq!(
        config(&["--quota-backend-bytes=-1"])
            .limits
            .quota_backend_bytes,
        None
    );
    assert_eq!(
        config(&["--value-cache-bytes=0"]).limits.value_cache_bytes,
        Some(0)
    );
    assert_eq!(config(&["--io-threads=2"]).limits.io_threads, Some(2));
}

#[test]
fn errors_of_syntax_print_gos_text_and_the_usage_and_exit_with_2() {
    let table = [
        ("--nope=1", "flag provided but not defined: -nope"),
        ("-nope", "flag provided but not defined: -nope"),
        ("---name=a", "bad flag syntax: ---name=a"),
        ("-=a", "bad flag syntax: -=a"),
        ("--name", "flag needs an argument: -name"),
        (
            "--strict-reconfig-check=maybe",
            "invalid boolean value \"maybe\" for -strict-reconfig-check: parse error",
        ),
        (
            "--max-txn-ops=x",
            "invalid value \"x\" for flag -max-txn-ops: parse error",
        ),
        (
            "--max-txn-ops=18446744073709551616",
            "invalid value \"18446744073709551616\" for flag -max-txn-ops: value out of range",
        ),
        (
            "--max-concurrent-streams=-1",
            "invalid value \"-1\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \
             \"-1\": invalid syntax",
        ),
        (
            "--corrupt-check-time=5",
            "invalid value \"5\" for flag -corrupt-check-time: parse error",
        ),
        (
            "--initial-cluster-state=old",
            "invalid value \"old\" for flag -initial-cluster-state: invalid value",
        ),
        (
            "--v2-deprecation=not-yet",
            "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
        ),
        (
            "--feature-gates=Nope=true",
            "invalid value \"Nope=true\" for flag -feature-gates: unrecognized feature gate: Nope",
        ),
        (
            "--listen-client-urls=http://a",
            "invalid value \"http://a\" for flag -listen-client-urls: URL address does not have the \
             form \"host:port\": http://a",
        ),
        (
            "--cors=",
            "invalid value \"\" for flag -cors: URL scheme must be http, https, unix, or unixs: ",
        ),
    ];
    for (argument, want) in table {
        let failure = fail(parse_with(&[argument], &[]));
        assert_eq!(
            (failure.message.as_str(), failure.exit_code),
            (want, 2),
            "{argument}"
        );
        let text = failure.text.unwrap();
        assert!(text.starts_with(&format!("{want}\nUsage:\n")), "{text}");
        assert!(failure.notices.is_empty());
    }
}

#[test]
fn a_stray_argument_is_logged_and_exits_with_1() {
    for args in [&["--name=a", "b", "--nope"][..], &["--", "b"], &["b"]] {
        let failure = fail(parse_with(args, &[]));
        assert_eq!(
            (failure.message.as_str(), failure.exit_code),
            ("\"b\" is not a valid flag", 1)
        );
        assert_eq!(failure.text, None);
        assert_eq!(failure.notices.len(), 1);
        assert_eq!(failure.notices[0].message, "failed to verify flags");
        assert_eq!(
            failure.notices[0].fields,
            [("error", "\"b\" is not a valid flag".to_owned())]
        );
    }
    assert_eq!(
        fail(parse_with(&["-"], &[])).message,
        "\"-\" is not a valid flag"
    );
    assert_eq!(
        fail(parse_with(&[""], &[])).message,
        "\"\" is not a valid flag"
    );
}

#[test]
fn sub_commands_of_etcd_are_named_as_missing() {
    for command in ["gateway", "grpc-proxy"] {
        let failure = fail(parse_with(&[command, "start"], &[]));
        assert!(
            failure.message.contains(command) && failure.exit_code == 1,
            "{failure:?}"
        );
    }
}

#[test]
fn version_prints_four_lines_in_etcds_shape() {
    for args in [
        &["--version"][..],
        &["-version"],
        &["--name=a", "--version=true"],
    ] {
        let Outcome::Print { text, exit_code: 0 } = parse_with(args, &[]) else {
            panic!()
        };
        let heads: Vec<&str> = text
            .lines()
            .map(|line| line.split_once(": ").expect("a colon").0)
            .collect();
        assert_eq!(
            heads,
            ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]
        );
        assert!(text.starts_with("etcd Version: 3.7.3\n"));
    }
    assert!(matches!(
        parse_with(&["--version=false"], &[]),
        Outcome::Run { .. }
    ));
}

#[test]
fn help_shows_every_flag_that_is_not_retired() {
    for argument in ["--help", "-h", "-help", "--h"] {
        let Outcome::Print { text, exit_code: 0 } = parse_with(&[argument], &[]) else {
            panic!()
        };
        for spec in flags().filter(|spec| spec.kind != Kind::Ignored) {
            assert!(text.contains(&format!("\n  --{} '{}'", spec.name, spec.default)));
        }
        assert!(!text.contains("--vv"));
        assert!(text.contains("InitialCorruptCheck=true|false (ALPHA - default=false)"));
    }
}

#[test]
fn flags_without_effect_are_accepted_and_reported_by_name() {
    let (_, notices) = run(parse_with(
        &[
            "--name=a",
            "--max-wals=3",
            "--snapshot",
            "--max-snapshots=3",
            "--memory-mlock",
        ],
        &[],
    ));
    let reported: Vec<(&str, &str)> = notices
        .iter()
        .filter_map(|notice| match notice.fields.as_slice() {
            [("flag-name", name)] => Some((notice.message.as_str(), name.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        reported,
        [
            ("flag accepted, has no effect in Engram", "max-wals"),
            ("flag accepted, has no effect in Engram", "memory-mlock"),
            ("flag is no longer supported - ignoring", "snapshot"),
        ]
    );
    let deprecated = "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.";
    assert!(messages(&notices).contains(&deprecated));
}

#[test]
fn the_log_is_configured_as_etcds() {
    let options = config(&["--log-outputs=stdout,/tmp/a.log", "--log-format=console"]).log;
    assert_eq!(
        options.outputs,
        [Output::File("/tmp/a.log".into()), Output::Stdout]
    );
    assert_eq!(options.format, Format::Console);
    assert_eq!(options.rotation, None);
    let rotated = config(&[
        "--log-outputs=/tmp/a.log",
        "--enable-log-rotation",
        "--log-rotation-config-json={\"maxsize\":1,\"maxbackups\":2}",
    ]);
    let rotation = rotated.log.rotation.unwrap();
    assert_eq!((rotation.size_megabytes_max, rotation.backups_max), (1, 2));
    let go = r#"{"MaxSize":3,"MAXAGE":4,"maxbackups":-1,"compress":true,"localtime":true,"x":[],"filename":null}"#;
    let (rotated, notices) = run(parse_with(
        &[
            "--log-outputs=/tmp/a.log",
            "--enable-log-rotation",
            &format!("--log-rotation-config-json={go}"),
        ],
        &[],
    ));
    let rotation = Rotation {
        size_megabytes_max: 3,
        age_days_max: 4,
        backups_max: 0,
        compressed: true,
    };
    assert_eq!(rotated.log.rotation, Some(rotation));
    assert!(
        messages(&notices)
            .iter()
            .any(|message| message.contains("UTC"))
    );
    let (journal, _) = run(parse_with(&["--log-outputs=systemd/journal"], &[]));
    assert_eq!(journal.log.outputs, [Output::Journal]);
    let level = fail(parse_with(&["--log-level=loud"], &[]));
    assert_eq!(
        (level.message.as_str(), level.exit_code),
        ("unrecognized level: \"loud\"", 2)
    );
}

#[test]
fn an_argument_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let argument = OsString::from_vec(b"--name=\xff".to_vec());
    let outcome = parse([argument].into_iter(), std::iter::empty(), &no_file);
    assert!(fail(outcome).message.starts_with("argument is not UTF-8"));
}

#[test]
fn too_many_arguments_are_refused() {
    let args = vec!["--force"; 10_001];
    assert_eq!(
        fail(parse_with(&args, &[])).message,
        "more than 10000 arguments"
    );
}
