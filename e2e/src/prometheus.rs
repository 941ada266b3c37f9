//! A real Prometheus (Debian's package) on this machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ports, tools};

/// How long a query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);
/// Where it keeps what it knows.
const DATA: &str = "data";

/// A Prometheus under way; dropped, it ends.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it with this configuration, beside these rules as `rules.yaml`.
    ///
    /// # Panics
    /// If the program is not there, or the rules are none.
    pub fn start(configuration: &Value, rules: &str) -> Prometheus {
        let directory = TempDir::with_prefix("engram-prometheus-").expect("a temporary directory");
        Self::start_in(directory, configuration, rules)
    }

    /// Starts it with this past, in OpenMetrics with times, beside these rules: it scrapes nothing.
    ///
    /// # Panics
    /// If the program is not there, the past cannot be read, or the rules are none.
    pub fn start_with_past(past: &str, rules: &str) -> Prometheus {
        let directory = TempDir::with_prefix("engram-prometheus-").expect("a temporary directory");
        let file = directory.path().join("past");
        std::fs::write(&file, past).expect("a file");
        let mut promtool = tools::command(Path::new("promtool"));
        promtool.args(["tsdb", "create-blocks-from", "openmetrics"]);
        promtool.arg(&file).arg(directory.path().join(DATA));
        tools::must_succeed(&mut promtool);
        let configuration = json!({
            "global": { "evaluation_interval": "1s" }, "rule_files": ["rules.yaml"],
        });
        Self::start_in(directory, &configuration, rules)
    }

    fn start_in(directory: TempDir, configuration: &Value, rules: &str) -> Prometheus {
        let rules_file = directory.path().join("rules.yaml");
        std::fs::write(&rules_file, rules).expect("a file");
        check(&rules_file);
        let config = directory.path().join("prometheus.yaml");
        std::fs::write(&config, configuration.to_string()).expect("a file");
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = tools::command(Path::new("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join(DATA).display()
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
            _directory: directory,
        }
    }

    /// The series that a query has now; `None` if Prometheus does not answer, or not with a result.
    pub fn query(&self, query: &str) -> Option<Vec<Value>> {
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

/// Alerts in which nothing is changed but that a condition has to hold for no longer than `holds`.
#[must_use]
pub fn sooner(rules: &str, holds: &str) -> String {
    let line = |line: &str| match line.strip_prefix("    for: ") {
        Some(_) => format!("    for: {holds}\n"),
        None => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Our own child, whatever became of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has promtool read rules.
///
/// # Panics
/// If they are none.
pub fn check(rules: &Path) {
    let mut promtool = tools::command(Path::new("promtool"));
    tools::must_succeed(promtool.args(["check", "rules"]).arg(rules));
}
