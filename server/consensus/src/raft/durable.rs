//! Which of the log's entries are durable here.
//!
//! openraft applies what is committed as soon as it was handed to the log, and others may have
//! committed it while this member's disk still writes. What is applied must never be ahead of the
//! own log: the engine persists it, and after a crash the log would begin to lie below it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use parking_lot::Mutex;

/// See the module. It does no IO: the log store tells it what happens to the log.
#[derive(Default)]
pub(super) struct Durable {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the last append.
    appends: u64,
    /// Appends that are not durable, oldest first; their indexes ascend without a gap.
    unflushed: VecDeque<Append>,
    /// What openraft's worker wants to have done, which applies one thing after the other.
    awaited: Option<Awaited>,
}

struct Awaited {
    indexes: RangeInclusive<u64>,
    /// Told the last durable entry of them, and when it became so.
    then: Then,
}

/// When what is waited for became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Before it was waited for: this is told on the thread of who waits, which must not be held up.
    Before,
    /// By this flush: this is told on the thread of the log's writer.
    ByFlush,
}

type Then = Box<dyn FnOnce(u64, Reached) + Send>;

/// Somebody waits, until this is dropped.
pub(super) struct Waiting<'d>(&'d Durable);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // What it holds may end with it, so not under the lock.
        let awaited = self.0.state.lock().awaited.take();
        drop(awaited);
    }
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
        let Some((durable, then)) = state.take_reached() else {
            return;
        };
        drop(state);
        then(durable, Reached::ByFlush);
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

    /// The last durable entry of those up to `last`; 0 for none.
    pub fn reached(&self, last: u64) -> u64 {
        self.state.lock().upto(last).unwrap_or(0)
    }

    /// Calls `then` once the first entry of a range is durable, with the last one that is: at once, or
    /// on the thread that tells of the flush. For one caller at a time; dropping what is returned is
    /// giving up.
    pub fn when_reached(&self, indexes: RangeInclusive<u64>, then: Then) -> Waiting<'_> {
        let mut state = self.state.lock();
        state.awaited = Some(Awaited { indexes, then });
        let reached = state.take_reached();
        drop(state);
        if let Some((durable, then)) = reached {
            then(durable, Reached::Before);
        }
        Waiting(self)
    }
}

impl State {
    /// What is waited for, where it has come.
    fn take_reached(&mut self) -> Option<(u64, Then)> {
        let awaited = self.awaited.as_ref()?;
        let durable = self.upto(*awaited.indexes.end())?;
        let is_reached = durable >= *awaited.indexes.start();
        let awaited = self.awaited.take_if(|_| is_reached)?;
        Some((durable, awaited.then))
    }

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
    use std::sync::Arc;

    use super::*;

    type Told = Arc<Mutex<Option<u64>>>;

    fn wait<'d>(durable: &'d Durable, indexes: RangeInclusive<u64>) -> (Told, Waiting<'d>) {
        let told = Told::default();
        let tell = told.clone();
        let then = move |durable, _| *tell.lock() = Some(durable);
        (told, durable.when_reached(indexes, Box::new(then)))
    }

    /// What is durable of a range now; none while nothing of it is.
    fn now(durable: &Durable, indexes: RangeInclusive<u64>) -> Option<u64> {
        let (told, _given_up) = wait(durable, indexes);
        *told.lock()
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
        assert_eq!(durable.reached(9), 7);
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

    #[test]
    fn who_waits_is_told_by_the_flush_once() {
        let durable = Durable::default();
        let appends = [1..=1, 2..=3, 4..=4].map(|indexes| durable.appending(indexes));
        let (told, _waiting) = wait(&durable, 2..=4);
        durable.flushed(appends[0]);
        assert_eq!(*told.lock(), None, "the entry before it");
        durable.flushed(appends[1]);
        assert_eq!(told.lock().take(), Some(3));
        durable.flushed(appends[2]);
        assert_eq!(*told.lock(), None, "it waits no more");
    }

    #[test]
    fn who_gave_up_is_not_told_and_holds_nothing() {
        let durable = Durable::default();
        let append = durable.appending(1..=1);
        let (told, waiting) = wait(&durable, 1..=1);
        drop(waiting);
        assert_eq!(Arc::strong_count(&told), 1);
        durable.flushed(append);
        assert_eq!(*told.lock(), None);
    }
}
