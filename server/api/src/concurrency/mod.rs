//! Locks and elections as services: what etcd's Go package `concurrency` does in a client, done
//! here for those who cannot. Both see each other's locks and elections, since both are keys:
//! `name/%x(lease)`, and who has the oldest key of a name holds it.
//!
//! Owns the order of the calls. Must hold no state of its own: every step is a range, a transaction
//! or a watch, asked of the edge as a client would, through the same checks and metrics.
//!
//! Invariants:
//! - Whoever waits, waits for the last key created before its own: fair, and one wake a release.
//! - A wait ends with its call: when the caller goes away its key is removed, where etcd removes it.
//! - Each step is checked as a call of the caller's own.
//! - Waiters are calls under way, and bounded as those are.

mod ask;
mod election;
mod lock;
mod observe;
mod place;
mod wait;

use bytes::Bytes;

use super::backend::Backend;
use super::error::Refusal;
use super::table::Rpc;
use crate::codec::Frame;
use ask::Asking;

/// The services, as the table names them.
pub(super) const SERVICES: [&str; 2] = ["v3lockpb.Lock", "v3electionpb.Election"];

/// Time to live of the lease that a caller without one gets, seconds (etcd's).
const SESSION_TTL_SECONDS: i64 = 60;

impl<B: Backend> Asking<B> {
    /// Answers a unary call of either service.
    pub(super) async fn answer(&self, rpc: Rpc, message: Bytes) -> Result<Frame, Refusal> {
        match rpc {
            Rpc::Lock => self.lock(message).await,
            Rpc::Unlock => self.unlock(message).await,
            Rpc::Campaign => self.campaign(message).await,
            Rpc::Proclaim => self.proclaim(message).await,
            Rpc::Leader => self.election_leader(message).await,
            Rpc::Resign => self.resign(message).await,
            _ => Err(Refusal::UNKNOWN_METHOD),
        }
    }
}

/// What all keys of a name begin with.
fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The end of the range of all keys with `prefix`, which ends with a slash.
fn end_of(prefix: &[u8]) -> Bytes {
    let (_, name) = prefix.split_last().expect("a prefix ends with a slash");
    [name, b"0"].concat().into()
}

/// The key of a lease: Go's `%x` of a signed number.
fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let id = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, id.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_go_names_them() {
        let prefix = prefix_of(b"name\xff");
        assert_eq!(key_of(&prefix, 0x1f), &b"name\xff/1f"[..]);
        assert_eq!(key_of(&prefix, -0x1f), &b"name\xff/-1f"[..]);
        assert_eq!(
            key_of(&prefix, i64::MIN),
            &b"name\xff/-8000000000000000"[..]
        );
        assert_eq!(key_of(&prefix_of(b""), 1), &b"/1"[..]);
    }

    #[test]
    fn the_range_of_a_name_holds_its_keys_alone() {
        let prefix = prefix_of(b"a/b");
        let end = end_of(&prefix);
        let within = |key: &[u8]| key >= &prefix[..] && key < &end[..];
        assert!(within(b"a/b/1") && within(b"a/b/\xff\xff"));
        assert!(!within(b"a/b") && !within(b"a/b0") && !within(b"a/c/1"));
    }
}
