//! A [`Connector`] and where it connects to, as tonic's clients open connections.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tower_service::Service;

use super::Connector;
use crate::config::ListenUrl;
use crate::stream::Stream;

/// The shortest time between two questions of a client whether its connection still is one: Go's
/// clients hold to it, and servers count on that.
pub const KEEPALIVE_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Opens connections to one URL, whatever URI the client names: that becomes its requests' authority
/// alone.
#[derive(Clone)]
pub struct Dial {
    connector: Connector,
    url: ListenUrl,
}

impl Dial {
    /// To `url`.
    pub fn new(connector: Connector, url: ListenUrl) -> Dial {
        Dial { connector, url }
    }
}

impl Service<http::Uri> for Dial {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.connector.connect(&dial.url).await.map(TokioIo::new) })
    }
}
