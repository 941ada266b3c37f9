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
pub struct Counted(Arc<AtomicUsize>);

impl Count {
    /// At most `max`.
    pub fn up_to(max: usize) -> Count {
        Count {
            now: Arc::default(),
            max,
        }
    }

    /// One more.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub fn enter(&self) -> Result<Counted, Exhausted> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let entered = Counted(self.now.clone());
        match before < self.max {
            true => Ok(entered),
            false => Err(Exhausted),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let count = Count::up_to(2);
        let first = count.enter().unwrap();
        let _second = count.enter().unwrap();
        assert!(count.enter().is_err());
        drop(first);
        assert!(count.enter().is_ok());
    }
}
