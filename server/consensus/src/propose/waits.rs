//! Who waits for which batch. Callers are answered grouped by the connection thread they live on,
//! so that a batch of a hundred answers costs each thread one wake.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::ProposeError;
use crate::home::{Asker, Homes};
use crate::types::result::Outcome;

/// What a caller hears.
pub type Reply = Result<Outcome, ProposeError>;

/// A caller that waits.
pub struct Waiter {
    /// The last sweep that will find it still waiting.
    until_sweep: u64,
    asker: Asker<Reply>,
}

impl Waiter {
    /// A waiter on the thread that calls this, which gives up after sweep `until_sweep`, and where
    /// it hears.
    pub fn new(until_sweep: u64) -> (Waiter, oneshot::Receiver<Reply>) {
        let (asker, receiver) = Asker::here();
        (Waiter { until_sweep, asker }, receiver)
    }

    /// Whether it waits on the thread that calls this.
    pub fn is_here(&self) -> bool {
        self.asker.is_here()
    }

    /// Whether it has waited as long as it may at sweep `sweep`.
    pub fn gives_up(&self, sweep: u64) -> bool {
        self.until_sweep < sweep
    }
}

/// The batches under way: bounded by the proposer, which sends one at a time.
pub struct Waits {
    homes: Homes,
    /// In the order of the batch's operations; `None` is one that gave up.
    batches: Mutex<BTreeMap<u64, Vec<Option<Waiter>>>>,
}

impl Waits {
    /// Nobody waits yet.
    pub fn new(homes: Homes) -> Waits {
        Waits {
            homes,
            batches: Mutex::default(),
        }
    }

    /// The connection threads.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// How many callers wait.
    pub fn len(&self) -> usize {
        self.batches.lock().values().map(Vec::len).sum()
    }

    /// Registers the callers of a batch, in the order of its operations.
    pub fn register(&self, sequence: u64, waiters: Vec<Waiter>) {
        let waiters = waiters.into_iter().map(Some).collect();
        self.batches.lock().insert(sequence, waiters);
    }

    /// Answers the callers of a batch. A batch nobody waits for (it was refused, or is of an
    /// earlier run) is no error.
    pub fn complete(&self, sequence: u64, outcomes: Vec<Outcome>) {
        let Some(waiters) = self.batches.lock().remove(&sequence) else {
            return;
        };
        assert_eq!(
            waiters.len(),
            outcomes.len(),
            "every operation of a batch has an outcome"
        );
        let replies = waiters.into_iter().zip(outcomes.into_iter().map(Ok));
        self.answer(replies.filter_map(|(waiter, reply)| Some((waiter?, reply))));
    }

    /// Takes the callers that have waited as long as they may. Their operations go on.
    pub fn take_late(&self, sweep: u64) -> Vec<Waiter> {
        let mut late = Vec::new();
        let mut batches = self.batches.lock();
        batches.retain(|_, waiters| {
            for waiter in waiters.iter_mut() {
                late.extend(waiter.take_if(|waiter| waiter.gives_up(sweep)));
            }
            // A batch that is never applied is not to be remembered for ever.
            waiters.iter().any(Option::is_some)
        });
        late
    }

    /// Those who wait for a batch that was not taken, in the order of its operations.
    pub fn take(&self, sequence: u64) -> Vec<Option<Waiter>> {
        self.batches.lock().remove(&sequence).unwrap_or_default()
    }

    /// Refuses a batch that was not taken.
    pub fn refuse_batch(&self, sequence: u64, error: ProposeError) {
        if let Some(waiters) = self.batches.lock().remove(&sequence) {
            self.refuse(waiters.into_iter().flatten(), error);
        }
    }

    /// Refuses everything under way.
    pub fn refuse_all(&self, error: ProposeError) {
        let batches = std::mem::take(&mut *self.batches.lock());
        batches
            .into_values()
            .for_each(|waiters| self.refuse(waiters.into_iter().flatten(), error));
    }

    /// Refuses these.
    pub fn refuse(&self, waiters: impl IntoIterator<Item = Waiter>, error: ProposeError) {
        self.answer(waiters.into_iter().map(|waiter| (waiter, Err(error))));
    }

    fn answer(&self, replies: impl Iterator<Item = (Waiter, Reply)>) {
        let answers = replies.map(|(waiter, reply)| (waiter.asker, reply));
        self.homes.answer(answers);
    }
}
