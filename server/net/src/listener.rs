//! Listening sockets, TCP and Unix, behind one type.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tokio::net::{TcpListener, UnixListener};

use super::PeerAddress;

/// How many connections the system holds that are not accepted yet (Go asks for the same).
const BACKLOG: u32 = 4096;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 lets the system choose. All addresses of one family are all of both, as
    /// for Go's listeners.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// How to bind.
#[derive(Clone, Copy, Debug, Default)]
pub struct BindOptions {
    /// Let other processes listen on the same port (`--socket-reuse-port`).
    pub reuse_port: bool,
}

/// A bound socket. A Unix socket's file goes with it.
pub struct Listener {
    pub(super) socket: Socket,
}

pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// An accepted connection, not bound to any runtime.
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener {
            socket: Socket::Tcp(listener),
        }
    }
}

impl Listener {
    /// Binds. Call it within a runtime; connections are queued by the system from here on and
    /// accepted once the listener is served.
    ///
    /// # Errors
    /// The address is taken (a Unix socket's: somebody answers on it) or not allowed.
    pub(super) fn bind(address: &Address, options: BindOptions) -> io::Result<Listener> {
        Bound::bind(address, options)?.into_listener()
    }

    /// The address bound, with the port the system chose. None for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Accepts a connection, for the runtime that this is called on.
    pub async fn accept_here(&self) -> io::Result<(super::Socket, PeerAddress)> {
        let (accepted, peer) = self.accept().await?;
        Ok((accepted.into_socket()?, peer))
    }

    pub(super) async fn accept(&self) -> io::Result<(Accepted, PeerAddress)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let peer = PeerAddress::Tcp(unmapped(peer));
                Ok((Accepted::Tcp(stream.into_std()?), peer))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::Unix(stream.into_std()?), PeerAddress::Unix))
            }
        }
    }
}

/// An address as it is written: who comes over IPv4 to a socket of both families has a mapped one.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// A socket bound without a runtime, for the listener of another thread.
#[derive(Debug)]
pub enum Bound {
    /// A TCP address.
    Tcp(std::net::TcpListener),
    /// A Unix socket and its path.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl Bound {
    /// Binds and listens. The socket does not block: the runtime that takes it over would stand still
    /// in `accept`.
    ///
    /// # Errors
    /// The address is taken (a Unix socket's: somebody answers on it) or not allowed.
    pub fn bind(address: &Address, options: BindOptions) -> io::Result<Bound> {
        match address {
            Address::Tcp(address) => Ok(Bound::Tcp(bind_standard(*address, options)?)),
            Address::Unix(path) => Ok(Bound::Unix(bind_unix(path)?, path.clone())),
        }
    }

    /// The listener, on the runtime that this is called on.
    ///
    /// # Errors
    /// The system's.
    pub fn into_listener(self) -> io::Result<Listener> {
        let socket = match self {
            Bound::Tcp(listener) => Socket::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener, path) => Socket::Unix(UnixListener::from_std(listener)?, path),
        };
        Ok(Listener { socket })
    }
}

fn bind_standard(address: SocketAddr, options: BindOptions) -> io::Result<std::net::TcpListener> {
    if !address.ip().is_unspecified() {
        return Ok(bind_family(address, options)?);
    }
    let any = |ip: IpAddr| bind_family(SocketAddr::new(ip, address.port()), options);
    Ok(match any(Ipv6Addr::UNSPECIFIED.into()) {
        // A system without IPv6: then all addresses are those of IPv4.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => any(Ipv4Addr::UNSPECIFIED.into())?,
        bound => bound?,
    })
}

fn bind_family(address: SocketAddr, options: BindOptions) -> Result<std::net::TcpListener, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // As Go and std do it: only connections in TIME_WAIT are passed over, never a listener.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG.cast_signed())?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::UnixListener;
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Whether `path` is a socket that a process left behind: nobody accepts on it.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && refused
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // Left behind, it is recognised as stale by the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_for_another_runtime_does_not_block() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = BindOptions { reuse_port: false };
        let listener = bind_standard(address, options).unwrap();
        let accepted = listener.accept();
        assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let dir = tempfile::tempdir().unwrap();
        let listener = bind_unix(&dir.path().join("a.sock")).unwrap();
        let accepted = listener.accept();
        assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
