//! When the log is cut: what is applied is flushed, so that a start does not apply it anew and the log need not keep it.
//! Pure: it is told how long the log is.

/// A log that grew by this much since it was cut is cut: bounds disk use and replay. Bytes.
const GROWTH_MAX: u64 = 64 << 20;
/// The same where the disk is short of room: what is flushed need not be kept in the log.
const GROWTH_SHORT: u64 = 8 << 20;
/// The same where nobody has written for [`IDLE_LOOKS`]: nobody is held up by a flush then, and a start after it has
/// nothing to apply anew. Less is applied soon, and small files would only have to be rewritten.
const GROWTH_IDLE: u64 = 4 << 20;
/// See [`GROWTH_IDLE`]: looks are a tenth of a second apart.
const IDLE_LOOKS: u32 = 100;

/// How the log has grown since it was cut.
pub struct LogGrowth {
    /// How long it was, and what was applied.
    cut_at: u64,
    cut_index: u64,
    /// How long it was at the last look.
    seen: u64,
    /// How many looks have found it as long as the one before.
    idle_looks: u32,
}

impl LogGrowth {
    /// Of a log that is as if it had been cut now. `appended`: bytes.
    pub fn since(appended: u64, applied: u64) -> LogGrowth {
        LogGrowth {
            cut_at: appended,
            cut_index: applied,
            seen: appended,
            idle_looks: 0,
        }
    }

    /// Looks at the log: whether it is to be cut. `entries_max`: after how many entries it is in any case.
    pub fn is_due(
        &mut self,
        appended: u64,
        applied: u64,
        is_short: bool,
        entries_max: u64,
    ) -> bool {
        self.idle_looks = match self.seen == appended {
            true => self.idle_looks.saturating_add(1),
            false => 0,
        };
        self.seen = appended;
        let growth_max = match is_short {
            true => GROWTH_SHORT,
            false if self.idle_looks >= IDLE_LOOKS => GROWTH_IDLE,
            false => GROWTH_MAX,
        };
        let grown = appended.saturating_sub(self.cut_at) > growth_max;
        grown || applied.saturating_sub(self.cut_index) > entries_max
    }

    /// It is cut.
    pub fn cut(&mut self, appended: u64, applied: u64) {
        self.cut_at = appended;
        self.cut_index = applied;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: u64 = 10_000;

    fn looks(growth: &mut LogGrowth, appended: u64, count: u32) -> Vec<u32> {
        let due = |_: &u32| growth.is_due(appended, 1, false, FEW);
        (0..count).filter(due).collect()
    }

    #[test]
    fn a_log_that_grew_is_cut_by_bytes_and_by_entries() {
        let mut growth = LogGrowth::since(100, 7);
        assert!(!growth.is_due(100 + GROWTH_MAX, 7 + FEW, false, FEW));
        assert!(growth.is_due(101 + GROWTH_MAX, 7 + FEW, false, FEW));
        assert!(growth.is_due(100, 8 + FEW, false, FEW));
        assert!(!growth.is_due(100 + GROWTH_SHORT, 7, true, FEW));
        assert!(growth.is_due(101 + GROWTH_SHORT, 7, true, FEW));
        growth.cut(101 + GROWTH_SHORT, 7);
        assert!(!growth.is_due(101 + GROWTH_SHORT, 7, true, FEW));
    }

    #[test]
    fn a_log_that_nobody_writes_to_any_more_is_cut_once() {
        let mut growth = LogGrowth::since(0, 0);
        let long = GROWTH_IDLE + 1;
        // The first look finds that it has grown.
        assert!(looks(&mut growth, long, IDLE_LOOKS).is_empty());
        assert_eq!(looks(&mut growth, long, 1), [0]);
        growth.cut(long, 1);
        assert!(looks(&mut growth, long, 1000).is_empty());
    }

    #[test]
    fn a_log_that_hardly_grew_or_still_grows_is_left_alone() {
        let mut growth = LogGrowth::since(0, 0);
        assert!(looks(&mut growth, GROWTH_IDLE, 1000).is_empty());
        for more in 1..1000 {
            let appended = GROWTH_IDLE + more;
            let due = looks(&mut growth, appended, IDLE_LOOKS);
            assert!(due.is_empty(), "{more}");
        }
    }
}
