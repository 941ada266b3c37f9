//! What goes out: gRPC's answers as JSON, whole or message by message.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body::Frame as HttpFrame;
use http_body_util::{BodyExt, Full, StreamBody};
use prost_reflect::MessageDescriptor;
use tonic::body::Body;
use tonic::{Code, Status};

use super::json;
use super::slices;
use super::{BLOCKING_MIN, blocking};
use crate::budget::Charge;
use crate::charged::Memory;
use crate::codec::PREFIX_LEN;
use crate::error::Refusal;

/// A message that takes more is charged to the budget until the client has it.
const CHARGED_MIN: usize = 128 << 10;
/// Protobuf and JSON, which is five times it where keys and values are smallest: what it takes while
/// it is translated, in messages.
const COPIES: usize = 6;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Tells what gRPC's answer was, where there was one.
const FROM_GRPC: &str = "grpc-metadata-content-type";
/// nginx's status for a client that has gone, which the gateway answers for a cancelled call.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The messages of gRPC's answer.
pub(super) struct Messages {
    response: Response<Body>,
    of: MessageDescriptor,
    memory: Memory,
    gathered: BytesMut,
    /// Not looked at yet, or of no consequence.
    head: bool,
}

/// What is written around a message.
#[derive(Clone, Copy)]
struct Around(&'static [u8], &'static [u8]);

impl Messages {
    pub(super) fn new(response: Response<Body>, of: MessageDescriptor, memory: Memory) -> Messages {
        Messages {
            response,
            of,
            memory,
            gathered: BytesMut::new(),
            head: true,
        }
    }

    /// The answer of a call that has one.
    pub(super) async fn only(mut self) -> Response<Body> {
        match self.next(Around(b"", b"")).await {
            Ok(Some((json, charge))) => {
                let len = HeaderValue::from(json.len());
                let mut response = success(slices::body(json, charge));
                response.headers_mut().insert(CONTENT_LENGTH, len);
                response
            }
            Ok(None) => failure(&Status::internal("the call ended without an answer")),
            Err(status) => failure(&status),
        }
    }

    /// The answer of a stream: a line a message, and one for the error that ends it. Its head waits
    /// for the first, which decides its status.
    pub(super) async fn all(mut self) -> Response<Body> {
        let first = self.next_line().await;
        let refused = first.as_ref().err().map(Status::code);
        let lines = futures_util::stream::unfold(Some((Some(first), self)), |state| async move {
            let (first, mut messages) = state?;
            let line = match first {
                Some(first) => first,
                None => messages.next_line().await,
            };
            match line {
                Ok(line) => Some((line?, Some((None, messages)))),
                Err(status) => Some((error_line(&status), None)),
            }
        });
        let frames = futures_util::StreamExt::map(lines, |line| {
            Ok::<_, std::convert::Infallible>(HttpFrame::data(line))
        });
        let mut response = success(Body::new(StreamBody::new(frames)));
        if let Some(code) = refused {
            *response.status_mut() = http_status(code);
            response.headers_mut().remove(FROM_GRPC);
        }
        response
    }

    async fn next_line(&mut self) -> Result<Option<Bytes>, Status> {
        // As gRPC's, an answer of a stream is not charged while it goes: there is one at a time.
        let line = self.next(Around(b"{\"result\":", b"}\n")).await?;
        Ok(line.map(|(line, _)| line))
    }

    /// The next message as JSON.
    async fn next(&mut self, around: Around) -> Result<Option<(Bytes, Option<Charge>)>, Status> {
        let Some((message, charge)) = self.receive().await? else {
            return Ok(None);
        };
        let len = message.len();
        let of = self.of.clone();
        let translate = move || {
            let mut out = Vec::with_capacity(len + len / 2);
            out.extend_from_slice(around.0);
            json::decode(message, of, &mut out)?;
            out.extend_from_slice(around.1);
            Ok((Bytes::from(out), charge))
        };
        let json: Result<_, Refusal> = match len < BLOCKING_MIN {
            true => translate(),
            false => blocking(translate).await,
        };
        json.map(Some).map_err(Refusal::into_status)
    }

    async fn receive(&mut self) -> Result<Option<(Bytes, Option<Charge>)>, Status> {
        if std::mem::take(&mut self.head) {
            of_headers(self.response.headers())?;
        }
        let mut charge = None;
        loop {
            if let Some(mut prefix) = self.gathered.get(..PREFIX_LEN) {
                // Answers are not compressed.
                prefix.advance(1);
                let len = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
                if self.gathered.len() - PREFIX_LEN >= len {
                    self.gathered.advance(PREFIX_LEN);
                    return Ok(Some((self.gathered.split_to(len).freeze(), charge)));
                }
                if charge.is_none() && len >= CHARGED_MIN {
                    let taken = self.memory.take(len.saturating_mul(COPIES)).await;
                    charge = Some(taken.map_err(|_| Refusal::OVERLOADED.into_status())?);
                    self.gathered.reserve(PREFIX_LEN + len);
                }
            }
            let Some(frame) = self.response.body_mut().frame().await else {
                return Ok(None);
            };
            match frame?.into_data() {
                Ok(data) => self.gathered.extend_from_slice(&data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        of_headers(&trailers)?;
                    }
                }
            }
        }
    }
}

/// The status that headers or trailers say, where it is an error.
fn of_headers(headers: &http::HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

fn success(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    let grpc = HeaderValue::from_static("application/grpc");
    headers.insert(FROM_GRPC, grpc);
    response
}

/// The answer of a call that is refused.
pub(super) fn failure(status: &Status) -> Response<Body> {
    let body = Full::new(Bytes::from(error_json(status).to_string()));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = http_status(status.code());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    if status.code() == Code::Unauthenticated {
        let message = HeaderValue::from_str(status.message());
        let message = message.unwrap_or(HeaderValue::from_static("Bearer"));
        response.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    response
}

fn error_json(status: &Status) -> serde_json::Value {
    serde_json::json!({ "code": i32::from(status.code()), "message": status.message() })
}

fn error_line(status: &Status) -> Bytes {
    format!("{}\n", serde_json::json!({ "error": error_json(status) })).into()
}

/// As grpc-gateway's `HTTPStatusFromCode`.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
