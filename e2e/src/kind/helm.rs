//! Charts in a cluster.

use std::time::Duration;

use super::{Kind, command};
use crate::tools::{self, Finished};

/// How long an installation may take, until everything in it is ready.
const HELM_LIMIT: Duration = Duration::from_secs(300);

impl Kind {
    /// Runs helm with a chart of this clone: `arguments` come after the kubeconfig, and
    /// `charts/NAME` in them is made a path.
    pub fn helm(&self, arguments: &[&str]) -> Finished {
        let charts = tools::directory().join("../charts");
        let mut helm = command::program("helm");
        helm.arg("--kubeconfig").arg(&self.kubeconfig);
        for argument in arguments {
            match argument.strip_prefix("charts/") {
                Some(chart) => helm.arg(charts.join(chart)),
                None => helm.arg(argument),
            };
        }
        tools::run(&mut helm, HELM_LIMIT)
    }

    /// Runs helm, which has to succeed, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn helm_must(&self, arguments: &[&str]) -> String {
        let finished = self.helm(arguments);
        assert!(
            finished.status.success(),
            "helm {arguments:?} failed: {}",
            finished.text()
        );
        finished.stdout
    }
}
