//! Which of the log's entries are durable here.
//!
//! openraft applies what is committed as soon as it was handed to the log, and others may have
//! committed it while this member's disk still writes. What is applied must never be ahead of the
//! own log: the engine persists it, and after a crash the log would begin to lie below it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module. It does no IO: the log store tells it what happens to the log.
#[derive(Debug, Default)]
pub(super) struct Durable {
    state: Mutex<State>,
    /// Wakes the one who waits: openraft's worker that applies.
    flushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last append.
    appends: u64,
    /// Appends that are not durable, oldest first; their indexes ascend without a gap.
    unflushed: VecDeque<Append>,
    is_awaited: bool,
}

#[derive(Debug)]
struct Append {
    /// Tells it from a truncated one of the same indexes, whose flush may still be told.
    number: u64,
    indexes: RangeInclusive<u64>,
}

impl Durable {
    /// Entries are about to be appended, after all before them. Returns the append's number.
    pub fn appending(&self, indexes: RangeInclusive<u64>) -> u64 {
        let mut state = self.state.lock();
        state.appends += 1;
        let number = state.appends;
        state.unflushed.push_back(Append { number, indexes });
        number
    }

    /// An append is durable, and so is every one before it.
    pub fn flushed(&self, number: u64) {
        let mut state = self.state.lock();
        let is_flushed = |append: &Append| append.number <= number;
        while state.unflushed.front().is_some_and(is_flushed) {
            state.unflushed.pop_front();
        }
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            self.flushed.notify_one();
        }
    }

    /// The entries from `from` on were truncated.
    pub fn truncated(&self, from: u64) {
        let mut state = self.state.lock();
        while let Some(last) = state.unflushed.back_mut() {
            if *last.indexes.start() < from {
                let end = (*last.indexes.end()).min(from - 1);
                last.indexes = *last.indexes.start()..=end;
                return;
            }
            state.unflushed.pop_back();
        }
    }

    /// Whether the entry of this index is durable, if there is one.
    pub fn is_reached(&self, index: u64) -> bool {
        self.state.lock().upto(index) == Some(index)
    }

    /// Waits until the first entry of a range is durable; the last one that is. For one caller at a
    /// time. Dropping the future is giving up.
    pub async fn reached(&self, indexes: RangeInclusive<u64>) -> u64 {
        loop {
            {
                let mut state = self.state.lock();
                match state.upto(*indexes.end()) {
                    Some(upto) if upto >= *indexes.start() => return upto,
                    _ => state.is_awaited = true,
                }
            }
            self.flushed.notified().await;
        }
    }
}

impl State {
    /// The last durable entry up to `index`: the one before the first that is not. None where that
    /// is the very first.
    fn upto(&self, index: u64) -> Option<u64> {
        let first = self.unflushed.front().map(|append| *append.indexes.start());
        match first {
            Some(first) if first <= index => first.checked_sub(1),
            _ => Some(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    /// What is durable of a range now; none while nothing of it is.
    fn now(durable: &Durable, indexes: RangeInclusive<u64>) -> Option<u64> {
        pin!(durable.reached(indexes)).now_or_never()
    }

    #[test]
    fn what_was_not_appended_here_is_durable() {
        let durable = Durable::default();
        assert_eq!(now(&durable, 1..=70), Some(70));
    }

    #[test]
    fn an_entry_is_durable_once_its_append_is() {
        let durable = Durable::default();
        let first = durable.appending(5..=7);
        let second = durable.appending(8..=9);
        assert_eq!(now(&durable, 3..=9), Some(4), "what was there before");
        assert_eq!(now(&durable, 5..=9), None);
        durable.flushed(first);
        assert_eq!(now(&durable, 5..=9), Some(7));
        assert_eq!(now(&durable, 8..=8), None);
        assert!(durable.is_reached(7) && !durable.is_reached(8));
        durable.flushed(second);
        assert_eq!(now(&durable, 8..=9), Some(9));
    }

    #[test]
    fn a_flush_of_what_was_truncated_says_nothing_of_what_took_its_place() {
        let durable = Durable::default();
        let old = durable.appending(5..=9);
        durable.truncated(7);
        let new = durable.appending(7..=8);
        durable.flushed(old);
        assert_eq!(now(&durable, 5..=8), Some(6));
        assert_eq!(now(&durable, 7..=8), None);
        durable.flushed(new);
        assert_eq!(now(&durable, 7..=8), Some(8));
    }

    #[test]
    fn the_very_first_entry_is_waited_for_too() {
        let durable = Durable::default();
        let first = durable.appending(0..=0);
        assert_eq!(now(&durable, 0..=0), None);
        durable.flushed(first);
        assert_eq!(now(&durable, 0..=0), Some(0));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_flush() {
        let durable = std::sync::Arc::new(Durable::default());
        let append = durable.appending(1..=1);
        let waiting = tokio::spawn({
            let durable = durable.clone();
            async move { durable.reached(1..=1).await }
        });
        tokio::task::yield_now().await;
        durable.flushed(append);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
