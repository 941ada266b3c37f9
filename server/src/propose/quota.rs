//! The quota on the store's size. Compared here only: sizes differ between members, so the alarm
//! goes through Raft and only the alarm makes applying refuse.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::types::request::{Alarm, AlarmType};

/// See the module. Cheap to ask.
#[derive(Debug)]
pub struct Quota {
    /// The limit; none is no limit.
    limit: Option<u64>,
    /// The store's size when it was last measured, and what was admitted since.
    size: AtomicU64,
    /// Whether the alarm was asked for and has not been cleared.
    alarm: AtomicBool,
}

impl Quota {
    /// A quota of `limit` bytes (none: no limit), with the alarm raised or not.
    pub fn new(limit: Option<u64>, alarm_raised: bool) -> Quota {
        Quota {
            limit,
            size: AtomicU64::new(0),
            alarm: AtomicBool::new(alarm_raised),
        }
    }

    /// The limit in bytes; -1 is none, as etcd tells it (a gauge of 0 would make its mixin's alert
    /// fire for ever).
    pub fn limit_bytes(&self) -> i64 {
        let told = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
        self.limit.map_or(-1, told)
    }

    /// Tells the store's size. What was admitted since the last time is in it by now.
    pub fn measured(&self, bytes: u64) {
        self.size.store(bytes, Ordering::Relaxed);
    }

    /// Whether the quota has room for `cost` bytes more.
    pub fn admits(&self, cost: u64) -> bool {
        let Some(limit) = self.limit else { return true };
        if cost == 0 {
            return true;
        }
        let size = self.size.fetch_add(cost, Ordering::Relaxed);
        if size.saturating_add(cost) < limit {
            return true;
        }
        self.size.fetch_sub(cost, Ordering::Relaxed);
        false
    }

    /// Whether the caller is the one to raise the alarm (nobody has since it was last clear).
    pub fn begin_alarm(&self) -> bool {
        !self.alarm.swap(true, Ordering::Relaxed)
    }

    /// The alarm is raised or not, whatever was known of it.
    pub fn alarm_is(&self, raised: bool) {
        self.alarm.store(raised, Ordering::Relaxed);
    }

    /// An alarm was raised or cleared.
    pub fn alarm_changed(&self, alarm: &Alarm) {
        match alarm {
            Alarm::Activate(_, AlarmType::NoSpace) => self.alarm.store(true, Ordering::Relaxed),
            Alarm::Deactivate(_, AlarmType::NoSpace) => self.alarm.store(false, Ordering::Relaxed),
            Alarm::Activate(..) | Alarm::Deactivate(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_admitted_counts_until_the_next_measure() {
        let quota = Quota::new(Some(1000), false);
        assert!(quota.admits(600) && !quota.admits(600) && quota.admits(100));
        quota.measured(50);
        assert!(quota.admits(900) && !quota.admits(900));
        assert!(quota.admits(0), "what frees space is never refused");
    }

    #[test]
    fn without_a_limit_everything_is_admitted() {
        assert_eq!(Quota::new(None, false).limit_bytes(), -1);
        assert_eq!(Quota::new(Some(7), false).limit_bytes(), 7);
        assert!(Quota::new(None, false).admits(u64::MAX));
    }
}
