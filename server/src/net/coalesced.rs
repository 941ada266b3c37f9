//! One send a poll. Stock tonic, hyper and h2 make three writes for an answer (the acknowledgement
//! of the client's ping, headers with data, trailers). Here writes gather in a buffer, which is
//! sent once after each poll of the connection.
//!
//! Invariants:
//! - Bytes leave in the order they were written; a large write carries what was gathered before it.
//! - What is gathered is bounded: beyond [`GATHER_MAX`] a write waits for the socket.
//! - Whenever something is gathered and the task is not queued already, the socket's readiness to
//!   write will wake it. The same holds for what the layer below has taken and not sent (TLS keeps
//!   a record that the socket has no room for).
//! - Who reads nothing of what waits for it, and who sends nothing but frames that ask for nothing,
//!   is sent away.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frames::Frames;
use super::limits::WRITE_STALL_MAX;

/// How much is gathered before a write waits for the socket.
const GATHER_MAX: usize = 128 << 10;
/// A write of this size goes to the socket at once, uncopied, behind what was gathered. It is also
/// the size from which gathered bytes are sent without waiting for more.
const LARGE: usize = 16 << 10;
/// A buffer grown beyond this is given back when it is empty: idle connections stay small.
const BUFFER_KEPT: usize = 32 << 10;
/// Slices of one vectored write; the system takes up to 1024.
const SLICES_MAX: usize = 64;

/// An IO that gathers writes. Clones share it: one is hyper's, one the connection's, on one task,
/// so the lock is never contended.
pub struct Coalesced<IO>(Arc<Mutex<Gather<IO>>>);

impl<IO> Clone for Coalesced<IO> {
    fn clone(&self) -> Coalesced<IO> {
        Coalesced(Arc::clone(&self.0))
    }
}

struct Gather<IO> {
    io: IO,
    /// What was read before the protocol was known, to be read again.
    replay: Vec<u8>,
    replayed: usize,
    buffer: Vec<u8>,
    sent: usize,
    /// The layer below was written to and not flushed since.
    unflushed: bool,
    /// A write or a flush waits for the other end.
    blocked: bool,
    /// Bytes that have left so far.
    left: u64,
    /// Of an HTTP/2 client.
    frames: Option<Frames>,
    /// The client was told to calm down.
    sent_away: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Coalesced<IO> {
    /// Wraps `io`. `replay` is read first: the bytes that were consumed to look at them.
    pub fn new(io: IO, replay: Vec<u8>) -> Coalesced<IO> {
        let gather = Gather {
            io,
            replay,
            replayed: 0,
            buffer: Vec::new(),
            sent: 0,
            unflushed: false,
            blocked: false,
            left: 0,
            frames: None,
            sent_away: false,
        };
        Coalesced(Arc::new(Mutex::new(gather)))
    }

    /// From here on it speaks HTTP/2: frames that ask for nothing are counted, those of the replay
    /// too, and who sends too many of them is told to calm down and sent away.
    pub(super) fn count_frames(&self, preface_bytes: usize, ping_interval_min: Duration) {
        self.0.lock().frames = Some(Frames::after(preface_bytes, ping_interval_min));
    }

    /// Whether the client was told to calm down: it shall read that.
    pub(super) fn is_sent_away(&self) -> bool {
        self.0.lock().sent_away
    }

    /// How many bytes have left so far; none if nothing waits to leave.
    fn blocked_at(&self) -> Option<u64> {
        let gather = self.0.lock();
        gather.blocked.then_some(gather.left)
    }

    /// How many bytes wait to be sent.
    pub fn gathered(&self) -> usize {
        self.0.lock().gathered()
    }

    /// Whether anything has to be done before all that was written is on its way.
    fn is_behind(&self) -> bool {
        let gather = self.0.lock();
        gather.gathered() > 0 || gather.unflushed || gather.blocked
    }

    /// Sends what is gathered. Pending while the socket takes no more; it wakes the task then.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_drain(cx)
    }
}

impl<IO> Gather<IO> {
    /// Counts what was read.
    fn look(&mut self, read: &[u8]) -> io::Result<()> {
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        let Err(excess) = frames.read(read) else {
            return Ok(());
        };
        self.frames = None;
        self.sent_away = true;
        self.buffer.extend_from_slice(excess.goodbye());
        let reason = excess.reason();
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

impl<IO: AsyncWrite + Unpin> Gather<IO> {
    fn gathered(&self) -> usize {
        self.buffer.len() - self.sent
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.blocked = true;
        while self.gathered() > 0 {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.count(written);
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        self.blocked = false;
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, written: usize) {
        self.left += written as u64;
        if let Some(frames) = &mut self.frames {
            frames.sent(written);
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent += written;
        if self.sent < self.buffer.len() {
            return;
        }
        self.sent = 0;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if len >= LARGE {
            return self.poll_write_through(cx, bufs);
        }
        if self.gathered() + len > GATHER_MAX {
            ready!(self.poll_drain(cx))?;
        }
        for buf in bufs {
            self.buffer.extend_from_slice(buf);
        }
        Poll::Ready(Ok(len))
    }

    /// Writes without copying, what was gathered first.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let gathered = self.gathered();
            let mut slices = Vec::with_capacity(SLICES_MAX.min(bufs.len() + 1));
            if gathered > 0 {
                slices.push(IoSlice::new(&self.buffer[self.sent..]));
            }
            let room = SLICES_MAX - slices.len();
            slices.extend(bufs.iter().take(room).map(|buf| IoSlice::new(buf)));
            self.blocked = true;
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?;
            self.blocked = false;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.count(written);
            self.advance(written.min(gathered));
            if written > gathered {
                return Poll::Ready(Ok(written - gathered));
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Coalesced<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gather = self.0.lock();
        let before = buf.filled().len();
        if gather.replayed == gather.replay.len() {
            ready!(Pin::new(&mut gather.io).poll_read(cx, buf))?;
        } else {
            let rest = &gather.replay[gather.replayed..];
            let taken = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..taken]);
            gather.replayed += taken;
        }
        Poll::Ready(gather.look(&buf.filled()[before..]))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Coalesced<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing to do: [`Driven`] sends after the poll.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = self.0.lock();
        ready!(gather.poll_drain(cx))?;
        Pin::new(&mut gather.io).poll_shutdown(cx)
    }
}

/// A connection with its sends: polls the connection, then sends what it gathered.
pub(super) struct Driven<C, IO> {
    connection: Pin<Box<C>>,
    io: Coalesced<IO>,
    /// Whether the send was put off once already, for the handlers that the last poll spawned.
    deferred: bool,
    /// How many bytes had left when the other end was found not to read, and until when it may.
    stalled: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<C, IO> Driven<C, IO> {
    pub(super) fn new(connection: C, io: Coalesced<IO>) -> Driven<C, IO> {
        Driven {
            connection: Box::pin(connection),
            io,
            deferred: false,
            stalled: None,
        }
    }

    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C, IO: AsyncRead + AsyncWrite + Unpin> Driven<C, IO> {
    /// Ready once the other end has read nothing of what waits for it for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(left) = self.io.blocked_at() else {
            self.stalled = None;
            return Poll::Pending;
        };
        if self.stalled.as_ref().is_none_or(|(then, _)| *then != left) {
            let sleep = tokio::time::sleep(WRITE_STALL_MAX);
            self.stalled = Some((left, Box::pin(sleep)));
        }
        let (_, sleep) = self.stalled.as_mut().expect("set just now");
        sleep.as_mut().poll(cx)
    }
}

impl<C, IO, E> Future for Driven<C, IO>
where
    C: Future<Output = Result<(), E>>,
    IO: AsyncRead + AsyncWrite + Unpin,
    E: From<io::Error>,
{
    type Output = Result<(), E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let polled = self.connection.as_mut().poll(cx);
        let gathered = self.io.gathered();
        if polled.is_ready() {
            // An orderly end has drained at its shutdown; after an error one try has to do.
            let _ = self.io.poll_drain(cx);
            return polled;
        }
        if gathered == 0 && !self.io.is_behind() {
            self.deferred = false;
            self.stalled = None;
            return Poll::Pending;
        }
        if !self.deferred && (1..LARGE).contains(&gathered) {
            // The handlers that this poll spawned run before the task's next turn: what they answer
            // at once leaves in the same send.
            self.deferred = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.deferred = false;
        match self.io.poll_drain(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) => self.stalled = None,
            Poll::Pending => {
                if self.poll_stalled(cx).is_ready() {
                    let late = io::Error::from(io::ErrorKind::TimedOut);
                    return Poll::Ready(Err(late.into()));
                }
            }
        }
        Poll::Pending
    }
}
