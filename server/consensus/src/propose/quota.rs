//! The quota on the store's size. Compared here only: sizes differ between members, so the alarm
//! goes through Raft and only the alarm makes applying refuse.
//!
//! What counts is the data: keys, values and the history that is not compacted, as etcd would hold
//! them. What the engine holds beside them is garbage, which is reclaimed by itself; only a store
//! that outgrows the quota by far all the same ([`Quota::size_max`]) is full whatever it holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::types::request::{Alarm, AlarmType};

/// What the files of a store may take beyond a small quota, bytes: memtables, new files that were
/// not compacted yet, and a compaction under way.
const BEYOND_BYTES: u64 = 256 << 20;

/// See the module. Cheap to ask.
#[derive(Debug)]
pub struct Quota {
    /// The limit; none is no limit.
    limit: Option<u64>,
    /// The size when it was last measured, and what was admitted since.
    size: AtomicU64,
    /// Whether the alarm was decided on and has not been cleared.
    alarm: AtomicBool,
    /// Rung when the alarm was decided on.
    decided: Notify,
}

impl Quota {
    /// A quota of `limit` bytes (none: no limit), with the alarm raised or not.
    pub fn new(limit: Option<u64>, alarm_raised: bool) -> Quota {
        Quota {
            limit,
            size: AtomicU64::new(0),
            alarm: AtomicBool::new(alarm_raised),
            decided: Notify::new(),
        }
    }

    /// The limit in bytes; -1 is none, as etcd tells it (a gauge of 0 would make its mixin's alert
    /// fire for ever).
    pub fn limit_bytes(&self) -> i64 {
        let told = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
        self.limit.map_or(-1, told)
    }

    /// What the store's files may take, garbage included, before the quota is reached whatever they
    /// hold. Bytes.
    fn size_max(limit: u64) -> u64 {
        limit.saturating_add(limit.max(BEYOND_BYTES))
    }

    /// Tells the bytes of data and of the store's files. What was admitted since the last time is in
    /// them by now.
    pub fn measured(&self, data_bytes: u64, size_bytes: u64) {
        let outgrown = self
            .limit
            .is_some_and(|limit| size_bytes >= Quota::size_max(limit));
        let counts = if outgrown { size_bytes } else { data_bytes };
        self.size.store(counts, Ordering::Relaxed);
    }

    /// What counts against the limit now, bytes.
    pub fn used_bytes(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
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

    /// Decides on the alarm; whether it was not decided on since it was last clear. Whoever waits in
    /// [`Quota::decided`] raises it.
    pub fn decide_alarm(&self) -> bool {
        let is_first = !self.alarm.swap(true, Ordering::Relaxed);
        if is_first {
            self.decided.notify_one();
        }
        is_first
    }

    /// Whether the alarm was decided on and has not been cleared since.
    pub fn is_alarm_decided(&self) -> bool {
        self.alarm.load(Ordering::Relaxed)
    }

    /// Resolves once the alarm was decided on.
    pub async fn decided(&self) {
        self.decided.notified().await;
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
        quota.measured(50, 50);
        assert!(quota.admits(900) && !quota.admits(900));
        assert!(quota.admits(0), "what frees space is never refused");
    }

    #[test]
    fn garbage_does_not_count_until_the_store_has_outgrown_the_quota_by_far() {
        let quota = Quota::new(Some(64 << 20), false);
        quota.measured(10 << 20, 100 << 20);
        assert!(quota.admits(1 << 20));
        quota.measured(10 << 20, 320 << 20);
        assert!(!quota.admits(1 << 20));
    }

    #[test]
    fn without_a_limit_everything_is_admitted() {
        assert_eq!(Quota::new(None, false).limit_bytes(), -1);
        assert_eq!(Quota::new(Some(7), false).limit_bytes(), 7);
        assert!(Quota::new(None, false).admits(u64::MAX));
    }

    #[tokio::test]
    async fn a_decision_is_rung_once_until_the_alarm_is_clear() {
        let quota = Quota::new(None, false);
        assert!(quota.decide_alarm() && !quota.decide_alarm());
        quota.decided().await;
        quota.alarm_is(false);
        assert!(!quota.is_alarm_decided() && quota.decide_alarm());
        quota.decided().await;
    }
}
