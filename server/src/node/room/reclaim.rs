//! Reclaiming in the background: what the engine holds and nobody can read is given back to the file
//! system by itself, before the quota or the disk would speak of it.
//!
//! One job at a time, on the blocking pool, part by part. It rests as long as it works and writes at
//! most [`BYTES_PER_SECOND_MAX`], unless the quota or the disk is nearly full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::Store;

/// Idle bytes that are left alone: the engine's own compactions come round to them.
const IDLE_MAX: u64 = 256 << 20;
/// The least idle bytes that are worth a job where space is short.
const IDLE_SHORT_MAX: u64 = 8 << 20;
/// What stays free of the disk while a part is rewritten. Bytes.
const PART_SPARE: u64 = 4 << 20;
/// Bytes rewritten a second at most by a job that is in no hurry.
const BYTES_PER_SECOND_MAX: u64 = 64 << 20;
/// How long to rest after a look that found nothing to do, unless the store grows meanwhile.
const REST: Duration = Duration::from_secs(10);
/// How long to rest after a job that freed less than half of what was reckoned: a reader holds old
/// files, or the reckoning is wrong.
const REST_AFTER_LITTLE: Duration = Duration::from_secs(300);
/// The same where space is short.
const REST_SHORT: Duration = Duration::from_secs(2);

/// What is known of a store's space. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Files and memtables.
    pub size: u64,
    /// What of them is data, as the disk holds it.
    pub live: u64,
    /// The quota; 0 is none.
    pub quota: u64,
    /// Whether the disk is short of room.
    pub short: bool,
}

/// How a job goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Writes come first.
    Steady,
    /// Without rests: without space there are no writes soon.
    Urgent,
}

impl Space {
    /// Whether a job is to be done, and how.
    pub fn wants(&self) -> Option<Pace> {
        let idle = self.size.saturating_sub(self.live);
        let near_quota = self.quota > 0 && self.size >= self.quota / 4 * 3;
        let worth = self.worth();
        if (near_quota && idle > worth) || (self.short && idle > IDLE_SHORT_MAX) {
            return Some(Pace::Urgent);
        }
        (idle > IDLE_MAX && idle > self.live / 2).then_some(Pace::Steady)
    }

    /// The idle bytes that are worth a job near the quota.
    fn worth(&self) -> u64 {
        match self.quota {
            0 => IDLE_MAX,
            quota => (quota / 8).clamp(IDLE_SHORT_MAX / 2, IDLE_MAX),
        }
    }

    /// Whether it can want anything at all, however little of it is data: looking closer costs.
    fn is_worth_a_look(&self) -> bool {
        let nothing_live = Space { live: 0, ..*self };
        nothing_live.wants().is_some()
    }
}

/// See the module. Clones are one.
#[derive(Clone)]
pub struct Reclaimer {
    store: Arc<Store>,
    state: Arc<State>,
}

struct State {
    working: AtomicBool,
    ended: AtomicBool,
    rest: Mutex<Option<Rest>>,
}

/// When to look again.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    /// Or as soon as the store has this size: overwriting at full speed fills a small quota in less
    /// than a rest.
    size: u64,
}

impl Rest {
    fn is_over(&self, size: u64) -> bool {
        size >= self.size || Instant::now() >= self.until
    }
}

impl Reclaimer {
    /// For this store; it does nothing before the first look.
    pub fn new(store: Arc<Store>) -> Reclaimer {
        let state = State {
            working: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            rest: Mutex::new(None),
        };
        Reclaimer {
            store,
            state: Arc::new(state),
        }
    }

    /// A job that is under way ends after its part. The member is stopping.
    pub fn end(&self) {
        self.state.ended.store(true, Ordering::Relaxed);
    }

    /// Begins a job where one is due, and returns at once. On a runtime; every second or so.
    pub fn look(&self, size: u64, quota: u64) {
        let space = Space {
            size,
            live: size,
            quota,
            short: self.store.headroom().is_short(),
        };
        let resting = self
            .state
            .rest
            .lock()
            .is_some_and(|rest| !rest.is_over(size));
        if resting || !space.is_worth_a_look() || self.state.working.swap(true, Ordering::AcqRel) {
            return;
        }
        let reclaimer = self.clone();
        drop(crate::threads::spawn_blocking(move || {
            let rest = reclaimer.work(space);
            *reclaimer.state.rest.lock() = Some(rest);
            reclaimer.state.working.store(false, Ordering::Release);
        }));
    }

    /// Looks closer and does what is due; how long to rest then. Blocks.
    fn work(&self, space: Space) -> Rest {
        let space = Space {
            live: self.live_bytes(),
            ..space
        };
        let Some(pace) = space.wants() else {
            let pause = if space.short { REST_SHORT } else { REST };
            return Rest {
                until: Instant::now() + pause,
                size: space.size.saturating_add(space.worth()),
            };
        };
        let started = Instant::now();
        self.reclaim(pace);
        let idle = space.size.saturating_sub(space.live);
        let left = self.store.engine().size_bytes();
        let freed = space.size.saturating_sub(left);
        crate::log!(
            info,
            "reclaimed space of the store",
            "size-before-bytes" = space.size,
            "size-after-bytes" = left,
            "live-bytes" = space.live,
            took = started.elapsed()
        );
        let pause = match freed >= idle / 2 {
            true => Duration::ZERO,
            false if pace == Pace::Urgent => REST_SHORT.max(started.elapsed() * 4),
            false => REST_AFTER_LITTLE,
        };
        // Growth is no reason to try again what freed little.
        Rest {
            until: Instant::now() + pause,
            size: u64::MAX,
        }
    }

    /// What the data takes on the disk, as it is compressed there.
    fn live_bytes(&self) -> u64 {
        let (data, _) = self.store.data_and_size_bytes();
        let compression = self.store.engine().compression().clamp(0.0, 1.0);
        (data as f64 * compression) as u64
    }

    fn reclaim(&self, pace: Pace) {
        let engine = self.store.engine();
        for part in engine.reclaim_parts() {
            // What does not fit now, may once the parts before it have freed theirs.
            if self.store.headroom().available_bytes() < part.needs_bytes.saturating_add(PART_SPARE)
            {
                continue;
            }
            let started = Instant::now();
            engine.reclaim_part(&part);
            if pace == Pace::Steady {
                self.rest(started.elapsed(), part.bytes);
            }
            if self.state.ended.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Rests after a part, in short steps.
    fn rest(&self, worked: Duration, bytes: u64) {
        let least = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND_MAX as f64);
        let until = Instant::now() + worked.max(least.saturating_sub(worked));
        while Instant::now() < until && !self.state.ended.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20).min(until - Instant::now().min(until)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::Scratch;

    const MIB: u64 = 1 << 20;

    fn space(size: u64, live: u64) -> Space {
        Space {
            size: size * MIB,
            live: live * MIB,
            quota: 0,
            short: false,
        }
    }

    #[test]
    fn idle_space_is_reclaimed_above_half_of_the_data_and_a_fixed_amount() {
        assert_eq!(space(601, 150).wants(), Some(Pace::Steady));
        assert_eq!(space(400, 150).wants(), None, "250 MiB are left alone");
        assert_eq!(
            space(1400, 1000).wants(),
            None,
            "less than half of the data"
        );
        assert_eq!(space(1600, 1000).wants(), Some(Pace::Steady));
        assert!(!space(250, 0).is_worth_a_look());
    }

    #[test]
    fn a_store_near_its_quota_or_on_a_full_disk_is_reclaimed_at_once() {
        let quota = Space {
            quota: 64 * MIB,
            ..space(50, 10)
        };
        assert_eq!(quota.wants(), Some(Pace::Urgent));
        let full = Space {
            live: 48 * MIB,
            ..quota
        };
        assert_eq!(full.wants(), None, "it is the data that fills it");
        let short = Space {
            short: true,
            ..space(50, 10)
        };
        assert_eq!(short.wants(), Some(Pace::Urgent));
    }

    #[test]
    fn a_rest_ends_early_when_the_store_has_grown() {
        let scratch = Scratch::empty();
        let reclaimer = Reclaimer::new(scratch.store.clone());
        let nothing_due = Space {
            quota: 64 * MIB,
            ..space(50, 0)
        };
        let live = reclaimer.live_bytes();
        let rest = reclaimer.work(Space {
            size: live + 7 * MIB,
            ..nothing_due
        });
        assert!(!rest.is_over(live + 8 * MIB), "it has hardly grown");
        assert!(rest.is_over(live + 15 * MIB), "by an eighth of the quota");
    }

    #[tokio::test]
    async fn garbage_goes_while_the_store_serves() {
        let scratch = Scratch::empty();
        let mut noise = crate::store::fixture::noise(1);
        for _ in 0..120 {
            noise.rotate_left(1);
            scratch.put("key", &noise);
        }
        scratch.store.engine().flush();
        scratch.compact(scratch.store.revision());
        while !scratch.reclaim_step() {}
        let (_, size) = scratch.store.data_and_size_bytes();
        assert!(size > 7 * MIB, "{size}");
        let reclaimer = Reclaimer::new(scratch.store.clone());
        let quota = 9 * MIB;
        let deadline = Instant::now() + Duration::from_secs(20);
        // Again and again, as a member does: what the compaction's hash still reads is kept by the first.
        while scratch.store.engine().size_bytes() > MIB {
            assert!(Instant::now() < deadline, "nothing was reclaimed");
            reclaimer.look(scratch.store.engine().size_bytes(), quota);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
