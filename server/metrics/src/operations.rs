//! Operations that are rare enough to be timed and counted where they happen: maintenance,
//! compaction, leases, the confirmation of reads.

use prometheus::core::Collector as _;
use prometheus::proto::{LabelPair, MetricFamily};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::add;

/// See the module. Names, texts and buckets are etcd's.
pub struct Operations {
    /// `etcd_disk_backend_defrag_duration_seconds`.
    pub defrag_seconds: Histogram,
    /// `etcd_disk_defrag_inflight`.
    pub defrag_inflight: IntGauge,
    /// `etcd_disk_backend_snapshot_duration_seconds`: of a snapshot for a client, as it is sent.
    pub snapshot_seconds: Histogram,
    /// `etcd_mvcc_hash_duration_seconds`.
    pub hash_seconds: Histogram,
    /// `etcd_mvcc_hash_rev_duration_seconds`.
    pub hash_rev_seconds: Histogram,
    /// `etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds`: one step of reclaiming,
    /// which is what a write waits for.
    pub compaction_pause_ms: Histogram,
    /// `etcd_debugging_mvcc_db_compaction_total_duration_milliseconds`.
    pub compaction_total_ms: Histogram,
    /// `etcd_debugging_mvcc_db_compaction_last`, seconds since 1970.
    pub compaction_last: IntGauge,
    /// `etcd_debugging_mvcc_db_compaction_keys_total`: revisions reclaimed.
    pub compaction_keys: IntCounter,
    /// `etcd_debugging_lease_granted_total`.
    pub leases_granted: IntCounter,
    /// `etcd_debugging_lease_revoked_total`.
    pub leases_revoked: IntCounter,
    /// `etcd_debugging_lease_renewed_total`.
    pub leases_renewed: IntCounter,
    /// `etcd_debugging_server_lease_expired_total`.
    pub leases_expired: IntCounter,
    /// `etcd_debugging_lease_ttl_total`, seconds granted.
    pub lease_ttl_seconds: Histogram,
    /// `etcd_server_slow_read_indexes_total`.
    pub read_indexes_slow: IntCounter,
    /// `etcd_server_read_indexes_failed_total`.
    pub read_indexes_failed: IntCounter,
    /// `etcd_server_learner_promote_successes`.
    pub learners_promoted: IntCounter,
    /// `etcd_server_learner_promote_failures`, by reason.
    pub learners_not_promoted: IntCounterVec,
    /// `etcd_server_snapshot_apply_in_progress_total`.
    pub snapshots_installing: IntGauge,
    alarms: IntGaugeVec,
    feature_enabled: IntGaugeVec,
}

impl Operations {
    /// All of them, registered.
    ///
    /// # Panics
    /// Never: the names are valid and unique.
    pub(super) fn new(registry: &Registry) -> Operations {
        let counter = |name, help| add(registry, IntCounter::new(name, help));
        let gauge = |name, help| add(registry, IntGauge::new(name, help));
        let histogram = |name, help, buckets| super::histogram(registry, name, help, buckets);
        Operations {
            defrag_seconds: histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "The latency distribution of backend defragmentation.",
                (0.1, 2.0, 13),
            ),
            defrag_inflight: gauge(
                "etcd_disk_defrag_inflight",
                "Whether or not defrag is active on the member. 1 means active, 0 means not.",
            ),
            snapshot_seconds: histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "The latency distribution of backend snapshots.",
                (0.01, 2.0, 17),
            ),
            hash_seconds: histogram(
                "etcd_mvcc_hash_duration_seconds",
                "The latency distribution of storage hash operation.",
                (0.01, 2.0, 15),
            ),
            hash_rev_seconds: histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "The latency distribution of storage hash by revision operation.",
                (0.01, 2.0, 15),
            ),
            compaction_pause_ms: histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Bucketed histogram of db compaction pause duration.",
                (1.0, 2.0, 13),
            ),
            compaction_total_ms: histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Bucketed histogram of db compaction total duration.",
                (100.0, 2.0, 14),
            ),
            compaction_last: gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "The unix time of the last db compaction. Resets to 0 on start.",
            ),
            compaction_keys: counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Total number of db keys compacted.",
            ),
            leases_granted: counter(
                "etcd_debugging_lease_granted_total",
                "The total number of granted leases.",
            ),
            leases_revoked: counter(
                "etcd_debugging_lease_revoked_total",
                "The total number of revoked leases.",
            ),
            leases_renewed: counter(
                "etcd_debugging_lease_renewed_total",
                "The number of renewed leases seen by the leader.",
            ),
            leases_expired: counter(
                "etcd_debugging_server_lease_expired_total",
                "The total number of expired leases.",
            ),
            lease_ttl_seconds: histogram(
                "etcd_debugging_lease_ttl_total",
                "Bucketed histogram of lease TTLs.",
                (1.0, 2.0, 24),
            ),
            read_indexes_slow: counter(
                "etcd_server_slow_read_indexes_total",
                "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            ),
            read_indexes_failed: counter(
                "etcd_server_read_indexes_failed_total",
                "The total number of failed read indexes seen.",
            ),
            learners_promoted: counter(
                "etcd_server_learner_promote_successes",
                "The total number of successful learner promotions while this member is leader.",
            ),
            learners_not_promoted: add(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "etcd_server_learner_promote_failures",
                        "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
                    ),
                    &["Reason"],
                ),
            ),
            alarms: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "etcd_debugging_server_alarms",
                        "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
                    ),
                    &["server_id", "alarm_type"],
                ),
            ),
            snapshots_installing: gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 if the server is applying the incoming snapshot. 0 if none.",
            ),
            feature_enabled: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "etcd_server_feature_enabled",
                        "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
                    ),
                    &["name", "stage"],
                ),
            ),
        }
    }

    /// Tells which alarms are raised, by member and kind. One that was, and is not, is shown as 0.
    pub fn alarms(&self, raised: Vec<[String; 2]>) {
        let before = self.alarms.collect();
        let before = before.iter().flat_map(MetricFamily::get_metric);
        for metric in before {
            // In the order of their names: alarm_type, server_id.
            let labels: Vec<&str> = metric.get_label().iter().map(LabelPair::value).collect();
            if let [kind, member] = labels[..] {
                self.alarms.with_label_values(&[member, kind]).set(0);
            }
        }
        for alarm in raised {
            self.alarms.with_label_values(&alarm).set(1);
        }
    }

    /// Tells which features are on: name, stage, whether.
    pub fn features<'a>(&self, features: impl Iterator<Item = (&'a str, &'a str, bool)>) {
        for (name, stage, on) in features {
            let gauge = self.feature_enabled.with_label_values(&[name, stage]);
            gauge.set(i64::from(on));
        }
    }
}
