//! A real Prometheus scrapes operator and members; the chart's rules load, and two alerts are seen
//! firing: a member is down, and a backup is late.

use engram_e2e::kind::Declared;
use serde_json::json;

use crate::ci::alert;
use crate::lab::Lab;
use crate::prometheus::{self, Prometheus};
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

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({}));
    step("promtool takes the rules", prometheus::rules_are_valid);
    let prometheus = Prometheus::start(lab.kind(), &[STALE]);
    step("operator and members are scraped", || {
        prometheus.wait("up{job=\"engram\",namespace=\"alerts\"} == 1", 3);
        prometheus.wait("up{job=\"engram-operator\"} == 1", 2);
        for (query, series) in METRICS {
            prometheus.wait(query, series);
        }
    });
    step("an alert fires: a member is down", || {
        alert::member_down(&demo, &prometheus);
    });
    step("an alert fires: the backup is stale", || {
        schedule_in_vain(&demo);
        prometheus.fires("EngramBackupStale", "cluster", NAMESPACE);
    });
    lab.clear(NAMESPACE);
}

/// A schedule for every minute, with a store on a claim that is not there.
fn schedule_in_vain(demo: &Declared) {
    let objects = [
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupStore",
            "metadata": { "name": "volume" },
            "spec": { "pvc": { "claimName": "not-there" } },
        }),
        json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupSchedule",
            "metadata": { "name": "often" },
            "spec": {
                "clusterRef": { "name": demo.name() }, "storeRef": { "name": "volume" },
                "schedule": "* * * * *",
            },
        }),
    ];
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    demo.kind().apply(NAMESPACE, &list.to_string());
}
