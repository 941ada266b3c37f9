//! Streaming calls, through tonic: its framing with our codec, which passes encoded bytes through.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use engram_spans::Call;
use futures_util::Stream;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::server::StreamingService;
use tonic::{Code, Request, Response, Status};

use super::decode_streamed;
use super::durations::Started;
use super::error::Refusal;
use super::metrics::Metrics;
use super::spans;
use crate::budget;
use crate::codec::{Frame, MESSAGE_BYTES_MAX};
use crate::threads::catch_for_caller;
use engram_watch::WatchFrame;

/// One message on its way out.
pub(super) enum Outgoing {
    /// Made by `codec`.
    Frame(Frame),
    /// Made by the watch hub.
    Watch(WatchFrame),
}

/// The messages of a call, until its end or the refusal that ends it.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<Outgoing, Refusal>> + Send>>;

/// What the client sends.
pub(super) type Requests = Streaming<Bytes>;

/// The next request of a stream; none when the client has finished sending.
pub(super) async fn next_request(requests: &mut Requests) -> Result<Option<Bytes>, Refusal> {
    requests
        .message()
        .await
        .map_err(|status| Refusal::of_stream(&status))
}

/// The one request of a call that is answered by a stream.
pub(super) async fn only_request<M: prost::Message + Default>(
    requests: &mut Requests,
) -> Result<M, Refusal> {
    let message = next_request(requests).await?;
    decode_streamed(message.ok_or(Refusal::NO_REQUEST)?)
}

/// Our codec: bytes in, bytes out. Counts messages.
#[derive(Clone)]
pub(super) struct ByteCodec {
    pub(super) metrics: Arc<Metrics>,
    pub(super) row: usize,
}

impl Codec for ByteCodec {
    type Encode = Outgoing;
    type Decode = Bytes;
    type Encoder = ByteCodec;
    type Decoder = ByteCodec;

    fn encoder(&mut self) -> ByteCodec {
        self.clone()
    }

    fn decoder(&mut self) -> ByteCodec {
        self.clone()
    }
}

/// Requests are small and answers are batched up to this before they go to the connection.
const YIELD_BYTES: usize = 32 << 10;
/// What a stream holds for its answers and its requests even while it is idle, as most of a cluster's
/// watches are: some answers, one small request. Larger ones have it grow.
const ANSWER_BUFFER_BYTES: usize = 1 << 10;
/// By how much at least it grows: where one answer is large, others are.
const ANSWER_BUFFER_GROWTH: usize = 4 << 10;
const REQUEST_BUFFER_BYTES: usize = 256;

impl Encoder for ByteCodec {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let len = match &item {
            Outgoing::Frame(frame) => frame.message_len(),
            Outgoing::Watch(frame) => frame.encoded_len(),
        };
        if len > MESSAGE_BYTES_MAX {
            return Err(Refusal::answer_too_large(len).into_status());
        }
        self.metrics.sent(self.row, len);
        // (What remains to it is what memory there is.)
        if out.chunk_mut().len() < len {
            out.reserve(len.max(ANSWER_BUFFER_GROWTH));
        }
        match item {
            Outgoing::Frame(frame) => frame
                .message_pieces()
                .for_each(|piece| out.put_slice(piece)),
            Outgoing::Watch(frame) => frame.write_to(out),
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ANSWER_BUFFER_BYTES, YIELD_BYTES)
    }
}

impl Decoder for ByteCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = source.remaining();
        self.metrics.received(self.row, len);
        Ok(Some(source.copy_to_bytes(len)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(REQUEST_BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Opens a call's answers, given what the client sends.
pub(super) type Open = Box<dyn FnOnce(Requests) -> Answers + Send>;

/// Makes tonic's service of a function that is called once.
pub(super) struct Once {
    pub(super) open: Option<Open>,
    pub(super) call: Option<budget::Counted>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) row: usize,
    pub(super) started: Started,
    pub(super) span: Option<Arc<Call>>,
}

impl StreamingService<Bytes> for Once {
    type Response = Outgoing;
    type ResponseStream = Counted;
    type Future = Ready<Result<Response<Counted>, Status>>;

    fn call(&mut self, request: Request<Requests>) -> Self::Future {
        let open = self
            .open
            .take()
            .expect("tonic calls a streaming service once a request");
        let answers = open(request.into_inner());
        let counted = Counted {
            answers,
            metrics: Arc::clone(&self.metrics),
            row: self.row,
            started: self.started,
            ended: None,
            span: self.span.take(),
            _call: self.call.take(),
        };
        ready(Ok(Response::new(counted)))
    }
}

/// A call's answers, which tells the metrics how it ended.
pub(super) struct Counted {
    answers: Answers,
    metrics: Arc<Metrics>,
    row: usize,
    started: Started,
    ended: Option<Code>,
    span: Option<Arc<Call>>,
    _call: Option<budget::Counted>,
}

impl Counted {
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Outgoing, Refusal>>> {
        let answers = &mut self.answers;
        let mut poll = || catch_for_caller(|| answers.as_mut().poll_next(cx));
        let polled = match &self.span {
            None => poll(),
            Some(span) => engram_spans::within_now(span, poll),
        };
        polled.unwrap_or(Poll::Ready(Some(Err(Refusal::PANICKED))))
    }

    fn end(&mut self, ended: Result<(), &Refusal>) {
        self.ended = Some(ended.map_or_else(Refusal::code, |()| Code::Ok));
        if let Some(span) = &self.span {
            spans::end(span, ended);
        }
    }
}

impl Stream for Counted {
    type Item = Result<Outgoing, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        let polled = self.poll_answers(cx);
        polled.map(|next| match next {
            None => {
                self.end(Ok(()));
                None
            }
            Some(Err(refusal)) => {
                self.end(Err(&refusal));
                Some(Err(refusal.into_status()))
            }
            Some(Ok(outgoing)) => Some(Ok(outgoing)),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Dropped before its end: the client has gone.
        self.metrics
            .handled(self.row, self.ended.unwrap_or(Code::Cancelled));
        self.metrics.timed(self.row, self.started);
    }
}
