//! A call over a websocket, as browsers make them: what the client sends are the request's messages, and
//! what it is sent are the answer's lines, one a message. Any path of the gateway may be asked so; the
//! one that needs it is the watch, which is told more while it is under way.
//!
//! Source: `github.com/tmc/grpc-websocket-proxy`, as etcd's `server/embed/serve.go` sets it up; the
//! refusals are those of `github.com/gorilla/websocket`. The protocol is RFC 6455.

use std::convert::Infallible;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitStream, StreamExt, unfold};
use futures_util::{FutureExt, SinkExt};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, ORIGIN, REFERER,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame as HttpFrame;
use http_body_util::{BodyExt, StreamBody};
use sha1::{Digest, Sha1};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tonic::body::Body;

use super::answers;
use crate::backend::Backend;
use crate::budget::Charge;
use crate::charged::Memory;
use crate::error::Refusal;
use crate::net::{Io, PeerInfo, Session};
use crate::{Edge, http as plain};

/// A message that a client sends. It is held until it is whole, and charged to nobody.
const MESSAGE_MAX: usize = 128 << 10;
const READ_BUFFER: usize = 4 << 10;
/// An answer that takes more is charged while it is put together.
const CHARGED_MIN: usize = 128 << 10;
/// What a key is hashed with (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TOKEN_COOKIE: &str = "token";
const BEARER: &str = "Bearer";

type Socket = WebSocketStream<Box<dyn Io>>;

/// Whether a request asks for a websocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    names(headers, CONNECTION, "upgrade") && names(headers, UPGRADE, "websocket")
}

/// Whether a header that lists tokens lists this one.
fn names(headers: &HeaderMap, header: HeaderName, token: &str) -> bool {
    let texts = headers.get_all(header);
    let mut texts = texts.iter().filter_map(|value| value.to_str().ok());
    texts.any(|text| {
        let mut tokens = text.split(',').map(str::trim);
        tokens.any(|listed| listed.eq_ignore_ascii_case(token))
    })
}

/// Grants a request that [asks](is_asked) for a websocket, or says why not.
pub(super) fn open<B: Backend>(edge: Edge<B>, request: &Parts, peer: PeerInfo) -> Response<Body> {
    if request.method != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED);
    }
    let key = request.headers.get(SEC_WEBSOCKET_KEY).filter(|key| {
        let bytes = BASE64_STANDARD.decode(key.as_bytes());
        bytes.is_ok_and(|bytes| bytes.len() == 16)
    });
    let is_known = names(&request.headers, SEC_WEBSOCKET_VERSION, "13");
    let Some(key) = key.filter(|_| is_known) else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted(key));
    let protocol = request.headers.get(SEC_WEBSOCKET_PROTOCOL);
    if protocol.is_some_and(|named| named.as_bytes().starts_with(BEARER.as_bytes())) {
        let bearer = HeaderValue::from_static(BEARER);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, bearer);
    }
    let call = Call {
        edge,
        request: as_posted(request),
        peer,
    };
    answer
        .extensions_mut()
        .insert(Session::new(move |io, read| serve(call, io, read)));
    answer
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut answer = plain::error(status, status.canonical_reason().unwrap_or_default());
    let version = HeaderValue::from_static("13");
    answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
    answer
}

fn accepted(key: &HeaderValue) -> HeaderValue {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let text = BASE64_STANDARD.encode(hash);
    HeaderValue::from_str(&text).expect("base64 is fit for a header")
}

/// The request that the gateway is asked instead: a `POST` with who asks, and of the rest of the headers
/// only where the page comes from.
fn as_posted(request: &Parts) -> Parts {
    let (mut posted, ()) = Request::new(()).into_parts();
    posted.method = Method::POST;
    posted.uri = request.uri.clone();
    for name in [ORIGIN, REFERER] {
        if let Some(value) = request.headers.get(&name) {
            posted.headers.insert(name, value.clone());
        }
    }
    if let Some(token) = authorization(&request.headers) {
        posted.headers.insert(AUTHORIZATION, token);
    }
    posted
}

/// Who asks: a page can set no header, but name a protocol `Bearer, TOKEN`, or have a cookie.
fn authorization(headers: &HeaderMap) -> Option<HeaderValue> {
    let cookies = headers.get_all(COOKIE);
    let mut cookies = cookies
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let cookie = cookies.find(|(name, _)| *name == TOKEN_COOKIE);
    let token = match cookie {
        Some((_, value)) => value.trim_matches('"'),
        None => {
            let named = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
            named.split_once("Bearer,")?.1.trim_matches(' ')
        }
    };
    HeaderValue::from_str(&format!("{BEARER} {token}")).ok()
}

/// The call that a websocket is.
struct Call<B> {
    edge: Edge<B>,
    request: Parts,
    peer: PeerInfo,
}

/// Serves a websocket until its call or its client ends.
async fn serve<B: Backend>(call: Call<B>, io: Box<dyn Io>, read: Bytes) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let socket = Socket::from_partially_read(io, read.into(), Role::Server, Some(config)).await;
    let (mut sink, stream) = socket.split();
    let (sender, receiver) = mpsc::channel(1);
    let lines = Box::pin(call.lines(receiver));
    let answering = async {
        let mut lines = std::pin::pin!(lines.await);
        while let Some(line) = lines.next().await {
            let Ok(text) = line.try_into() else { return };
            if sink.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    };
    // Boxed: what is behind a call is large, and this is moved as it is.
    let answering = answering.boxed();
    futures_util::future::select(answering, read_all(stream, sender).boxed()).await;
    // Says goodbye, or answers the client's.
    let _ = sink.close().await;
}

/// Hands on what the client sends until it ends. Nobody may want it any more; the end is waited for.
async fn read_all(mut stream: SplitStream<Socket>, sender: mpsc::Sender<Bytes>) {
    while let Some(Ok(message)) = stream.next().await {
        let payload = match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            // The library answers pings.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        for part in [payload, Bytes::from_static(b"\n")] {
            let _ = sender.send(part).await;
        }
    }
}

impl<B: Backend> Call<B> {
    /// The lines of the answer to what comes.
    async fn lines(
        self,
        parts: mpsc::Receiver<Bytes>,
    ) -> impl futures_util::Stream<Item = Bytes> + Send {
        let frames = unfold(parts, |mut parts| async move {
            let part = parts.recv().await?;
            Some((Ok::<_, Infallible>(HttpFrame::data(part)), parts))
        });
        let body = StreamBody::new(frames.boxed());
        let memory = self.edge.memory(&self.peer);
        let answer = self.edge.gateway(&self.request, body, self.peer).await;
        unfold(Some(Lines::new(answer, memory)), |lines| async move {
            let mut lines = lines?;
            let line = lines.next().await?;
            Some((line, Some(lines)))
        })
    }
}

/// The lines of an answer's body. A stream's come each in a frame of its own; the one of a call that
/// has one has no end but the body's.
struct Lines {
    answer: Response<Body>,
    memory: Memory,
    charge: Option<Charge>,
    gathered: BytesMut,
}

impl Lines {
    fn new(answer: Response<Body>, memory: Memory) -> Lines {
        Lines {
            answer,
            memory,
            charge: None,
            gathered: BytesMut::new(),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Err(refusal) = self.charge().await {
            self.answer = Response::new(Body::empty());
            let refused = answers::failure(&refusal.into_status());
            return Some(refused.into_body().collect().await.ok()?.to_bytes());
        }
        while let Some(Ok(frame)) = self.answer.body_mut().frame().await {
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            let is_line = data.ends_with(b"\n");
            data.truncate(data.len() - usize::from(is_line));
            self.gathered.extend_from_slice(&data);
            if is_line && !self.gathered.is_empty() {
                return Some(self.gathered.split().freeze());
            }
        }
        let rest = self.gathered.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    /// Charges a whole answer that is large, once.
    async fn charge(&mut self) -> Result<(), Refusal> {
        let named = self.answer.headers_mut().remove(CONTENT_LENGTH);
        let len = named.and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
        let Some(len) = len.filter(|&len| len >= CHARGED_MIN) else {
            return Ok(());
        };
        let charge = self.memory.take(len).await;
        self.charge = Some(charge.map_err(|_| Refusal::OVERLOADED)?);
        self.gathered.reserve(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_websocket_is_asked_for_by_two_headers() {
        for (connection, upgrade, is_one) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("upgrade", "h2c", false),
        ] {
            let asked = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(is_asked(&asked), is_one, "{connection} {upgrade}");
        }
        assert!(!is_asked(&HeaderMap::new()));
    }

    #[test]
    fn a_key_is_accepted_as_in_rfc_6455() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accepted(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_page_says_who_asks_by_protocol_or_cookie() {
        let said = |pairs: &[_]| authorization(&headers(pairs));
        let protocol = ("sec-websocket-protocol", "Bearer, foo.1");
        assert_eq!(said(&[protocol]).unwrap(), "Bearer foo.1");
        let edge = ("sec-websocket-protocol", "Bearer,foo.1");
        assert_eq!(said(&[edge]).unwrap(), "Bearer foo.1");
        let cookie = ("cookie", "a=b; token=bar.2; c=d");
        assert_eq!(said(&[protocol, cookie]).unwrap(), "Bearer bar.2");
        assert_eq!(said(&[("sec-websocket-protocol", "etcd")]), None);
        assert_eq!(said(&[]), None);
    }
}
