//! One connection: which protocol it speaks, and serving it to its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;

use super::calls::{Begun, Calls};
use super::coalesced::Coalesced;
use super::driven::Driven;
use super::limits::{self, Limits};
use super::round::Round;
use super::upgrade::Granted;
use super::{Handler, PeerInfo, farewell};

/// How every HTTP/2 connection of a client begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How every TLS connection of a client begins: a record of its handshake. No HTTP begins so.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the client did not say which protocol it speaks in time")]
    Silent,
    #[error("the client speaks TLS, and this listener does not")]
    UnexpectedTls,
    #[error(transparent)]
    Handshake(#[from] super::tls::HandshakeError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Serves a connection until it ends, or for `shutdown_grace` after `stop` became true.
pub(super) async fn serve<IO, H>(
    mut io: IO,
    handler: H,
    peer: PeerInfo,
    round: Round,
    limits: &Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let sniffed = tokio::time::timeout(limits::FIRST_BYTES_TIMEOUT, read_first_bytes(&mut io));
    let (first, is_http2) = sniffed.await.map_err(|_| ConnectionError::Silent)??;
    if first.first() == Some(&TLS_HANDSHAKE) {
        Box::pin(farewell::close(io)).await;
        return Err(ConnectionError::UnexpectedTls);
    }
    let io = Coalesced::new(io, first, &round);
    if is_http2 {
        io.count_frames(PREFACE.len(), limits.ping_interval_min);
    }
    let last = io.clone();
    // What few connections come to is in boxes: the room that it takes would be every connection's.
    let served = if is_http2 {
        serve_http2(io, handler, peer, limits, stop).await
    } else {
        Box::pin(serve_http1(io, handler, peer, limits, stop)).await
    };
    if last.is_sent_away() {
        Box::pin(farewell::close(last)).await;
    }
    served
}

async fn serve_http2<IO, H>(
    io: Coalesced<IO>,
    handler: H,
    peer: PeerInfo,
    limits: &Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let service = hyper::service::service_fn(move |request| {
        let answer = handler.call(request, &peer);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let begun = Begun::default();
    let calls = Calls::new(begun.clone());
    let hyper_io = TokioIo::new(io.clone());
    let connection = http2_builder(limits, begun).serve_connection(hyper_io, service);
    let driven = Driven::new(Mapped(connection), calls, io);
    drive(driven, limits.shutdown_grace, stop).await
}

async fn serve_http1<IO, H>(
    io: Coalesced<IO>,
    handler: H,
    peer: PeerInfo,
    limits: &Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let granted = Granted::default();
    let looking = granted.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let asked = hyper::upgrade::on(&mut request);
        let answer = handler.call(request, &peer);
        let granted = looking.clone();
        async move {
            let mut answer = answer.await;
            granted.look(asked, &mut answer);
            Ok::<_, Infallible>(answer)
        }
    });
    let no_calls = || Calls::new(Begun::default());
    let hyper_io = TokioIo::new(io.clone());
    let connection = http1_builder().serve_connection(hyper_io, service);
    let mapped = Mapped(connection.with_upgrades());
    let driven = Driven::new(mapped, no_calls(), io.clone());
    drive(driven, limits.shutdown_grace, stop.clone()).await?;
    let Some(conversation) = granted.begin::<IO>().await else {
        return Ok(());
    };
    let driven = Driven::new(conversation, no_calls(), io.clone());
    let served = drive(driven, limits.shutdown_grace, stop).await;
    io.begin_turn(false);
    farewell::close(io).await;
    served
}

/// Reads until it is clear whether the HTTP/2 preface begins here. The bytes read are returned.
async fn read_first_bytes(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, bool)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() {
        let mut chunk = [0; PREFACE.len()];
        let room = PREFACE.len() - first.len();
        let read = io.read(&mut chunk[..room]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.extend_from_slice(&chunk[..read]);
        if !PREFACE.starts_with(&first) {
            return Ok((first, false));
        }
    }
    Ok((first, true))
}

fn http2_builder(limits: &Limits, calls: Begun) -> http2::Builder<Begun> {
    let mut builder = http2::Builder::new(calls);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_MAX)
        .max_header_list_size(limits::HEADER_LIST_MAX)
        .max_concurrent_streams(limits.streams_max)
        .max_send_buf_size(limits::SEND_BUFFER_MAX)
        .max_pending_accept_reset_streams(limits::PENDING_RESET_MAX)
        .max_local_error_reset_streams(limits::LOCAL_RESET_MAX)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::FIRST_BYTES_TIMEOUT)
        .max_buf_size(limits::HTTP1_BUFFER_MAX)
        // `Content-Type`, as Go writes it: scripts look for a header's name as etcd spells it.
        .title_case_headers(true)
        .keep_alive(true);
    builder
}

async fn drive<C, IO>(
    mut driven: Driven<C, IO>,
    grace: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    C: Connection,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let ended = tokio::select! {
        biased;
        ended = &mut driven => Some(ended),
        // An error means that the sender is gone, which is the end as well.
        _ = stop.wait_for(|stop| *stop) => None,
    };
    if let Some(ended) = ended {
        driven.dismiss().await;
        return ended;
    }
    driven.connection().begin_shutdown();
    tokio::time::timeout(grace, driven).await.unwrap_or(Ok(()))
}

/// What is served on a connection.
pub(super) trait Connection: Future<Output = Result<(), ConnectionError>> + Unpin {
    /// Says goodbye; calls under way are finished.
    fn begin_shutdown(self: Pin<&mut Self>);
}

/// One of hyper's connections.
struct Mapped<C>(C);

impl<IO, S, E> Connection for Mapped<http2::Connection<IO, S, E>>
where
    http2::Connection<IO, S, E>: Future<Output = hyper::Result<()>> + Unpin,
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn begin_shutdown(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

impl<IO, S> Connection for Mapped<http1::UpgradeableConnection<IO, S>>
where
    http1::UpgradeableConnection<IO, S>: Future<Output = hyper::Result<()>> + Unpin,
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn begin_shutdown(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

impl<C: Future<Output = hyper::Result<()>> + Unpin> Future for Mapped<C> {
    type Output = Result<(), ConnectionError>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map_err(ConnectionError::Http)
    }
}
