//! What comes in: JSON messages out of a body, each gathered up to a bound, charged, and due in time.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use tokio::time::Instant;

use super::json::{self, Seen, Splitter};
use super::{BLOCKING_MIN, blocking};
use crate::RequestBody;
use crate::budget::Charge;
use crate::charged::Memory;
use crate::codec::PREFIX_LEN;
use crate::error::Refusal;

/// What is less is not charged while it comes.
const CHARGED_MIN: usize = 32 << 10;
/// JSON, its texts, and protobuf: what a message takes while it is translated, in bodies. The tree that
/// it is meanwhile is charged by what it is made of.
const COPIES: usize = 3;

/// What a message may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Its JSON, bytes.
    pub(super) bytes: usize,
    /// From its first byte to its last.
    pub(super) time: Duration,
}

/// The messages of a request's body.
pub(super) struct Messages<R> {
    body: R,
    of: MessageDescriptor,
    limits: Limits,
    memory: Memory,
    charge: Option<Charge>,
    gathered: BytesMut,
    /// How much of it the splitter has seen.
    looked: usize,
    splitter: Splitter,
    due: Option<Instant>,
    ended: bool,
}

impl<R: RequestBody> Messages<R> {
    pub(super) fn new(body: R, of: MessageDescriptor, limits: Limits, memory: Memory) -> Self {
        Messages {
            body,
            of,
            limits,
            memory,
            charge: None,
            gathered: BytesMut::new(),
            looked: 0,
            splitter: Splitter::default(),
            due: None,
            ended: false,
        }
    }

    /// Takes the body for one without any message, whatever is in it.
    pub(super) fn leave_unread(&mut self) {
        self.ended = true;
    }

    /// The one message of a call that takes one, framed for gRPC. A body without any is the empty
    /// message; what follows the first one is not looked at, as in etcd.
    pub(super) async fn only(mut self) -> Result<Bytes, Refusal> {
        self.due = Some(Instant::now() + self.limits.time);
        let message = self.next().await?;
        Ok(message.unwrap_or_else(|| framed(&[])))
    }

    /// All of them, framed for gRPC, until the first that is none.
    pub(super) fn all(self) -> impl Stream<Item = Result<Bytes, Refusal>> {
        stream::unfold(Some(self), |messages| async move {
            let mut messages = messages?;
            match messages.next().await {
                Ok(message) => message.map(|message| (Ok(message), Some(messages))),
                Err(refusal) => Some((Err(refusal), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(json) = self.next_json().await? else {
            return Ok(None);
        };
        self.due = None;
        let tree = match self.splitter.tree_bytes() {
            bytes if bytes < CHARGED_MIN => None,
            bytes => Some(take(&self.memory, bytes).await?),
        };
        let (of, charge) = (self.of.clone(), (self.charge.take(), tree));
        let encode = move || {
            let message = json::encode(&json, of).map(|message| framed(&message));
            drop(charge);
            message
        };
        match self.looked < BLOCKING_MIN {
            true => encode().map(Some),
            false => blocking(encode).await.map(Some),
        }
    }

    /// The next message's JSON; also what cannot be one, for the parser to say why.
    async fn next_json(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.looked = 0;
        self.splitter = Splitter::default();
        loop {
            match self.splitter.look(&self.gathered[self.looked..]) {
                Seen::More => self.looked = self.gathered.len(),
                Seen::NoMessage => {
                    self.ended = true;
                    return Ok(Some(self.gathered.split().freeze()));
                }
                Seen::End(at) => {
                    self.looked += at;
                    return Ok(Some(self.gathered.split_to(self.looked).freeze()));
                }
            }
            if !self.splitter.is_inside() {
                // White space before a message.
                self.gathered.clear();
                self.looked = 0;
            }
            let Some(data) = self.receive().await? else {
                self.ended = true;
                return match self.gathered.is_empty() {
                    true => Ok(None),
                    false => Err(Refusal::JSON_BROKEN_OFF),
                };
            };
            self.gathered.put(data);
            let len = self.gathered.len();
            if len > self.limits.bytes {
                return Err(Refusal::message_too_large(len, self.limits.bytes));
            }
            self.charge().await?;
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Refusal> {
        while !self.ended {
            if self.splitter.is_inside() && self.due.is_none() {
                self.due = Some(Instant::now() + self.limits.time);
            }
            // Between messages the client of a stream may wait; a call's only one is due.
            let frame = async {
                match self.due {
                    None => Ok(self.body.frame().await),
                    Some(due) => tokio::time::timeout_at(due, self.body.frame()).await,
                }
            };
            match frame.await.map_err(|_| Refusal::REQUEST_NOT_SENT)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Refusal::unreadable_body(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Charges a large message once, by what its body may become.
    async fn charge(&mut self) -> Result<(), Refusal> {
        if self.charge.is_some() || self.gathered.len() < CHARGED_MIN {
            return Ok(());
        }
        let named = HttpBody::size_hint(&self.body).upper();
        let rest = named.and_then(|rest| usize::try_from(rest).ok());
        let whole = rest.map_or(self.limits.bytes, |rest| rest + self.gathered.len());
        let bytes = whole.min(self.limits.bytes).saturating_mul(COPIES);
        self.charge = Some(take(&self.memory, bytes).await?);
        Ok(())
    }
}

async fn take(memory: &Memory, bytes: usize) -> Result<Charge, Refusal> {
    let charge = memory.take(bytes).await;
    charge.map_err(|_| Refusal::OVERLOADED)
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX_LEN + message.len());
    out.put_u8(0);
    // Its JSON was bounded far below this.
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(message);
    out.freeze()
}
