//! Which clusters take up what an upgrade of the operator brings: a few at a time, the others wait.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After a start, how long no turn is given: who was at it before is seen first.
const QUIET: Duration = Duration::from_secs(60);

/// Whose turn it is.
pub struct Turns {
    most: usize,
    from: Instant,
    holders: Mutex<HashSet<String>>,
}

impl Turns {
    /// For `most` at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self::since(most, Instant::now() + QUIET)
    }

    fn since(most: usize, from: Instant) -> Self {
        Self {
            most,
            from,
            holders: Mutex::default(),
        }
    }

    /// Takes a turn, if one is free, or keeps it.
    pub fn take(&self, uid: &str) -> bool {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.contains(uid) {
            return true;
        }
        let free = Instant::now() >= self.from && holders.len() < self.most;
        free && holders.insert(uid.to_owned())
    }

    /// Holds one whether it is free or not: its members are being restarted.
    pub fn hold(&self, uid: &str) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.insert(uid.to_owned());
    }

    /// Gives it back.
    pub fn give_back(&self, uid: &str) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_have_a_turn_and_the_others_wait() {
        let turns = Turns::since(2, Instant::now());
        turns.hold("at-it");
        assert!(turns.take("a") && turns.take("a"));
        assert!(!turns.take("b"));
        turns.give_back("at-it");
        assert!(turns.take("b"));
        assert!(!Turns::new(2).take("a"), "who was at it is not known yet");
    }
}
