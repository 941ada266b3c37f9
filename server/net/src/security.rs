//! Whether a connection is encrypted, and its beginning up to its first byte of HTTP.

use std::io;

use tokio::net::{TcpStream, UnixStream};

use super::connection::{ConnectionError, TLS_HANDSHAKE};
use super::limits;
use super::listener::Accepted;
use super::stream::{Socket, Stream};
use super::tls::{Acceptor, Secured};
use super::{PeerAddress, PeerInfo};

/// Whether a listener's connections are encrypted.
#[derive(Clone)]
pub enum Security {
    /// None is.
    Plain,
    /// All are.
    Tls(Acceptor),
    /// Those that begin with a TLS handshake: `http` and `https` on one port, as etcd allows it.
    Either(Acceptor),
}

impl Security {
    /// The same with a bound of its own on handshakes under way.
    pub fn for_listener(self) -> Security {
        match self {
            Security::Plain => Security::Plain,
            Security::Tls(acceptor) => Security::Tls(acceptor.for_listener()),
            Security::Either(acceptor) => Security::Either(acceptor.for_listener()),
        }
    }
}

/// Makes a stream of what was accepted, and does its handshake if it has one.
pub(super) async fn open_stream(
    accepted: Accepted,
    peer: PeerAddress,
    security: &Security,
) -> Result<(Stream, PeerInfo), ConnectionError> {
    secure(accepted.into_socket()?, peer, security).await
}

impl Accepted {
    /// The socket, on the runtime that this is called on.
    pub(super) fn into_socket(self) -> io::Result<Socket> {
        Ok(match self {
            Accepted::Tcp(stream) => Socket::Tcp(tcp(stream)?),
            Accepted::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// Does the handshake of a connection, if it has one.
pub(super) async fn secure(
    socket: Socket,
    peer: PeerAddress,
    security: &Security,
) -> Result<(Stream, PeerInfo), ConnectionError> {
    let acceptor = match security {
        Security::Plain => return Ok(plain(socket, peer)),
        Security::Tls(acceptor) => acceptor,
        Security::Either(acceptor) => {
            let peeking = socket.peek_first_byte();
            let first = tokio::time::timeout(limits::FIRST_BYTES_TIMEOUT, peeking).await;
            match first.map_err(|_| ConnectionError::Silent)?? {
                TLS_HANDSHAKE => acceptor,
                _ => return Ok(plain(socket, peer)),
            }
        }
    };
    let local = socket.local_addr();
    // In a box that goes with the handshake: all connections would have room for it as long as they live.
    let Secured { stream, identity } = Box::pin(acceptor.accept(socket, peer)).await?;
    Ok((stream, PeerInfo::new(peer, local, true, identity)))
}

fn plain(socket: Socket, peer: PeerAddress) -> (Stream, PeerInfo) {
    let local = socket.local_addr();
    let info = PeerInfo::new(peer, local, false, None);
    (Stream::Plain(socket), info)
}

fn tcp(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    // Writes are gathered here, so that the system need not. A socket that takes no option is on its
    // way out: serving it says so.
    let _ = stream.set_nodelay(true);
    TcpStream::from_std(stream)
}
