//! Counting what is sent to each peer, where the connection is made.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::Metrics;
use crate::peer::{BoxedIo, Dial};
use crate::store::Store;
use crate::types::MemberId;

/// Dials as `dial` does, and counts the bytes by the member whose URL it is.
pub struct CountedDial {
    pub dial: Arc<dyn Dial>,
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
}

impl CountedDial {
    fn member(&self, url: &str) -> Option<MemberId> {
        let state = self.store.read();
        let mut members = state.members.iter();
        let found = members.find(|member| member.peer_urls.iter().any(|peer| peer == url));
        found.map(|member| member.id)
    }
}

impl Dial for CountedDial {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async move {
            let io = self.dial.dial(url).await?;
            let Some(member) = self.member(url) else {
                return Ok(io);
            };
            Ok(Box::new(Counted {
                io,
                sent: self.metrics.network.sent_bytes(member),
                received: self.metrics.network.received_bytes(member),
            }) as BoxedIo)
        })
    }
}

/// A connection whose bytes are counted.
struct Counted {
    io: BoxedIo,
    sent: IntCounter,
    received: IntCounter,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.received.inc_by((buf.filled().len() - before) as u64);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Counted {
    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.sent.inc_by(*bytes as u64);
        }
    }
}
