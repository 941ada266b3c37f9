//! Auto-compaction, as etcd does it: pure bookkeeping of when to compact where.
//!
//! Source: etcd's v3compactor package. Periodic: a revision is noted every tenth of the period (of
//! an hour, where the period is longer); once a period of them is there, the oldest is compacted,
//! at most once a period (an hour). By revision: every five minutes all but the newest N.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::AutoCompaction;
use crate::types::Revision;

const HOUR: Duration = Duration::from_secs(3600);
const BY_REVISION_EVERY: Duration = Duration::from_secs(300);
/// How many notes make a compaction interval.
const NOTES_AN_INTERVAL: u32 = 10;

/// When and where to compact.
#[derive(Debug)]
pub enum Schedule {
    /// Keeps history for a time.
    Periodic {
        /// How long to wait between notes.
        every: Duration,
        /// How many notes make up the retention.
        retained: usize,
        /// The notes, oldest first. Bounded by `retained`.
        notes: VecDeque<Revision>,
        /// Ticks until the next compaction is due.
        wait_ticks: u32,
    },
    /// Keeps a number of revisions.
    Revisions {
        /// How many.
        keep: i64,
        /// What was compacted last.
        last: Revision,
    },
}

impl Schedule {
    /// The schedule of a setting; none where auto-compaction is off.
    pub fn new(setting: &AutoCompaction) -> Option<Schedule> {
        match setting {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => {
                let every = (*period).min(HOUR) / NOTES_AN_INTERVAL;
                let every = every.max(Duration::from_millis(1));
                let retained = period.as_nanos() / every.as_nanos();
                let retained = usize::try_from(retained).unwrap_or(usize::MAX).max(1);
                Some(Schedule::Periodic {
                    every,
                    retained,
                    notes: VecDeque::new(),
                    wait_ticks: 0,
                })
            }
            AutoCompaction::Revision(keep) => Some(Schedule::Revisions {
                keep: *keep,
                last: Revision(0),
            }),
        }
    }

    /// How often to call [`Schedule::tick`].
    pub fn interval(&self) -> Duration {
        match self {
            Schedule::Periodic { every, .. } => *every,
            Schedule::Revisions { .. } => BY_REVISION_EVERY,
        }
    }

    /// An interval has passed and the store is at `head`: where to compact, if it is time to.
    pub fn tick(&mut self, head: Revision) -> Option<Revision> {
        match self {
            Schedule::Periodic {
                retained,
                notes,
                wait_ticks,
                ..
            } => {
                notes.push_back(head);
                *wait_ticks = wait_ticks.saturating_sub(1);
                if notes.len() <= *retained {
                    return None;
                }
                let oldest = notes.pop_front()?;
                if *wait_ticks > 0 {
                    return None;
                }
                *wait_ticks = NOTES_AN_INTERVAL;
                Some(oldest)
            }
            Schedule::Revisions { keep, last } => {
                let target = Revision(head.0 - *keep);
                if target.0 <= 0 || target <= *last {
                    return None;
                }
                *last = target;
                Some(target)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periodic_compacts_what_is_older_than_the_period_once_a_period() {
        let mut schedule = Schedule::new(&AutoCompaction::Periodic(HOUR)).unwrap();
        assert_eq!(schedule.interval(), HOUR / 10);
        let due: Vec<(i64, i64)> = (1..=40)
            .filter_map(|tick| schedule.tick(Revision(tick * 100)).map(|at| (tick, at.0)))
            .collect();
        assert_eq!(due, [(11, 100), (21, 1100), (31, 2100)]);
    }

    #[test]
    fn a_long_period_compacts_every_hour() {
        let mut schedule = Schedule::new(&AutoCompaction::Periodic(HOUR * 3)).unwrap();
        let due: Vec<i64> = (1..=60)
            .filter_map(|tick| schedule.tick(Revision(tick)).map(|at| at.0))
            .collect();
        assert_eq!(due, [1, 11, 21]);
    }

    #[test]
    fn by_revision_keeps_that_many_and_never_goes_back() {
        let mut schedule = Schedule::new(&AutoCompaction::Revision(10)).unwrap();
        assert_eq!(schedule.tick(Revision(5)), None);
        assert_eq!(schedule.tick(Revision(25)), Some(Revision(15)));
        assert_eq!(schedule.tick(Revision(25)), None);
        assert!(Schedule::new(&AutoCompaction::Off).is_none());
    }
}
