//! Work for one caller: a panic in it is that caller's loss alone.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::steps::Stage;

thread_local! {
    /// Whether what runs now on this thread is work for one caller.
    static FOR_CALLER: Cell<bool> = const { Cell::new(false) };
}

/// The work for a caller panicked. What it said is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work for this call panicked: the server's log says why")]
pub struct Panicked;

/// While it lives, what runs on this thread is for one caller.
struct Scope {
    before: bool,
}

impl Scope {
    #[inline]
    fn enter(for_caller: bool) -> Scope {
        Scope {
            before: FOR_CALLER.replace(for_caller),
        }
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        FOR_CALLER.set(self.before);
    }
}

/// Whether what runs now is for one caller.
#[inline]
pub(super) fn is_for_caller() -> bool {
    FOR_CALLER.get()
}

/// Does a caller's work.
///
/// # Errors
/// It panicked.
pub fn catch_for_caller<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    let _scope = Scope::enter(true);
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}

pin_project! {
    /// A future that works for one caller: a panic in it is its result, and it is not polled again.
    #[must_use = "futures do nothing unless polled"]
    pub struct ForCaller<F> {
        #[pin]
        work: F,
    }
}

impl<F: Future> ForCaller<F> {
    /// See the type.
    pub fn new(work: F) -> ForCaller<F> {
        ForCaller { work }
    }
}

impl<F: Future> Future for ForCaller<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.project().work;
        match catch_for_caller(|| work.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

/// Runs blocking work on a thread for it. It is for whom the one is who asks: a panic in it ends
/// the process, or, in work for a caller, is the handle's error. On a simulator's stage it waits until that has it
/// done, as for a thread that is free.
pub fn spawn_blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let for_caller = is_for_caller();
    let work = move || {
        let _scope = Scope::enter(for_caller);
        work()
    };
    match Stage::current() {
        Some(stage) => wait_on(&stage, work),
        None => tokio::task::spawn_blocking(work),
    }
}

fn wait_on<R: Send + 'static>(
    stage: &Stage,
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let (doing, done) = oneshot::channel();
    // Who asked may have gone on without it.
    stage.wait(Box::new(move || drop(doing.send(work()))));
    tokio::spawn(async move {
        match done.await {
            Ok(done) => done,
            // The member's process ends, and nobody hears of it.
            Err(_) => std::future::pending().await,
        }
    })
}
