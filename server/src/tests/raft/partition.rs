//! Members that cannot reach each other.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::peer::{BoxedIo, Connection, Dial, PlainTcp};
use crate::types::MemberId;

/// Which members cannot reach which.
#[derive(Default)]
pub struct Partition {
    cut: Mutex<HashSet<MemberId>>,
    changed: Notify,
}

impl Partition {
    /// Cuts a member off: its connections break and no new ones are made.
    pub fn isolate(&self, member: MemberId) {
        self.cut.lock().insert(member);
        self.changed.notify_waiters();
    }

    /// Lets everybody reach everybody.
    pub fn heal(&self) {
        self.cut.lock().clear();
    }

    fn separates(&self, pair: [MemberId; 2]) -> bool {
        let cut = self.cut.lock();
        pair.iter().any(|member| cut.contains(member))
    }
}

/// Dials for one member, within what the partition allows.
pub struct PartitionedDial {
    pub from: MemberId,
    pub ids: BTreeMap<String, MemberId>,
    pub partition: Arc<Partition>,
}

impl Dial for PartitionedDial {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async move {
            // A member that a test adds is nowhere.
            let Some(to) = self.ids.get(url) else {
                return Err(io::ErrorKind::HostUnreachable.into());
            };
            let pair = [self.from, *to];
            if self.partition.separates(pair) {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let io = PlainTcp.dial(url).await?;
            let partition = self.partition.clone();
            let cut = Box::pin(async move {
                loop {
                    let changed = partition.changed.notified();
                    if partition.separates(pair) {
                        return;
                    }
                    changed.await;
                }
            });
            Ok(Box::new(Cuttable { io, cut }) as BoxedIo)
        })
    }
}

/// A connection that breaks when its two ends are separated.
struct Cuttable {
    io: Box<dyn Connection>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
