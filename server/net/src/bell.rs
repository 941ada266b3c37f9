//! How a part of a task asks to be polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A waker that remembers, so that only that part of a task is polled which asked for it. Between
/// [`Bell::begin_turn`] and [`Bell::end_turn`] it does not wake the task, which looks at the end.
///
/// Invariant: a ring is either seen by the turn under way or wakes the task. (Both sides write one flag
/// and then read the other's, in one order for all.)
#[derive(Debug)]
pub struct Bell {
    rung: AtomicBool,
    in_turn: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    /// One that has rung: what was never polled has to be.
    pub fn new() -> Arc<Bell> {
        Arc::new(Bell {
            rung: AtomicBool::new(true),
            in_turn: AtomicBool::new(false),
            task: AtomicWaker::new(),
        })
    }

    /// As a waker.
    pub fn waker(self: &Arc<Bell>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Asks to be polled.
    pub fn ring(&self) {
        let has_rung = self.rung.swap(true, Ordering::SeqCst);
        if !has_rung && !self.in_turn.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }

    /// Whether it has rung since this was asked the last time.
    pub fn has_rung(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }

    /// Wakes this task from now on, also while it is polled. To be asked before [`Bell::has_rung`].
    pub fn listen(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// The task is polled from here on, and looks at the end of its turn.
    pub fn begin_turn(&self, cx: &Context<'_>) {
        self.in_turn.store(true, Ordering::SeqCst);
        self.listen(cx);
    }

    /// The task is not polled any more: whether it has to be again.
    pub fn end_turn(&self) -> bool {
        self.in_turn.store(false, Ordering::SeqCst);
        self.rung.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_wakes_the_task_once_and_not_while_the_task_is_polled() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let count = || woken.0.load(Ordering::SeqCst);
        let bell = Bell::new();
        bell.begin_turn(&cx);
        assert!(bell.has_rung());
        assert!(!bell.has_rung());
        bell.ring();
        assert_eq!(count(), 0);
        assert!(bell.end_turn());
        bell.begin_turn(&cx);
        assert!(bell.has_rung());
        assert!(!bell.end_turn());
        bell.ring();
        bell.ring();
        assert_eq!(count(), 1);
    }
}
