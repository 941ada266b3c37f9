//! A streaming call's answers, until something ends the call before its time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::error::Refusal;
use super::streams::{Answers, Outgoing};
use super::watch::Interruption;
use crate::net::Bell;

/// The answers, until the interruption. Ends with its answers: an interruption that never comes does not
/// keep it open. The interruption is polled when it wakes, and not with every answer.
pub(super) struct Until {
    answers: Answers,
    /// None at the end.
    interruption: Option<Interruption>,
    /// Rings when the interruption is to be polled.
    bell: Arc<Bell>,
}

impl Until {
    pub(super) fn new(answers: Answers, interruption: Interruption) -> Until {
        Until {
            answers,
            interruption: Some(interruption),
            bell: Bell::new(),
        }
    }

    fn poll_interruption(&mut self) -> Poll<Refusal> {
        let Some(interruption) = &mut self.interruption else {
            return Poll::Pending;
        };
        if !self.bell.has_rung() {
            return Poll::Pending;
        }
        let waker = self.bell.waker();
        interruption.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

impl Stream for Until {
    type Item = Result<Outgoing, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.bell.listen(cx);
        if let Poll::Ready(refusal) = self.poll_interruption() {
            self.interruption = None;
            return Poll::Ready(Some(Err(refusal)));
        }
        if self.interruption.is_none() {
            return Poll::Ready(None);
        }
        let polled = self.answers.as_mut().poll_next(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.interruption = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt};
    use futures_util::{FutureExt, future};
    use tokio::sync::oneshot;

    use super::*;
    use crate::codec::Frame;

    fn answer() -> Result<Outgoing, Refusal> {
        Ok(Outgoing::Frame(Frame::from(
            &engram_proto::etcdserverpb::DefragmentResponse::default(),
        )))
    }

    #[tokio::test]
    async fn it_ends_with_the_interruption_though_answers_are_to_come() {
        let (interrupt, interrupted) = oneshot::channel::<()>();
        let answers = stream::iter([answer()]).chain(stream::pending());
        let interruption = interrupted.map(|_| Refusal::NO_LEADER).boxed();
        let mut until = Until::new(answers.boxed(), interruption);
        assert!(until.next().await.is_some_and(|next| next.is_ok()));
        assert!(until.next().now_or_never().is_none());
        let (next, ()) = future::join(until.next(), async {
            interrupt.send(()).expect("it is waited for");
        })
        .await;
        assert!(matches!(next, Some(Err(refusal)) if refusal == Refusal::NO_LEADER));
        assert!(until.next().await.is_none());
    }

    #[tokio::test]
    async fn it_ends_with_its_answers_though_nothing_interrupts() {
        let answers = stream::iter([answer(), answer()]);
        let until = Until::new(answers.boxed(), future::pending().boxed());
        assert_eq!(until.count().await, 2);
    }
}
