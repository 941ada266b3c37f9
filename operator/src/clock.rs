//! The time as the API server has it. Ages are computed from what it has stamped (when something was made, or is to
//! end), and the machine that the operator runs on may have any clock: what its answers say of the time is kept, as
//! far as the own clock contradicts it.

use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// A difference that is worth a word, in milliseconds.
const NOTEWORTHY: i64 = 10_000;

#[cfg(not(test))]
mod kept {
    use std::sync::atomic::{AtomicI64, Ordering};

    static AHEAD: AtomicI64 = AtomicI64::new(0);

    pub(super) fn get() -> i64 {
        AHEAD.load(Ordering::Relaxed)
    }

    pub(super) fn set(ahead: i64) {
        AHEAD.store(ahead, Ordering::Relaxed);
    }
}

/// Tests run beside each other, each on a thread of its own.
#[cfg(test)]
mod kept {
    use std::cell::Cell;

    thread_local!(static AHEAD: Cell<i64> = const { Cell::new(0) });

    pub(super) fn get() -> i64 {
        AHEAD.get()
    }

    pub(super) fn set(ahead: i64) {
        AHEAD.set(ahead);
    }
}

/// The time as the API server has it, as far as it is known.
#[must_use]
pub fn now() -> Timestamp {
    corrected(Timestamp::now(), kept::get())
}

fn corrected(own: Timestamp, ahead: i64) -> Timestamp {
    let by = SignedDuration::from_millis(ahead);
    own.checked_sub(by).unwrap_or(own)
}

/// An answer of the API server's says when it was written: between the own times at which it was asked for and at which
/// it came.
pub(crate) fn heard(date: &str, asked: Timestamp, came: Timestamp) {
    let Ok(date) = rfc2822::parse(date) else {
        return;
    };
    let (before, date) = (kept::get(), date.timestamp());
    let after = ahead(before, date, asked, came);
    if after == before {
        return;
    }
    if (after - before).abs() >= NOTEWORTHY {
        let seconds = after / 1000;
        tracing::warn!(
            seconds,
            "the clock of this machine differs so far from the API server's (ahead of it, or behind where negative): \
             that one's counts"
        );
    }
    kept::set(after);
}

/// By how many milliseconds the own clock is ahead: as it was known, as far as this answer allows that. What it says is
/// cut off to whole seconds.
fn ahead(known: i64, date: Timestamp, asked: Timestamp, came: Timestamp) -> i64 {
    let written = date.as_millisecond();
    let least = asked.as_millisecond() - written - 1000;
    let most = came.as_millisecond() - written;
    // A clock that was set in between says nothing.
    match least <= most {
        true => known.clamp(least, most),
        false => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_clock_that_is_right_is_left_alone_however_long_an_answer_takes() {
        for (date, asked, came) in [(0, 0, 3), (0, 990, 1_010), (4_000, 0, 30_000)] {
            assert_eq!(ahead(0, at(date), at(asked), at(came)), 0);
        }
    }

    #[test]
    fn one_that_is_wrong_is_put_right_within_a_second_and_stays_so() {
        for wrong in [600_000, -600_000] {
            let mut known = 0;
            for (date, late) in [(0, 5), (3_000, 2), (10_000, 25_000), (60_000, 5)] {
                let asked = at(date + wrong + 400);
                known = ahead(known, at(date), asked, at(date + wrong + 400 + late));
                assert!((known - wrong).abs() <= 1000, "{known}");
            }
            // It is set meanwhile.
            known = ahead(known, at(90_000), at(90_100), at(90_105));
            assert!(known.abs() <= 1000, "{known}");
        }
        // An answer that came before it was asked for says nothing.
        assert_eq!(ahead(7, at(0), at(9_000), at(-9_000)), 7);
    }

    #[test]
    fn what_an_answer_says_is_what_counts() {
        let own = Timestamp::now();
        heard("no date", own, own);
        assert!((now().as_second() - own.as_second()).abs() <= 1);
        heard("Thu, 01 Jan 2026 00:00:00 GMT", own, own);
        assert!(
            (now().as_second() - at(0).as_second()).abs() <= 2,
            "{}",
            now()
        );
    }
}
