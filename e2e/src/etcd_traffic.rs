//! The traffic of etcd's own robustness tests on a cluster, recorded by the program `traffic`
//! (`tools/cmd/traffic`) and judged by `referee`.

use std::io::Read as _;
use std::process::{Child, Stdio};
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
        let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        cluster.wait_for(BEGIN_LIMIT, "etcd's traffic writes", || {
            cluster.revision(0).filter(|revision| *revision > 1)
        });
        Self { child, report }
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
        let said = self.said();
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

    /// All that it has printed, once it has ended: a few lines at most.
    fn said(&mut self) -> String {
        let mut said = String::new();
        let output = self.child.stdout.take().expect("stdout is piped");
        let errors = self.child.stderr.take().expect("stderr is piped");
        let read = output.chain(errors).read_to_string(&mut said);
        read.map(|_| said).expect("reading a pipe")
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
