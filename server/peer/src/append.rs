//! The sending side of an append stream: requests go out as they come, answers come back in order,
//! and what is unanswered is bounded.
//!
//! The requests are read where the connection has room for them, so the bound is kept where they
//! are read: a full window pauses the reading until an answer comes. When the answers are dropped,
//! the requests are dropped in the same moment: openraft hands the source of them to its next
//! stream, and two readers would tear the log's order apart.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::message::{AppendRequest, AppendResponse, append_response};
use super::{CallError, limits};

/// What both directions know.
struct Flow {
    /// Where requests come from; none once they have ended or nobody waits for answers any more.
    source: Option<BoxStream<'static, AppendRequest>>,
    /// The sizes of what is unanswered, oldest first.
    unanswered: VecDeque<usize>,
    unanswered_bytes: usize,
    /// When the oldest unanswered request was sent, or the last answer came.
    progress: Instant,
    /// The reader of the requests, where it waits.
    reader: Option<Waker>,
}

impl Flow {
    fn is_full(&self) -> bool {
        self.unanswered.len() >= limits::UNANSWERED_MAX
            || self.unanswered_bytes >= limits::UNANSWERED_BYTES_MAX
    }

    fn sent(&mut self, bytes: usize) {
        if self.unanswered.is_empty() {
            self.progress = Instant::now();
        }
        self.unanswered.push_back(bytes);
        self.unanswered_bytes += bytes;
    }

    /// Takes note of an answer. False: nothing was asked.
    fn answered(&mut self) -> bool {
        let Some(bytes) = self.unanswered.pop_front() else {
            return false;
        };
        self.unanswered_bytes -= bytes;
        self.progress = Instant::now();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        true
    }

    /// Whether the oldest unanswered request has waited longer than `limit` and what its bytes take.
    fn is_stalled(&self, limit: Duration) -> bool {
        let Some(oldest) = self.unanswered.front() else {
            return false;
        };
        let megabytes = u32::try_from(oldest >> 20).unwrap_or(u32::MAX);
        self.progress.elapsed() >= limit + limits::MEGABYTE_STALL * megabytes
    }

    /// Whether everything was sent and answered.
    fn is_complete(&self) -> bool {
        self.source.is_none() && self.unanswered.is_empty()
    }
}

/// The requests, as the connection reads them.
pub(super) struct Requests(Arc<Mutex<Flow>>);

impl Requests {
    pub(super) fn new(source: BoxStream<'static, AppendRequest>) -> Requests {
        Requests(Arc::new(Mutex::new(Flow {
            source: Some(source),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            progress: Instant::now(),
            reader: None,
        })))
    }

    /// What will take the answers. Dropped, it ends the requests.
    pub(super) fn guard(&self) -> FlowGuard {
        FlowGuard(self.0.clone())
    }
}

impl Stream for Requests {
    type Item = AppendRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
        let mut flow = self.0.lock();
        if !flow.is_full() {
            let Some(source) = flow.source.as_mut() else {
                return Poll::Ready(None);
            };
            match source.as_mut().poll_next(cx) {
                Poll::Ready(Some(request)) => {
                    flow.sent(request.encoded_len());
                    return Poll::Ready(Some(request));
                }
                Poll::Ready(None) => {
                    flow.source = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
        }
        flow.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Ends the requests when it goes.
pub(super) struct FlowGuard(Arc<Mutex<Flow>>);

impl Drop for FlowGuard {
    fn drop(&mut self) {
        let mut flow = self.0.lock();
        let source = flow.source.take();
        let reader = flow.reader.take();
        drop(flow);
        drop(source);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The answers of an append stream.
pub struct Appending {
    answers: Streaming<AppendResponse>,
    flow: FlowGuard,
    stall: Duration,
}

impl Appending {
    pub(super) fn new(answers: Streaming<AppendResponse>, flow: FlowGuard) -> Appending {
        Appending {
            answers,
            flow,
            stall: limits::ANSWER_STALL_MAX,
        }
    }

    /// The next answer. None once the requests have ended and all are answered, or the peer ended
    /// the stream with a conflict or a higher vote.
    ///
    /// # Errors
    /// The stream broke, or nothing moved for too long.
    pub async fn next(&mut self) -> Option<Result<AppendResponse, CallError>> {
        loop {
            let message = tokio::time::timeout(self.stall, self.answers.message()).await;
            let mut flow = self.flow.0.lock();
            return match message {
                Ok(Ok(Some(answer))) if flow.answered() => Some(Ok(answer)),
                Ok(Ok(Some(_))) => Some(Err(CallError::Broken("an answer to nothing".into()))),
                Ok(Ok(None)) if flow.is_complete() => None,
                Ok(Ok(None)) => Some(Err(CallError::Broken("the answers ended early".into()))),
                Ok(Err(status)) => Some(Err(CallError::from_status(&status))),
                Err(_) if flow.is_stalled(self.stall) => Some(Err(CallError::TimedOut(self.stall))),
                // Nothing is asked, or what is asked was asked a moment ago.
                Err(_) => continue,
            };
        }
    }
}

/// An append stream of which one request at a time is made: heartbeats, which go over one stream
/// for as long as it lasts. To give up waiting is to drop it.
pub struct AppendTurns {
    requests: mpsc::Sender<AppendRequest>,
    answers: Appending,
}

impl AppendTurns {
    pub(super) fn new(requests: mpsc::Sender<AppendRequest>, answers: Appending) -> AppendTurns {
        AppendTurns { requests, answers }
    }

    /// Sends a request and waits for its answer. The stream is handed back where it can be used
    /// again.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn turn(
        mut self,
        request: AppendRequest,
    ) -> Result<(AppendResponse, Option<AppendTurns>), CallError> {
        let broken = || CallError::Broken("the append stream ended".into());
        self.requests.send(request).await.map_err(|_| broken())?;
        let answer = self.answers.next().await.ok_or_else(broken)??;
        let goes_on = matches!(answer.result, Some(append_response::Result::Matched(_)));
        Ok((answer, goes_on.then_some(self)))
    }
}
