//! One send a turn. Stock tonic, hyper and h2 make three writes for an answer (the acknowledgement
//! of the client's ping, headers with data, trailers). Here writes gather in a buffer, which is
//! sent once at the end of each of the connection's turns ([`super::driven`]).
//!
//! Invariants:
//! - A turn reads a bounded number of bytes and of requests.
//! - Bytes leave in the order they were written; a large write carries what was gathered before it.
//! - What is gathered is bounded: beyond [`GATHER_MAX`] a write waits for the socket.
//! - Whenever something is gathered and the task is not queued already, the socket's readiness to
//!   write will wake it. The same holds for what the layer below has taken and not sent (TLS keeps
//!   a record that the socket has no room for).
//! - Who reads nothing of what waits for it, and who sends nothing but frames that ask for nothing,
//!   is sent away.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::authority::Authorities;
use super::frames::Frames;
use super::round::{Round, Share};

/// How much is gathered before a write waits for the socket.
const GATHER_MAX: usize = 128 << 10;
/// A write of this size goes to the socket at once, uncopied, behind what was gathered. It is also
/// the size from which gathered bytes are sent without waiting for more.
const LARGE: usize = 16 << 10;
/// What a turn reads while more calls wait to be polled than a turn polls, bytes: little, but what a
/// client says of windows and resets must come through.
const READ_A_TURN_BEHIND: usize = 4 << 10;
/// Requests that a turn begins. (Those that came with the last of them in one read are begun too.)
const REQUESTS_A_TURN: u64 = 64;
/// A buffer grown beyond this is given back when it is empty: idle connections stay small.
const BUFFER_KEPT: usize = 32 << 10;
/// What is read at once of a frame that was cut.
const HELD_CHUNK: usize = 4 << 10;
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
    /// What was read before the protocol was known, or was held, to be read again.
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
    /// The same.
    authorities: Option<Authorities>,
    /// What was read and cannot be handed on before more is.
    held: Vec<u8>,
    /// The client was told to calm down.
    sent_away: bool,
    /// Of what the thread's connections read in a round.
    share: Share,
    /// What this turn may still read, bytes.
    readable: usize,
    /// With how many requests counted it reads no more.
    requests_until: u64,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Coalesced<IO> {
    /// Wraps `io`. `replay` is read first: the bytes that were consumed to look at them.
    /// It reads its share of its thread's `round` a turn.
    pub(super) fn new(io: IO, replay: Vec<u8>, round: &Round) -> Coalesced<IO> {
        let mut share = round.share();
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
            authorities: None,
            held: Vec::new(),
            sent_away: false,
            readable: share.begin_turn(READ_A_TURN_BEHIND),
            share,
            requests_until: REQUESTS_A_TURN,
        };
        Coalesced(Arc::new(Mutex::new(gather)))
    }

    /// From here on it speaks HTTP/2: frames that ask for nothing are counted, those of the replay
    /// too, and who sends too many of them is told to calm down and sent away.
    pub(super) fn count_frames(&self, preface_bytes: usize, ping_interval_min: Duration) {
        let mut gather = self.0.lock();
        gather.frames = Some(Frames::after(preface_bytes, ping_interval_min));
        gather.authorities = Some(Authorities::default());
    }

    /// Whether the client was told to calm down: it shall read that.
    pub(super) fn is_sent_away(&self) -> bool {
        self.0.lock().sent_away
    }

    /// A new turn: it may read again. `is_behind`: with calls that the last one had no room for.
    pub(super) fn begin_turn(&self, is_behind: bool) {
        let mut gather = self.0.lock();
        let left = gather.readable;
        let readable = gather.share.begin_turn(left);
        gather.readable = match is_behind {
            true => readable.min(READ_A_TURN_BEHIND),
            false => readable,
        };
        gather.requests_until = gather.requests() + REQUESTS_A_TURN;
    }

    /// How many bytes have left so far; none if nothing waits to leave.
    pub(super) fn blocked_at(&self) -> Option<u64> {
        let gather = self.0.lock();
        gather.blocked.then_some(gather.left)
    }

    /// How many bytes wait to be sent.
    pub fn gathered(&self) -> usize {
        self.0.lock().gathered()
    }

    /// Whether anything has to be done before all that was written is on its way.
    pub(super) fn is_behind(&self) -> bool {
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
    /// How many requests the client has sent.
    fn requests(&self) -> u64 {
        self.frames.as_ref().map_or(0, Frames::requests)
    }

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
        if gather.readable == 0 || gather.requests() >= gather.requests_until {
            // The rest is for the next turn.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if gather.replayed == gather.replay.len() {
            ready!(gather.poll_read(cx, buf))?;
        }
        if gather.replayed < gather.replay.len() && buf.filled().len() == before {
            let rest = &gather.replay[gather.replayed..];
            let taken = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..taken]);
            gather.replayed += taken;
            if gather.replayed == gather.replay.len() {
                (gather.replay, gather.replayed) = (Vec::new(), 0);
            }
        }
        let read = &buf.filled()[before..];
        gather.readable = gather.readable.saturating_sub(read.len());
        Poll::Ready(gather.look(read))
    }
}

impl<IO: AsyncRead + Unpin> Gather<IO> {
    /// Reads what can be handed on: into the buffer, or to be read again.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.held.is_empty() {
            let before = buf.filled().len();
            ready!(self.poll_fill(cx, buf))?;
            let read = &mut buf.filled_mut()[before..];
            let Some(authorities) = &mut self.authorities else {
                return Poll::Ready(Ok(()));
            };
            let whole = authorities.look(read);
            self.held.extend_from_slice(&read[whole..]);
            buf.set_filled(before + whole);
            if whole > 0 || self.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_held(cx)
    }

    /// Reads the rest of a frame that was held, and has it read again.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; HELD_CHUNK];
        loop {
            let missing = Authorities::missing(&self.held).min(HELD_CHUNK);
            if missing == 0 {
                break;
            }
            let mut part = ReadBuf::new(&mut chunk[..missing]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                // The end, in the middle of a frame.
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(part.filled());
        }
        let mut held = std::mem::take(&mut self.held);
        if let Some(authorities) = &mut self.authorities {
            authorities.look(&mut held);
        }
        self.replay = held;
        self.replayed = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads no more than this turn may.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let max = self.readable;
        if buf.remaining() <= max {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(max));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
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
