//! How many of something there may be at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Exhausted;

/// See the module. Clones share it.
#[derive(Clone, Debug)]
pub struct Count {
    now: Arc<AtomicUsize>,
    max: usize,
}

/// One of them, as long as it lives.
#[derive(Debug)]
pub struct Counted {
    now: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
}

impl Count {
    /// At most `max`.
    pub fn up_to(max: usize) -> Count {
        Count {
            now: Arc::default(),
            max,
        }
    }

    /// One more of those that `holder` counts, who never has more than is free for others: alone half
    /// of what there may be, two a third each, and so on, so that nobody can take them all.
    ///
    /// # Errors
    /// There are as many as there may be, or the holder has its share.
    pub fn enter_for(&self, holder: &Arc<AtomicUsize>) -> Result<Counted, Exhausted> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let held = holder.fetch_add(1, Ordering::Relaxed);
        let entered = Counted {
            now: self.now.clone(),
            held: holder.clone(),
        };
        match held < self.max.saturating_sub(before) {
            true => Ok(entered),
            false => Err(Exhausted),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let count = Count::up_to(2);
        // Each by a holder of its own.
        let enter = || count.enter_for(&Arc::default());
        let first = enter().unwrap();
        let _second = enter().unwrap();
        assert!(enter().is_err());
        drop(first);
        assert!(enter().is_ok());
    }

    #[test]
    fn no_holder_takes_what_others_need() {
        let count = Count::up_to(100);
        let all = |holder: &Arc<AtomicUsize>| -> Vec<Counted> {
            std::iter::from_fn(|| count.enter_for(holder).ok()).collect()
        };
        let (first, second, third) = (Arc::default(), Arc::default(), Arc::default());
        let of_first = all(&first);
        assert_eq!(of_first.len(), 50);
        let of_second = all(&second);
        assert_eq!(of_second.len(), 25);
        assert!(count.enter_for(&first).is_err());
        assert!(count.enter_for(&third).is_ok());
        drop((of_first, of_second));
        assert_eq!(first.load(Ordering::Relaxed), 0);
        assert_eq!(all(&third).len(), 50);
    }
}
