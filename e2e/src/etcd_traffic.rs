//! The traffic of etcd's own robustness tests on a cluster, recorded by the program `traffic`
//! (`tools/cmd/traffic`) and judged by `referee`.

use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::{history, tools};

/// How long the first write may take.
const BEGIN_LIMIT: Duration = Duration::from_secs(40);
/// How long the program may take from its end on: a last write and the observers, a minute each at most.
const END_LIMIT: Duration = Duration::from_secs(150);

/// Its traffics, by the names that etcd's suite gives them.
pub const PROFILES: [&str; 4] = [
    "EtcdTrafficDeleteLeases",
    "KubernetesLowTraffic",
    "EtcdHighTraffic",
    "KubernetesHighTraffic",
];

/// Faults of a server that `traffic` can have its clients see: the referee has to find each.
pub const LIES: [&str; 3] = ["stale-reads", "dropped-events", "changed-writes"];

/// Traffic under way. Dropped, it is killed.
pub struct Traffic {
    child: Child,
    report: TempDir,
    /// What it prints on both outputs.
    said: Vec<JoinHandle<String>>,
}

/// What clients were told.
pub struct Recorded {
    /// What `traffic` says of it: `operations`, `failures`, `per_second`, `events`…
    pub summary: Value,
    report: TempDir,
}

impl Traffic {
    /// Begins on an empty cluster.
    ///
    /// # Panics
    /// If it does not begin.
    pub fn begin(cluster: &Cluster, profile: &str, lie: Option<&str>) -> Self {
        let report = TempDir::with_prefix("engram-traffic-").expect("a temporary directory");
        let endpoints: Vec<String> = cluster
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut command = tools::command(&tools::tool("traffic"));
        command.arg(format!("-endpoints={}", endpoints.join(",")));
        command.arg(format!("-profile={profile}"));
        command.arg(format!("-report={}", report.path().display()));
        command.arg(format!("-lie={}", lie.unwrap_or_default()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stdout = tools::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = tools::collect(child.stderr.take().expect("stderr is piped"));
        let traffic = Self {
            child,
            report,
            said: vec![stdout, stderr],
        };
        cluster.wait_for(BEGIN_LIMIT, "etcd's traffic writes", || {
            cluster.revision(0).filter(|revision| *revision > 1)
        });
        traffic
    }

    /// Ends it, and waits until every change was seen at every member.
    ///
    /// # Panics
    /// If something is not seen in time, or two members tell different things. What was recorded is
    /// kept then.
    pub fn end(mut self, cluster: &Cluster) -> Recorded {
        drop(self.child.stdin.take());
        let status = tools::wait(&mut self.child, END_LIMIT);
        if status.is_none() {
            self.child.kill().expect("our own child can be killed");
        }
        let said = self.said.drain(..);
        let said: String = said
            .map(|one| one.join().expect("reading a pipe does not panic"))
            .collect();
        let report = std::mem::replace(&mut self.report, TempDir::new().expect("a directory"));
        if !status.is_some_and(|status| status.success()) {
            let kept = report.keep();
            cluster.fail(&format!(
                "traffic ended with {status:?}: {said}\nits record is kept in {}",
                kept.display()
            ));
        }
        let summary = serde_json::from_str(&said);
        let summary = summary.unwrap_or_else(|error| panic!("no JSON ({error}): {said}"));
        Recorded { summary, report }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Recorded {
    /// What etcd's validators say.
    ///
    /// # Errors
    /// Their verdict, if no correct cluster could have answered like that.
    pub fn judge(&self) -> Result<String, String> {
        history::judge(self.report.path())
    }

    /// [`Recorded::judge`], for a cluster that has to be right.
    ///
    /// # Panics
    /// With the verdict, if it is not. What was recorded is kept then.
    pub fn must_be_right(self, cluster: &Cluster) -> String {
        match self.judge() {
            Ok(verdict) => verdict,
            Err(verdict) => {
                let kept = self.report.keep();
                let kept = kept.display();
                cluster.fail(&format!(
                    "{verdict}\nwhat clients were told is kept in {kept}: referee {kept}"
                ))
            }
        }
    }
}
