//! Cron of exactly five fields, in a time zone. Pure: the time is an argument.

use std::str::FromStr as _;

use croner::Cron;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, Zoned};

/// Times that are looked back over in one pass: an operator that was away for long takes several.
const LOOK_BACK: i64 = 1000;

/// Not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSchedule {
    /// The number of fields.
    #[error(
        "{0:?} has {1} fields; five are needed: minute hour day month weekday, as in \"0 3 * * *\""
    )]
    Fields(String, usize),
    /// The fields.
    #[error("{0:?}: {1}")]
    Pattern(String, String),
    /// The time zone.
    #[error("{0:?} is not a time zone: write it as Europe/Paris or UTC")]
    Zone(String),
}

/// A schedule in its time zone.
pub(super) struct Clock {
    cron: Cron,
    zone: TimeZone,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The newest time that is due and not too late.
    pub at: Option<Timestamp>,
    /// How many were missed.
    pub missed: i64,
    /// The newest time that was looked at: nothing up to it is due any more.
    pub seen: Option<Timestamp>,
    /// Whether every time up to now was looked at.
    pub over: bool,
}

impl Due {
    /// One time, and nothing missed.
    pub(super) fn at(at: Timestamp) -> Self {
        Self {
            at: Some(at),
            missed: 0,
            seen: Some(at),
            over: true,
        }
    }
}

impl Clock {
    pub(super) fn new(pattern: &str, zone: &str) -> Result<Self, InvalidSchedule> {
        let fields = pattern.split_whitespace().count();
        // croner would take a sixth field for seconds, and back up every second.
        if fields != 5 && !pattern.starts_with('@') {
            return Err(InvalidSchedule::Fields(pattern.to_owned(), fields));
        }
        let wrong = |error: croner::errors::CronError| {
            InvalidSchedule::Pattern(pattern.to_owned(), error.to_string())
        };
        let cron = Cron::from_str(pattern).map_err(wrong)?;
        let zone = TimeZone::get(zone).map_err(|_| InvalidSchedule::Zone(zone.to_owned()))?;
        Ok(Self { cron, zone })
    }

    /// The first time after `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after: Zoned = after.to_zoned(self.zone.clone());
        self.cron
            .find_next_occurrence(&after, false)
            .ok()
            .map(|next| next.timestamp())
    }

    /// What is due at `now`, when `last` was the last time that was acted upon. No more than
    /// [`LOOK_BACK`] times are looked at.
    pub(super) fn due(&self, last: Timestamp, now: Timestamp, deadline_seconds: u32) -> Due {
        let (mut seen, mut count, mut over) = (None, 0, false);
        while count < LOOK_BACK && !over {
            let next = self.next(seen.unwrap_or(last)).filter(|next| *next <= now);
            over = next.is_none();
            count += i64::from(!over);
            seen = next.or(seen);
        }
        let late = |at: &Timestamp| now.as_second() - at.as_second() > i64::from(deadline_seconds);
        let at = seen.filter(|at| over && !late(at));
        Due {
            at,
            missed: count - i64::from(at.is_some()),
            seen,
            over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn only_five_fields_and_real_zones_are_taken() {
        for good in ["0 3 * * *", "*/15 * * * 1-5", "@daily", "0 0 1 JAN *"] {
            assert!(Clock::new(good, "UTC").is_ok(), "{good}");
        }
        for bad in [
            "0 0 3 * * *",
            "0 3 * *",
            "",
            "61 * * * *",
            "0 25 * * *",
            "@never",
        ] {
            assert!(Clock::new(bad, "UTC").is_err(), "{bad}");
        }
        let error = Clock::new("0 0 3 * * *", "UTC").err().unwrap().to_string();
        assert!(
            error.contains("6 fields") && error.contains("five"),
            "{error}"
        );
        assert!(Clock::new("0 3 * * *", "Mars/Olympus").is_err());
    }

    #[test]
    fn times_are_the_zones_through_its_changes() {
        let clock = Clock::new("30 3 * * *", "Europe/Paris").unwrap();
        assert_eq!(
            clock.next(at("2026-07-01T00:00:00Z")),
            Some(at("2026-07-01T01:30:00Z"))
        );
        assert_eq!(
            clock.next(at("2026-12-01T00:00:00Z")),
            Some(at("2026-12-01T02:30:00Z"))
        );
        // 2:30 does not exist on the day that summer begins; a backup is made all the same.
        let clock = Clock::new("30 2 * * *", "Europe/Paris").unwrap();
        let next = clock.next(at("2026-03-28T12:00:00Z")).unwrap();
        assert!(next <= at("2026-03-29T12:00:00Z"), "{next}");
        // 2:30 comes twice on the day that it ends; a backup is made once.
        let first = clock.next(at("2026-10-24T12:00:00Z")).unwrap();
        assert!(clock.next(first).unwrap() >= at("2026-10-26T00:00:00Z"));
    }

    #[test]
    fn only_the_newest_is_made_and_what_is_too_late_is_missed() {
        let clock = Clock::new("*/10 * * * *", "UTC").unwrap();
        let last = at("2026-01-01T00:00:00Z");
        let nothing = Due {
            at: None,
            missed: 0,
            seen: None,
            over: true,
        };
        assert_eq!(clock.due(last, at("2026-01-01T00:09:59Z"), 600), nothing);
        let ten = at("2026-01-01T00:10:00Z");
        assert_eq!(clock.due(last, ten, 600), Due::at(ten));
        let (now, newest) = (at("2026-01-01T00:35:00Z"), at("2026-01-01T00:30:00Z"));
        let due = clock.due(last, now, 600);
        assert_eq!(
            (due.at, due.missed, due.seen),
            (Some(newest), 2, Some(newest))
        );
        let due = clock.due(last, now, 60);
        assert_eq!((due.at, due.missed, due.seen), (None, 3, Some(newest)));
        // What was missed is missed once.
        assert_eq!(clock.due(newest, now, 60), nothing);
    }

    #[test]
    fn a_long_absence_is_looked_back_over_bit_by_bit_and_one_backup_is_made() {
        let clock = Clock::new("* * * * *", "UTC").unwrap();
        let (mut last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:30Z"));
        let (mut made, mut missed) = (Vec::new(), 0);
        for _ in 0..10 {
            let due = clock.due(last, now, 600);
            made.extend(due.at);
            missed += due.missed;
            last = due.seen.unwrap_or(last);
        }
        assert_eq!(made, [at("2026-01-03T00:00:00Z")]);
        assert_eq!(missed, 2 * 24 * 60 - 1);
    }
}
