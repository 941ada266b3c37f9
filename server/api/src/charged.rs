//! What the client of a streaming call has begun to send: a message is charged to the budget for
//! requests while it is not whole, and each must be whole in time, as a unary call's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame as HttpFrame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::error::Refusal;
use crate::budget::{Budget, Charge, Exhausted};
use crate::codec::PREFIX_LEN;

/// The memory for requests, as one connection may use it.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// Of all.
    pub(super) budget: Budget,
    /// What the connection has of it.
    pub(super) connection: Arc<AtomicUsize>,
}

impl Memory {
    /// Takes so many bytes.
    ///
    /// # Errors
    /// Too much is being received, from this connection or from all.
    pub(super) async fn take(&self, bytes: usize) -> Result<Charge, Exhausted> {
        self.budget.take_for(&self.connection, bytes).await
    }
}

/// What one message may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes. A larger one is refused by whoever reads it, and not charged.
    pub(super) bytes: usize,
    /// From its first byte to its last.
    pub(super) time: Duration,
}

/// A request's body.
pub(super) struct Charged<B> {
    body: B,
    memory: Memory,
    limits: Limits,
    message: Message,
    charge: Option<Charge>,
    /// Data that waits for a charge.
    waiting: Option<(BoxFuture<'static, Result<Charge, Exhausted>>, Bytes)>,
    /// When the message under way must be whole.
    late: Option<Pin<Box<Sleep>>>,
}

/// Where in the messages the body is.
#[derive(Default)]
struct Message {
    prefix: [u8; PREFIX_LEN],
    /// Bytes of the prefix that are there.
    prefix_len: usize,
    /// Bytes of the message that are to come, once the prefix is there.
    left: usize,
    /// Its bytes, once the prefix is there.
    len: usize,
    /// How many have begun.
    begun: u64,
}

impl Message {
    /// Goes on by what came.
    fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.is_between() {
                self.begun += 1;
            }
            if self.prefix_len < PREFIX_LEN {
                let taken = data.len().min(PREFIX_LEN - self.prefix_len);
                self.prefix[self.prefix_len..self.prefix_len + taken]
                    .copy_from_slice(&data[..taken]);
                self.prefix_len += taken;
                data = &data[taken..];
                if self.prefix_len < PREFIX_LEN {
                    return;
                }
                let [_, len @ ..] = self.prefix;
                self.len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
                self.left = self.len;
            }
            let taken = data.len().min(self.left);
            self.left -= taken;
            data = &data[taken..];
            if self.left == 0 {
                self.prefix_len = 0;
            }
        }
    }

    /// Whether none is under way.
    fn is_between(&self) -> bool {
        self.prefix_len == 0
    }

    /// The bytes of the one under way, where that is known.
    fn under_way(&self) -> usize {
        match self.prefix_len == PREFIX_LEN {
            true => self.len,
            false => 0,
        }
    }
}

impl<B> Charged<B> {
    pub(super) fn new(body: B, memory: Memory, limits: Limits) -> Charged<B> {
        Charged {
            body,
            memory,
            limits,
            message: Message::default(),
            charge: None,
            waiting: None,
            late: None,
        }
    }

    /// Takes note of what came. Whether it may be passed on at once.
    fn note(&mut self, data: &Bytes) -> bool {
        let before = self.message.begun;
        self.message.pass(data);
        let begins = self.message.begun != before;
        if begins || self.message.is_between() {
            self.charge = None;
            self.late = None;
        }
        if self.message.is_between() {
            return true;
        }
        if self.late.is_none() {
            self.late = Some(Box::pin(tokio::time::sleep(self.limits.time)));
        }
        let len = self.message.under_way();
        if self.charge.is_some() || !(1..=self.limits.bytes).contains(&len) {
            return true;
        }
        let memory = self.memory.clone();
        let taking = async move { memory.take(len).await }.boxed();
        self.waiting = Some((taking, data.clone()));
        false
    }

    /// The data that waited, once there is memory for its message.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let Some((taking, _)) = &mut self.waiting else {
            return Poll::Ready(None);
        };
        let taken = ready!(taking.as_mut().poll(cx));
        let data = self.waiting.take().map(|(_, data)| data);
        Poll::Ready(match taken {
            Ok(charge) => {
                self.charge = Some(charge);
                data.map(Ok)
            }
            Err(Exhausted) => Some(Err(Refusal::OVERLOADED.into_status())),
        })
    }
}

impl<B> Body for Charged<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, Status>>> {
        loop {
            if let Some(data) = ready!(self.poll_waiting(cx)) {
                return Poll::Ready(Some(data.map(HttpFrame::data)));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(Status::from_error(Box::new(error)))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let is_late = self.late.as_mut().map(|late| late.as_mut().poll(cx));
                    return match is_late {
                        Some(Poll::Ready(())) => {
                            Poll::Ready(Some(Err(Refusal::REQUEST_NOT_SENT.into_status())))
                        }
                        _ => Poll::Pending,
                    };
                }
            };
            let passes = frame.data_ref().is_none_or(|data| self.note(data));
            if passes {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tonic::Code;

    use super::*;

    const MIB: usize = 1 << 20;

    type Sent = Result<HttpFrame<Bytes>, Infallible>;

    /// A body that is sent by hand, of messages of at most 2 MiB in 50 ms, with a budget of 2 MiB.
    fn body() -> (
        mpsc::UnboundedSender<Sent>,
        Charged<impl Body<Data = Bytes, Error = Infallible> + Unpin>,
        Budget,
    ) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let sent = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let budget = Budget::new(2 << 20, 10, Duration::from_millis(20));
        let limits = Limits {
            bytes: 2 * MIB,
            time: Duration::from_millis(50),
        };
        let memory = Memory {
            budget: budget.clone(),
            connection: Arc::default(),
        };
        let body = Charged::new(StreamBody::new(sent), memory, limits);
        (sender, body, budget)
    }

    fn message(len: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(len).unwrap().to_be_bytes());
        bytes.resize(PREFIX_LEN + len, 7);
        bytes
    }

    fn send(sender: &mpsc::UnboundedSender<Sent>, bytes: &[u8]) {
        let data = Bytes::copy_from_slice(bytes);
        sender.send(Ok(HttpFrame::data(data))).unwrap();
    }

    async fn next<B>(body: &mut Charged<B>) -> Result<usize, Code>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let frame = body.frame().await.expect("it goes on");
        let data = frame.map(|frame| frame.into_data().expect("data"));
        data.map(|data| data.len()).map_err(|status| status.code())
    }

    #[tokio::test]
    async fn a_large_message_is_charged_from_its_beginning_to_its_end() {
        let (sender, mut body, budget) = body();
        let whole = message(MIB);
        for cut in [1, 4, 5, 6, 1000, MIB] {
            send(&sender, &whole[..cut]);
            next(&mut body).await.unwrap();
            let charged = if cut < PREFIX_LEN { 0 } else { MIB };
            assert_eq!(budget.taken_bytes(), charged, "{cut}");
            send(&sender, &whole[cut..]);
            next(&mut body).await.unwrap();
            assert_eq!(budget.taken_bytes(), 0, "it is whole");
        }
        send(&sender, &whole[..2000]);
        next(&mut body).await.unwrap();
        assert_eq!(budget.taken_bytes(), MIB);
        drop(body);
        assert_eq!(budget.taken_bytes(), 0, "the client has gone");
    }

    #[tokio::test]
    async fn what_is_whole_or_beyond_the_limit_is_not_charged() {
        let (sender, mut body, budget) = body();
        let mut many = message(0);
        many.extend(message(100));
        many.extend(message(2000));
        send(&sender, &many[..many.len() - 1]);
        assert_eq!(next(&mut body).await, Ok(many.len() - 1));
        assert_eq!(budget.taken_bytes(), 4 << 10, "the last, rounded up");
        send(&sender, &many[many.len() - 1..]);
        next(&mut body).await.unwrap();
        assert_eq!(budget.taken_bytes(), 0);
        // Whoever reads refuses it by its prefix.
        send(&sender, &message(3 * MIB)[..100]);
        assert_eq!(next(&mut body).await, Ok(100));
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[tokio::test]
    async fn what_there_is_no_memory_for_is_refused() {
        let (sender, mut body, budget) = body();
        let others = budget.try_take(2 * MIB).unwrap();
        send(&sender, &message(MIB)[..100]);
        assert_eq!(next(&mut body).await, Err(Code::ResourceExhausted));
        drop(others);
    }

    #[tokio::test]
    async fn a_message_that_does_not_come_is_not_waited_for() {
        for begun in [1, 5, 100, 40_000] {
            let (sender, mut body, budget) = body();
            // Between messages there is time.
            send(&sender, &message(10));
            next(&mut body).await.unwrap();
            tokio::time::sleep(Duration::from_millis(70)).await;
            send(&sender, &message(100_000)[..begun]);
            assert_eq!(next(&mut body).await, Ok(begun));
            assert_eq!(next(&mut body).await, Err(Code::DeadlineExceeded));
            drop(body);
            assert_eq!(budget.taken_bytes(), 0);
        }
    }
}
