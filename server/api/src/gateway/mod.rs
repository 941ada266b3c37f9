//! The JSON gateway: etcd's calls as HTTP `POST`s under `/v3/`. It only translates: JSON becomes the
//! gRPC request that a client would have sent, goes the way of all of them, and its answer becomes
//! JSON. So limits, metrics and who may call what hold for both alike.
//!
//! Source: `registerGateway` of etcd's `server/embed/serve.go`; grpc-gateway v2.

mod answers;
mod deadline;
mod duplicates;
#[cfg(any(test, feature = "fixtures"))]
pub(super) mod fixture;
mod json;
mod metadata;
mod overridden;
mod paths;
mod pieces;
mod requests;
mod slices;
mod websocket;

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::Frame as HttpFrame;
use http_body_util::{Full, StreamBody};
use tonic::body::Body;
use tonic::{Code, Status};

use super::backend::Backend;
use super::call_request::CallRequest;
use super::error::Refusal;
use super::{Edge, MESSAGE_OVERHEAD, RequestBody, mux, request_time};
use crate::net::PeerInfo;
use crate::threads;
use requests::Limits;

/// JSON of a message, in bytes of its protobuf at most: base64 takes a third more, names the rest.
const JSON_RATIO: usize = 2;
/// What is larger is translated on a thread for blocking work.
const BLOCKING_MIN: usize = 64 << 10;

/// Whether the gateway answers a path.
pub(super) fn answers(path: &str) -> bool {
    path == "/v3" || path.starts_with("/v3/") || path.starts_with("/v3beta/")
}

/// Does it on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = threads::spawn_blocking(work).await;
    done.unwrap_or(Err(Refusal::PANICKED))
}

impl<B: Backend> Edge<B> {
    /// Answers a request for a path that the gateway [`answers`].
    pub(super) async fn gateway<R: RequestBody>(
        &self,
        request: &Parts,
        body: R,
        peer: PeerInfo,
    ) -> Response<Body> {
        let path = match request.uri.path().strip_prefix("/v3beta/") {
            Some(rest) => Cow::Owned(format!("/v3/{rest}")),
            None => Cow::Borrowed(request.uri.path()),
        };
        if path == "/v3" {
            return mux::redirect(&request.method, "/v3/", request.uri.query());
        }
        if websocket::is_asked(&request.headers) {
            return websocket::open(self.clone(), request, peer);
        }
        let Some(method) = paths::find(&path) else {
            return answers::failure(&Status::new(Code::NotFound, "Not Found"));
        };
        let overridden = overridden::method(request);
        if *overridden.as_ref().unwrap_or(&request.method) != Method::POST {
            return answers::failure(&Status::new(Code::Unimplemented, "Method Not Allowed"));
        }
        let metadata = match metadata::of(&request.headers) {
            Ok(metadata) => metadata,
            Err(wrong) => return answers::failure(&Status::invalid_argument(wrong)),
        };
        let memory = self.memory(&peer);
        let limits = self.json_limits();
        let mut messages = requests::Messages::new(body, method.input(), limits, memory.clone());
        if overridden.is_some() {
            messages.leave_unread();
        }
        let body = match method.is_client_streaming() {
            true => Body::new(StreamBody::new(messages.all().map(|message| {
                let data = message.map(HttpFrame::data);
                data.map_err(Refusal::into_status)
            }))),
            false => match messages.only().await {
                Ok(message) => Body::new(Full::<Bytes>::new(message)),
                Err(refusal) => return answers::failure(&refusal.into_status()),
            },
        };
        let call = grpc_request(&paths::grpc(method), metadata, body);
        // Who asks is said by a token alone, as in etcd: a certificate's name is not believed here.
        let peer = PeerInfo {
            identity: None,
            ..peer
        };
        let answer = self.clone().grpc(CallRequest::new(call), peer).await;
        let messages = answers::Messages::new(answer, method.output(), memory);
        match method.is_server_streaming() {
            true => messages.all().await,
            false => messages.only().await,
        }
    }

    fn json_limits(&self) -> Limits {
        let max = self.config().max_request_bytes + MESSAGE_OVERHEAD;
        Limits {
            bytes: max.saturating_mul(JSON_RATIO),
            time: request_time(max),
        }
    }
}

/// What a gRPC client would have sent.
fn grpc_request(path: &str, metadata: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = path.parse().expect("names of calls make a path");
    *request.headers_mut() = metadata;
    request
}
