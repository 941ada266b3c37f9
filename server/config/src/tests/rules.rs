//! What must hold between flags.

use std::time::Duration;

use super::*;

#[test]
fn faults_are_reported_in_etcds_words() {
    let cert = "--cert-file=/c";
    let key = "--key-file=/k";
    let https = "--listen-client-urls=https://127.0.0.1:1";
    let advertise = "--advertise-client-urls=https://127.0.0.1:1";
    let table: &[(&[&str], &str)] = &[
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--election-timeout=499"],
            "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            &["--election-timeout=50001"],
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            &["--election-timeout=0"],
            "--election-timeout must be >0 (set to 0ms)",
        ),
        (
            &["--heartbeat-interval=18446744073709551615"],
            "--election-timeout[1000ms] should be at least as 5 times as \
             --heartbeat-interval[18446744073709551615ms]",
        ),
        (
            &["--listen-peer-urls=http://foo:1"],
            "expected IP in URL for binding (http://foo:1)",
        ),
        (
            &["--listen-metrics-urls=http://:1"],
            "expected IP in URL for binding (http://:1)",
        ),
        (
            &["--advertise-client-urls=http://:1"],
            "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host \
             (http://:1))",
        ),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty \
             host (http://:1))",
        ),
        (
            &[
                "--initial-cluster=a=http://a:1",
                "--discovery-srv=example.com",
            ],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            &["--discovery-token=t"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            &["--discovery-token=t", "--discovery-endpoints= "],
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (
            &["--auto-compaction-mode=foo"],
            "unknown auto-compaction-mode \"foo\"",
        ),
        (
            &["--auto-compaction-mode="],
            "undefined auto-compaction-mode",
        ),
        (
            &["--compact-hash-check-time=0"],
            "--compact-hash-check-time must be >0 (set to 0s)",
        ),
        (
            &["--compact-hash-check-time=-1m"],
            "--compact-hash-check-time must be >0 (set to -1m0s)",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint",
        ),
        (
            &["--tls-min-version=TLS1.1"],
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &[
                "--tls-min-version=TLS1.3",
                "--cipher-suites=TLS_RSA_WITH_RC4_128_SHA",
            ],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            &["--cipher-suites=NOPE"],
            "unexpected TLS cipher suite \"NOPE\"",
        ),
        (
            &[https, advertise],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url \
             https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &[https, advertise, cert],
            "KeyFile and CertFile must both be present[key: , cert: /c]",
        ),
        (
            &[https, advertise, cert, key, "--client-key-file=/k"],
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: /k, cert: ]",
        ),
        (
            &["--listen-peer-urls=https://[::1]:1", cert, key],
            "cannot listen on TLS for [::1]:1: KeyFile and CertFile are not presented",
        ),
        (
            &["--listen-metrics-urls=https://127.0.0.1:1"],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (
            &["--listen-client-http-urls=http://localhost:2379"],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
             http://localhost:2379",
        ),
        (
            &["--initial-cluster=a=nope"],
            "error setting up initial cluster: URL scheme must be",
        ),
        (&["--auth-token=foo"], "auth: invalid auth options"),
        (&["--auth-token=jwt"], "auth: invalid auth signature method"),
        (
            &["--auth-token=jwt,sign-method"],
            "auth: invalid auth options",
        ),
        (
            &["--auth-token=jwt,sign-method=a,sign-method=b"],
            "auth: invalid auth options",
        ),
        (
            &["--logger=capnslog"],
            "--logger=capnslog is removed in v3.5",
        ),
        (&["--logger=x"], "unknown logger option \"x\""),
        (
            &["--log-outputs=default,stderr"],
            "multi logoutput for \"default\" is not supported yet",
        ),
        (
            &["--log-format=xml"],
            "unknown log format: xml, supported values json, console",
        ),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=/a",
                "--log-rotation-config-json={",
            ],
            "improperly formatted log rotation config: ",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=/a",
                "--log-rotation-config-json=[]7",
            ],
            "improperly formatted log rotation config: ",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=/a",
                "--log-rotation-config-json={\"maxsize\":\"1\"}",
            ],
            "invalid log rotation config: ",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=/a",
                "--log-rotation-config-json={\"maxsize\":-1}",
            ],
            "invalid log rotation config: maxsize is -1, below nothing",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=/a",
                "--log-rotation-config-json=[]",
            ],
            "invalid log rotation config: [] is no object",
        ),
        (
            &[
                "--enable-distributed-tracing",
                "--distributed-tracing-sampling-rate=-1",
            ],
            "distributed tracing configurition is not valid: (tracing sampling rate must be \
             positive)",
        ),
        (
            &["--io-threads=0"],
            "--io-threads must be between 1 and 256 threads (set to 0)",
        ),
        (
            &["--max-learners=-1"],
            "--max-learners must be between 0 and 1000 members (set to -1)",
        ),
        (
            &["--warning-apply-duration=-1s"],
            "--warning-apply-duration must be >=0 (set to -1s)",
        ),
    ];
    for (args, want) in table {
        let failure = fail(parse_with(args, &[]));
        assert!(
            failure.message.starts_with(want),
            "{args:?}: {}",
            failure.message
        );
        assert_eq!(failure.exit_code, 1, "{args:?}");
        assert_eq!(
            failure.notices.last().unwrap().message,
            "failed to verify flags",
            "{args:?}"
        );
    }
}

#[test]
fn listeners_with_tls_need_files_or_auto_tls() {
    let https = "--listen-client-urls=https://127.0.0.1:1";
    let advertise = "--advertise-client-urls=https://127.0.0.1:1";
    let with_files = config(&[https, advertise, "--cert-file=/c", "--key-file=/k"]);
    assert_eq!(with_files.client_tls.key, Some("/k".into()));
    assert!(!with_files.client_tls.self_signed);
    assert!(
        config(&[https, advertise, "--auto-tls"])
            .client_tls
            .self_signed
    );
    assert!(
        config(&["--listen-peer-urls=https://127.0.0.1:1", "--peer-auto-tls"])
            .peer_tls
            .self_signed
    );
    let (both, notices) = run(parse_with(
        &[
            https,
            advertise,
            "--auto-tls",
            "--cert-file=/c",
            "--key-file=/k",
        ],
        &[],
    ));
    assert!(!both.client_tls.self_signed);
    assert!(messages(&notices).contains(&"ignoring client auto TLS since certs given"));
}

#[test]
fn files_that_a_listener_ignores_are_reported() {
    let (_, notices) = run(parse_with(
        &["--cert-file=/c", "--key-file=/k", "--client-cert-auth"],
        &[],
    ));
    let about: Vec<&Notice> = notices
        .iter()
        .filter(|notice| notice.message.contains("ignoring"))
        .collect();
    assert_eq!(about.len(), 2);
    assert!(
        about
            .iter()
            .all(|notice| notice.fields == [("client-url", "http://localhost:2379".to_owned())])
    );
}

#[test]
fn zero_means_the_default_where_etcd_says_so() {
    let config = config(&[
        "--snapshot-count=0",
        "--snapshot-catchup-entries=0",
        "--watch-progress-notify-interval=0",
        "--warning-unary-request-duration=0",
        "--grpc-keepalive-interval=0",
        "--grpc-keepalive-timeout=0",
    ]);
    assert_eq!(
        (
            config.raft.snapshot_count,
            config.raft.snapshot_catchup_entries
        ),
        (10_000, 5_000)
    );
    assert_eq!(
        config.watch_progress_notify_interval,
        Duration::from_secs(600)
    );
    assert_eq!(
        config.warning_unary_request_duration,
        Duration::from_millis(300)
    );
    assert_eq!(
        (config.keepalive.interval, config.keepalive.timeout),
        (None, None)
    );
}

#[test]
fn tokens_and_passwords_are_configured_as_etcds() {
    let token = |text: &str| config(&["--auth-token", text]).auth_token;
    assert_eq!(token(""), AuthToken::None);
    assert_eq!(
        token("jwt,pub-key=/p,sign-method=RS256,priv-key=/q,ttl=10m"),
        AuthToken::Jwt {
            sign_method: "RS256".into(),
            public_key: Some("/p".into()),
            private_key: Some("/q".into()),
            ttl: Duration::from_secs(600),
        }
    );
    let AuthToken::Jwt { ttl, .. } = token("jwt,sign-method=HS256,priv-key=/q") else {
        panic!()
    };
    assert_eq!(ttl, Duration::from_secs(300));
    let (_, notices) = run(parse_with(&["--bcrypt-cost=3"], &[]));
    assert!(
        messages(&notices)
            .iter()
            .any(|message| message.contains("bcrypt cost"))
    );
}

#[test]
fn raft_connection_timeouts_have_a_minimum() {
    let (_, notices) = run(parse_with(&["--raft-read-timeout=1s"], &[]));
    assert!(messages(&notices).contains(&"raft-read-timeout increased to minimum value: 5s"));
}

#[test]
fn large_requests_are_allowed_with_a_warning() {
    let (config, notices) = run(parse_with(&["--max-request-bytes=10485761"], &[]));
    assert_eq!(config.limits.request_bytes_max, 10_485_761);
    assert!(messages(&notices).contains(&"exceeded recommended request limit"));
}

#[test]
fn requests_that_no_log_record_holds_are_refused_at_the_start() {
    let (config, _) = run(parse_with(&["--max-request-bytes=134217728"], &[]));
    assert_eq!(config.limits.request_bytes_max, 128 << 20);
    let text = fail(parse_with(&["--max-request-bytes=134217729"], &[])).message;
    assert!(text.contains("--max-request-bytes=134217729"), "{text}");
    assert!(text.contains("choose at most that"), "{text}");
}
