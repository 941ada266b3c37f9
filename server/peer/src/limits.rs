//! The limits of what members send each other, each stated at its one place.

use std::time::Duration;

/// Bytes of entries in one append. An entry that is larger by itself goes alone.
pub const APPEND_BYTES_MAX: usize = 4 << 20;
/// Appends on their way that are not answered yet. openraft's receiving side takes as many.
pub(super) const UNANSWERED_MAX: usize = 64;
/// Bytes of them; one append is always let through.
pub(super) const UNANSWERED_BYTES_MAX: usize = 16 << 20;
/// How long an append may go unanswered before its stream is given up. Longer than a slow disk
/// syncs: sending everything again would make a slow member slower. A member that is gone is found
/// by the connection's pings.
pub(super) const ANSWER_STALL_MAX: Duration = Duration::from_secs(5);

/// How much longer for each megabyte of it: a value of 90 MiB is sent and synced in its time also
/// where network and disk bear 10 MiB a second.
pub(super) const MEGABYTE_STALL: Duration = Duration::from_millis(100);

/// How long a dial may take, name resolution and TLS included, for each URL.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a failed dial; doubled with each failure up to [`BACKOFF_MAX`].
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two dials.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long a connection may be silent before it is pinged. An election timeout by default: then a
/// connection that leads nowhere is replaced within about three.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long the ping may go unanswered.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections from peers at once: three from each of a few, and some that have not noticed their
/// end yet. Beyond, who has not shown to be a member makes way ([`super::guests`]).
pub(super) const CONNECTIONS_MAX: usize = 128;
/// Calls under way on one of them.
pub(super) const STREAMS_MAX: u32 = 1024;
/// How long calls may take to finish at a stop. Append streams do not end by themselves.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_millis(100);
/// How often it is told that connections were closed since too many are open.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the accept loop rests after the system refused it.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room in a message beside the bytes of entries: log ids, tags, a membership.
const MESSAGE_OVERHEAD: usize = 256 << 10;
/// What a batch may hold beside its largest request (`propose` joins requests up to this).
const BATCH_OVERHEAD: usize = 1 << 20;

/// The limits that depend on flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message accepted and sent, bytes.
    pub message_bytes: usize,
}

impl Limits {
    /// The limits for `--max-request-bytes`: every batch that a member can make fits a message.
    pub fn for_requests_of(max_request_bytes: usize) -> Limits {
        let batch = max_request_bytes.saturating_add(BATCH_OVERHEAD);
        Limits {
            message_bytes: batch.max(APPEND_BYTES_MAX).saturating_add(MESSAGE_OVERHEAD),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        // etcd's default of `--max-request-bytes`.
        Limits::for_requests_of(3 << 19)
    }
}
