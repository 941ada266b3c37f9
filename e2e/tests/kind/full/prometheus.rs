//! A real Prometheus scrapes operator and members; the chart's rules load, each panel of its dashboard has data,
//! what alerts speak of is measured, and two of them are seen firing: a member is down, and a backup is late.

use std::collections::BTreeSet;
use std::time::Duration;

use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use engram_e2e::{client, tools};
use engram_proto::etcdserverpb::PutRequest;
use serde_json::{Value, json};

use super::access;
use crate::ci::alert;
use crate::lab::{LIMIT, Lab};
use crate::prometheus::{self, Prometheus, RULES};
use crate::steps::step;

const NAMESPACE: &str = "alerts";
/// Two hours are too long for a test.
const STALE: (&str, &str) = ("> 2 * 60 * 60", "> 20");
/// What the dashboard and the alerts cannot do without, and how many series of it there are.
const METRICS: [(&str, usize); 6] = [
    ("etcd_server_has_leader == 1", 3),
    ("etcd_mvcc_db_total_size_in_bytes", 3),
    ("engram_operator_leader == 1", 1),
    (
        "engram_cluster_ready{cluster=\"demo\",namespace=\"alerts\"} == 1",
        1,
    ),
    (
        "engram_cluster_quorum_margin{cluster=\"demo\",namespace=\"alerts\"} == 1",
        1,
    ),
    (
        "engram_certificate_not_after_seconds{cluster=\"demo\",namespace=\"alerts\"}",
        3,
    ),
];

/// The chart's dashboard.
const DASHBOARD: &str = "../charts/engram-operator/files/dashboards/engram.json";
/// What Grafana fills in: some scrapes.
const WINDOW: &str = "30s";
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// What alerts speak of that is measured only where it is so: alarms, clusters that are not as they should be,
/// peers that do not answer, log archives, schedules, encrypted backups, failures.
const NOT_OF_A_SOUND_CLUSTER: [&str; 11] = [
    "engram_alarm_active",
    "engram_archive_damaged",
    "engram_archive_failures_total",
    "engram_archive_gaps_total",
    "engram_archive_lag_seconds",
    "engram_archive_last_verified_timestamp_seconds",
    "engram_backup_expected_timestamp_seconds",
    "engram_backup_store_keys_missing",
    "engram_cluster_degraded",
    "engram_operator_reconcile_errors_total",
    "etcd_network_peer_sent_failures_total",
];

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(
        NAMESPACE,
        3,
        &json!({ "config": { "metrics": "Extensive" } }),
    );
    step("promtool takes the rules", prometheus::rules_are_valid);
    let prometheus = Prometheus::start(lab.kind(), &[STALE]);
    step("operator and members are scraped", || {
        prometheus.wait("up{job=\"engram\",namespace=\"alerts\"} == 1", 3);
        prometheus.wait("up{job=\"engram-operator\"} == 1", 2);
        for (query, series) in METRICS {
            prometheus.wait(query, series);
        }
    });
    step("each panel of the dashboard has data", || {
        panels(&demo, &prometheus)
    });
    step("what alerts speak of is measured", || measured(&prometheus));
    step("an alert fires: a member is down", || {
        alert::member_down(&demo, &prometheus);
    });
    step("an alert fires: the backup is stale", || {
        schedule_in_vain(&demo);
        prometheus.fires("EngramBackupStale", "cluster", NAMESPACE);
    });
    lab.clear(NAMESPACE);
}

fn read(path: &str) -> String {
    std::fs::read_to_string(tools::directory().join(path)).expect("the chart has it")
}

/// Each panel's title, and one of its queries.
fn queries(panels: &Value, demo: &Declared) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in panels.as_array().into_iter().flatten() {
        all.extend(queries(&panel["panels"], demo));
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query");
            let query = query
                .replace("$__rate_interval", WINDOW)
                .replace("$namespace", demo.namespace())
                .replace("$cluster", demo.name());
            all.push((title.to_owned(), query));
        }
    }
    all
}

/// Under clients that are answered, one that is refused, and with a backup.
fn panels(demo: &Declared, prometheus: &Prometheus) {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let all = queries(&dashboard["panels"], demo);
    assert!(all.len() > 20, "{all:?}");
    access::backup(demo);
    let ports = demo.node_ports();
    let traffic = Traffic::start(&demo.access(), &ports);
    wait_for("data for each panel", LIMIT, || {
        client::runtime().block_on(async {
            let client = demo.access().connect(ports[0], CALL_LIMIT).await;
            let refused = client.ok()?.kv.put(PutRequest::default()).await;
            assert!(refused.is_err(), "a key is needed");
            Some(())
        })?;
        let is_number = |series: &Value| {
            let text = series["value"][1].as_str().unwrap_or_default();
            text.parse::<f64>().is_ok_and(|value| !value.is_nan())
        };
        let lacks = |query: &str| !prometheus.query(query).iter().any(is_number);
        let lacking = all.iter().filter(|(_, query)| lacks(query));
        let lacking: Vec<&str> = lacking.map(|(title, _)| &**title).collect();
        println!("no data yet: {lacking:?}");
        lacking.is_empty().then_some(())
    });
    drop(traffic);
}

/// The names of metrics in the alerts' expressions.
fn spoken_of() -> BTreeSet<String> {
    let alerts = read(RULES);
    let not_asked = ["#", "description:", "summary:", "runbook_url:", "- alert:"];
    let is_asked = |line: &&str| !not_asked.iter().any(|begin| line.trim().starts_with(begin));
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = alerts.lines().filter(is_asked);
    let words = words.flat_map(|line| line.split(move |letter| !is_of_name(letter)));
    let begins = ["etcd_", "engram_", "grpc_server_", "process_"];
    let is_metric = |word: &&str| begins.iter().any(|begin| word.starts_with(begin));
    let is_label = |word: &&str| ["engram_cluster", "engram_member"].contains(word);
    let names = words.filter(|word| is_metric(word) && !is_label(word));
    names.map(str::to_owned).collect()
}

fn measured(prometheus: &Prometheus) {
    let all = spoken_of();
    assert!(all.len() > 20, "{all:?}");
    let known = BTreeSet::from(NOT_OF_A_SOUND_CLUSTER);
    // What the operator has seen last may not have been scraped yet.
    wait_for("what alerts speak of", LIMIT, || {
        let lacks = |name: &&String| prometheus.query(name).is_empty();
        let lacking: BTreeSet<&str> = all.iter().filter(lacks).map(String::as_str).collect();
        let unknown: Vec<&&str> = lacking.difference(&known).collect();
        println!("nobody measures yet: {unknown:?}");
        unknown.is_empty().then_some(())
    });
}

/// A schedule for every minute, with a store on a claim that is not there.
fn schedule_in_vain(demo: &Declared) {
    let objects = [
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "metadata": { "name": "nowhere" },
            "spec": { "pvc": { "claimName": "not-there" } },
        }),
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupSchedule",
            "metadata": { "name": "often" },
            "spec": {
                "clusterRef": { "name": demo.name() }, "storeRef": { "name": "nowhere" },
                "schedule": "* * * * *",
            },
        }),
    ];
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    demo.kind().apply(NAMESPACE, &list.to_string());
}
