//! How a connection to a URL is made. TLS is another [`Dial`].

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection's bytes.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Connection for IO {}

/// A connection of whatever kind.
pub type BoxedIo = Box<dyn Connection>;

/// Makes connections.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a peer URL (`http://host:port`), resolving its name anew. The caller bounds the
    /// time it may take by dropping the future.
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>>;
}

/// Plain TCP; `https` URLs are refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainTcp;

impl Dial for PlainTcp {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async move {
            let authority = authority(url)?;
            let stream = TcpStream::connect(authority).await?;
            // HTTP/2 gathers its frames itself; waiting for more would delay heartbeats.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }
}

/// `host:port` of a plain URL.
pub(super) fn authority(url: &str) -> io::Result<&str> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {why}"));
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| invalid("only http:// can be dialled without TLS"))?;
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() {
        return Err(invalid("it names no host"));
    }
    Ok(authority)
}
