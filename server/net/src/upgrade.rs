//! What becomes of an HTTP/1.1 connection whose client asked for another protocol and was granted it:
//! a handler's answer carries a [`Session`], to which the connection is handed once that answer has left.
//! It has its turns, its bounds and its one send a turn like any other ([`super::driven`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::coalesced::Coalesced;
use super::connection::{Connection, ConnectionError};

/// The connection, of whatever kind it is.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Io for IO {}

/// Takes the connection, and what was read of it already.
type Begin = Box<dyn FnOnce(Box<dyn Io>, Bytes) -> BoxFuture<'static, ()> + Send>;

/// What goes on on a connection after an answer of status 101, as an extension of that answer. Flushing
/// it does nothing: what was written leaves at the end of each turn.
#[derive(Clone)]
pub struct Session(Arc<Mutex<Option<Begin>>>);

impl Session {
    /// `begin` makes what serves the connection to its end.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        begin: impl FnOnce(Box<dyn Io>, Bytes) -> F + Send + 'static,
    ) -> Session {
        let begin: Begin = Box::new(move |io, read| Box::pin(begin(io, read)));
        Session(Arc::new(Mutex::new(Some(begin))))
    }
}

/// Where a connection finds the session that one of its answers carried.
#[derive(Clone, Default)]
pub(super) struct Granted(Arc<Mutex<Option<(OnUpgrade, Session)>>>);

impl Granted {
    /// Keeps an answer's session, if it has one.
    pub fn look<B>(&self, asked: OnUpgrade, answer: &mut Response<B>) {
        if let Some(session) = answer.extensions_mut().remove::<Session>() {
            *self.0.lock() = Some((asked, session));
        }
    }

    /// The session, begun; for when HTTP has ended on the connection.
    pub async fn begin<IO>(self) -> Option<Conversation>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (asked, session) = self.0.lock().take()?;
        let parts = asked
            .await
            .ok()?
            .downcast::<TokioIo<Coalesced<IO>>>()
            .ok()?;
        let begin = session.0.lock().take()?;
        let io = Box::new(parts.io.into_inner());
        Some(Conversation(begin(io, parts.read_buf)))
    }
}

/// A session under way.
pub(super) struct Conversation(BoxFuture<'static, ()>);

impl Future for Conversation {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl Connection for Conversation {
    /// What it waits for ends with the server; it says so itself.
    fn begin_shutdown(self: Pin<&mut Self>) {}
}
