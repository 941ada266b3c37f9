//! What happens when this member's disk fills up. It is this member's matter: it says so, hands
//! leadership over, then takes no more entries, and goes on by itself once there is room. The reserve
//! is given up meanwhile, so that deletes and compaction have room.
//!
//! The cluster's NOSPACE alarm is for the quota. For disks it is raised only where so many voters are
//! short of room that the others are no quorum ([`leaves_no_quorum`]): then no write that adds can
//! go on, and what is left is kept for those that free. It is cleared by people, as etcd's is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::fs::{self, Reserve};
use crate::storage::Engine;
use crate::store::{Headroom, Level, Store};
use crate::threads::{
    self,
    steps::{self, Step, Steps},
};
use crate::wal::Space;

/// The reserve's file in the data directory.
pub const FILE: &str = "RESERVE";
/// Room for the log's entries of deletes and compactions, and for the engine to reclaim. Bytes.
const RESERVE_BYTES: u64 = 8 << 20;
/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Beyond what lies in memtables and has to be flushed: below this nothing is applied. Bytes.
const SPENT_BYTES: u64 = 2 << 20;
/// The same: below this no entries are taken.
const FULL_BYTES: u64 = 8 << 20;
/// The same: below this, and what a compaction takes, the member is short of room.
const SHORT_BYTES: u64 = 16 << 20;
/// What a compaction writes before it frees what it read, at most as much as the store. Bytes.
const COMPACTION_BYTES: u64 = 256 << 20;
/// What must be free beyond a limit before the member does more again. Bytes.
const EASE_BYTES: u64 = 4 << 20;
/// Room that a start takes before anything is applied: the engine's lists of files. Bytes.
const START_BYTES: u64 = 1 << 20;
/// How often a start without room looks again.
const START_LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of the disk. Bytes.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// Free, and what the reserve gives back.
    available: u64,
    /// Unflushed.
    memtables: u64,
    /// The store's files.
    size: u64,
    /// Whether the log found no room for its next segment.
    log_full: bool,
}

impl Found {
    /// Bytes that may be written to memtables, or given to the log, and all can still be flushed.
    fn may_be_written(&self) -> u64 {
        self.available.saturating_sub(self.memtables + SPENT_BYTES)
    }

    /// The level, coming from another: going up takes more than what brought it down.
    fn level(&self, before: Level) -> Level {
        let is_at = |level: Level, limit: u64| {
            let ease = if before >= level { EASE_BYTES } else { 0 };
            self.available < self.memtables + limit + ease
        };
        if is_at(Level::Spent, SPENT_BYTES) {
            return Level::Spent;
        }
        if is_at(Level::Full, FULL_BYTES) {
            return Level::Full;
        }
        let short = SHORT_BYTES + self.size.min(COMPACTION_BYTES);
        match self.log_full || is_at(Level::Short, short) {
            true => Level::Short,
            false => Level::Enough,
        }
    }
}

/// Whether the voters that are not `short` of room are no quorum.
pub fn leaves_no_quorum(voters: usize, short: usize) -> bool {
    voters - short.min(voters) < voters / 2 + 1
}

/// See the module.
pub struct SpaceGuard {
    data_dir: PathBuf,
    reserve: Mutex<Option<Reserve>>,
    /// The log found no room for its next segment.
    log_full: AtomicBool,
    /// Whether the log's segments take the data directory's room.
    log_beside: bool,
    memtables: AtomicU64,
    /// What had been taken when the last look began.
    last_look: AtomicU64,
    /// The same of the look before: what was taken since may not show in what the last one found.
    seen: AtomicU64,
    /// There once the member has opened it.
    store: OnceLock<Arc<Store>>,
}

impl SpaceGuard {
    /// Makes the reserve, once there is room to start at all. A disk too full for it is told, and
    /// served from all the same. Blocks while there is none.
    pub fn new(data_dir: &Path, wal_dir: &Path) -> SpaceGuard {
        let guard = SpaceGuard {
            data_dir: data_dir.to_path_buf(),
            reserve: Mutex::new(None),
            log_full: AtomicBool::new(false),
            log_beside: fs::is_same_filesystem(data_dir, wal_dir).unwrap_or(true),
            memtables: AtomicU64::new(0),
            last_look: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            store: OnceLock::new(),
        };
        match Reserve::ensure(&data_dir.join(FILE), RESERVE_BYTES) {
            Ok(reserve) => *guard.reserve.lock() = Some(reserve),
            Err(error) => crate::log!(warn, "no space is held in reserve", error = %error),
        }
        guard.wait_to_start();
        guard
    }

    /// A start on a full disk would fail and be tried for ever: it waits instead. On a stage, where nobody
    /// can wait, it is as if the process were killed meanwhile.
    fn wait_to_start(&self) {
        let mut said = false;
        while self.free_bytes().is_some_and(|free| free < START_BYTES) {
            self.change_reserve(Reserve::release);
            if !said && self.free_bytes().is_some_and(|free| free < START_BYTES) {
                said = true;
                crate::log!(error, "the disk is full: waiting for room before starting",
                    "data-dir" = %self.data_dir.display(), "needed-bytes" = START_BYTES);
            }
            if said && steps::is_on_stage() {
                steps::end_member();
            }
            if said {
                std::thread::sleep(START_LOOK_EVERY);
            }
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        match fs::space(&self.data_dir) {
            Ok(space) => Some(space.free_bytes),
            Err(error) => {
                crate::log!(warn, "the disk does not tell its room", error = %error);
                None
            }
        }
    }

    /// Takes note of what the log found. Runs on the log's thread.
    pub fn found(&self, space: Space) {
        let full = space == Space::Exhausted;
        if full {
            crate::log!(
                error,
                "the log's disk is full: no room for its next segment"
            );
        } else {
            crate::log!(info, "the log's disk has room again");
        }
        self.log_full.store(full, Ordering::Relaxed);
    }

    /// Whether the log may take `bytes` for a segment: what is in memory must still be flushed.
    pub fn may_grow_log(&self, bytes: u64) -> bool {
        if !self.log_beside {
            return true;
        }
        let headroom = self.store.get().map(|store| store.headroom());
        let unseen = headroom.map_or(0, |headroom| {
            headroom.taken() - self.seen.load(Ordering::Relaxed)
        });
        let needed = bytes + self.memtables.load(Ordering::Relaxed) + unseen + FULL_BYTES;
        let may = self.free_bytes().is_none_or(|free| free >= needed);
        if let (true, Some(headroom)) = (may, headroom) {
            headroom.take(bytes);
        }
        may
    }

    /// Looks at the disk at once, and then for as long as the member runs, on a thread of its own: a
    /// file system may let one wait.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn watch(self: Arc<SpaceGuard>, store: Arc<Store>) -> std::io::Result<()> {
        let store = self.store.get_or_init(|| store).clone();
        // Before anything is applied: a log that is replayed takes room as well.
        self.look(store.headroom(), &store.engine());
        let next = Instant::now() + LOOK_EVERY;
        let looks = Looks {
            guard: self,
            store,
            next,
        };
        steps::start("engram-space", looks).map(drop)
    }

    fn look(&self, headroom: &Headroom, engine: &Engine) {
        let begun = headroom.taken();
        // The memtables first: what is flushed meanwhile is counted twice rather than not at all.
        let memtables = engine.memtable_bytes();
        let Some(free) = self.free_bytes() else {
            headroom.allow(u64::MAX);
            return;
        };
        self.memtables.store(memtables, Ordering::Relaxed);
        let held = self.reserve.lock().as_ref().is_some_and(Reserve::held);
        let found = Found {
            available: free + if held { RESERVE_BYTES } else { 0 },
            memtables,
            size: engine.size_bytes().saturating_sub(memtables),
            log_full: self.log_full.load(Ordering::Relaxed),
        };
        let before = headroom.level();
        let level = found.level(before);
        headroom.found(level, found.available);
        let seen = self.last_look.swap(begun, Ordering::Relaxed);
        self.seen.store(seen, Ordering::Relaxed);
        headroom.allow(seen + found.may_be_written());
        if level != before {
            tell(before, level, &found);
        }
        if (level >= Level::Short) != (before >= Level::Short) {
            // A compaction that runs out of room would end the process; parts are tried one by one.
            engine.compact_by_itself(level < Level::Short);
        }
        match level {
            Level::Enough if !held => self.change_reserve(Reserve::restore),
            Level::Enough => {}
            _ => self.change_reserve(Reserve::release),
        }
    }

    fn change_reserve(&self, change: impl FnOnce(&mut Reserve) -> std::io::Result<()>) {
        let mut reserve = self.reserve.lock();
        if let Err(error) = reserve.as_mut().map_or(Ok(()), change) {
            crate::log!(warn, "the reserve could not be changed", error = %error);
        }
    }
}

/// The looks of a guard, one a step.
struct Looks {
    guard: Arc<SpaceGuard>,
    store: Arc<Store>,
    next: Instant,
}

impl Steps for Looks {
    fn step(&mut self, may_wait: bool) -> Step {
        let wait = self.next.saturating_duration_since(Instant::now());
        if !wait.is_zero() && !may_wait {
            return Step::Nothing;
        }
        std::thread::sleep(wait);
        let headroom = self.store.headroom();
        if headroom.is_closed() {
            return Step::Ended;
        }
        threads::on_disk(|| self.guard.look(headroom, &self.store.engine()));
        self.next = Instant::now() + LOOK_EVERY;
        Step::Worked
    }
}

fn tell(before: Level, level: Level, found: &Found) {
    let what = match level {
        Level::Enough => {
            crate::log!(
                info,
                "there is room on this member's disk again",
                "available-bytes" = found.available
            );
            return;
        }
        Level::Short if before > Level::Short => {
            "this member's disk is still short of room: it takes \
            entries again"
        }
        Level::Short => {
            "this member's disk is short of room: it is not ready, and leads only where \
            nobody else can; free space, and it goes on by itself"
        }
        Level::Full => {
            "this member's disk is full: it takes no more entries; free space, and it goes \
            on by itself"
        }
        Level::Spent => {
            "this member's disk is full: it applies nothing; free space, and it goes on \
            by itself"
        }
    };
    crate::log!(
        error,
        what,
        "available-bytes" = found.available,
        "unflushed-bytes" = found.memtables,
        "store-bytes" = found.size,
        "log-disk-full" = found.log_full
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn found(available: u64, memtables: u64, size: u64) -> Found {
        Found {
            available: available * MIB,
            memtables: memtables * MIB,
            size: size * MIB,
            log_full: false,
        }
    }

    #[test]
    fn a_member_does_less_the_less_room_there_is_beyond_what_must_be_flushed() {
        let fresh =
            |available, memtables, size| found(available, memtables, size).level(Level::Enough);
        assert_eq!(fresh(100, 10, 60), Level::Enough);
        assert_eq!(
            fresh(80, 10, 60),
            Level::Short,
            "a compaction would not fit"
        );
        assert_eq!(fresh(1000, 10, 100_000), Level::Enough);
        assert_eq!(fresh(17, 10, 60), Level::Full);
        assert_eq!(fresh(11, 10, 60), Level::Spent);
    }

    #[test]
    fn it_does_more_again_only_with_some_room_to_spare() {
        assert_eq!(found(19, 10, 0).level(Level::Enough), Level::Short);
        assert_eq!(found(19, 10, 0).level(Level::Full), Level::Full);
        assert_eq!(found(23, 10, 0).level(Level::Full), Level::Short);
        assert_eq!(found(28, 10, 0).level(Level::Short), Level::Short);
        assert_eq!(found(31, 10, 0).level(Level::Short), Level::Enough);
    }

    #[test]
    fn a_log_without_room_makes_a_member_short_of_it() {
        let full = Found {
            log_full: true,
            ..found(100_000, 0, 0)
        };
        assert_eq!(full.level(Level::Enough), Level::Short);
    }

    #[test]
    fn the_alarm_is_for_voters_that_leave_no_quorum() {
        assert!(leaves_no_quorum(1, 1) && !leaves_no_quorum(1, 0));
        assert!(!leaves_no_quorum(3, 1) && leaves_no_quorum(3, 2));
        assert!(!leaves_no_quorum(5, 2) && leaves_no_quorum(5, 3));
        assert!(leaves_no_quorum(2, 1));
    }
}
