//! How much room this member's disk has: found out in one place (`node::space`), asked wherever
//! something would write.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How often whoever waits for room looks again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a member does, by the room it has. Ascending: each does less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Enough,
    /// It says so, does not lead if another can, and keeps what is left for deletes and compaction.
    Short,
    /// It takes no entries from a leader: what it has taken can still be written.
    Full,
    /// Not even what it has taken can be written: it applies nothing.
    Spent,
}

const LEVELS: [Level; 4] = [Level::Enough, Level::Short, Level::Full, Level::Spent];

/// See the module. Cheap to ask.
///
/// The disk is looked at now and then; what is taken of it between two looks is counted here, so that
/// however much that is, it is never more than the last look found.
#[derive(Debug)]
pub struct Headroom {
    level: AtomicU8,
    available: AtomicU64,
    /// Bytes taken since the start: written to memtables, or given to the log.
    taken: AtomicU64,
    /// What `taken` may come to before something is applied.
    allowed: AtomicU64,
    closing: AtomicBool,
}

impl Default for Headroom {
    /// Enough, until it is found out.
    fn default() -> Headroom {
        Headroom {
            level: AtomicU8::new(0),
            available: AtomicU64::new(u64::MAX),
            taken: AtomicU64::new(0),
            allowed: AtomicU64::new(u64::MAX),
            closing: AtomicBool::new(false),
        }
    }
}

impl Headroom {
    /// What was found out: the level, and the bytes that may still be written.
    pub fn found(&self, level: Level, available_bytes: u64) {
        self.available.store(available_bytes, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Release);
    }

    /// Takes note of `bytes` that will be on the disk and that a look may not see yet.
    #[inline]
    pub fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes taken since the start.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Until the next look, nothing is applied once [`Headroom::taken`] is `taken` or more.
    pub fn allow(&self, taken: u64) {
        self.allowed.store(taken, Ordering::Relaxed);
    }

    /// The level.
    pub fn level(&self) -> Level {
        LEVELS[usize::from(self.level.load(Ordering::Acquire))]
    }

    /// Whether there is less than enough.
    pub fn is_short(&self) -> bool {
        self.level() >= Level::Short
    }

    /// Bytes that may still be written, as of the last look.
    pub fn available_bytes(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// Nobody waits for room any more: the member is stopping.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether the member is stopping.
    pub fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether what is applied next can be written, and what was written can be flushed.
    pub fn may_apply(&self) -> bool {
        self.level() < Level::Spent && self.taken() < self.allowed.load(Ordering::Relaxed)
    }

    /// Waits until what is applied next can be written, and what was written can be flushed. Whether it
    /// can; it cannot where the member stops meanwhile. Blocks as long as the disk is full.
    pub fn wait_to_apply(&self) -> bool {
        while !self.may_apply() {
            if self.is_closed() {
                return false;
            }
            crate::threads::idle();
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }

    /// Waits until entries may be taken from a leader.
    pub async fn wait_to_take(&self) {
        while self.level() >= Level::Full {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nothing_is_applied_without_room_and_a_stop_ends_the_wait() {
        let headroom = Headroom::default();
        assert!(headroom.wait_to_apply() && !headroom.is_short());
        headroom.found(Level::Full, 1);
        assert!(headroom.wait_to_apply() && headroom.is_short());
        headroom.found(Level::Spent, 0);
        headroom.close();
        assert!(!headroom.wait_to_apply());
    }

    #[test]
    fn between_two_looks_no_more_is_taken_than_the_last_one_found() {
        let headroom = Arc::new(Headroom::default());
        headroom.take(5);
        headroom.allow(10);
        assert!(headroom.wait_to_apply(), "5 of 10 are taken");
        headroom.take(5);
        let waiting = headroom.clone();
        let waiter = std::thread::spawn(move || waiting.wait_to_apply());
        std::thread::sleep(LOOK_EVERY * 3);
        assert!(!waiter.is_finished(), "10 of 10 are taken");
        headroom.allow(headroom.taken() + 1);
        assert!(waiter.join().expect("no panic"));
    }

    #[tokio::test]
    async fn entries_are_taken_again_once_there_is_room() {
        let headroom = Headroom::default();
        headroom.found(Level::Full, 0);
        let waiting = headroom.wait_to_take();
        let freeing = async {
            tokio::time::sleep(LOOK_EVERY * 2).await;
            headroom.found(Level::Short, 9);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = waiting => assert_eq!(headroom.level(), Level::Short),
            () = freeing => unreachable!(),
        }
    }
}
