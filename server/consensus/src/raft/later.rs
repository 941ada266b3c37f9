//! What the log's writer has for the Raft thread that nobody waits for.
//!
//! Where a cluster has one voter, the writer itself applies what is short, and its caller is answered by that. What is
//! left then (openraft hears that the entry is applied) is the Raft thread's, which would have to be woken for it: 15 to 35 µs of a core that the answer needs. It is kept until that thread is awake for
//! something else: the next request that is proposed, an append, or a sweep, at most [`super::super::propose::SWEEP_EVERY`]
//! later. Where a request waits already, it is told at once.
//!
//! Must never: keep what somebody waits for, nor anything of a batch beside another voter, whose commits hang on it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

type Job = Box<dyn FnOnce() + Send>;

/// See the module. Bounded by what one flush leaves behind it: an append tells all before it is made.
#[derive(Default)]
pub struct Later {
    kept: Mutex<Vec<Job>>,
    is_awaited: AtomicBool,
    wanted: Notify,
}

impl Later {
    /// Keeps a job for the Raft thread, or does it at once where a request waits.
    pub(super) fn keep(&self, job: impl FnOnce() + Send + 'static) {
        if self.is_awaited.load(Ordering::SeqCst) {
            return job();
        }
        self.kept.lock().push(Box::new(job));
        // Who came meanwhile may have seen nothing to ask for.
        if self.is_awaited.load(Ordering::SeqCst) {
            self.wanted.notify_one();
        }
    }

    fn keeps_any(&self) -> bool {
        !self.kept.lock().is_empty()
    }

    /// Does what is kept.
    pub fn tell(&self) {
        let kept = std::mem::take(&mut *self.kept.lock());
        kept.into_iter().for_each(|job| job());
    }

    /// A request waits for the next batch: nothing is kept from now on, and what is kept is told.
    pub fn somebody_waits(&self) {
        self.is_awaited.store(true, Ordering::SeqCst);
        if self.keeps_any() {
            self.wanted.notify_one();
        }
    }

    /// No request waits.
    pub fn nobody_waits(&self) {
        self.is_awaited.store(false, Ordering::SeqCst);
    }

    /// Tells whenever a request waits. For the Raft thread; one task a member.
    pub async fn tell_when_awaited(&self) -> Infallible {
        loop {
            self.wanted.notified().await;
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counted(later: &Later) -> Arc<AtomicUsize> {
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        later.keep(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        done
    }

    #[test]
    fn what_nobody_waits_for_is_kept_until_it_is_told() {
        let later = Later::default();
        let done = counted(&later);
        assert!(later.keeps_any());
        assert_eq!(done.load(Ordering::SeqCst), 0);
        later.tell();
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert!(!later.keeps_any());
    }

    #[test]
    fn where_a_request_waits_nothing_is_kept() {
        let later = Later::default();
        later.somebody_waits();
        assert_eq!(counted(&later).load(Ordering::SeqCst), 1);
        later.nobody_waits();
        assert_eq!(counted(&later).load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_next_request_has_it_told() {
        let later = Arc::new(Later::default());
        let done = counted(&later);
        let telling = later.clone();
        let task = tokio::spawn(async move { telling.tell_when_awaited().await });
        later.somebody_waits();
        while done.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        task.abort();
    }
}
