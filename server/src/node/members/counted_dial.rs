//! Counting what is sent to each peer, where the connection is made.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::Metrics;
use crate::peer::{BoxedIo, Dial};
use crate::store::Store;
use crate::types::MemberId;

/// How often it is asked whose a connection is that nobody has named yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Dials as `dial` does, and counts the bytes by the member whose URL it is.
pub struct CountedDial {
    pub dial: Arc<dyn Dial>,
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
}

impl Dial for CountedDial {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async move {
            let io = self.dial.dial(url).await?;
            let counts = Counts {
                known: None,
                sent: 0,
                received: 0,
                next_look: Instant::now(),
                url: url.to_owned(),
                store: self.store.clone(),
                metrics: self.metrics.clone(),
            };
            Ok(Box::new(Counted { io, counts }) as BoxedIo)
        })
    }
}

/// A connection whose bytes are counted.
struct Counted {
    io: BoxedIo,
    counts: Counts,
}

/// What went over a connection. The first connections of a new cluster are made before the table of
/// its members is there: what they carry until then is counted to the member later.
struct Counts {
    known: Option<(IntCounter, IntCounter)>,
    sent: u64,
    received: u64,
    next_look: Instant,
    url: String,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl Counts {
    fn add(&mut self, sent: u64, received: u64) {
        if let Some((all_sent, all_received)) = &self.known {
            all_sent.inc_by(sent);
            all_received.inc_by(received);
            return;
        }
        self.sent += sent;
        self.received += received;
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let Some(member) = self.member() else {
            return;
        };
        let network = &self.metrics.network;
        let (all_sent, all_received) = (network.sent_bytes(member), network.received_bytes(member));
        all_sent.inc_by(self.sent);
        all_received.inc_by(self.received);
        self.known = Some((all_sent, all_received));
    }

    fn member(&self) -> Option<MemberId> {
        let cluster = self.store.cluster();
        let mut members = cluster.members.iter();
        let found = members.find(|member| member.peer_urls.contains(&self.url));
        found.map(|member| member.id)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let received = (buf.filled().len() - before) as u64;
        self.counts.add(0, received);
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
    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.counts.add(*bytes as u64, 0);
        }
    }
}
