//! Who may work now: reads of many keys share a few threads, a bounded step at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Turns at work that blocks. Clones share them.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// At most `at_once` steps are under way at once; the others wait in the order they came.
    pub fn new(at_once: usize) -> Turns {
        Turns(Arc::new(Semaphore::new(at_once.max(1))))
    }

    /// Runs one step of work on a thread for blocking work. If nobody waits for it any more, a step
    /// that has begun runs to its end, and one that has not never begins.
    pub async fn take<R: Send + 'static>(&self, step: impl FnOnce() -> R + Send + 'static) -> R {
        let turn = self.0.clone().acquire_owned().await;
        let turn = turn.expect("turns are never closed");
        let stepping = crate::threads::spawn_blocking(move || {
            let done = step();
            drop(turn);
            done
        });
        match stepping.await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_more_steps_are_under_way_than_there_are_turns() {
        let turns = Turns::new(2);
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let steps = (0..20).map(|_| {
            let (working, most) = (working.clone(), most.clone());
            turns.take(move || {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                working.fetch_sub(1, Ordering::SeqCst);
            })
        });
        futures_util::future::join_all(steps).await;
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }
}
