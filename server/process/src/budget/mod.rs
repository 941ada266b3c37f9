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

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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
    /// A holder's charge came back.
    freed: Notify,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    // Given back before it is told: fields are dropped in this order.
    _units: OwnedSemaphorePermit,
    _held: Option<Held>,
}

/// What a holder has of a charge, in units.
#[derive(Debug)]
struct Held {
    budget: Budget,
    holder: Arc<AtomicUsize>,
    units: usize,
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
            freed: Notify::new(),
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
        Ok(Charge {
            _units: units,
            _held: None,
        })
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
            _held: None,
        })
    }

    /// Takes `bytes` for one whose charges `holder` counts, if they are free now and leave as much for
    /// others as the holder then has: nobody can take it all.
    ///
    /// # Errors
    /// They are not, or do not.
    pub fn try_take_for(
        &self,
        holder: &Arc<AtomicUsize>,
        bytes: usize,
    ) -> Result<Charge, Exhausted> {
        let units = units(bytes) as usize;
        let held = holder.load(Ordering::Relaxed);
        if held + units > self.0.units.available_permits().saturating_sub(units) {
            return Err(Exhausted);
        }
        let charge = self.try_take(bytes)?;
        holder.fetch_add(units, Ordering::Relaxed);
        let held = Held {
            budget: self.clone(),
            holder: holder.clone(),
            units,
        };
        Ok(Charge {
            _held: Some(held),
            ..charge
        })
    }

    /// As [`Budget::try_take_for`], with some patience. Who waits takes nothing: what is free stays so
    /// for those who need less.
    ///
    /// # Errors
    /// Too many wait, or it takes too long.
    pub async fn take_for(
        &self,
        holder: &Arc<AtomicUsize>,
        bytes: usize,
    ) -> Result<Charge, Exhausted> {
        if let Ok(charge) = self.try_take_for(holder, bytes) {
            return Ok(charge);
        }
        let _waiting = Waiting::new(&self.0)?;
        let freed = async {
            loop {
                // Asked for before the look, so that nothing is freed between the two unseen.
                let freed = self.0.freed.notified();
                if let Ok(charge) = self.try_take_for(holder, bytes) {
                    return charge;
                }
                freed.await;
            }
        };
        let taken = tokio::time::timeout(self.0.patience, freed).await;
        taken.map_err(|_| Exhausted)
    }

    /// Bytes taken now.
    pub fn taken_bytes(&self) -> usize {
        (self.0.units_max as usize - self.0.units.available_permits()) * UNIT_BYTES
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holder.fetch_sub(self.units, Ordering::Relaxed);
        if self.budget.0.waiting.load(Ordering::Relaxed) > 0 {
            self.budget.0.freed.notify_waiters();
        }
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

    #[tokio::test]
    async fn no_holder_takes_it_all_and_who_waits_holds_up_nobody() {
        let budget = Budget::new(1 << 20, 4, Duration::from_millis(200));
        let (one, other) = (Arc::default(), Arc::default());
        let half = budget.take_for(&one, 512 << 10).await.unwrap();
        assert!(budget.try_take_for(&one, 1).is_err());
        let waiting = budget.take_for(&other, 384 << 10);
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let small = budget.try_take_for(&other, 4 << 10);
            assert!(small.is_ok(), "another's large one waits");
            drop(small);
            drop(half);
        };
        let (taken, ()) = tokio::join!(waiting, meanwhile);
        drop(taken.unwrap());
        assert_eq!(budget.taken_bytes(), 0);
        assert_eq!(one.load(Ordering::Relaxed), 0);
        assert_eq!(other.load(Ordering::Relaxed), 0);
        assert!(budget.take_for(&one, 513 << 10).await.is_err(), "never");
    }
}
