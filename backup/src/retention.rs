//! Which backups go. Pure: the backups, the rules and the time in, a decision out.
//!
//! A backup is kept by any rule that keeps it, but for `max_age`, which only takes away; `min_keep`
//! stands above all, and the newest backup always stays.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};

/// The rules. All 0 and none: everything stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Keep the newest so many.
    pub keep_last: usize,
    /// Keep the newest of each of the last so many hours that have one.
    pub hourly: usize,
    /// The same by days (UTC).
    pub daily: usize,
    /// The same by ISO weeks.
    pub weekly: usize,
    /// The same by months.
    pub monthly: usize,
    /// Keep all that are not older.
    pub keep_within: Option<Duration>,
    /// Let go of what is older, whatever else would keep it.
    pub max_age: Option<Duration>,
    /// Never go below the newest so many, not even for `max_age`.
    pub min_keep: usize,
}

impl Retention {
    /// The indices of the backups to remove, of those that were taken at `times`, the oldest first: which is newer
    /// is told by their order, since clocks may have been wrong. None counts as older than one before it.
    pub fn expired(&self, times: &[DateTime<Utc>], now: DateTime<Utc>) -> Vec<usize> {
        let since: Vec<DateTime<Utc>> = times
            .iter()
            .scan(DateTime::<Utc>::MIN_UTC, |latest, time| {
                // One that is yet to come is a clock's that was ahead: it says nothing of those behind it.
                if *time <= now {
                    *latest = (*latest).max(*time);
                }
                Some(*latest)
            })
            .collect();
        let age = |index: usize| (now - since[index]).to_std().unwrap_or_default();
        let mut kept = self.kept(times);
        if let Some(within) = self.keep_within {
            kept.extend((0..times.len()).filter(|index| age(*index) <= within));
        }
        let is_expired = |index: &usize| {
            let is_old = self.max_age.is_some_and(|max| age(*index) > max);
            is_old || !kept.contains(index)
        };
        // The newest stay whatever the rules say.
        let others = times.len().saturating_sub(self.min_keep.max(1));
        (0..others).filter(is_expired).collect()
    }

    fn kept(&self, times: &[DateTime<Utc>]) -> HashSet<usize> {
        let newest_first = || (0..times.len()).rev();
        let counts = [
            self.keep_last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
        ];
        if counts.iter().all(|count| *count == 0) && self.keep_within.is_none() {
            return newest_first().collect();
        }
        let mut kept: HashSet<usize> = newest_first().take(self.keep_last).collect();
        type Period = fn(&DateTime<Utc>) -> (i64, u32);
        let hour: Period = |time| (i64::from(time.num_days_from_ce()), time.hour());
        let day: Period = |time| (i64::from(time.num_days_from_ce()), 0);
        let week: Period = |time| (i64::from(time.iso_week().year()), time.iso_week().week());
        let month: Period = |time| (i64::from(time.year()), time.month());
        let rules = [
            (self.hourly, hour),
            (self.daily, day),
            (self.weekly, week),
            (self.monthly, month),
        ];
        for (count, period) in rules {
            let mut seen = HashSet::new();
            let firsts = newest_first().filter(|index| seen.insert(period(&times[*index])));
            kept.extend(firsts.take(count));
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn without_rules_everything_stays() {
        let times = [at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")];
        let now = at("2026-06-01T00:00:00Z");
        assert_eq!(
            Retention::default().expired(&times, now),
            Vec::<usize>::new()
        );
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        let times = [
            at("2026-01-01T10:00:00Z"),
            at("2026-01-01T23:00:00Z"),
            at("2026-01-02T01:00:00Z"),
            at("2026-01-03T01:00:00Z"),
            at("2026-01-03T01:30:00Z"),
        ];
        let now = at("2026-01-03T02:00:00Z");
        let daily = Retention {
            daily: 2,
            ..Retention::default()
        };
        assert_eq!(daily.expired(&times, now), [0, 1, 3]);
        let both = Retention {
            keep_last: 2,
            monthly: 3,
            ..Retention::default()
        };
        assert_eq!(both.expired(&times, now), [0, 1, 2]);
        let week = Retention {
            weekly: 1,
            hourly: 3,
            ..Retention::default()
        };
        assert_eq!(week.expired(&times, now), [0, 3]);
    }

    #[test]
    fn what_is_young_enough_stays_beside_what_another_rule_keeps() {
        let times = [
            at("2026-01-01T10:00:00Z"),
            at("2026-01-02T01:00:00Z"),
            at("2026-01-02T02:00:00Z"),
            at("2026-01-03T01:00:00Z"),
            at("2026-01-03T01:30:00Z"),
        ];
        let now = at("2026-01-03T02:00:00Z");
        let young = Retention {
            keep_within: Some(Duration::from_secs(3_600)),
            ..Retention::default()
        };
        assert_eq!(young.expired(&times, now), [0, 1, 2]);
        let both = Retention { daily: 2, ..young };
        assert_eq!(both.expired(&times, now), [0, 1]);
    }

    #[test]
    fn age_takes_away_but_never_below_the_minimum() {
        let times = [
            at("2026-01-01T00:00:00Z"),
            at("2026-01-02T00:00:00Z"),
            at("2026-01-03T00:00:00Z"),
        ];
        let now = at("2026-02-01T00:00:00Z");
        let day = Duration::from_secs(86_400);
        let rules = |min_keep| Retention {
            keep_last: 3,
            max_age: Some(day),
            min_keep,
            ..Retention::default()
        };
        assert_eq!(
            rules(0).expired(&times, now),
            [0, 1],
            "the newest always stays"
        );
        assert_eq!(rules(2).expired(&times, now), [0]);
    }

    #[test]
    fn a_clock_that_was_wrong_once_costs_no_newer_backup() {
        let times = [
            at("2026-01-01T00:00:00Z"),
            at("2099-01-01T00:00:00Z"),
            at("2026-01-02T00:00:00Z"),
            at("1970-01-01T00:00:00Z"),
            at("2026-01-03T00:00:00Z"),
        ];
        let now = at("2026-01-03T01:00:00Z");
        let last = Retention {
            keep_last: 1,
            ..Retention::default()
        };
        assert_eq!(last.expired(&times, now), [0, 1, 2, 3]);
        let day = Some(Duration::from_secs(86_400));
        let old = Retention {
            keep_last: 5,
            max_age: day,
            ..Retention::default()
        };
        assert_eq!(
            old.expired(&times, now),
            [0, 1, 2, 3],
            "as old as those before"
        );
        let daily = Retention {
            daily: 3,
            ..Retention::default()
        };
        assert_eq!(daily.expired(&times, now), [0, 1]);
    }

    proptest! {
        #[test]
        fn the_newest_stay_and_pruning_twice_prunes_once(
            ages in prop::collection::vec(0i64..5_000_000, 0..60),
            counts in prop::array::uniform6(0usize..5),
            max_age in prop::option::of(0u64..6_000_000),
            keep_within in prop::option::of(0u64..6_000_000),
        ) {
            let now = at("2026-06-15T12:00:00Z");
            let mut times: Vec<_> = ages.iter().map(|age| now - TimeDelta::seconds(*age)).collect();
            times.sort();
            let [keep_last, hourly, daily, weekly, monthly, min_keep] = counts;
            let [max_age, keep_within] = [max_age, keep_within].map(|age| age.map(Duration::from_secs));
            let rules =
                Retention { keep_last, hourly, daily, weekly, monthly, keep_within, max_age, min_keep };
            let expired = rules.expired(&times, now);
            let left: Vec<_> =
                (0..times.len()).filter(|index| !expired.contains(index)).map(|index| times[index]).collect();
            prop_assert!(left.len() >= times.len().min(min_keep.max(1)));
            prop_assert_eq!(left.iter().max(), times.iter().max());
            prop_assert_eq!(rules.expired(&left, now), Vec::<usize>::new());
        }
    }
}
