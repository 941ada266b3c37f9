//! Whether passes come to an end: a process whose passes do not is started anew.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long no pass of any cluster may end while there are clusters: each is looked at once a minute at
/// least, and bounded in time.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// What was heard of passes. Clones share it.
#[derive(Clone, Default)]
pub struct Pulse(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// Clusters of which a pass was begun.
    known: HashSet<String>,
    /// When a pass ended last, or the first one was begun.
    last: Option<Instant>,
}

impl Pulse {
    /// A pass of a cluster begins.
    pub fn began(&self, key: &str) {
        self.with(|heard| {
            if heard.known.is_empty() {
                heard.last = Some(Instant::now());
            }
            heard.known.insert(key.to_owned());
        });
    }

    /// It ended, well or not. Whether there is still such a cluster.
    pub fn ended(&self, key: &str) -> bool {
        let mut known = false;
        self.with(|heard| {
            heard.last = Some(Instant::now());
            known = heard.known.contains(key);
        });
        known
    }

    /// The cluster is gone.
    pub fn forget(&self, key: &str) {
        self.with(|heard| {
            heard.known.remove(key);
        });
    }

    /// Whether passes come to an end, as of `now`.
    #[must_use]
    pub fn beats(&self, now: Instant) -> bool {
        let mut beats = true;
        self.with(|heard| {
            let silent = |last: Instant| now.saturating_duration_since(last) > SILENCE_MAX;
            beats = heard.known.is_empty() || !heard.last.is_some_and(silent);
        });
        beats
    }

    fn with(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_dead_where_clusters_are_and_no_pass_ends() {
        let pulse = Pulse::default();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(pulse.beats(later(9999)), "nobody is looked after");
        pulse.began("data/demo");
        assert!(pulse.beats(later(599)));
        assert!(!pulse.beats(later(601)));
        assert!(pulse.ended("data/demo"));
        assert!(pulse.beats(later(599)));
        pulse.forget("data/demo");
        assert!(pulse.beats(later(9999)));
    }
}
