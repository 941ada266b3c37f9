//! How long parts of the work take that etcd measures apart: writing the log, the index's share of a compaction, a
//! request's application, what a snapshot from the leader takes to be saved.
//!
//! Parts that only etcd has (bbolt's commit, files of snapshots beside the store, one loop a watch) have their names
//! here as well, and nothing is ever observed in them: dashboards that ask for them show that nothing was spent there.

use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{Histogram, HistogramVec, Registry};

use super::{Buckets, add, options};

/// Of most durations: 1 ms to 8 s, doubling. Source: etcd.
const SECONDS: Buckets = (0.001, 2.0, 14);
/// Of what goes through a database of snapshots: 0.1 s to 51 s, doubling. Source: etcd.
const SNAPSHOT_SECONDS: Buckets = (0.1, 2.0, 10);

/// What is never observed here: name, text, buckets.
const ABSENT: [(&str, &str, Buckets); 10] = [
    (
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        "The latency distributions of commit.rebalance called by bboltdb backend. There is no bbolt here.",
        SECONDS,
    ),
    (
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        "The latency distributions of commit.spill called by bboltdb backend. There is no bbolt here.",
        SECONDS,
    ),
    (
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        "The latency distributions of commit.write called by bboltdb backend. There is no bbolt here.",
        SECONDS,
    ),
    (
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        "The total duration in seconds of running through the send loop control stream response. There is no such loop here.",
        SECONDS,
    ),
    (
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        "The total duration in seconds of running through the progress loop control stream response. There is no such loop here.",
        SECONDS,
    ),
    (
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "The average duration in seconds of running through the send loop watch stream response, per event. There is no such loop here.",
        SECONDS,
    ),
    (
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        "The total duration in seconds of running through the send loop watch stream response all events. There is no such loop here.",
        SECONDS,
    ),
    (
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        "The marshalling cost distributions of save called by snapshot. There are no such files here.",
        SECONDS,
    ),
    (
        "etcd_debugging_snap_save_total_duration_seconds",
        "The total latency distributions of save called by snapshot. There are no such files here.",
        SECONDS,
    ),
    (
        "etcd_snap_fsync_duration_seconds",
        "The latency distributions of fsync called by snap. There are no such files here.",
        SECONDS,
    ),
];

/// See the module. Names and buckets are etcd's.
pub struct Parts {
    /// `etcd_disk_wal_write_duration_seconds`: one write of the log, without its sync.
    pub wal_write: Histogram,
    /// `etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds`: the state's lock, held for a step of
    /// reclaiming.
    pub index_compaction_pause_ms: Histogram,
    /// `etcd_snap_db_save_total_duration_seconds`: receiving and saving a snapshot from the leader.
    pub snapshot_save: Histogram,
    /// `etcd_snap_db_fsync_duration_seconds`: a received snapshot's way to the disk and into a store.
    pub snapshot_fsync: Histogram,
    apply: HistogramVec,
}

impl Parts {
    /// All of them, registered.
    ///
    /// # Panics
    /// Never: the names are valid and unique.
    pub(super) fn new(registry: &Registry) -> Parts {
        let histogram = |name, help, buckets| super::histogram(registry, name, help, buckets);
        for (name, help, buckets) in ABSENT {
            drop(histogram(name, help, buckets));
        }
        Parts {
            wal_write: histogram(
                "etcd_disk_wal_write_duration_seconds",
                "The latency distributions of write called by WAL.",
                SECONDS,
            ),
            index_compaction_pause_ms: histogram(
                "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                "Bucketed histogram of index compaction pause duration.",
                (0.5, 2.0, 14),
            ),
            snapshot_save: histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "The total latency distributions of v3 snapshot save",
                SNAPSHOT_SECONDS,
            ),
            snapshot_fsync: histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "The latency distributions of fsyncing .snap.db file",
                SECONDS,
            ),
            apply: add(
                registry,
                HistogramVec::new(
                    options(
                        "etcd_server_apply_duration_seconds",
                        "The latency distributions of v2 apply called by backend.",
                        (0.000_1, 2.0, 20),
                    ),
                    &["version", "op", "success"],
                ),
            ),
        }
    }

    /// Requests of one kind were applied in one batch and took so long each, on average. `op` is etcd's name of the
    /// kind.
    pub fn applied(&self, op: &str, succeeded: bool, requests: usize, each: Duration) {
        let success = match succeeded {
            true => "true",
            false => "false",
        };
        let all = self.apply.with_label_values(&["v3", op, success]);
        let seconds = each.as_secs_f64();
        if requests == 1 {
            return all.observe(seconds);
        }
        let several: LocalHistogram = all.local();
        for _ in 0..requests {
            several.observe(seconds);
        }
        several.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn requests_of_a_batch_are_counted_each() {
        let registry = Registry::new();
        let parts = Parts::new(&registry);
        parts.applied("Put", true, 3, Duration::from_micros(150));
        parts.applied("Put", false, 1, Duration::from_micros(50));
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let name = "etcd_server_apply_duration_seconds";
        for line in [
            format!("{name}_count{{op=\"Put\",success=\"true\",version=\"v3\"}} 3"),
            format!("{name}_count{{op=\"Put\",success=\"false\",version=\"v3\"}} 1"),
            format!("{name}_bucket{{op=\"Put\",success=\"true\",version=\"v3\",le=\"0.0001\"}} 0"),
            "etcd_snap_fsync_duration_seconds_count 0".to_owned(),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
