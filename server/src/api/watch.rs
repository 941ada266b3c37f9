//! The Watch call: the client's requests into the watch room, its frames out.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream;

use super::backend::Backend;
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, next_request};
use super::{Edge, decode};
use crate::codec::request;
use crate::watch::WatchStream;

/// Ends with the refusal that ends the stream.
pub(super) type Interruption = Pin<Box<dyn Future<Output = Refusal> + Send>>;

struct Call {
    watch: WatchStream,
    requests: Requests,
    /// Whether the client may send more. One that has finished sending goes on receiving, as in
    /// etcd, until it goes away.
    open: bool,
}

impl<B: Backend> Edge<B> {
    pub(super) fn watch(self, requests: Requests) -> Answers {
        let call = Call {
            watch: self.backend().watch(),
            requests,
            open: true,
        };
        Box::pin(stream::unfold(Some(call), |call| async move {
            let mut call = call?;
            match call.next().await {
                Ok(frame) => Some((Ok(frame), Some(call))),
                Err(refusal) => Some((Err(refusal), None)),
            }
        }))
    }
}

impl Call {
    async fn next(&mut self) -> Result<Outgoing, Refusal> {
        loop {
            let reads = self.open && self.watch.wants_requests();
            tokio::select! {
                frame = self.watch.next() => return Ok(Outgoing::Watch(frame)),
                message = next_request(&mut self.requests), if reads => match message? {
                    Some(message) => self.handle(message)?,
                    None => self.open = false,
                },
            }
        }
    }

    fn handle(&mut self, message: Bytes) -> Result<(), Refusal> {
        if let Some(request) = request::watch(decode(message)?) {
            self.watch.handle(request);
        }
        Ok(())
    }
}
