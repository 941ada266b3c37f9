//! One type for what carries a connection: TCP or a Unix socket, with TLS or without. hyper and
//! what is above it are compiled once for all of them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::{listener, tls};

/// A socket, nothing on top of it.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A connection's bytes as the program above sees them.
#[derive(Debug)]
pub enum Stream {
    /// As they are on the socket.
    Plain(Socket),
    /// Encrypted on the socket.
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    /// Where it came in; none over a Unix socket.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().ok().map(listener::unmapped),
            Socket::Unix(_) => None,
        }
    }

    /// The first byte that the other end sends, left to be read again.
    ///
    /// # Errors
    /// The socket's; `UnexpectedEof` if it ends without a byte.
    pub async fn peek_first_byte(&self) -> io::Result<u8> {
        let mut first = [0];
        let peeked = match self {
            Socket::Tcp(stream) => {
                let peek = || Ok(rustix::net::recv(stream, &mut first[..], RecvFlags::PEEK)?.0);
                stream.async_io(Interest::READABLE, peek).await
            }
            Socket::Unix(stream) => {
                let peek = || Ok(rustix::net::recv(stream, &mut first[..], RecvFlags::PEEK)?.0);
                stream.async_io(Interest::READABLE, peek).await
            }
        };
        match peeked? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0]),
        }
    }
}

/// Calls an IO method of whatever the connection is made of.
macro_rules! delegate {
    ($self:ident, $kind:ident, $one:ident, $other:ident, $call:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            $kind::$one(io) => Pin::new(io).$call($($argument),*),
            $kind::$other(io) => Pin::new(io).$call($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, Socket, Tcp, Unix, poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, Socket, Tcp, Unix, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, Socket, Tcp, Unix, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, Socket, Tcp, Unix, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, Socket, Tcp, Unix, poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    /// An alert of the other end comes as an error with Go's text ("remote error: tls: …").
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Tls(io) => Pin::new(io).poll_read(cx, buf).map_err(tls::worded),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, Stream, Plain, Tls, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, Stream, Plain, Tls, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, Stream, Plain, Tls, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, Stream, Plain, Tls, poll_shutdown(cx))
    }
}
