//! Whether the log of a leader holds up what the others have committed: its own clients, and all whose
//! answer waits for it, would wait for as long as its disk stands still.

use std::time::{Duration, Instant};

/// What was seen of the own log, where it lacks what is committed.
#[derive(Debug, Default)]
pub struct HeldUp {
    /// The last durable entry, and since when it is that.
    since: Option<(u64, Instant)>,
}

impl HeldUp {
    /// Takes note of the last entries that are committed and that the own log holds durably, at `now`.
    /// For how long the log has stood still while others went on.
    pub fn note(&mut self, committed: u64, durable: u64, now: Instant) -> Duration {
        if committed <= durable {
            self.since = None;
            return Duration::ZERO;
        }
        match self.since {
            Some((at, since)) if at == durable => now.saturating_duration_since(since),
            _ => {
                self.since = Some((durable, now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_stands_still_counts_only_while_others_go_on() {
        let start = Instant::now();
        let mut held_up = HeldUp::default();
        let mut at = |seconds, committed, durable| {
            let now = start + Duration::from_secs(seconds);
            held_up.note(committed, durable, now).as_secs()
        };
        assert_eq!(at(0, 7, 7), 0, "it holds all");
        assert_eq!(at(5, 9, 7), 0);
        assert_eq!(at(7, 20, 7), 2);
        assert_eq!(at(8, 20, 11), 0, "slow, and it comes on");
        assert_eq!(at(9, 20, 11), 1);
        assert_eq!(at(10, 20, 20), 0);
        assert_eq!(at(20, 21, 20), 0, "it begins anew");
        assert_eq!(at(23, 21, 20), 3);
    }
}
