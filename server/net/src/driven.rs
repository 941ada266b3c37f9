//! A connection's turn on its thread: the protocol is polled, then the calls that were woken, then what
//! they answered is gathered and sent at once.
//!
//! Invariants:
//! - A turn is bounded: bytes and requests read ([`Coalesced`]), calls polled ([`Calls`]). A connection
//!   with more to do has its next turn after all that wait for theirs, and after sockets and timers were
//!   looked at.
//! - Only what asked for it is polled, each part by its own bell.
//! - Who reads nothing of what waits for it is sent away.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::bell::Bell;
use super::calls::Calls;
use super::coalesced::Coalesced;
use super::limits::WRITE_STALL_MAX;

/// A connection with its calls and its sends.
pub(super) struct Driven<C, IO> {
    connection: Pin<Box<C>>,
    /// Rings when the protocol is to be polled, or the socket takes bytes again.
    bell: Arc<Bell>,
    calls: Calls,
    io: Coalesced<IO>,
    /// Whether the last turn left something to do.
    is_behind: bool,
    /// How many bytes had left when the other end was found not to read, and until when it may.
    stalled: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<C, IO> Driven<C, IO> {
    pub fn new(connection: C, calls: Calls, io: Coalesced<IO>) -> Driven<C, IO> {
        Driven {
            connection: Box::pin(connection),
            bell: Bell::new(),
            calls,
            io,
            is_behind: false,
            stalled: None,
        }
    }

    /// The connection, to be told something: it is polled again.
    pub fn connection(&mut self) -> Pin<&mut C> {
        self.bell.ring();
        self.connection.as_mut()
    }

    /// Closes the connection; the calls that are left are dropped in turns.
    pub async fn dismiss(self) {
        let Driven {
            connection, calls, ..
        } = self;
        drop(connection);
        calls.dismiss().await;
    }
}

impl<C, IO, E> Driven<C, IO>
where
    C: Future<Output = Result<(), E>>,
    IO: AsyncRead + AsyncWrite + Unpin,
    E: From<io::Error>,
{
    fn turn(&mut self) -> Poll<Result<(), E>> {
        self.io.begin_turn(self.is_behind);
        let waker = self.bell.waker();
        let mut cx = Context::from_waker(&waker);
        let mut polled = self.poll_connection(&mut cx);
        if polled.is_pending() {
            self.calls.poll();
            // What they answered.
            polled = self.poll_connection(&mut cx);
        }
        if polled.is_ready() {
            // An orderly end has drained at its shutdown; after an error one try has to do.
            let _ = self.io.poll_drain(&mut cx);
            return polled;
        }
        self.poll_send(&mut cx)
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        if !self.bell.has_rung() {
            return Poll::Pending;
        }
        let polled = self.connection.as_mut().poll(cx);
        self.calls.take_in();
        polled
    }

    /// Sends what is gathered; ready only with an error.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        if !self.io.is_behind() {
            self.stalled = None;
            return Poll::Pending;
        }
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
        let this = &mut *self;
        this.bell.begin_turn(cx);
        this.calls.bell().begin_turn(cx);
        let polled = this.turn();
        let has_calls = this.calls.bell().end_turn();
        let has_more = this.bell.end_turn() || has_calls;
        this.is_behind = has_calls;
        if polled.is_pending() && has_more {
            // Woken once the others had their turn and sockets and timers were looked at.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        polled
    }
}
