//! Pulses: what each thread that others rely on is doing, and since when.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A thread that has work and made no turn for so long is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);
/// A wait for the disk that is told of.
pub(super) const SLOW_DISK: Duration = Duration::from_secs(5);
/// How often a thread that serves many tasks turns by itself.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The pulses of this process.
static PULSES: Pulses = Pulses::new();

thread_local! {
    static OWN: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// It waits for work.
    Idle = 0,
    /// It works.
    Work = 1,
    /// It waits for the disk: nobody knows for how long, and no restart makes it faster.
    Disk = 2,
}

/// The pulse of a thread, or of a task that others rely on.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    /// Milliseconds since the first pulse, times four, plus [`Doing`].
    state: AtomicU64,
    /// Whether it may wait for what another has on its way to the disk.
    leans_on_disk: bool,
}

impl Pulse {
    /// A pulse that waits for work. It is told of for as long as it lives.
    pub fn new(name: &str) -> Arc<Pulse> {
        PULSES.begin(name, false)
    }

    /// A pulse that may stand still while another waits for the disk.
    pub fn leaning_on_disk(name: &str) -> Arc<Pulse> {
        PULSES.begin(name, true)
    }

    /// It has work, and has come round.
    pub fn turn(&self) {
        self.set(Doing::Work);
    }

    /// It waits for work.
    pub fn idle(&self) {
        self.set(Doing::Idle);
    }

    /// Waits for what is another's: work, somebody who leads, a quorum. Afterwards it has work.
    pub async fn rest<R>(&self, other: impl Future<Output = R>) -> R {
        self.idle();
        let done = other.await;
        self.turn();
        done
    }

    /// Does what waits for the disk. Afterwards it has work.
    pub fn on_disk<R>(&self, work: impl FnOnce() -> R) -> R {
        self.set(Doing::Disk);
        let done = work();
        self.turn();
        done
    }

    fn set(&self, doing: Doing) {
        self.state
            .store(now_ms() << 2 | doing as u64, Ordering::Relaxed);
    }

    /// How long it has worked without a turn, or waited for the disk.
    fn since(&self, doing: Doing) -> Option<Duration> {
        let state = self.state.load(Ordering::Relaxed);
        let since = Duration::from_millis(now_ms().saturating_sub(state >> 2));
        (state & 3 == doing as u64).then_some(since)
    }

    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap() << 2;
        self.state.fetch_sub(by, Ordering::Relaxed);
    }
}

/// Milliseconds since a moment long enough ago for a test to make a pulse older.
fn now_ms() -> u64 {
    const BEFORE_FIRST_MS: u64 = 3_600_000;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let elapsed = FIRST.get_or_init(Instant::now).elapsed().as_millis();
    u64::try_from(elapsed).unwrap_or(u64::MAX >> 3) + BEFORE_FIRST_MS
}

/// Makes a pulse the calling thread's.
pub(super) fn wear(pulse: Arc<Pulse>) {
    OWN.set(Some(pulse));
}

fn with_own(tell: impl FnOnce(&Pulse)) {
    OWN.with_borrow(|own| {
        if let Some(own) = own {
            tell(own);
        }
    });
}

/// The calling thread has come round. Without a pulse (in tests) nothing happens, here and below.
pub fn turn() {
    with_own(Pulse::turn);
}

/// The calling thread waits for work from here on.
pub fn idle() {
    with_own(Pulse::idle);
}

/// Does what waits for the disk.
pub fn on_disk<R>(work: impl FnOnce() -> R) -> R {
    with_own(|own| own.set(Doing::Disk));
    let done = work();
    with_own(Pulse::turn);
    done
}

/// Turns once a second for as long as the runtime of the calling thread comes round: for a thread
/// that serves many tasks.
pub async fn beat() -> Infallible {
    let mut every = tokio::time::interval(BEAT_EVERY);
    loop {
        every.tick().await;
        turn();
    }
}

/// Pulses that are looked at together.
pub(super) struct Pulses(Mutex<Vec<Weak<Pulse>>>);

impl Pulses {
    /// None yet.
    pub(super) const fn new() -> Pulses {
        Pulses(Mutex::new(Vec::new()))
    }

    pub(super) fn begin(&self, name: &str, leans_on_disk: bool) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            name: name.to_owned(),
            state: AtomicU64::new(0),
            leans_on_disk,
        });
        pulse.idle();
        let mut pulses = self.0.lock();
        pulses.retain(|other| other.strong_count() > 0);
        pulses.push(Arc::downgrade(&pulse));
        pulse
    }

    fn living(&self) -> Vec<Arc<Pulse>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn stuck(&self) -> Option<String> {
        let living = self.living();
        let disk_waits = living.iter().filter_map(|pulse| pulse.since(Doing::Disk));
        let disk_is_slow = disk_waits.max().is_some_and(|longest| longest > SLOW_DISK);
        let of = |pulse: &Arc<Pulse>| {
            let since = pulse.since(Doing::Work)?;
            let is_stuck = since >= STUCK_AFTER && !(pulse.leans_on_disk && disk_is_slow);
            is_stuck.then(|| format!("{} has made no turn for {} s", pulse.name, since.as_secs()))
        };
        let stuck: Vec<String> = living.iter().filter_map(of).collect();
        (!stuck.is_empty()).then(|| stuck.join(", "))
    }

    pub(super) fn slow_disk(&self) -> Vec<String> {
        let of = |pulse: &Arc<Pulse>| {
            let since = pulse.since(Doing::Disk)?;
            let text = || {
                let seconds = since.as_secs();
                format!("{} waits for the disk since {seconds} s", pulse.name)
            };
            (since >= SLOW_DISK).then(text)
        };
        self.living().iter().filter_map(of).collect()
    }
}

/// Which threads have work and have made no turn for [`STUCK_AFTER`], in words; none where all turn.
pub fn stuck() -> Option<String> {
    PULSES.stuck()
}

/// Which threads have waited long for the disk, in words.
pub fn slow_disk() -> Vec<String> {
    PULSES.slow_disk()
}
