//! What the edge counts: calls and messages by method, bytes, client versions, health checks.
//! Plain atomics, written out in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use tonic::Code;

use super::durations::{Durations, RequestType, Started};
use super::exposition::head;
use super::table::{Kind, ROWS};

/// How many client versions are told apart; further ones are counted together. The client chooses
/// the text, so there must be an end.
const VERSIONS_MAX: usize = 32;
/// gRPC's codes, 0 to 16, as Go's library names them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[derive(Default)]
struct Call {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

#[derive(Default)]
struct Version {
    name: Box<str>,
    unary: AtomicU64,
    stream: AtomicU64,
}

/// One of `/livez`'s or `/readyz`'s checks.
struct Check {
    of: &'static str,
    name: &'static str,
    last: AtomicU64,
    successes: AtomicU64,
    errors: AtomicU64,
}

impl Check {
    fn was_asked(&self) -> bool {
        self.successes.load(Relaxed) + self.errors.load(Relaxed) > 0
    }
}

/// See [`Metrics::scrape`].
pub(super) struct Scrape<'a>(&'a Metrics);

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        self.0.scraping.fetch_sub(1, Relaxed);
        self.0.scrapes.fetch_add(1, Relaxed);
    }
}

/// The edge's counters.
pub struct Metrics {
    calls: Vec<Call>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    versions: RwLock<Vec<Version>>,
    scrapes: AtomicU64,
    scraping: AtomicU64,
    health_successes: AtomicU64,
    health_failures: AtomicU64,
    checks: Vec<Check>,
    durations: Durations,
}

impl Metrics {
    pub(super) fn new(extensive: bool) -> Metrics {
        let check = |(of, name)| Check {
            of,
            name,
            last: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        };
        Metrics {
            calls: ROWS.iter().map(|_| Call::default()).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            versions: RwLock::default(),
            scrapes: AtomicU64::new(0),
            scraping: AtomicU64::new(0),
            health_successes: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
            checks: super::http::CHECKS.iter().copied().map(check).collect(),
            durations: Durations::new(extensive),
        }
    }

    pub(super) fn started(&self, row: usize) {
        self.calls[row].started.fetch_add(1, Relaxed);
    }

    /// Begins to time a call, where calls are timed.
    pub(super) fn clock(&self) -> Started {
        self.durations.start_call()
    }

    /// Begins to time a request to the core.
    pub(super) fn request_clock(&self) -> Started {
        self.durations.start_request()
    }

    /// A call has ended: its handling took from `started` until now.
    pub(super) fn timed(&self, row: usize, started: Started) {
        self.durations.handled(row, started);
    }

    /// The core has answered a request.
    pub(super) fn answered(&self, request: Option<RequestType>, started: Started, success: bool) {
        if let Some(request) = request {
            self.durations.answered(request, started, success);
        }
    }

    /// A message of `len` bytes came in.
    pub(super) fn received(&self, row: usize, len: usize) {
        self.calls[row].received.fetch_add(1, Relaxed);
        self.received_bytes.fetch_add(len as u64, Relaxed);
    }

    /// A message of `len` bytes goes out.
    pub(super) fn sent(&self, row: usize, len: usize) {
        self.calls[row].sent.fetch_add(1, Relaxed);
        self.sent_bytes.fetch_add(len as u64, Relaxed);
    }

    pub(super) fn handled(&self, row: usize, code: Code) {
        let code = usize::try_from(i32::from(code)).expect("gRPC's codes are not negative");
        self.calls[row].handled[code].fetch_add(1, Relaxed);
    }

    /// A range was read from the store.
    pub(super) fn ranged(&self, started: Started, success: bool) {
        self.durations.ranged(started, success);
    }

    pub(super) fn client_version(&self, kind: Kind, name: &str) {
        let count = |version: &Version| {
            let counter = if kind == Kind::Unary {
                &version.unary
            } else {
                &version.stream
            };
            counter.fetch_add(1, Relaxed);
        };
        if let Some(version) = self.versions.read().iter().find(|v| *v.name == *name) {
            return count(version);
        }
        let mut versions = self.versions.write();
        let name = if versions.len() < VERSIONS_MAX {
            name
        } else {
            "other"
        };
        if let Some(version) = versions.iter().find(|v| *v.name == *name) {
            return count(version);
        }
        versions.push(Version {
            name: name.into(),
            ..Version::default()
        });
        count(versions.last().expect("pushed just now"));
    }

    /// A scrape of the metrics, until it is dropped; it is counted as it ends.
    pub(super) fn scrape(&self) -> Scrape<'_> {
        self.scraping.fetch_add(1, Relaxed);
        Scrape(self)
    }

    pub(super) fn health(&self, healthy: bool) {
        let counter = if healthy {
            &self.health_successes
        } else {
            &self.health_failures
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn checked(&self, of: &str, name: &str, healthy: bool) {
        let check = self
            .checks
            .iter()
            .find(|check| check.of == of && check.name == name);
        let check = check.expect("every check has its counters");
        check.last.store(u64::from(healthy), Relaxed);
        let counter = if healthy {
            &check.successes
        } else {
            &check.errors
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Appends everything in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        self.write(out)
            .expect("a string takes what is written to it");
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        self.write_calls(out)?;
        let bytes = [
            (
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
                &self.received_bytes,
            ),
            (
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
                &self.sent_bytes,
            ),
            (
                "etcd_server_health_success",
                "The total number of successful health checks",
                &self.health_successes,
            ),
            (
                "etcd_server_health_failures",
                "The total number of failed health checks",
                &self.health_failures,
            ),
        ];
        for (name, help, value) in bytes {
            head(out, name, help, "counter")?;
            writeln!(out, "{name} {}", value.load(Relaxed))?;
        }
        self.write_scrapes(out)?;
        self.write_versions(out)?;
        self.write_checks(out)?;
        self.durations.write(out)
    }

    fn write_calls(&self, out: &mut String) -> std::fmt::Result {
        type Count = fn(&Call) -> &AtomicU64;
        let families: [(&str, &str, Count); 3] = [
            (
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                |call| &call.started,
            ),
            (
                "grpc_server_msg_received_total",
                "Total number of RPC stream messages received on the server.",
                |call| &call.received,
            ),
            (
                "grpc_server_msg_sent_total",
                "Total number of gRPC stream messages sent by the server.",
                |call| &call.sent,
            ),
        ];
        for (name, help, count) in families {
            head(out, name, help, "counter")?;
            for (row, call) in ROWS.iter().zip(&self.calls) {
                let (kind, value) = (row.kind.label(), count(call).load(Relaxed));
                let (method, service) = (row.method, row.service);
                writeln!(
                    out,
                    "{name}{{grpc_method=\"{method}\",grpc_service=\"{service}\",\
                     grpc_type=\"{kind}\"}} {value}"
                )?;
            }
        }
        let name = "grpc_server_handled_total";
        let help =
            "Total number of RPCs completed on the server, regardless of success or failure.";
        head(out, name, help, "counter")?;
        for (row, call) in ROWS.iter().zip(&self.calls) {
            let (kind, method, service) = (row.kind.label(), row.method, row.service);
            for (code, value) in CODES.iter().zip(&call.handled) {
                let value = value.load(Relaxed);
                writeln!(
                    out,
                    "{name}{{grpc_code=\"{code}\",grpc_method=\"{method}\",\
                     grpc_service=\"{service}\",grpc_type=\"{kind}\"}} {value}"
                )?;
            }
        }
        Ok(())
    }

    /// As Go's Prometheus library counts its own page; it has no other answers here.
    fn write_scrapes(&self, out: &mut String) -> std::fmt::Result {
        let name = "promhttp_metric_handler_requests_in_flight";
        head(
            out,
            name,
            "Current number of scrapes being served.",
            "gauge",
        )?;
        writeln!(out, "{name} {}", self.scraping.load(Relaxed))?;
        let name = "promhttp_metric_handler_requests_total";
        let help = "Total number of scrapes by HTTP status code.";
        head(out, name, help, "counter")?;
        let served = self.scrapes.load(Relaxed);
        for (code, count) in [("200", served), ("500", 0), ("503", 0)] {
            writeln!(out, "{name}{{code=\"{code}\"}} {count}")?;
        }
        Ok(())
    }

    fn write_versions(&self, out: &mut String) -> std::fmt::Result {
        let name = "etcd_server_client_requests_total";
        head(
            out,
            name,
            "The total number of client requests per client version.",
            "counter",
        )?;
        for version in self.versions.read().iter() {
            let escaped = escape(&version.name);
            for (kind, counter) in [("unary", &version.unary), ("stream", &version.stream)] {
                let value = counter.load(Relaxed);
                if value > 0 {
                    writeln!(
                        out,
                        "{name}{{client_api_version=\"{escaped}\",type=\"{kind}\"}} {value}"
                    )?;
                }
            }
        }
        Ok(())
    }

    fn write_checks(&self, out: &mut String) -> std::fmt::Result {
        let name = "etcd_server_healthcheck";
        head(
            out,
            name,
            "The result of each kind of healthcheck.",
            "gauge",
        )?;
        // As in etcd a check that nobody has asked for has no result: 0 would be a failure to whoever watches it.
        let checks = || self.checks.iter().filter(|check| check.was_asked());
        for check in checks() {
            let value = check.last.load(Relaxed);
            writeln!(
                out,
                "{name}{{name=\"{}\",type=\"{}\"}} {value}",
                check.name, check.of
            )?;
        }
        let name = "etcd_server_healthchecks_total";
        head(
            out,
            name,
            "The total number of each kind of healthcheck.",
            "counter",
        )?;
        for check in checks() {
            for (status, counter) in [("success", &check.successes), ("error", &check.errors)] {
                writeln!(
                    out,
                    "{name}{{name=\"{}\",status=\"{status}\",type=\"{}\"}} {}",
                    check.name,
                    check.of,
                    counter.load(Relaxed)
                )?;
            }
        }
        Ok(())
    }
}

/// A label's value, with what the format reserves escaped.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
