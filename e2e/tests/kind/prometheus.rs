//! A real Prometheus (Debian's package, which is built without Kubernetes' service discovery) on this
//! machine. It is told the pods that there are, and scrapes them through `kubectl proxy`.

use std::net::SocketAddr;
use std::sync::Arc;

use engram_e2e::kind::{Forward, Kind, wait_for};
use engram_e2e::prometheus::check;
use engram_e2e::tools;
use serde_json::{Value, json};

use crate::lab::LIMIT;

/// The alerts as the chart has them.
pub const RULES: &str = "../charts/engram-operator/files/alerts.yaml";
/// How often pods are scraped, in place of half a minute.
const SCRAPE: &str = "2s";
/// How long a condition of an alert has to hold, in place of minutes.
const HOLDS: &str = "2s";

/// A Prometheus under way.
pub struct Prometheus {
    server: engram_e2e::prometheus::Prometheus,
    _proxy: Forward,
}

impl Prometheus {
    /// Starts it with the chart's rules, in which nothing is changed but how long a condition has to
    /// hold, and `changes` (text, and what takes its place).
    pub fn start(kind: &Arc<Kind>, changes: &[(&str, &str)]) -> Prometheus {
        let proxy = kind.proxy();
        let configuration = configuration(kind, proxy.address());
        Prometheus {
            server: engram_e2e::prometheus::Prometheus::start(&configuration, &sooner(changes)),
            _proxy: proxy,
        }
    }

    /// Waits until a query has at least `series` answers.
    pub fn wait(&self, query: &str, series: usize) -> Vec<Value> {
        wait_for(&format!("{series} series of {query}"), LIMIT, || {
            let answers = self.server.query(query)?;
            (answers.len() >= series).then_some(answers)
        })
    }

    /// What a query has now.
    pub fn query(&self, query: &str) -> Vec<Value> {
        self.server.query(query).unwrap_or_default()
    }

    /// Waits until an alert fires for a cluster, whichever of the two labels names it.
    pub fn fires(&self, alert: &str, label: &str, namespace: &str) {
        self.wait(
            &format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",namespace=\"{namespace}\",{label}=\"demo\"}}"),
            1,
        );
    }
}

/// Has promtool read the chart's rules.
pub fn rules_are_valid() {
    check(&tools::directory().join(RULES));
}

/// The chart's rules with shorter times.
fn sooner(changes: &[(&str, &str)]) -> String {
    let mut rules =
        std::fs::read_to_string(tools::directory().join(RULES)).expect("the chart has alerts");
    for (from, to) in changes {
        assert!(rules.contains(from), "the chart's alerts have no {from:?}");
        rules = rules.replace(from, to);
    }
    engram_e2e::prometheus::sooner(&rules, HOLDS)
}

/// Scrapes the members and operators that there are now.
fn configuration(kind: &Kind, proxy: SocketAddr) -> Value {
    let members = targets(kind, proxy, "app.kubernetes.io/component=member");
    let operators = targets(kind, proxy, "app.kubernetes.io/name=engram-operator");
    let job = |name: &str, honored: bool, targets: Vec<Value>| json!({ "job_name": name, "honor_labels": honored, "static_configs": targets });
    json!({
        "global": {
            "scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": "1s",
        },
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            job("engram", false, members),
            // namespace is the cluster's in these metrics, not the operator's.
            job("engram-operator", true, operators),
        ],
    })
}

/// Each pod of a selector, by way of the proxy, with the labels that the charts' monitors set.
fn targets(kind: &Kind, proxy: SocketAddr, selector: &str) -> Vec<Value> {
    let list = kind.get("default", &["pods", "-A", "-l", selector]);
    let list = list.expect("pods are listed");
    let target = |pod: &Value| {
        let metadata = &pod["metadata"];
        let (namespace, name) = (metadata["namespace"].as_str()?, metadata["name"].as_str()?);
        let ports = pod["spec"]["containers"][0]["ports"].as_array()?;
        let port = ports.iter().find(|port| port["name"] == "metrics")?;
        let port = &port["containerPort"];
        let mut labels = json!({
            "__metrics_path__": format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics"),
            "instance": name, "namespace": namespace, "pod": name,
        });
        for (label, of) in [("engram_cluster", "cluster"), ("engram_member", "member")] {
            if let Some(value) = metadata["labels"][format!("engram.dev/{of}")].as_str() {
                labels[label] = json!(value);
            }
        }
        Some(json!({ "targets": [proxy.to_string()], "labels": labels }))
    };
    let pods = list["items"].as_array().into_iter().flatten();
    pods.filter_map(target).collect()
}
