//! Memory that clients can make the server hold, and work that they can make it do, within bounds.
//!
//! Owns the count of the memory: whoever is about to hold much takes a [`Charge`] first and keeps it
//! as long as the memory; of what there may be few of ([`Count`]); and the turns in which much work is
//! done ([`Turns`]). Must never wait for memory without a bound, and is not asked for what is small.

mod count;
mod turns;

pub use count::{Count, Counted};
pub use turns::Turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted in: a charge is rounded up to so many bytes.
const UNIT_BYTES: usize = 4 << 10;

/// How much may be held at once. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    units: Arc<Semaphore>,
    units_max: u32,
    waiting: AtomicUsize,
    waiting_max: usize,
    patience: Duration,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    _units: OwnedSemaphorePermit,
}

/// The budget is used up, and waiting has not helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is asked for at once")]
pub struct Exhausted;

impl Budget {
    /// A budget of so many bytes, for which at most `waiting_max` callers wait, each no longer than
    /// `patience`.
    pub fn new(bytes: u64, waiting_max: usize, patience: Duration) -> Budget {
        let units = bytes / UNIT_BYTES as u64;
        let units_max = u32::try_from(units).unwrap_or(u32::MAX).max(1);
        Budget(Arc::new(Shared {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            waiting: AtomicUsize::new(0),
            waiting_max,
            patience,
        }))
    }

    /// A budget of so many seats, each taken with [`Budget::take`] of one byte.
    pub fn of_seats(seats: u32, waiting_max: usize, patience: Duration) -> Budget {
        Budget::new(u64::from(seats) * UNIT_BYTES as u64, waiting_max, patience)
    }

    /// Takes `bytes` if they are free now.
    ///
    /// # Errors
    /// They are not.
    pub fn try_take(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let units = self.0.units.clone().try_acquire_many_owned(units(bytes));
        let units = units.map_err(|_| Exhausted)?;
        Ok(Charge { _units: units })
    }

    /// Takes `bytes`, in the order in which they are asked for.
    ///
    /// # Errors
    /// They are more than there is, too many wait, or it takes too long.
    pub async fn take(&self, bytes: usize) -> Result<Charge, Exhausted> {
        if let Ok(charge) = self.try_take(bytes) {
            return Ok(charge);
        }
        if units(bytes) > self.0.units_max {
            return Err(Exhausted);
        }
        let _waiting = Waiting::new(&self.0)?;
        let units = self.0.units.clone().acquire_many_owned(units(bytes));
        let units = tokio::time::timeout(self.0.patience, units).await;
        let units = units.map_err(|_| Exhausted)?;
        Ok(Charge {
            _units: units.expect("a budget is never closed"),
        })
    }

    /// Bytes taken now.
    pub fn taken_bytes(&self) -> usize {
        (self.0.units_max as usize - self.0.units.available_permits()) * UNIT_BYTES
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// One that waits, counted.
struct Waiting<'a>(&'a Shared);

impl Waiting<'_> {
    fn new(shared: &Shared) -> Result<Waiting<'_>, Exhausted> {
        let before = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(shared);
        match before < shared.waiting_max {
            true => Ok(waiting),
            false => Err(Exhausted),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_is_bounded_and_comes_back() {
        let budget = Budget::new(1 << 20, 4, Duration::from_secs(60));
        let half = budget.take(512 << 10).await.unwrap();
        let rest = budget.take(512 << 10).await.unwrap();
        assert_eq!(budget.taken_bytes(), 1 << 20);
        assert!(budget.try_take(1).is_err());
        drop(half);
        assert_eq!(budget.taken_bytes(), 512 << 10);
        drop(rest);
        assert!(budget.take(1 << 20).await.is_ok());
        assert!(budget.take((1 << 20) + 1).await.is_err(), "never free");
    }

    #[tokio::test]
    async fn few_wait_and_not_for_long() {
        let budget = Budget::new(1 << 20, 1, Duration::from_millis(30));
        let all = budget.take(1 << 20).await.unwrap();
        let (first, second) = tokio::join!(budget.take(1), budget.take(1));
        assert!(first.is_err() && second.is_err());
        let waiting = budget.take(1);
        let freeing = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(all);
        };
        let (taken, ()) = tokio::join!(waiting, freeing);
        assert!(taken.is_ok());
        assert_eq!(budget.0.waiting.load(Ordering::Relaxed), 0);
    }
}
