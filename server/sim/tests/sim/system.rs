//! The system calls through which time and randomness come, ours on the simulator's thread: clocks
//! stand still but for what the simulator adds, a wait for events ends a member's turn, and random bytes
//! are the seed's. So whatever is linked, be it ours or a library, has no other clock.
//!
//! On every other thread they are the system's.

mod bells;

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use libc::{c_int, c_void, clockid_t, size_t, ssize_t, timespec};

/// Virtual nanoseconds begin here, so that subtracting a while from them is no underflow.
pub const EPOCH_NS: u64 = 1_000_000_000_000_000;
/// The wall clock at that moment: seconds since 1970.
const WALL_SECONDS: u64 = 1_790_000_000;
pub const NS_A_SECOND: u64 = 1_000_000_000;
pub const NS_A_MS: u64 = 1_000_000;

thread_local! {
    /// Virtual time; 0 where the thread is not a simulator's.
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// The time of the world, by which no member goes.
    static TRUE_NS: Cell<u64> = const { Cell::new(0) };
    /// How far the wall clock of the member that runs is ahead of the world's. Seconds.
    static WALL_AHEAD: Cell<i64> = const { Cell::new(0) };
    /// What the last wait for events was on, and until when: nothing happens before, unless it is woken.
    static WAITED: Cell<(c_int, u64)> = const { Cell::new((-1, 0)) };
    /// Woken where whoever runs would wait.
    static IDLE: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// A runtime that has nothing to do any more at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// What wakes it from outside is seen there.
    epoll: c_int,
    /// When its next timer is due, by its own clock.
    pub until_ns: u64,
}

impl Rest {
    /// Whether something has woken the runtime from outside since. It is forgotten by being asked.
    pub fn is_broken(&self) -> bool {
        bells::take_rung(self.epoll).is_some()
    }
}

/// Ends when the runtime that polls it has nothing else to do at this moment.
pub async fn rest() -> Rest {
    WAITED.set((-1, 0));
    let mut is_waiting = false;
    std::future::poll_fn(|cx| {
        if is_waiting && WAITED.get().0 != -1 {
            return Poll::Ready(());
        }
        is_waiting = true;
        IDLE.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
    IDLE.set(None);
    let (epoll, until_ns) = WAITED.get();
    Rest { epoll, until_ns }
}

/// Begins virtual time on the calling thread.
pub fn begin(seed: u64) {
    set_true_ns(EPOCH_NS);
    RANDOM.set(seed);
}

/// Gives the thread back to the system.
pub fn end() {
    NOW_NS.set(0);
}

/// The time of the world.
pub fn true_ns() -> u64 {
    TRUE_NS.get()
}

/// Sets the time of the world, and the clock of whoever runs next to it.
pub fn set_true_ns(now: u64) {
    TRUE_NS.set(now);
    set_clock(now, 0);
}

/// Sets the clock of the member that runs next, and how many seconds its wall clock is ahead.
pub fn set_clock(now: u64, wall_ahead: i64) {
    NOW_NS.set(now);
    WALL_AHEAD.set(wall_ahead);
}

/// The next number of a sequence: `splitmix64`.
pub fn next_random(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, mixed ^ (mixed >> 31))
}

/// # Safety
/// As the system's: `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let now = NOW_NS.get();
    if now == 0 {
        // SAFETY: the caller's arguments, handed on.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let wall = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            WALL_SECONDS.saturating_add_signed(WALL_AHEAD.get())
        }
        _ => 0,
    };
    // SAFETY: the caller says that it may be written to.
    unsafe {
        (*time).tv_sec = (now / NS_A_SECOND + wall) as libc::time_t;
        (*time).tv_nsec = (now % NS_A_SECOND) as libc::c_long;
    }
    0
}

/// # Safety
/// As the system's: `length` bytes from `buffer` on may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: u32) -> ssize_t {
    if NOW_NS.get() == 0 {
        // SAFETY: the caller's arguments, handed on.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as ssize_t;
    }
    for at in 0..length {
        let (state, random) = next_random(RANDOM.get());
        RANDOM.set(state);
        // SAFETY: the caller says that so many bytes may be written to.
        unsafe { buffer.cast::<u8>().add(at).write(random as u8) };
    }
    length as ssize_t
}

/// A member's sleep takes nobody's time.
///
/// # Safety
/// As the system's: `left` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    if NOW_NS.get() != 0 {
        return 0;
    }
    // SAFETY: the caller's arguments, handed on.
    let failed = unsafe { libc::syscall(libc::SYS_clock_nanosleep, clock, flags, time, left) };
    match failed {
        0 => 0,
        // SAFETY: it is the thread's own.
        _ => unsafe { *libc::__errno_location() },
    }
}

/// # Safety
/// As the system's: `max` events from `events` on may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout_ms: c_int,
) -> c_int {
    let now = NOW_NS.get();
    if now == 0 {
        // SAFETY: the caller's arguments, handed on.
        return unsafe { wait(epoll, events, max, timeout_ms) };
    }
    if let Some(data) = bells::take_rung(epoll) {
        let event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: data,
        };
        // SAFETY: the caller says that they may be written to, and a wait is for one at least.
        unsafe { events.write(event) };
        return 1;
    }
    if timeout_ms == 0 {
        return 0;
    }
    // A runtime with nothing left to do at this moment: it rests.
    let until = u64::try_from(timeout_ms).map_or(u64::MAX, |ms| now + ms * NS_A_MS);
    WAITED.set((epoll, until));
    let idle = IDLE.take().expect("only a member's runtime waits");
    idle.wake();
    // That waking is not one from outside.
    bells::take_rung(epoll);
    0
}

/// # Safety
/// See `epoll_wait`.
unsafe fn wait(
    epoll: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout_ms: c_int,
) -> c_int {
    let none = std::ptr::null::<c_void>();
    // SAFETY: the caller's arguments, handed on; no set of signals is named.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait,
            epoll,
            events,
            max,
            timeout_ms,
            none,
            8,
        )
    };
    ready as c_int
}
