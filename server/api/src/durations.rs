//! How long calls take, as histograms: those that etcd has by default always, one a method with
//! `--metrics=extensive`.
//!
//! Two exact looks at the clock are a noticeable part of a call that takes microseconds. Without
//! `--metrics=extensive` one request in [`SAMPLE`] is timed exactly; the others by the kernel's
//! coarse clock, and where that cannot tell (it ticks every few milliseconds) they count as the last
//! one that was timed exactly and was quick. So every request is counted, what is slow is counted as
//! slow, and what is quick has the distribution of the samples.

use std::cell::Cell;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::coarse::coarse_now;
use super::exposition::head;
use super::table::{ROWS, Rpc};
use crate::types::request::Op;

/// One request in so many is timed exactly.
const SAMPLE: u32 = 16;
/// What the coarse clock can tell: two ticks of the slowest kernel (100 Hz).
const COARSE: Duration = Duration::from_millis(20);

/// Upper bounds of `grpc_server_handling_seconds`, microseconds: Prometheus' default buckets, which
/// go-grpc-middleware has and etcd leaves so.
const HANDLING: [u64; 11] = [
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];
/// Upper bounds of `etcd_server_request_duration_seconds`, microseconds: etcd's, 1 ms to 8.192 s,
/// doubling.
const REQUEST: [u64; 14] = [
    1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000,
    2_048_000, 4_096_000, 8_192_000,
];
/// Upper bounds of `etcd_server_range_duration_seconds`, microseconds: etcd's, 0.1 ms to 52 s,
/// doubling.
const RANGE: [u64; 20] = [
    100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600,
    819_200, 1_638_400, 3_276_800, 6_553_600, 13_107_200, 26_214_400, 52_428_800,
];

/// What `etcd_server_request_duration_seconds` tells apart, under etcd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestType {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    Alarm,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    AuthUserAdd,
    AuthUserGet,
    AuthUserList,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleGet,
    AuthRoleList,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
}

const REQUEST_TYPES: [RequestType; 26] = [
    RequestType::Range,
    RequestType::ReadonlyTxn,
    RequestType::Put,
    RequestType::DeleteRange,
    RequestType::Txn,
    RequestType::Compaction,
    RequestType::LeaseGrant,
    RequestType::LeaseRevoke,
    RequestType::Alarm,
    RequestType::AuthEnable,
    RequestType::AuthDisable,
    RequestType::AuthStatus,
    RequestType::Authenticate,
    RequestType::AuthUserAdd,
    RequestType::AuthUserGet,
    RequestType::AuthUserList,
    RequestType::AuthUserDelete,
    RequestType::AuthUserChangePassword,
    RequestType::AuthUserGrantRole,
    RequestType::AuthUserRevokeRole,
    RequestType::AuthRoleAdd,
    RequestType::AuthRoleGet,
    RequestType::AuthRoleList,
    RequestType::AuthRoleDelete,
    RequestType::AuthRoleGrantPermission,
    RequestType::AuthRoleRevokePermission,
];

impl RequestType {
    /// The type of what a client has proposed; none of what only members propose, nor of what concerns users
    /// ([`RequestType::of_users`]).
    pub(super) fn of(op: &Op) -> Option<RequestType> {
        match op.bare() {
            Op::Put(_) => Some(RequestType::Put),
            Op::DeleteRange(_) => Some(RequestType::DeleteRange),
            Op::Txn(_) => Some(RequestType::Txn),
            Op::Compact(_) => Some(RequestType::Compaction),
            Op::LeaseGrant(_) => Some(RequestType::LeaseGrant),
            Op::LeaseRevoke(_) => Some(RequestType::LeaseRevoke),
            Op::Alarm(_) => Some(RequestType::Alarm),
            _ => None,
        }
    }

    /// The type of a call of the Auth service.
    pub(super) fn of_users(rpc: Rpc) -> Option<RequestType> {
        Some(match rpc {
            Rpc::AuthEnable => RequestType::AuthEnable,
            Rpc::AuthDisable => RequestType::AuthDisable,
            Rpc::AuthStatus => RequestType::AuthStatus,
            Rpc::Authenticate => RequestType::Authenticate,
            Rpc::UserAdd => RequestType::AuthUserAdd,
            Rpc::UserGet => RequestType::AuthUserGet,
            Rpc::UserList => RequestType::AuthUserList,
            Rpc::UserDelete => RequestType::AuthUserDelete,
            Rpc::UserChangePassword => RequestType::AuthUserChangePassword,
            Rpc::UserGrantRole => RequestType::AuthUserGrantRole,
            Rpc::UserRevokeRole => RequestType::AuthUserRevokeRole,
            Rpc::RoleAdd => RequestType::AuthRoleAdd,
            Rpc::RoleGet => RequestType::AuthRoleGet,
            Rpc::RoleList => RequestType::AuthRoleList,
            Rpc::RoleDelete => RequestType::AuthRoleDelete,
            Rpc::RoleGrantPermission => RequestType::AuthRoleGrantPermission,
            Rpc::RoleRevokePermission => RequestType::AuthRoleRevokePermission,
            _ => return None,
        })
    }
}

/// A histogram over fixed bounds. Observing costs two atomic additions, of a sample a store more.
struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Not cumulative; what is above all bounds is in `above`.
    buckets: [AtomicU64; N],
    above: AtomicU64,
    sum_micros: AtomicU64,
    /// What the last request took that was quick and timed exactly, microseconds.
    quick_micros: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Self {
        Histogram {
            bounds,
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum_micros: AtomicU64::new(0),
            quick_micros: AtomicU64::new(0),
        }
    }

    /// A request that began at `started` has ended.
    fn end(&self, started: Started) {
        match started {
            Started::Untimed => {}
            Started::Exactly(started) => {
                let took = started.elapsed();
                if took < COARSE {
                    self.quick_micros.store(micros(took), Relaxed);
                }
                self.observe(micros(took));
            }
            Started::About(started) => {
                let took = coarse_now().saturating_sub(started);
                match took < COARSE {
                    true => self.observe(self.quick_micros.load(Relaxed)),
                    false => self.observe(micros(took)),
                }
            }
        }
    }

    fn observe(&self, micros: u64) {
        let at = self.bounds.partition_point(|bound| *bound < micros);
        self.buckets
            .get(at)
            .unwrap_or(&self.above)
            .fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    /// Appends the samples; `labels` are those beside `le`.
    fn write(&self, out: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let mut count = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            count += bucket.load(Relaxed);
            let seconds = *bound as f64 / 1e6;
            writeln!(out, "{name}_bucket{{{labels},le=\"{seconds}\"}} {count}")?;
        }
        count += self.above.load(Relaxed);
        let sum = self.sum_micros.load(Relaxed) as f64 / 1e6;
        writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
        writeln!(out, "{name}_sum{{{labels}}} {sum}")?;
        writeln!(out, "{name}_count{{{labels}}} {count}")
    }

    fn is_empty(&self) -> bool {
        let counts = self.buckets.iter().chain([&self.above]);
        counts.map(|count| count.load(Relaxed)).sum::<u64>() == 0
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// When a call or a request began.
#[derive(Clone, Copy)]
pub(super) enum Started {
    /// Nobody wants to know.
    Untimed,
    /// By the exact clock.
    Exactly(Instant),
    /// By the coarse one.
    About(Duration),
}

/// All histograms of calls.
pub(super) struct Durations {
    /// Whether everything is timed exactly, and calls as well (`--metrics=extensive`).
    extensive: bool,
    /// One a row of the table; none without `--metrics=extensive`.
    handling: Vec<Histogram<{ HANDLING.len() }>>,
    /// One a type: failed, succeeded.
    requests: Vec<[Histogram<{ REQUEST.len() }>; 2]>,
    /// Failed, succeeded.
    ranges: [Histogram<{ RANGE.len() }>; 2],
}

impl Durations {
    /// Empty histograms.
    pub(super) fn new(extensive: bool) -> Durations {
        let rows = if extensive { ROWS } else { &[] };
        let request = |_| [Histogram::new(&REQUEST), Histogram::new(&REQUEST)];
        Durations {
            extensive,
            handling: rows.iter().map(|_| Histogram::new(&HANDLING)).collect(),
            requests: REQUEST_TYPES.iter().map(request).collect(),
            ranges: [Histogram::new(&RANGE), Histogram::new(&RANGE)],
        }
    }

    /// A call begins.
    pub(super) fn start_call(&self) -> Started {
        match self.extensive {
            true => Started::Exactly(Instant::now()),
            false => Started::Untimed,
        }
    }

    /// A request to the core begins.
    pub(super) fn start_request(&self) -> Started {
        match self.extensive || is_sample() {
            true => Started::Exactly(Instant::now()),
            false => Started::About(coarse_now()),
        }
    }

    /// A call of the table's row `row` has ended.
    pub(super) fn handled(&self, row: usize, started: Started) {
        if let Some(handling) = self.handling.get(row) {
            handling.end(started);
        }
    }

    /// A request was answered by the core.
    pub(super) fn answered(&self, request: RequestType, started: Started, success: bool) {
        self.requests[request as usize][usize::from(success)].end(started);
    }

    /// A range was read, without the wait for its confirmation.
    pub(super) fn ranged(&self, started: Started, success: bool) {
        self.ranges[usize::from(success)].end(started);
    }

    /// Appends everything in Prometheus' text format.
    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        let name = "grpc_server_handling_seconds";
        let help = "Histogram of response latency (seconds) of gRPC that had been \
                    application-level handled by the server.";
        if self.extensive {
            head(out, name, help, "histogram")?;
        }
        for (row, histogram) in ROWS.iter().zip(&self.handling) {
            let (kind, method, service) = (row.kind.label(), row.method, row.service);
            let labels =
                format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"");
            histogram.write(out, name, &labels)?;
        }
        let name = "etcd_server_request_duration_seconds";
        let help = "Response latency distribution in seconds for each type.";
        head(out, name, help, "histogram")?;
        for (request, of_type) in REQUEST_TYPES.iter().zip(&self.requests) {
            for (success, histogram) in [false, true].into_iter().zip(of_type) {
                if !histogram.is_empty() {
                    let labels = format!("success=\"{success}\",type=\"{request:?}\"");
                    histogram.write(out, name, &labels)?;
                }
            }
        }
        let name = "etcd_server_range_duration_seconds";
        head(
            out,
            name,
            "The latency distributions of txn.Range",
            "histogram",
        )?;
        for (success, histogram) in [false, true].into_iter().zip(&self.ranges) {
            histogram.write(out, name, &format!("success=\"{success}\""))?;
        }
        Ok(())
    }
}

/// Whether this request is one of those timed exactly: every [`SAMPLE`]th of a thread.
fn is_sample() -> bool {
    thread_local! {
        static REQUESTS: Cell<u32> = const { Cell::new(0) };
    }
    REQUESTS.with(|requests| {
        let count = requests.get();
        requests.set(count.wrapping_add(1));
        count % SAMPLE == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_their_bucket() {
        let histogram = Histogram::new(&HANDLING);
        for micros in [5_000, 5_001, 99_000_000] {
            histogram.observe(micros);
        }
        let mut out = String::new();
        histogram.write(&mut out, "h", "a=\"b\"").unwrap();
        assert!(out.contains("h_bucket{a=\"b\",le=\"0.005\"} 1\n"), "{out}");
        assert!(out.contains("h_bucket{a=\"b\",le=\"0.01\"} 2\n"), "{out}");
        assert!(out.contains("h_bucket{a=\"b\",le=\"10\"} 2\n"), "{out}");
        assert!(out.contains("h_bucket{a=\"b\",le=\"+Inf\"} 3\n"), "{out}");
        assert!(
            out.contains("h_sum{a=\"b\"} 99.010001\nh_count{a=\"b\"} 3\n"),
            "{out}"
        );
    }

    #[test]
    fn every_request_is_counted_once_and_a_slow_one_as_slow() {
        let durations = Durations::new(false);
        let samples = (0..160)
            .filter(|_| {
                let started = durations.start_request();
                durations.answered(RequestType::Put, started, true);
                matches!(started, Started::Exactly(_))
            })
            .count();
        assert_eq!(samples, 10);
        let long_ago = coarse_now().saturating_sub(Duration::from_secs(3));
        durations.answered(RequestType::Put, Started::About(long_ago), true);
        let mut out = String::new();
        durations.write(&mut out).unwrap();
        let name = "etcd_server_request_duration_seconds";
        let labels = "success=\"true\",type=\"Put\"";
        assert!(
            out.contains(&format!("{name}_count{{{labels}}} 161\n")),
            "{out}"
        );
        assert!(
            out.contains(&format!("{name}_bucket{{{labels},le=\"2.048\"}} 160\n")),
            "{out}"
        );
        assert!(!out.contains("grpc_server_handling_seconds"), "{out}");
    }

    #[test]
    fn types_have_places_of_their_own() {
        let places = REQUEST_TYPES.iter().map(|request| *request as usize);
        assert!(places.eq(0..REQUEST_TYPES.len()));
    }
}
