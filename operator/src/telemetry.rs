//! The operator's metrics, in Prometheus' text form.

use std::collections::HashMap;

use prometheus::core::{Collector as _, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Every metric of the operator.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Passes of a controller, by kind and result.
    pub reconciles: IntCounterVec,
    /// How long a pass takes, by kind.
    pub durations: HistogramVec,
    /// Failed passes, by kind and reason.
    pub errors: IntCounterVec,
    /// The last back-off, by kind.
    pub backoff: GaugeVec,
    /// Watches that failed and were begun anew, by kind.
    pub watch_restarts: IntCounterVec,
    /// Whether this replica works.
    pub leader: IntGauge,
    /// When a pass of a cluster ended last.
    pub last_pass: GaugeVec,
    /// Whether a cluster is ready.
    pub cluster_ready: IntGaugeVec,
    /// How many members a cluster should have.
    pub wanted_members: IntGaugeVec,
    /// A cluster's members, by state.
    pub cluster_members: IntGaugeVec,
    /// What a cluster is and runs.
    pub cluster_info: IntGaugeVec,
    /// Members that share a node with another one.
    pub members_on_shared_node: IntGaugeVec,
    /// How many more voters may fail.
    pub quorum_margin: IntGaugeVec,
    /// Members replaced, by reason.
    pub replacements: IntCounterVec,
    /// Leaders moved before a restart or a removal.
    pub leader_moves: IntCounterVec,
    /// Backups, by result.
    pub backups: IntCounterVec,
    /// How long a backup took.
    pub backup_seconds: GaugeVec,
    /// How large it is.
    pub backup_bytes: GaugeVec,
    /// When the last one succeeded.
    pub backup_success: GaugeVec,
    /// When the first one after that is due.
    pub backup_expected: GaugeVec,
    /// How many keys backups in a store need that it does not have.
    pub store_keys_missing: IntGaugeVec,
    /// When the last one was verified.
    pub backup_verified: GaugeVec,
    /// When a log archive was last read back and found whole.
    pub archive_verified: GaugeVec,
    /// Whether a log archive was damaged when it was last read back.
    pub archive_damaged: IntGaugeVec,
    /// How many revisions the last one is behind.
    pub backup_revision_lag: IntGaugeVec,
    /// What defragmentations have given back.
    pub defrag_reclaimed: IntCounterVec,
    /// When a certificate ends.
    pub certificate_end: GaugeVec,
    /// Alarms that are raised, by kind.
    pub alarms: IntGaugeVec,
    /// Why a cluster needs a person or more time than it should, by reason.
    pub degraded: IntGaugeVec,
}

const CLUSTER: [&str; 2] = ["namespace", "cluster"];

impl Metrics {
    /// A registry with all of them.
    ///
    /// # Errors
    /// Two have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let labels = |more: &[&'static str]| [&CLUSTER[..], more].concat();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let float = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "engram_operator_reconcile_duration_seconds",
                "How long a pass takes.",
            )
            .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            &["kind"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let leader = IntGauge::new("engram_operator_leader", "Whether this replica works.")?;
        registry.register(Box::new(leader.clone()))?;
        let info = gauge(
            "engram_operator_build_info",
            "The operator's version.",
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            reconciles: counter(
                "engram_operator_reconcile_total",
                "Passes.",
                &["kind", "result"],
            )?,
            durations,
            errors: counter(
                "engram_operator_reconcile_errors_total",
                "Failed passes.",
                &["kind", "reason"],
            )?,
            backoff: float(
                "engram_operator_requeue_backoff_seconds",
                "The last back-off.",
                &["kind"],
            )?,
            watch_restarts: counter(
                "engram_operator_watch_restarts_total",
                "Watches that failed and were begun anew.",
                &["kind"],
            )?,
            leader,
            last_pass: float(
                "engram_cluster_last_pass_timestamp_seconds",
                "When the operator looked after a cluster last.",
                &CLUSTER,
            )?,
            cluster_ready: gauge(
                "engram_cluster_ready",
                "Whether the cluster is ready.",
                &CLUSTER,
            )?,
            wanted_members: gauge(
                "engram_cluster_wanted_members",
                "Members that a cluster should have; 0: it rests.",
                &CLUSTER,
            )?,
            cluster_members: gauge(
                "engram_cluster_members",
                "Members by state.",
                &labels(&["state"]),
            )?,
            cluster_info: gauge(
                "engram_cluster_info",
                "The cluster's ID and version.",
                &labels(&["cluster_id", "version"]),
            )?,
            members_on_shared_node: gauge(
                "engram_cluster_members_on_shared_node",
                "Members that share a node with another member.",
                &CLUSTER,
            )?,
            quorum_margin: gauge(
                "engram_cluster_quorum_margin",
                "Voters that may still fail.",
                &CLUSTER,
            )?,
            replacements: counter(
                "engram_member_replacements_total",
                "Members replaced.",
                &labels(&["reason"]),
            )?,
            leader_moves: counter(
                "engram_leader_moves_total",
                "Leaders moved by the operator.",
                &CLUSTER,
            )?,
            backups: counter("engram_backup_total", "Backups.", &labels(&["result"]))?,
            backup_seconds: float(
                "engram_backup_duration_seconds",
                "How long the last backup took.",
                &CLUSTER,
            )?,
            backup_bytes: float(
                "engram_backup_size_bytes",
                "The last backup's size.",
                &CLUSTER,
            )?,
            backup_success: float(
                "engram_backup_last_success_timestamp_seconds",
                "When the last backup succeeded.",
                &CLUSTER,
            )?,
            backup_expected: float(
                "engram_backup_expected_timestamp_seconds",
                "When the first backup after the last success of a schedule is due.",
                &CLUSTER,
            )?,
            store_keys_missing: gauge(
                "engram_backup_store_keys_missing",
                "Encryption keys that backups in a store need and that are not given.",
                &["namespace", "store"],
            )?,
            backup_verified: float(
                "engram_backup_last_verified_timestamp_seconds",
                "When a backup was last read back and found good.",
                &CLUSTER,
            )?,
            archive_verified: float(
                "engram_archive_last_verified_timestamp_seconds",
                "When the log archive was last read back and found whole.",
                &CLUSTER,
            )?,
            archive_damaged: gauge(
                "engram_archive_damaged",
                "Whether the log archive was damaged when it was last read back.",
                &CLUSTER,
            )?,
            backup_revision_lag: gauge(
                "engram_backup_revision_lag",
                "Revisions since the last backup.",
                &CLUSTER,
            )?,
            defrag_reclaimed: counter(
                "engram_defrag_reclaimed_bytes_total",
                "What defragmentations have given back.",
                &CLUSTER,
            )?,
            certificate_end: float(
                "engram_certificate_not_after_seconds",
                "When a certificate ends.",
                &labels(&["secret"]),
            )?,
            degraded: gauge(
                "engram_cluster_degraded",
                "1 with the reason for which a cluster needs a person, or more time than it should.",
                &labels(&["reason"]),
            )?,
            alarms: gauge(
                "engram_alarm_active",
                "Members that raise an alarm.",
                &labels(&["alarm"]),
            )?,
            registry,
        })
    }

    /// All of them as text.
    #[must_use]
    pub fn text(&self) -> String {
        let encoded = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.unwrap_or_default()
    }

    /// Says why a cluster is degraded, and no longer why it was before.
    pub fn degrade(&self, labels: [&str; 2], reason: Option<&str>) {
        forget_in(&self.degraded, labels[0], labels[1]);
        if let Some(reason) = reason {
            let labels = [labels[0], labels[1], reason];
            self.degraded.with_label_values(&labels).set(1);
        }
    }

    /// Forgets what is said of a cluster that is gone.
    pub fn forget(&self, namespace: &str, cluster: &str) {
        let gauges = [
            &self.cluster_ready,
            &self.wanted_members,
            &self.cluster_members,
            &self.cluster_info,
            &self.members_on_shared_node,
            &self.quorum_margin,
            &self.backup_revision_lag,
            &self.archive_damaged,
            &self.alarms,
            &self.degraded,
        ];
        for gauge in gauges {
            forget_in(gauge, namespace, cluster);
        }
        let gauges = [
            &self.last_pass,
            &self.backup_seconds,
            &self.backup_bytes,
            &self.backup_success,
            &self.backup_expected,
            &self.backup_verified,
            &self.archive_verified,
            &self.certificate_end,
        ];
        for gauge in gauges {
            forget_in(gauge, namespace, cluster);
        }
        let counters = [
            &self.replacements,
            &self.leader_moves,
            &self.backups,
            &self.defrag_reclaimed,
        ];
        for counter in counters {
            forget_in(counter, namespace, cluster);
        }
    }

    /// Forgets what is said of stores of a namespace that are not among these.
    pub fn keep_stores(&self, namespace: &str, stores: &[String]) {
        let of = [("namespace", namespace)];
        forget_where(&self.store_keys_missing, &of, |labels| {
            labels
                .get("store")
                .is_none_or(|store| stores.iter().all(|one| one != store))
        });
    }

    /// Forgets what is said of a store's keys.
    pub fn forget_keys(&self, namespace: &str, store: &str) {
        // It may not have been said.
        drop(
            self.store_keys_missing
                .remove_label_values(&[namespace, store]),
        );
    }

    /// Forgets what is said of certificates of a cluster that are not among these.
    pub fn keep_certificates(&self, [namespace, cluster]: [&str; 2], secrets: &[&String]) {
        let of = [("namespace", namespace), ("cluster", cluster)];
        forget_where(&self.certificate_end, &of, |labels| {
            labels
                .get("secret")
                .is_none_or(|secret| secrets.iter().all(|one| one != secret))
        });
    }

    /// Says what a cluster is and runs, instead of what was said before.
    pub fn describe(&self, [namespace, cluster]: [&str; 2], id: &str, version: &str) {
        forget_in(&self.cluster_info, namespace, cluster);
        let labels = [namespace, cluster, id, version];
        self.cluster_info.with_label_values(&labels).set(1);
    }
}

fn forget_in<B: MetricVecBuilder>(metric: &MetricVec<B>, namespace: &str, cluster: &str) {
    forget_where(
        metric,
        &[("namespace", namespace), ("cluster", cluster)],
        |_| true,
    );
}

/// Forgets what has these labels, and of whose others `goes` says so.
fn forget_where<B: MetricVecBuilder>(
    metric: &MetricVec<B>,
    of: &[(&str, &str)],
    goes: impl Fn(&HashMap<&str, &str>) -> bool,
) {
    for family in metric.collect() {
        for one in family.get_metric() {
            let pairs = one.get_label().iter();
            let labels: HashMap<&str, &str> =
                pairs.map(|pair| (pair.name(), pair.value())).collect();
            let is_of = of
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value));
            if is_of && goes(&labels) {
                // It was there a moment ago: what is gone by now need not be forgotten.
                drop(metric.remove(&labels));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cluster_is_degraded_for_its_present_reason_alone() {
        let metrics = super::Metrics::new().unwrap();
        let count = || metrics.text().matches("engram_cluster_degraded{").count();
        metrics.degrade(["data", "demo"], Some("RolloutFailed"));
        metrics.degrade(["data", "demo"], Some("LearnerStuck"));
        assert_eq!(count(), 1);
        metrics.degrade(["data", "demo"], None);
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_is_gone_is_not_measured_any_more() {
        let metrics = super::Metrics::new().unwrap();
        for store in ["here", "gone"] {
            let labels = ["data", store];
            metrics.store_keys_missing.with_label_values(&labels).set(1);
        }
        let elsewhere = ["other", "gone"];
        let missing = &metrics.store_keys_missing;
        missing.with_label_values(&elsewhere).set(1);
        metrics.keep_stores("data", &["here".to_owned()]);
        let shown = |labels: &str| {
            let text = metrics.text();
            text.contains(&format!("engram_backup_store_keys_missing{{{labels}}}"))
        };
        assert!(shown(r#"namespace="data",store="here""#));
        assert!(!shown(r#"namespace="data",store="gone""#));
        assert!(shown(r#"namespace="other",store="gone""#));
        metrics.forget_keys("data", "here");
        assert!(!shown(r#"namespace="data",store="here""#));
        for secret in ["demo-client-tls", "mine"] {
            let labels = ["data", "demo", secret];
            metrics.certificate_end.with_label_values(&labels).set(1.0);
        }
        metrics.keep_certificates(["data", "demo"], &[&"mine".to_owned()]);
        let text = metrics.text();
        assert!(
            text.contains("mine") && !text.contains("demo-client-tls"),
            "{text}"
        );
    }

    #[test]
    fn names_are_unique_and_the_text_has_them() {
        let metrics = super::Metrics::new().unwrap();
        metrics
            .cluster_ready
            .with_label_values(&["data", "demo"])
            .set(1);
        assert!(
            metrics
                .text()
                .contains("engram_cluster_ready{cluster=\"demo\",namespace=\"data\"} 1")
        );
        let certificate = ["data", "demo", "demo-client-tls"];
        let end = metrics.certificate_end.with_label_values(&certificate);
        end.set(1.0);
        let other = ["data", "other"];
        metrics.backup_success.with_label_values(&other).set(1.0);
        metrics.forget("data", "demo");
        let text = metrics.text();
        assert!(!text.contains("demo") && text.contains("other"), "{text}");
    }
}
