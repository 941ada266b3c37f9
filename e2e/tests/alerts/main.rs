//! Each alert of the operator's chart fires on a real Prometheus (Debian's package) that has lived through what
//! `charts/tests/alerts.yaml` tells promtool: that past is played up to now, with the rules' own windows. Only how
//! long a condition has to hold is shorter.

mod past;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engram_e2e::prometheus::{Prometheus, sooner};
use engram_e2e::{tools, turn};
use past::{Labels, Scene};
use serde_json::Value;

const RULES: &str = "../charts/engram-operator/files/alerts.yaml";
const CASES: &str = "../charts/tests/alerts.yaml";
/// How long a condition of an alert has to hold, in place of minutes.
const HOLDS: &str = "1s";
/// How long an alert may take to fire: three looks at the rules, and a start, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(200);

fn read(path: &str) -> String {
    std::fs::read_to_string(tools::directory().join(path)).expect("the chart has it")
}

/// The names of the chart's alerts.
fn alerts(rules: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.trim().strip_prefix("- alert: ")?.to_owned());
    rules.lines().filter_map(name).collect()
}

/// The labels of what a query has, each without those that every alert has.
fn labels(series: &[Value]) -> BTreeSet<Labels> {
    let label = |one: &Value| {
        let mut labels = past::of_object(&one["metric"]);
        labels.retain(|name, _| !["__name__", "alertname", "alertstate"].contains(&&**name));
        labels
    };
    series.iter().map(label).collect()
}

#[test]
fn each_alert_fires_on_a_real_prometheus() {
    let _turn = turn::take("each alert fires");
    let (rules, cases) = (read(RULES), read(CASES));
    let short = sooner(&rules, HOLDS);
    let scenes = past::scenes(&cases);
    let mut fired = BTreeSet::new();
    for scene in &scenes {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs_f64();
        let began = Instant::now();
        let prometheus = Prometheus::start_with_past(&scene.played(now), &short);
        for expected in &scene.expected {
            fires(&prometheus, scene, expected);
            fired.extend(expected.alerts());
        }
        println!("{:?}: {:.1?}", scene.name, began.elapsed());
    }
    assert_eq!(fired, alerts(&rules), "each of them, and no other");
}

/// Waits until what is expected is what Prometheus says.
fn fires(prometheus: &Prometheus, scene: &Scene, expected: &past::Expected) {
    let began = Instant::now();
    loop {
        let found = prometheus.query(&expected.query).unwrap_or_default();
        let found = labels(&found);
        if found == expected.labels {
            return;
        }
        assert!(
            began.elapsed() < LIMIT,
            "{:?}, {}: {found:?} in place of {:?}",
            scene.name,
            expected.query,
            expected.labels
        );
        std::thread::sleep(INTERVAL);
    }
}
