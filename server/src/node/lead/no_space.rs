//! The NOSPACE alarm for disks: the leader decides on it by what it sees at a look, and every look decides
//! anew. A decision that failed, or that its look has overtaken, is never carried out later: by then there
//! may be room again, and an alarm is cleared by people.

use std::future::Future;

use tokio::task::JoinHandle;

use crate::mutants::is_planted;

/// A decision that may be under way.
#[derive(Debug, Default)]
pub struct Raising(Option<JoinHandle<()>>);

impl Raising {
    /// What a look found: whether the alarm is wanted. Where it is, `decide` is begun, unless it is under way
    /// already; where it is not, what is under way and is not in the log yet is withdrawn. On a runtime.
    pub fn look<Deciding>(&mut self, is_wanted: bool, decide: impl FnOnce() -> Deciding)
    where
        Deciding: Future<Output = ()> + Send + 'static,
    {
        let is_under_way = self.0.as_ref().is_some_and(|task| !task.is_finished());
        match is_wanted {
            true if is_under_way => {}
            true => self.0 = Some(tokio::spawn(decide())),
            false => self.withdraw(),
        }
    }

    /// Withdraws what is under way.
    pub fn withdraw(&mut self) {
        if let Some(task) = self.0.take()
            && !is_planted("alarm-insists")
        {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[derive(Clone, Default)]
    struct Cluster {
        begun: Arc<AtomicUsize>,
        raised: Arc<AtomicUsize>,
        quorum: Arc<Notify>,
    }

    impl Cluster {
        /// Raises it once a quorum has said who leads.
        async fn decide(self) {
            self.begun.fetch_add(1, Ordering::Relaxed);
            self.quorum.notified().await;
            self.raised.fetch_add(1, Ordering::Relaxed);
        }

        fn counted(&self) -> (usize, usize) {
            let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
            (count(&self.begun), count(&self.raised))
        }
    }

    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_decision_is_withdrawn_once_there_is_room() {
        let (cluster, mut raising) = (Cluster::default(), Raising::default());
        raising.look(true, || cluster.clone().decide());
        settle().await;
        assert_eq!(cluster.counted(), (1, 0), "no quorum has answered");
        raising.look(false, || cluster.clone().decide());
        settle().await;
        cluster.quorum.notify_waiters();
        settle().await;
        assert_eq!(cluster.counted(), (1, 0), "there was room by then");
    }

    #[tokio::test]
    async fn one_decision_at_a_time_is_made_as_long_as_there_is_no_room() {
        let (cluster, mut raising) = (Cluster::default(), Raising::default());
        for _ in 0..3 {
            raising.look(true, || cluster.clone().decide());
            settle().await;
        }
        assert_eq!(cluster.counted(), (1, 0));
        cluster.quorum.notify_waiters();
        settle().await;
        assert_eq!(cluster.counted(), (1, 1));
        raising.look(true, || cluster.clone().decide());
        settle().await;
        assert_eq!(cluster.counted(), (2, 1), "it was cleared meanwhile");
    }
}
