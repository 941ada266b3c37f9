//! What goes between members, by member: bytes, failures, round trips, snapshots. Names, texts and
//! buckets are etcd's (rafthttp and snap); ids are written as etcd writes them, in hexadecimal.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};

use super::add;
use crate::types::MemberId;

/// See the module.
pub struct Network {
    /// `etcd_server_heartbeat_send_failures_total`.
    pub heartbeats_failed: IntCounter,
    round_trip: HistogramVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    send: Snapshots,
    receive: Snapshots,
}

/// Snapshots in one direction.
struct Snapshots {
    success: IntCounterVec,
    failures: IntCounterVec,
    inflight: IntGaugeVec,
    seconds: HistogramVec,
}

/// A snapshot on its way; dropped, it has failed.
pub struct Transfer<'a> {
    counts: &'a Snapshots,
    peer: String,
    started: std::time::Instant,
    arrived: bool,
}

impl Network {
    /// All of them, registered.
    ///
    /// # Panics
    /// Never: the names are valid and unique.
    pub(super) fn new(registry: &Registry) -> Network {
        let counters = |name, help, label| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]);
            add(registry, counters)
        };
        Network {
            heartbeats_failed: add(
                registry,
                IntCounter::new(
                    "etcd_server_heartbeat_send_failures_total",
                    "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
                ),
            ),
            round_trip: histograms(
                registry,
                "etcd_network_peer_round_trip_time_seconds",
                "Round-Trip-Time histogram between peers",
                ("To", 0.0001, 16),
            ),
            sent_bytes: counters(
                "etcd_network_peer_sent_bytes_total",
                "The total number of bytes sent to peers.",
                "To",
            ),
            received_bytes: counters(
                "etcd_network_peer_received_bytes_total",
                "The total number of bytes received from peers.",
                "From",
            ),
            sent_failures: counters(
                "etcd_network_peer_sent_failures_total",
                "The total number of send failures from peers.",
                "To",
            ),
            send: Snapshots::new(registry, "send", "sent", "To"),
            receive: Snapshots::new(registry, "receive", "received", "From"),
        }
    }

    /// The round trips to a peer, seconds.
    pub fn round_trip(&self, to: MemberId) -> Histogram {
        self.round_trip.with_label_values(&[to.to_string()])
    }

    /// The bytes sent to a peer.
    pub fn sent_bytes(&self, to: MemberId) -> IntCounter {
        self.sent_bytes.with_label_values(&[to.to_string()])
    }

    /// The bytes received from a peer.
    pub fn received_bytes(&self, from: MemberId) -> IntCounter {
        self.received_bytes.with_label_values(&[from.to_string()])
    }

    /// A message could not be sent to a peer.
    pub fn send_failed(&self, to: MemberId) {
        self.sent_failures
            .with_label_values(&[to.to_string()])
            .inc();
    }

    /// Begins to count a snapshot that is sent.
    pub fn sending(&self, to: MemberId) -> Transfer<'_> {
        self.send.begin(to)
    }

    /// Begins to count a snapshot that is received.
    pub fn receiving(&self, from: MemberId) -> Transfer<'_> {
        self.receive.begin(from)
    }
}

impl Snapshots {
    fn new(registry: &Registry, verb: &str, participle: &str, label: &'static str) -> Snapshots {
        let name = |what| format!("etcd_network_snapshot_{verb}_{what}");
        let counters = |what, help| {
            let counters = IntCounterVec::new(Opts::new(name(what), help), &[label]);
            add(registry, counters)
        };
        let inflight = format!("Total number of inflight snapshot {verb}s");
        let seconds = format!("Total latency distributions of v3 snapshot {verb}s");
        Snapshots {
            success: counters(
                "success",
                format!("Total number of successful snapshot {verb}s"),
            ),
            failures: counters(
                "failures",
                format!("Total number of snapshot {verb} failures"),
            ),
            inflight: add(
                registry,
                IntGaugeVec::new(Opts::new(name("inflights_total"), inflight), &[label]),
            ),
            seconds: histograms(
                registry,
                &name("total_duration_seconds"),
                &format!("{seconds}, {participle} whole"),
                (label, 0.1, 10),
            ),
        }
    }

    fn begin(&self, peer: MemberId) -> Transfer<'_> {
        let peer = peer.to_string();
        self.inflight.with_label_values(&[&peer]).inc();
        Transfer {
            counts: self,
            peer,
            started: std::time::Instant::now(),
            arrived: false,
        }
    }
}

impl Transfer<'_> {
    /// It has arrived.
    pub fn succeeded(mut self) {
        self.arrived = true;
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        let (counts, peer) = (self.counts, [&self.peer]);
        counts.inflight.with_label_values(&peer).dec();
        if !self.arrived {
            counts.failures.with_label_values(&peer).inc();
            return;
        }
        counts.success.with_label_values(&peer).inc();
        let took = self.started.elapsed().as_secs_f64();
        counts.seconds.with_label_values(&peer).observe(took);
    }
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    (label, start, count): (&str, f64, usize),
) -> HistogramVec {
    let buckets = exponential_buckets(start, 2.0, count).expect("positive");
    let options = HistogramOpts::new(name, help).buckets(buckets);
    add(registry, HistogramVec::new(options, &[label]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn a_snapshot_is_counted_as_it_ends() {
        let metrics = Metrics::new();
        let peer = MemberId(0xab);
        metrics.network.receiving(peer).succeeded();
        drop(metrics.network.receiving(peer));
        let _under_way = metrics.network.receiving(peer);
        let text = metrics.render(Vec::new());
        for (what, count) in [("success", 1), ("failures", 1), ("inflights_total", 1)] {
            let line = format!("etcd_network_snapshot_receive_{what}{{From=\"ab\"}} {count}\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
