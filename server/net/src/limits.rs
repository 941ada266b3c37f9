//! The transport's limits, each stated at its one place.

use std::time::Duration;

/// Limits of connections. hyper's and tonic's defaults are never relied on.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once, over all listeners; the next one is closed unread. Half of what
    /// the process may open is a good value: the rest is for files and peers.
    pub connections_max: usize,
    /// Streams (calls) open at once on a connection. etcd: `--max-concurrent-streams`; where that is
    /// left unbounded, [`STREAMS_DEFAULT`].
    pub streams_max: u32,
    /// How long a connection may be silent before it is pinged. etcd: `--grpc-keepalive-interval`.
    pub keepalive_interval: Duration,
    /// How long the ping may go unanswered. etcd: `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// How long a client must leave between two pings; zero for as often as it likes. etcd:
    /// `--grpc-keepalive-min-time`.
    pub ping_interval_min: Duration,
    /// How long connections may take to finish their calls at shutdown.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 32_768,
            streams_max: STREAMS_DEFAULT,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            ping_interval_min: Duration::ZERO,
            shutdown_grace: Duration::from_millis(500),
        }
    }
}

/// Streams of a connection where nobody says how many: gRPC's clients wait for one to end.
pub const STREAMS_DEFAULT: u32 = 8192;
/// How long a new connection may take to say which protocol it speaks, and HTTP/1.1 to send its
/// headers.
pub(super) const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client may send on a stream before it is read: a request fits.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// The same for the connection.
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest frame accepted.
pub const FRAME_MAX: u32 = 64 << 10;
/// How long a client may read nothing of what waits for it on its connection.
pub(super) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Threads for blocking work that each connection thread may have.
pub(super) const BLOCKING_THREADS_MAX: usize = 32;
/// The largest header list accepted, as HTTP/2 counts it (etcd: 16 MiB). A connection holds one that is
/// coming in; what its calls hold is for the handler to bound.
pub const HEADER_LIST_MAX: u32 = 1 << 20;
/// What is queued for a stream that its client does not read.
pub const SEND_BUFFER_MAX: usize = 256 << 10;
/// Streams that the client reset before they were accepted (CVE-2023-44487).
pub(super) const PENDING_RESET_MAX: usize = 20;
/// Streams that this side had to reset for the client's errors (RUSTSEC-2024-0332).
pub(super) const LOCAL_RESET_MAX: usize = 1024;
/// HTTP/1.1's read buffer: the largest header section accepted.
pub(super) const HTTP1_BUFFER_MAX: usize = 64 << 10;
