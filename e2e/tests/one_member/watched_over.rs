//! What an operator sees of it: metrics under etcd's names, and the log's lines about what is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use engram_proto::etcdserverpb::{
    AlarmRequest, HashRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    alarm_request::AlarmAction, request_op::Request,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What every operation of [`operate`] moves: each was told at 0, or not at all, before.
const MOVED: [&str; 27] = [
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_mvcc_range_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_ttl_total_count",
    "etcd_debugging_server_lease_expired_total",
    "etcd_disk_backend_defrag_duration_seconds_count",
    "etcd_disk_backend_snapshot_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
    "etcd_mvcc_hash_duration_seconds_count",
    "etcd_mvcc_hash_rev_duration_seconds_count",
    "etcd_server_slow_apply_total",
    "etcd_server_range_duration_seconds_count{success=\"true\"}",
    "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Put\"}",
    "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"}",
    "etcd_server_request_duration_seconds_count{success=\"true\",type=\"LeaseGrant\"}",
    "grpc_server_handling_seconds_count{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}",
    "grpc_server_handling_seconds_count{grpc_method=\"LeaseKeepAlive\",grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"}",
    "grpc_server_handling_seconds_count{grpc_method=\"Snapshot\",grpc_service=\"etcdserverpb.Maintenance\",grpc_type=\"server_stream\"}",
];

#[test]
fn metrics_move_with_what_they_count() {
    let _turn = turn::take("metrics");
    let server = Setup::engram()
        .flag("--metrics=extensive")
        // Everything that is applied is slow.
        .flag("--warning-apply-duration=0s")
        .flag("--feature-gates=InitialCorruptCheck=true")
        .start();
    let before = metrics(&server);
    let gate = |name: &str, stage: &str| {
        let line = format!("etcd_server_feature_enabled{{name=\"{name}\",stage=\"{stage}\"}}");
        before[&line]
    };
    assert_eq!(gate("InitialCorruptCheck", "ALPHA"), 1.0);
    assert_eq!(gate("LeaseCheckpoint", "ALPHA"), 0.0);
    for untouched in [
        "etcd_server_slow_read_indexes_total",
        "etcd_disk_defrag_inflight",
    ] {
        assert_eq!(before[untouched], 0.0, "{untouched}");
    }

    client::runtime().block_on(operate(&server));
    let moved = |now: &BTreeMap<String, f64>| {
        let still = |name: &&str| {
            let was = before.get(*name).copied().unwrap_or_default();
            now.get(*name).copied().unwrap_or_default() <= was
        };
        MOVED.into_iter().filter(still).collect::<Vec<_>>()
    };
    // A lease expires when its time has come.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let still = moved(&metrics(&server));
        if still.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "these did not move: {still:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let now = metrics(&server);
    let counted = |name: &str| now[name] - before[name];
    assert_eq!(counted("etcd_mvcc_put_total"), 4.0);
    assert_eq!(counted("etcd_mvcc_delete_total"), 1.0);
    assert_eq!(counted("etcd_mvcc_txn_total"), 1.0);
    assert_eq!(
        counted("etcd_debugging_mvcc_total_put_size_in_bytes"),
        4.0 * 4.0
    );
    let raised = now
        .iter()
        .find(|(name, _)| name.starts_with("etcd_debugging_server_alarms{alarm_type=\"NOSPACE\""));
    assert_eq!(raised.map(|(_, value)| *value), Some(1.0));
}

/// Four puts of four bytes, two of them in a transaction; a delete; leases that are renewed,
/// revoked and left to expire; compaction; maintenance; an alarm last, because it refuses puts.
async fn operate(server: &Server) {
    let mut client = Client::connect(server.address()).await;
    client.put("a", "one").await.expect("a put");
    let revision = client.put("a", "two").await.expect("a put");
    client.get("a", 0).await.expect("a range");
    let put = |key: &'static str| RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: key.into(),
            value: "txn".into(),
            ..PutRequest::default()
        })),
    };
    let txn = TxnRequest {
        success: vec![put("b"), put("c")],
        ..TxnRequest::default()
    };
    client.kv.txn(txn).await.expect("a transaction");
    client.delete("b").await.expect("a delete");
    for (id, ttl) in [(1, 1), (2, 600)] {
        let grant = LeaseGrantRequest { id, ttl };
        client.lease.lease_grant(grant).await.expect("a lease");
    }
    server.etcdctl(&["lease", "keep-alive", "--once", "2"]);
    server.etcdctl(&["lease", "revoke", "2"]);
    server.etcdctl(&["compact", &revision.to_string(), "--physical"]);
    server.etcdctl(&["defrag"]);
    server.etcdctl(&["endpoint", "hashkv"]);
    let path = server.scratch().join("snap.db");
    server.etcdctl(&["snapshot", "save", &path.display().to_string()]);
    let hash = client.maintenance.hash(HashRequest::default()).await;
    let header = hash.expect("a hash").into_inner().header.expect("a header");
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: header.member_id,
        alarm: 1,
    };
    client.maintenance.alarm(alarm).await.expect("an alarm");
}

#[test]
fn requests_that_take_long_are_logged_as_etcd_logs_them() {
    let _turn = turn::take("slow requests");
    let server = Setup::engram()
        .flag("--warning-unary-request-duration=1ms")
        .start();
    let runtime = client::runtime();
    let mut client = runtime.block_on(Client::connect(server.address()));
    let deadline = Instant::now() + PATIENCE;
    // A write waits for the disk: sooner or later for longer than a millisecond.
    let line = loop {
        runtime
            .block_on(client.put("slow", "secret"))
            .expect("a put");
        if let Some(line) = request_stats(&server, "warn") {
            break line;
        }
        assert!(Instant::now() < deadline, "{}", server.last_words());
    };
    assert_eq!(line["response type"], "/etcdserverpb.KV/Put", "{line}");
    assert_eq!(
        line["request content"], "key:\"slow\" value_size:6",
        "{line}"
    );
    assert_eq!(line["request count"], 1, "{line}");
    assert_eq!(line["response count"], 0, "{line}");
    let remote = line["remote"].as_str().unwrap_or_default();
    assert!(remote.starts_with("127.0.0.1:"), "{line}");
    for field in ["start time", "time spent"] {
        assert!(line[field].is_string(), "{line}");
    }
    assert!(line["response size"].as_i64() > Some(10), "{line}");
}

#[test]
fn for_debugging_every_request_is_logged() {
    let _turn = turn::take("requests");
    let server = Setup::engram()
        .flag("--log-level=debug")
        .flag("--warning-unary-request-duration=1h")
        .start();
    let read = client::runtime().block_on(async {
        let mut client = Client::connect(server.address()).await;
        let range = RangeRequest {
            key: "k".into(),
            limit: 3,
            ..RangeRequest::default()
        };
        client.kv.range(range).await
    });
    read.expect("a range");
    let deadline = Instant::now() + PATIENCE;
    let line = loop {
        if let Some(line) = request_stats(&server, "debug") {
            break line;
        }
        assert!(Instant::now() < deadline, "{}", server.last_words());
    };
    assert_eq!(line["response type"], "/etcdserverpb.KV/Range", "{line}");
    assert_eq!(line["request content"], "key:\"k\" limit:3", "{line}");
    assert!(request_stats(&server, "warn").is_none());
}

/// The first line about a request of a level.
fn request_stats(server: &Server, level: &str) -> Option<serde_json::Value> {
    logged(server, "request stats", level)
}

/// The first line with a message, of a level.
fn logged(server: &Server, message: &str, level: &str) -> Option<serde_json::Value> {
    let output = server.output();
    let parsed = output
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut lines = parsed.filter(|line| line["msg"] == message && line["level"] == level);
    lines.next()
}

#[test]
fn what_probes_are_told_is_logged() {
    let _turn = turn::take("probes");
    let told = [Setup::etcd(), Setup::engram()].map(|setup| {
        let server = setup
            .flag("--log-level=debug")
            .flag("--quota-backend-bytes=1")
            .start();
        for path in ["/health", "/readyz", "/livez?verbose"] {
            page(&server, path);
        }
        server.try_etcdctl(&["put", "too", "much"]);
        let raised = |text: &str| text.contains("NOSPACE");
        let deadline = Instant::now() + PATIENCE;
        while !raised(&server.etcdctl(&["alarm", "list"])) {
            assert!(Instant::now() < deadline, "{}", server.last_words());
        }
        page(&server, "/health");
        page(&server, "/readyz/nothing");
        let lines = [
            ("/health OK", "debug"),
            ("serving /health true", "debug"),
            ("Health check OK", "debug"),
            ("serving /health false due to an alarm", "warn"),
            ("/health error", "warn"),
        ];
        lines.map(|(message, level)| {
            loop {
                if let Some(line) = logged(&server, message, level) {
                    let fields = line.as_object().expect("a line is an object");
                    let of_zap = ["logger", "stacktrace"];
                    let fields = fields
                        .keys()
                        .filter(|field| !of_zap.contains(&field.as_str()));
                    break (message, fields.cloned().collect::<BTreeSet<String>>());
                }
                assert!(
                    Instant::now() < deadline,
                    "{message}: {}",
                    server.last_words()
                );
            }
        })
    });
    assert_eq!(told[0], told[1]);
}

fn page(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("connecting");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asking");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// `/metrics`, by name with labels.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let answer = page(server, "/metrics");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let split = samples.filter_map(|line| line.rsplit_once(' '));
    split
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}
