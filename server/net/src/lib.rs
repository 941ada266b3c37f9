//! Connections: listeners, the threads that serve them, HTTP/2 and HTTP/1.1 on one port.
//!
//! Owns sockets, connection threads and every limit of the transport. Must never look into a
//! request or decide what it means: that is the [`Handler`]'s.
//!
//! - One thread a runtime, each runtime single-threaded: a connection lives and dies on the thread
//!   it was given to, so nothing about it is contended (measured: 1.3 to 1.5 times less CPU a call
//!   than a work-stealing runtime).
//! - Connections take turns on their thread: a connection's calls run in its own task, and a turn does a
//!   bounded amount of work, so that many calls, or much that is sent, hold up only their own client.
//! - What a connection has to say is gathered and leaves in one send a turn ([`Coalesced`]).
//! - Everything is bounded: connections, handshakes, the wait for a preface, header lists, windows,
//!   resets, send buffers, frames that ask for nothing, a client that reads nothing, the shutdown.
//! - TLS is below the gathering: what leaves in one send is one record, up to its 16 KiB.

#![forbid(unsafe_code)]

mod authority;
mod bell;
mod calls;
mod coalesced;
mod connection;
mod driven;
mod farewell;
mod frames;
pub mod limits;
mod listener;
mod round;
mod runtimes;
mod security;
mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
mod upgrade;

use engram_config as config;
use engram_disk::fs;
use engram_process::{log, threads};

// The connection threads' inboxes are a floor below, where rooms that know no connection name them.
pub use engram_process::home;

pub use bell::Bell;
pub use coalesced::Coalesced;
pub use limits::{Limits, STREAMS_DEFAULT};
pub use listener::{Address, BindOptions, Bound, Listener};
pub use runtimes::{Notice, Runtimes, Traffic};
pub use security::Security;
pub use stream::{Socket, Stream};
pub use upgrade::{Io, Session};

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix,
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PeerAddress::Tcp(address) => address.fmt(f),
            PeerAddress::Unix => f.write_str("@"),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Where the connection comes from.
    pub address: PeerAddress,
    /// Where it came in; none for a Unix socket.
    pub local: Option<SocketAddr>,
    /// Whether it is encrypted.
    pub is_tls: bool,
    /// Out of the certificate that it presented and that was verified, if one was asked for.
    pub identity: Option<Arc<tls::PeerIdentity>>,
    /// For the handler to count the connection's calls under way in: nobody else looks at it.
    pub calls: Arc<AtomicUsize>,
    /// The same for memory that its requests take.
    pub receiving: Arc<AtomicUsize>,
}

impl PeerInfo {
    /// Of a connection that has asked for nothing yet.
    pub fn new(
        address: PeerAddress,
        local: Option<SocketAddr>,
        is_tls: bool,
        identity: Option<Arc<tls::PeerIdentity>>,
    ) -> PeerInfo {
        PeerInfo {
            address,
            local,
            is_tls,
            identity,
            calls: Arc::default(),
            receiving: Arc::default(),
        }
    }
}

/// Serves one connection on the current runtime until it ends, or for the limits' grace after `stop`
/// became true: for listeners whose connections live on another thread than the connection threads.
///
/// # Errors
/// How it ended before its time, in words.
pub async fn serve_connection<IO, H>(
    io: IO,
    handler: H,
    peer: PeerInfo,
    limits: &Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let served = connection::serve(io, handler, peer, round::Round::default(), limits, stop).await;
    served.map_err(|error| error.to_string())
}

/// Does the handshake of a connection that another thread than the connection threads accepted.
///
/// # Errors
/// Why it was refused, in words.
pub async fn secure(
    socket: Socket,
    peer: PeerAddress,
    security: &Security,
) -> Result<(Stream, PeerInfo), String> {
    let secured = security::secure(socket, peer, security).await;
    secured.map_err(|error| error.to_string())
}

/// What answers requests. A clone is made for every connection.
pub trait Handler: Clone + Send + 'static {
    /// Answers one request. The future is dropped when the client gives up.
    fn call(
        &self,
        request: http::Request<hyper::body::Incoming>,
        peer: &PeerInfo,
    ) -> impl Future<Output = http::Response<tonic::body::Body>> + Send + 'static + use<Self>;
}
