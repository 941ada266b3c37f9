//! What is left of a request over HTTP/2 whose answer did not wait for it. It is taken for a while: where
//! the stream is reset together with the answer, some clients (curl 7) take the answer for a broken one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http_body::{Body, Frame, SizeHint};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use tokio::runtime::Handle;

use super::RequestBody;

/// How much is taken, and for how long; then the stream is reset. A stream counts as one of its
/// connection's until then.
const BYTES_MAX: usize = 1 << 20;
const TIME_MAX: Duration = Duration::from_secs(1);

/// A request's body; dropped before its end, its rest is taken.
pub struct Rest<R: RequestBody>(Option<R>);

impl<R: RequestBody> Rest<R> {
    /// The body of a request.
    pub fn of(body: R) -> Rest<R> {
        Rest(Some(body))
    }
}

impl<R: RequestBody> Body for Rest<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<R: RequestBody> Drop for Rest<R> {
    fn drop(&mut self) {
        let left = self.0.take().filter(|body| !body.is_end_stream());
        // A connection that ends takes what is left with it.
        let (Some(left), Ok(here)) = (left, Handle::try_current()) else {
            return;
        };
        here.spawn(async move {
            let mut left = Limited::new(left, BYTES_MAX);
            let taking = async { while let Some(Ok(_)) = left.frame().await {} };
            // One that takes longer is reset.
            let _ = tokio::time::timeout(TIME_MAX, taking).await;
        });
    }
}
