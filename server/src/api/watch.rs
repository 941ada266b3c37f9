//! The Watch call: the client's requests into the watch room, its frames out.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream;

use super::backend::Backend;
use super::caller::Credentials;
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, next_request};
use super::{Edge, decode};
use crate::codec::request;
use crate::watch::{Create, Request, WatchStream};

/// Ends with the refusal that ends the stream.
pub(super) type Interruption = Pin<Box<dyn Future<Output = Refusal> + Send>>;

struct Call<B> {
    edge: Edge<B>,
    credentials: Credentials,
    watch: WatchStream,
    requests: Requests,
    /// Whether the client may send more. One that has finished sending goes on receiving, as in
    /// etcd, until it goes away.
    open: bool,
}

impl<B: Backend> Edge<B> {
    pub(super) fn watch(self, requests: Requests, credentials: Credentials) -> Answers {
        let call = Call {
            watch: self.backend().watch(),
            requests,
            open: true,
            edge: self,
            credentials,
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

impl<B: Backend> Call<B> {
    async fn next(&mut self) -> Result<Outgoing, Refusal> {
        loop {
            let reads = self.open && self.watch.wants_requests();
            tokio::select! {
                frame = self.watch.next() => return Ok(Outgoing::Watch(frame)),
                message = next_request(&mut self.requests), if reads => match message? {
                    Some(message) => self.handle(message).await?,
                    None => self.open = false,
                },
            }
        }
    }

    async fn handle(&mut self, message: Bytes) -> Result<(), Refusal> {
        let Some(mut request) = request::watch(decode(message)?) else {
            return Ok(());
        };
        if let Request::Create(create) = &mut request {
            let checked = check(&self.edge, &self.credentials, create).await;
            create.denied = checked.err().map(|refusal| refusal.as_go_says_it());
        }
        self.watch.handle(request);
        Ok(())
    }
}

/// Whether credentials, as they count now, allow a watch.
async fn check<B: Backend>(
    edge: &Edge<B>,
    credentials: &Credentials,
    create: &Create,
) -> Result<(), Refusal> {
    let caller = edge.holder(credentials).await?;
    edge.check(&caller, |auth, by| auth.may_read(by, &create.range))
}
