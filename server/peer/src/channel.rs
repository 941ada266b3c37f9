//! Calls over one connection, each with what the handshake says.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tonic::body::Body;

use super::handshake;
use super::link::Route;

/// A way to make calls over a connection. Clones share it.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) sender: SendRequest<Body>,
    /// Told of every answer.
    pub(super) answered: Arc<AtomicBool>,
    pub(super) route: Arc<Route>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel(to {})", self.route.target)
    }
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let route = &self.route;
        handshake::introduce(request.headers_mut(), &*route.directory, route.target);
        let answering = self.sender.send_request(request);
        let (answered, route) = (self.answered.clone(), self.route.clone());
        let noted = answering.inspect(move |result| {
            if result.is_ok() {
                answered.store(true, Ordering::Relaxed);
                route.activity.heard();
            }
        });
        noted.boxed()
    }
}
