//! TLS: one acceptor for every listener, one connector for every connection that is made.
//!
//! Owns certificates, keys, authorities, revocation lists and every rule about whom they let in.
//! Must never hand out a connection whose other end was not verified as the flags ask for it.
//!
//! - Files are looked at again at most once a second, when a handshake comes ([`reload`]). A
//!   certificate, key, CA bundle or revocation list that changed is used from the next handshake
//!   on; one that is broken is not, and the last good one stays.
//! - No session is resumed: each connection is verified in full.
//! - A handshake is bounded in time, and the handshakes of a listener in number. It runs on the
//!   connection's thread, never in the accept loop.
//!
//! Unlike etcd: certificates are asked for only with a CA bundle of the operator's, never with the
//! system's; RSA key exchange and CBC suites are not there; a revocation list also counts for the
//! members that this one connects to; a CA is not taken for a client (webpki's rule).

mod acceptor;
mod address;
mod connector;
mod dial;
mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod hostname;
mod identity;
mod material;
mod policy;
mod reload;
mod rules;
mod self_signed;
#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, PENDING_HANDSHAKES_MAX, Secured};
pub use connector::{CONNECT_TIMEOUT, Connector};
pub use dial::{Dial, KEEPALIVE_INTERVAL_MIN};
pub(crate) use error::worded;
pub use error::{HandshakeError, TlsError};
pub use hostname::{HostnameError, verify_hostname};
pub use identity::{MalformedCertificate, PeerIdentity};
pub use self_signed::{SelfSigned, self_signed};

use std::time::Duration;

/// How long a handshake may take, the look-up of a member's name included. etcd: 10 s, since
/// CVE-2026-73500.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2, as it is named in the handshake.
const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1, as it is named in the handshake.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Clients'.
    Client,
    /// Other members'.
    Peer,
}

impl Side {
    /// The word for it in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Peer => "peer",
        }
    }

    /// How its flags begin.
    const fn flag_prefix(self) -> &'static str {
        match self {
            Side::Client => "",
            Side::Peer => "peer-",
        }
    }
}
