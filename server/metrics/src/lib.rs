//! Metrics in Prometheus' format, under etcd's names where etcd has the metric, so that etcd's
//! alerts and dashboards work unchanged.
//!
//! Owns the registry and what is measured as it happens (histograms). Everything that can be read
//! when it is asked for (sizes, revisions, counts) is not kept twice: `node` makes it a family at
//! the scrape. Must never cost a hot path more than an atomic addition.

#![forbid(unsafe_code)]

mod bounds;
mod network;
mod operations;
mod parts;
pub mod process;
mod runtime;

use engram_disk::fs;
use engram_process::log;
use engram_types as types;

pub use network::{Network, Transfer};
pub use operations::Operations;
pub use parts::Parts;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

/// What is measured as it happens.
pub struct Metrics {
    registry: Registry,
    /// `etcd_disk_wal_fsync_duration_seconds`: from queueing a batch to its fdatasync's return.
    pub wal_fsync: Histogram,
    /// `etcd_disk_backend_commit_duration_seconds`: one atomic batch into the engine.
    pub backend_commit: Histogram,
    /// What is rare.
    pub operations: Operations,
    /// Parts of the work that etcd measures apart.
    pub parts: Parts,
    /// What goes between members.
    pub network: Network,
}

impl Metrics {
    /// A registry with the histograms in it.
    ///
    /// # Panics
    /// Never: the names are valid and unique.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        // etcd's buckets: 1 ms to 8 s, doubling; ours begin lower, where a local disk answers.
        let histogram = |name, help| histogram(&registry, name, help, (0.000_125, 2.0, 17));
        let wal_fsync = histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
        );
        let backend_commit = histogram(
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
        );
        let operations = Operations::new(&registry);
        let parts = Parts::new(&registry);
        let network = Network::new(&registry);
        Metrics {
            registry,
            wal_fsync,
            backend_commit,
            operations,
            parts,
            network,
        }
    }

    /// The registry, for what other rooms count as it happens.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything registered, the process's own metrics and `more`, as text.
    pub fn render(&self, more: Vec<MetricFamily>) -> String {
        let mut families = self.registry.gather();
        families.extend(more);
        families.extend(process::families());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        match TextEncoder::new().encode_to_string(&families) {
            Ok(text) => bounds::as_go_writes(text),
            Err(error) => {
                crate::log!(warn, "metrics cannot be encoded", error = %error);
                String::new()
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// Where a histogram's buckets begin, by what factor they grow, and how many there are.
type Buckets = (f64, f64, usize);

fn options(name: &str, help: &str, (start, factor, count): Buckets) -> HistogramOpts {
    let buckets = prometheus::exponential_buckets(start, factor, count).expect("positive");
    HistogramOpts::new(name, help).buckets(buckets)
}

/// A histogram, registered.
fn histogram(registry: &Registry, name: &str, help: &str, buckets: Buckets) -> Histogram {
    add(registry, Histogram::with_opts(options(name, help, buckets)))
}

/// Registers what was made.
fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("a valid name");
    let registered = registry.register(Box::new(collector.clone()));
    registered.expect("a name of its own");
    collector
}

/// A gauge with the value it has now.
pub fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let gauge = Gauge::new(name, help).expect("a valid name");
    gauge.set(value);
    only(gauge.collect())
}

/// An integer gauge with the value it has now.
pub fn count(name: &str, help: &str, value: u64) -> MetricFamily {
    let gauge = IntGauge::new(name, help).expect("a valid name");
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    only(gauge.collect())
}

/// A counter of seconds with the value it has now.
pub fn total_seconds(name: &str, help: &str, value: f64) -> MetricFamily {
    let counter = Counter::new(name, help).expect("a valid name");
    counter.inc_by(value.max(0.0));
    only(counter.collect())
}

/// A counter with the value it has now.
pub fn total(name: &str, help: &str, value: u64) -> MetricFamily {
    let counter = IntCounter::new(name, help).expect("a valid name");
    counter.inc_by(value);
    only(counter.collect())
}

/// A gauge of 1 that says something by its labels.
pub fn info(name: &str, help: &str, labels: &[(&str, &str)]) -> MetricFamily {
    let mut options = prometheus::Opts::new(name, help);
    for (label, value) in labels {
        options = options.const_label(*label, *value);
    }
    let gauge = IntGauge::with_opts(options).expect("valid names");
    gauge.set(1);
    only(gauge.collect())
}

/// A gauge for each set of labels' values, 1 where it is so and 0 where it is not; no family where there are none.
pub fn marks(
    name: &str,
    help: &str,
    labels: &[&str],
    values: &[([String; 2], bool)],
) -> Option<MetricFamily> {
    if values.is_empty() {
        return None;
    }
    let options = prometheus::Opts::new(name, help);
    let gauges = IntGaugeVec::new(options, labels).expect("valid names");
    for (labels, is_so) in values {
        gauges.with_label_values(labels).set(i64::from(*is_so));
    }
    Some(only(gauges.collect()))
}

/// A counter for each set of labels' values; no family where there are none.
pub fn totals(
    name: &str,
    help: &str,
    labels: &[&str],
    values: &[([String; 2], u64)],
) -> Option<MetricFamily> {
    if values.is_empty() {
        return None;
    }
    let options = prometheus::Opts::new(name, help);
    let counters = IntCounterVec::new(options, labels).expect("valid names");
    for (labels, value) in values {
        counters.with_label_values(labels).inc_by(*value);
    }
    Some(only(counters.collect()))
}

fn only(mut families: Vec<MetricFamily>) -> MetricFamily {
    families.pop().expect("a metric collects as one family")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_and_what_is_read_are_rendered_together() {
        let metrics = Metrics::new();
        metrics.wal_fsync.observe(0.003);
        let text = metrics.render(vec![
            count("etcd_server_has_leader", "Whether.", 1),
            marks(
                "active",
                "Who.",
                &["a", "b"],
                &[(["x".into(), "y".into()], false)],
            )
            .unwrap(),
            info(
                "etcd_server_version",
                "Which.",
                &[("server_version", "3.7.3")],
            ),
        ]);
        assert!(
            text.contains("etcd_disk_wal_fsync_duration_seconds_count 1"),
            "{text}"
        );
        assert!(text.contains("etcd_server_has_leader 1"), "{text}");
        assert!(text.contains("active{a=\"x\",b=\"y\"} 0"), "{text}");
        assert!(
            text.contains("etcd_server_version{server_version=\"3.7.3\"} 1"),
            "{text}"
        );
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }
}
