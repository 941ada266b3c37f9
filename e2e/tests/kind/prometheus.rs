//! A real Prometheus (Debian's package) on this machine. It finds pods by Kubernetes' own service
//! discovery and scrapes them through `kubectl proxy`, with the labels that the charts' monitors set.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use engram_e2e::kind::{Forward, Kind, wait_for};
use engram_e2e::{ports, tools};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::LIMIT;

/// The alerts as the chart has them.
const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/engram-operator/files/alerts.yaml"
);
/// How long a query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);
/// How long a condition of an alert has to hold, in place of minutes.
const HOLDS: &str = "2s";

/// A Prometheus under way.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _proxy: Forward,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it with the chart's rules, in which nothing is changed but how long a condition has to
    /// hold, and `changes` (text, and what takes its place).
    pub fn start(kind: &Arc<Kind>, changes: &[(&str, &str)]) -> Prometheus {
        let directory = TempDir::with_prefix("engram-prometheus-").expect("a temporary directory");
        let proxy = kind.proxy();
        let rules = directory.path().join("rules.yaml");
        std::fs::write(&rules, sooner(changes)).expect("a file");
        check(&rules);
        let config = directory.path().join("prometheus.yaml");
        std::fs::write(&config, configuration(kind, proxy.address())).expect("a file");
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = tools::command(Path::new("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("prometheus does not start ({error}): apt-get install prometheus")
        });
        Prometheus {
            child,
            address,
            _proxy: proxy,
            _directory: directory,
        }
    }

    /// Waits until a query has at least `series` answers.
    pub fn wait(&self, query: &str, series: usize) -> Vec<Value> {
        wait_for(&format!("{series} series of {query}"), LIMIT, || {
            let answers = self.query(query)?;
            (answers.len() >= series).then_some(answers)
        })
    }

    /// Waits until an alert fires for a cluster, whichever of the two labels names it.
    pub fn fires(&self, alert: &str, label: &str, namespace: &str) {
        self.wait(
            &format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",namespace=\"{namespace}\",{label}=\"demo\"}}"),
            1,
        );
    }

    /// The series that a query has now; `None` if Prometheus does not answer.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(QUERY_LIMIT)).ok()?;
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        // With 1.0 the body comes as it is, up to the end.
        write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let body = text.split_once("\r\n\r\n")?.1;
        let answer: Value = serde_json::from_str(body).ok()?;
        answer["data"]["result"].as_array().cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Our own child, whatever became of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has promtool read the chart's rules.
pub fn rules_are_valid() {
    check(Path::new(RULES));
}

fn check(rules: &Path) {
    let mut promtool = tools::command(Path::new("promtool"));
    tools::must_succeed(promtool.args(["check", "rules"]).arg(rules));
}

/// The chart's rules with shorter times.
fn sooner(changes: &[(&str, &str)]) -> String {
    let mut rules = std::fs::read_to_string(RULES).expect("the chart has alerts");
    for (from, to) in changes {
        assert!(rules.contains(from), "the chart's alerts have no {from:?}");
        rules = rules.replace(from, to);
    }
    let line = |line: &str| match line.strip_prefix("    for: ") {
        Some(_) => format!("    for: {HOLDS}\n"),
        None => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

fn configuration(kind: &Kind, proxy: SocketAddr) -> String {
    let kubeconfig = kind.kubeconfig().display();
    let job = |name: &str, selector: &str, honored: bool, more: &str| {
        format!(
            "- job_name: {name}
  honor_labels: {honored}
  kubernetes_sd_configs:
  - role: pod
    kubeconfig_file: {kubeconfig}
    selectors: [{{ role: pod, label: \"{selector}\" }}]
  relabel_configs:
  - {{ source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep }}
  - source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_name, __meta_kubernetes_pod_container_port_number]
    separator: /
    regex: (.+)/(.+)/(.+)
    target_label: __metrics_path__
    replacement: /api/v1/namespaces/$1/pods/$2:$3/proxy/metrics
  - {{ target_label: __address__, replacement: '{proxy}' }}
  - {{ source_labels: [__meta_kubernetes_namespace], target_label: namespace }}
  - {{ source_labels: [__meta_kubernetes_pod_name], target_label: pod }}
{more}"
        )
    };
    let members = job(
        "engram",
        "app.kubernetes.io/component=member",
        false,
        "  - { source_labels: [__meta_kubernetes_pod_label_engram_dev_cluster], target_label: engram_cluster }
  - { source_labels: [__meta_kubernetes_pod_label_engram_dev_member], target_label: engram_member }
",
    );
    let operator = job(
        "engram-operator",
        "app.kubernetes.io/name=engram-operator",
        true,
        "",
    );
    format!(
        "global: {{ scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s }}
rule_files: [rules.yaml]
scrape_configs:
{members}{operator}"
    )
}
