//! The Watch call: the client's requests into the watch room, its frames out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engram_spans::Child;
use futures_util::stream;

use super::backend::Backend;
use super::caller::{Caller, Credentials};
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, next_request};
use super::{Edge, decode_streamed, spans};
use crate::codec::request;
use crate::types::auth::Identity;
use engram_watch::{Create, Request, WatchStream};

/// Spans of watches that a stream keeps.
const SPANS_MAX: usize = 4096;

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
    /// Who the credentials were last found to be: what a user may see goes on to be asked once a
    /// token has run out.
    user: Option<String>,
    /// The users by which the watches were last checked.
    checked: u64,
    /// Of each watcher, by its id, where the call has spans.
    spans: BTreeMap<i64, Child>,
}

impl<B: Backend> Edge<B> {
    pub(super) fn watch(self, requests: Requests, credentials: Credentials) -> Answers {
        let call = Call {
            watch: self.backend().watch(),
            requests,
            open: true,
            user: None,
            checked: self.backend().users_epoch(),
            edge: self,
            credentials,
            spans: BTreeMap::new(),
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
            let (edge, checked) = (&self.edge, self.checked);
            let changed = || edge.backend().users_epoch() != checked;
            if changed() {
                Box::pin(self.check_again()).await;
                continue;
            }
            let reads = self.open && self.watch.wants_requests();
            tokio::select! {
                frame = self.watch.next() => return Ok(Outgoing::Watch(frame)),
                message = next_request(&mut self.requests), if reads => match message? {
                    Some(message) => self.handle(message).await?,
                    None => self.open = false,
                },
                // Whoever changes users has the stream polled.
                () = until(changed) => {}
            }
        }
    }

    async fn handle(&mut self, message: Bytes) -> Result<(), Refusal> {
        let Some(mut request) = request::watch(decode_streamed(message)?) else {
            return Ok(());
        };
        if let Request::Create(create) = &mut request {
            let checked = self.check(create).await;
            create.denied = checked.err().map(|refusal| refusal.as_go_says_it());
        }
        if let Request::Cancel(watcher) = &request {
            self.spans.remove(watcher);
        }
        let said = match &request {
            Request::Create(create) if self.edge.has_spans() => Some(spans::watch(create)),
            _ => None,
        };
        // A watch that is refused has no span.
        if let (Some(watcher), Some(said)) = (self.watch.handle(request), said)
            && let Some(span) = self.edge.child_span(|| said)
        {
            // The server's own cancellations are not seen here: the oldest ends early.
            if self.spans.len() >= SPANS_MAX {
                self.spans.pop_first();
            }
            self.spans.insert(watcher, span);
        }
        Ok(())
    }

    /// Whether the credentials, as they count now, allow a watch.
    async fn check(&mut self, create: &Create) -> Result<(), Refusal> {
        let caller = self.edge.holder(&self.credentials).await?;
        if let Caller::Known(identity) = &caller {
            self.user = Some(identity.user.clone());
        }
        self.edge
            .check(&caller, |auth, by| auth.may_read(by, &create.range))
    }

    /// Ends the watches that users and roles, as they are now, do not allow any more.
    async fn check_again(&mut self) {
        // Before they are looked at, so that none of their changes is missed.
        self.checked = self.edge.backend().users_epoch();
        if self.user.is_none()
            && let Ok(Caller::Known(identity)) = self.edge.holder(&self.credentials).await
        {
            self.user = Some(identity.user);
        }
        let auth = self.edge.backend().auth();
        let by = match self.user.as_deref() {
            None | Some("") => Identity::default(),
            Some(user) => Identity {
                user: user.to_owned(),
                revision: auth.revision(),
            },
        };
        self.watch.retain(|range| {
            let refused = auth.may_read(&by, range).err()?;
            Some(Refusal::from(refused).as_go_says_it())
        });
    }
}

/// Ends once something is so; whoever waits is polled then.
async fn until(is_so: impl Fn() -> bool) {
    let poll = |_: &mut Context<'_>| match is_so() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    };
    std::future::poll_fn(poll).await;
}
