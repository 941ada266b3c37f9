//! What etcd's mixin asks Prometheus: every alert and every panel of the stock dashboards has data on
//! Engram, and on a sound cluster no alert's condition holds.
//!
//! Source: `contrib/mixin` of etcd 3.7 (`alerts.libsonnet`, `dashboards/targets.libsonnet` and the
//! dashboard for older Grafanas). Its windows are shorter here; `$cluster` and `$job` are filled in.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::prometheus::Prometheus;
use engram_e2e::turn;
use serde_json::{Value, json};

/// An alert's name, what it looks at, and what must not be.
const ALERTS: [(&str, &str, &str); 15] = [
    (
        "etcdMembersDown",
        "max without (endpoint) (sum without (instance) (up{OF} == bool 0) or count without (To) \
         (sum without (instance) (rate(etcd_network_peer_sent_failures_total{OF}[WINDOW])) > 0.01))",
        "> 0",
    ),
    (
        "etcdInsufficientMembers",
        "sum(up{OF} == bool 1) without (instance)",
        "< ((count(up{OF}) without (instance) + 1) / 2)",
    ),
    ("etcdNoLeader", "etcd_server_has_leader{OF}", "== 0"),
    (
        "etcdHighNumberOfLeaderChanges",
        "increase((max without (instance) (etcd_server_leader_changes_seen_total{OF}) or \
         0*absent(etcd_server_leader_changes_seen_total{OF}))[15m:1s])",
        ">= 4",
    ),
    (
        "etcdHighNumberOfFailedGRPCRequests",
        "100 * sum(rate(grpc_server_handled_total{OF, grpc_code=~\"FAILED\"}[WINDOW])) \
         without (grpc_type, grpc_code) / sum(rate(grpc_server_handled_total{OF}[WINDOW])) \
         without (grpc_type, grpc_code)",
        "> 1",
    ),
    (
        "etcdGRPCRequestsSlow",
        "histogram_quantile(0.99, sum(rate(grpc_server_handling_seconds_bucket{OF, \
         grpc_method!=\"Defragment\", grpc_type=\"unary\"}[WINDOW])) without(grpc_type))",
        "> 0.15",
    ),
    (
        "etcdMemberCommunicationSlow",
        "histogram_quantile(0.99, rate(etcd_network_peer_round_trip_time_seconds_bucket{OF}[WINDOW]))",
        "> 0.15",
    ),
    (
        "etcdHighNumberOfFailedProposals",
        "rate(etcd_server_proposals_failed_total{OF}[WINDOW])",
        "> 5",
    ),
    ("etcdHighFsyncDurations", FSYNC, "> 0.5"),
    ("etcdHighFsyncDurationsCritical", FSYNC, "> 1"),
    (
        "etcdHighCommitDurations",
        "histogram_quantile(0.99, rate(etcd_disk_backend_commit_duration_seconds_bucket{OF}[WINDOW]))",
        "> 0.25",
    ),
    (
        "etcdDatabaseQuotaLowSpace",
        "(last_over_time(etcd_mvcc_db_total_size_in_bytes{OF}[WINDOW]) / \
         last_over_time(etcd_server_quota_backend_bytes{OF}[WINDOW]))*100",
        "> 95",
    ),
    (
        "etcdExcessiveDatabaseGrowth",
        "predict_linear(etcd_mvcc_db_total_size_in_bytes{OF}[WINDOW], 60)",
        "> etcd_server_quota_backend_bytes{OF}",
    ),
    (
        "etcdDatabaseHighFragmentationRatio",
        "(last_over_time(etcd_mvcc_db_total_size_in_use_in_bytes{OF}[WINDOW]) / \
         last_over_time(etcd_mvcc_db_total_size_in_bytes{OF}[WINDOW]))",
        "< 0.5 and etcd_mvcc_db_total_size_in_use_in_bytes{OF} > 104857600",
    ),
    (
        "etcdHighNumberOfFailedGRPCRequestsCritical",
        "100 * sum(rate(grpc_server_handled_total{OF, grpc_code=~\"FAILED\"}[WINDOW])) \
         without (grpc_type, grpc_code) / sum(rate(grpc_server_handled_total{OF}[WINDOW])) \
         without (grpc_type, grpc_code)",
        "> 5",
    ),
];
const FSYNC: &str =
    "histogram_quantile(0.99, rate(etcd_disk_wal_fsync_duration_seconds_bucket{OF}[WINDOW]))";

/// A panel's title, and its query.
const PANELS: [(&str, &str); 21] = [
    ("Up", "sum(etcd_server_has_leader{ON})"),
    (
        "RPC rate",
        "sum(rate(grpc_server_started_total{ON,grpc_type=\"unary\"}[WINDOW]))",
    ),
    (
        "RPC failed rate",
        "sum(rate(grpc_server_handled_total{ON,grpc_type=\"unary\",grpc_code=~\"FAILED\"}[WINDOW]))",
    ),
    (
        "Watch streams",
        "sum(grpc_server_started_total{ON,grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}) - \
         sum(grpc_server_handled_total{ON,grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"})",
    ),
    (
        "Lease streams",
        "sum(grpc_server_started_total{ON,grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"}) - \
         sum(grpc_server_handled_total{ON,grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"})",
    ),
    ("DB size", "etcd_mvcc_db_total_size_in_bytes{ON}"),
    (
        "WAL fsync",
        "histogram_quantile(0.99, sum(rate(etcd_disk_wal_fsync_duration_seconds_bucket{ON}[WINDOW])) by (instance, le))",
    ),
    (
        "DB fsync",
        "histogram_quantile(0.99, sum(rate(etcd_disk_backend_commit_duration_seconds_bucket{ON}[WINDOW])) by (instance, le))",
    ),
    ("Memory", "process_resident_memory_bytes{ON}"),
    (
        "Client traffic in",
        "rate(etcd_network_client_grpc_received_bytes_total{ON}[WINDOW])",
    ),
    (
        "Client traffic out",
        "rate(etcd_network_client_grpc_sent_bytes_total{ON}[WINDOW])",
    ),
    (
        "Peer traffic in",
        "sum(rate(etcd_network_peer_received_bytes_total{ON}[WINDOW])) by (instance)",
    ),
    (
        "Peer traffic out",
        "sum(rate(etcd_network_peer_sent_bytes_total{ON}[WINDOW])) by (instance)",
    ),
    (
        "Proposal failure rate",
        "sum(rate(etcd_server_proposals_failed_total{ON}[WINDOW]))",
    ),
    (
        "Proposals pending",
        "sum(etcd_server_proposals_pending{ON})",
    ),
    (
        "Proposal commit rate",
        "sum(rate(etcd_server_proposals_committed_total{ON}[WINDOW]))",
    ),
    (
        "Proposal apply rate",
        "sum(rate(etcd_server_proposals_applied_total{ON}[WINDOW]))",
    ),
    (
        "Total leader elections per day",
        "changes(etcd_server_leader_changes_seen_total{ON}[1d])",
    ),
    (
        "Peer round trip time",
        "histogram_quantile(0.99, sum by (instance, le) (rate(etcd_network_peer_round_trip_time_seconds_bucket{ON}[WINDOW])))",
    ),
    (
        "the variable cluster",
        "count by (cluster) (etcd_server_has_leader{OF})",
    ),
    (
        "Heartbeat failures",
        "sum(rate(etcd_server_heartbeat_send_failures_total{ON}[WINDOW]))",
    ),
];

const FAILED: &str =
    "Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded";
/// Long enough for some scrapes on a busy machine.
const WINDOW: &str = "30s";
/// How long data may take to come: two scrapes, and round trips of peers.
const LIMIT: Duration = Duration::from_secs(40);

fn filled(expression: &str) -> String {
    let on = "job=\"etcd\", cluster=\"demo\"";
    let text = expression
        .replace("FAILED", FAILED)
        .replace("WINDOW", WINDOW);
    text.replace("{OF", "{job=~\".*etcd.*\"")
        .replace("{ON", &format!("{{{on}"))
}

/// All conditions as rules: promtool reads them too.
fn rules() -> String {
    let rule = |(name, value, wrong): &(&str, &str, &str)| {
        let condition = filled(&format!("{value} {wrong}"));
        json!({ "alert": name, "expr": condition, "for": "1h" })
    };
    let rules: Vec<Value> = ALERTS.iter().map(rule).collect();
    json!({ "groups": [{ "name": "etcd", "rules": rules }] }).to_string()
}

fn configuration(cluster: &Cluster) -> Value {
    let targets: Vec<String> = cluster
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let job = json!({
        "job_name": "etcd",
        "static_configs": [{ "targets": targets, "labels": { "cluster": "demo" } }],
    });
    json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    })
}

fn is_number(series: &Value) -> bool {
    let text = series["value"][1].as_str().unwrap_or_default();
    text.parse::<f64>().is_ok_and(|value| !value.is_nan())
}

/// The names whose queries have no number yet. `histogram_quantile` of what nobody asked for is none.
fn without_data(prometheus: &Prometheus) -> Vec<&'static str> {
    let alerts = ALERTS.iter().map(|(name, value, _)| (*name, *value));
    let all = alerts.chain(PANELS);
    let lacks = |(name, query): (&'static str, &str)| {
        let series = prometheus.query(&filled(query)).unwrap_or_default();
        (!series.iter().any(is_number)).then_some(name)
    };
    all.filter_map(lacks).collect()
}

#[test]
fn every_alert_and_every_panel_of_etcds_mixin_has_data() {
    let _turn = turn::take("etcd's mixin");
    let cluster = Plan::of(3)
        .flag("--metrics=extensive")
        .flag("--quota-backend-bytes=1000000000")
        .start();
    cluster.wait_for_leader(LEADER_LIMIT);
    let prometheus = Prometheus::start(&configuration(&cluster), &rules());
    let began = Instant::now();
    let mut lacking = vec!["everything"];
    while !lacking.is_empty() && began.elapsed() < LIMIT {
        cluster.runtime().block_on(async {
            for address in cluster.addresses() {
                let mut client = Client::connect(address).await;
                client.put("a", "1").await.expect("a put");
                client.get("a", 0).await.expect("a read");
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        lacking = without_data(&prometheus);
    }
    assert!(lacking.is_empty(), "no data for {lacking:?}");
    println!("data for everything after {:?}", began.elapsed());
    for (name, value, wrong) in ALERTS {
        let condition = filled(&format!("{value} {wrong}"));
        let holds = prometheus.query(&condition).expect("an answer");
        // A busy machine is slow; nothing is down, without a leader, or full.
        let is_of_speed = name.contains("Slow") || name.contains("Durations");
        assert!(holds.is_empty() || is_of_speed, "{name}: {holds:?}");
    }
}
