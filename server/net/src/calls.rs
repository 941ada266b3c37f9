//! The calls of one connection. They run in the connection's own task, so that a connection is one of
//! those that take turns on its thread, however many calls it has: tasks of their own would stand in the
//! thread's queue one by one, and a client with ten thousand calls would have ten thousand turns for each
//! of another's.
//!
//! Invariant: a turn polls at most [`POLLS_A_TURN`] calls; who was not polled is polled in the next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::rt::Executor;
use parking_lot::Mutex;

use super::bell::Bell;
use crate::threads::ForCaller;

/// How many calls are polled in a turn: some hundreds of microseconds, mostly.
const POLLS_A_TURN: usize = 128;
/// How many are dropped in a turn when the connection has ended.
const DROPS_A_TURN: usize = 128;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where hyper puts the calls that it begins. A panic in one is that call's end.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Call>>>);

impl<F> Executor<F> for Begun
where
    F: Future + Send + 'static,
{
    fn execute(&self, call: F) {
        // What panicked is in the log; the call's stream is reset by it.
        self.0.lock().push(Box::pin(ForCaller::new(call).map(drop)));
    }
}

/// See the module.
pub(super) struct Calls {
    begun: Begun,
    open: FuturesUnordered<InTurn>,
    /// How many may still be polled in this turn.
    left: Arc<AtomicUsize>,
    bell: Arc<Bell>,
}

impl Calls {
    /// Those that hyper puts into `begun`.
    pub fn new(begun: Begun) -> Calls {
        Calls {
            begun,
            open: FuturesUnordered::new(),
            left: Arc::default(),
            bell: Bell::new(),
        }
    }

    /// Rings when one of them is to be polled.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Takes in what hyper has begun, to be polled.
    pub fn take_in(&mut self) {
        let mut begun = self.begun.0.lock();
        if begun.is_empty() {
            return;
        }
        for call in begun.drain(..) {
            let left = Arc::clone(&self.left);
            self.open.push(InTurn { call, left });
        }
        self.bell.ring();
    }

    /// Polls those that were woken, as many as a turn may. The bell has rung again if there are more.
    pub fn poll(&mut self) {
        self.left.store(POLLS_A_TURN, Ordering::Relaxed);
        let waker = self.bell.waker();
        let mut cx = Context::from_waker(&waker);
        // A set that has polled all it has wakes its own task, for nothing; asked again it says so.
        while self.left.load(Ordering::Relaxed) > 0 && self.bell.has_rung() {
            while let Poll::Ready(Some(())) = self.open.poll_next_unpin(&mut cx) {}
        }
    }

    /// Drops what is left of them, in turns.
    pub async fn dismiss(mut self) {
        let open = std::mem::take(&mut self.open);
        for (number, call) in open.into_iter().enumerate() {
            drop(call);
            if number % DROPS_A_TURN == DROPS_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // A call holds on to where calls are put.
        self.begun.0.lock().clear();
    }
}

/// A call that is polled only if there is room in the turn, and asks for the next one otherwise.
struct InTurn {
    call: Call,
    left: Arc<AtomicUsize>,
}

impl Future for InTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.call.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Polls as the connection does; how many turns it took until nothing was to be polled any more.
    fn turns(calls: &mut Calls) -> usize {
        let cx = Context::from_waker(Waker::noop());
        for turn in 1..10_000 {
            calls.bell.begin_turn(&cx);
            calls.take_in();
            calls.poll();
            if !calls.bell.end_turn() {
                return turn;
            }
        }
        panic!("they spin");
    }

    #[test]
    fn each_is_polled_to_its_end_and_few_in_a_turn() {
        let begun = Begun::default();
        let mut calls = Calls::new(begun.clone());
        let polled = Arc::new(AtomicUsize::new(0));
        let count = 10 * POLLS_A_TURN;
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        for number in 0..count {
            let (polled, wakers) = (polled.clone(), wakers.clone());
            let mut first = true;
            begun.execute(std::future::poll_fn(move |cx| {
                polled.fetch_add(1, Ordering::Relaxed);
                assert!(number != 7 || first, "a panic is its own call's end");
                if std::mem::take(&mut first) {
                    wakers.lock().push(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            }));
        }
        let first = turns(&mut calls);
        assert!((10..=30).contains(&first), "{first} turns");
        assert_eq!(polled.load(Ordering::Relaxed), count);
        for waker in wakers.lock().drain(..) {
            waker.wake();
        }
        let second = turns(&mut calls);
        assert!((10..=30).contains(&second), "{second} turns");
        assert_eq!(polled.load(Ordering::Relaxed), 2 * count);
        assert!(calls.open.is_empty());
        assert_eq!(turns(&mut calls), 1);
    }

    #[tokio::test]
    async fn what_is_left_at_the_end_is_dropped() {
        let begun = Begun::default();
        let mut calls = Calls::new(begun.clone());
        let held = Arc::new(());
        for _ in 0..1000 {
            let held = Arc::clone(&held);
            begun.execute(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        turns(&mut calls);
        assert_eq!(Arc::strong_count(&held), 1001);
        calls.dismiss().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
