//! The `ts` of a line: UTC, microseconds, the Gregorian calendar.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// A moment split into calendar fields, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub year: u64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    pub micros: u32,
}

/// Time since 1970 on the wall clock; a clock set before 1970 reads as 1970.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Calendar fields of a time since 1970, after Howard Hinnant's `civil_from_days`: years are
/// counted from March, so that the leap day is the last day of its year.
pub(super) fn calendar(since_epoch: Duration) -> Calendar {
    let seconds = since_epoch.as_secs();
    let days = seconds / SECONDS_PER_DAY + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let second_of_day = seconds % SECONDS_PER_DAY;
    Calendar {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        hour: second_of_day / 3_600,
        minute: second_of_day / 60 % 60,
        second: second_of_day % 60,
        micros: since_epoch.subsec_micros(),
    }
}

/// Appends `2026-11-23T05:42:00.123456Z`.
pub(super) fn append_timestamp(line: &mut Vec<u8>, since_epoch: Duration) {
    use std::io::Write as _;
    let Calendar {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micros,
    } = calendar(since_epoch);
    write!(
        line,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    )
    .expect("writing to a Vec cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(seconds: u64, micros: u32) -> String {
        let mut line = Vec::new();
        append_timestamp(&mut line, Duration::new(seconds, micros * 1_000));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_timestamp_is_utc_with_microseconds() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(
            timestamp(1_709_251_199, 999_999),
            "2024-02-29T23:59:59.999999Z"
        );
        assert_eq!(
            timestamp(1_795_412_520, 123_456),
            "2026-11-23T05:42:00.123456Z"
        );
        assert_eq!(timestamp(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn every_day_follows_the_day_before_it() {
        let month_days = |year: u64, month: u64| match month {
            4 | 6 | 9 | 11 => 30,
            2 if year.is_multiple_of(4)
                && (!year.is_multiple_of(100) || year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            _ => 31,
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..200_000_u64 {
            let got = calendar(Duration::from_secs(number * SECONDS_PER_DAY));
            assert_eq!((got.year, got.month, got.day), (year, month, day));
            day += 1;
            if day > month_days(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
