//! What wakes a runtime that waits for events, without the kernel: a runtime has one descriptor for it, to
//! which whoever wakes it writes. On the simulator's thread such a write is a mark here, and a wait looks at
//! the mark. (By system calls that was an eighth of the simulator's time.)
//!
//! Nothing else that a member waits for by events is a descriptor: the network is `net`, and nobody sends
//! the process signals that it hears.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU8, Ordering};

use libc::{c_int, c_uint, c_void, size_t, ssize_t};

use super::NOW_NS;

/// The most descriptors that are looked after: others are the kernel's.
const DESCRIPTORS: usize = 1024;

/// No bell, one that is silent, and one that was rung.
const NONE: u8 = 0;
const SILENT: u8 = 1;
const RUNG: u8 = 2;

/// What each descriptor is. Other threads close descriptors, and may ring.
static BELLS: [AtomicU8; DESCRIPTORS] = [const { AtomicU8::new(NONE) }; DESCRIPTORS];

/// Who waits for a bell, and what a wait tells of it.
#[derive(Clone, Copy)]
struct Heard {
    epoll: c_int,
    bell: c_int,
    data: u64,
}

thread_local! {
    static HEARD: RefCell<Vec<Heard>> = const { RefCell::new(Vec::new()) };
    /// The bell that was made last, and nobody waits for yet.
    static MADE: Cell<c_int> = const { Cell::new(-1) };
}

fn bell(descriptor: c_int) -> Option<&'static AtomicU8> {
    BELLS.get(usize::try_from(descriptor).ok()?)
}

fn is_bell(descriptor: c_int) -> bool {
    bell(descriptor).is_some_and(|bell| bell.load(Ordering::Relaxed) != NONE)
}

/// What is told of the bell that `epoll` waits for, if it was rung since: it is silent again.
pub fn take_rung(epoll: c_int) -> Option<u64> {
    HEARD.with_borrow(|heard| {
        let heard = heard.iter().find(|heard| heard.epoll == epoll)?;
        let was = bell(heard.bell)?.swap(SILENT, Ordering::Relaxed);
        (was == RUNG).then_some(heard.data)
    })
}

/// # Safety
/// As the system's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eventfd(initial: c_uint, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments, handed on.
    let made = unsafe { libc::syscall(libc::SYS_eventfd2, initial, flags) } as c_int;
    if NOW_NS.get() != 0
        && let Some(bell) = bell(made)
    {
        bell.store(SILENT, Ordering::Relaxed);
        MADE.set(made);
    }
    made
}

/// # Safety
/// As the system's: `event` is null, or may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    descriptor: c_int,
    event: *mut libc::epoll_event,
) -> c_int {
    if operation == libc::EPOLL_CTL_ADD && is_bell(descriptor) && MADE.get() == descriptor {
        MADE.set(-1);
        // SAFETY: the caller says that it may be read; null is not added.
        let data = unsafe { (*event).u64 };
        HEARD.with_borrow_mut(|all| {
            // Descriptors come again after they were closed.
            all.retain(|heard| heard.epoll != epoll && heard.bell != descriptor);
            all.push(Heard {
                epoll,
                bell: descriptor,
                data,
            });
        });
    }
    // SAFETY: the caller's arguments, handed on.
    unsafe { libc::syscall(libc::SYS_epoll_ctl, epoll, operation, descriptor, event) as c_int }
}

/// # Safety
/// As the system's: `length` bytes from `buffer` on may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(
    descriptor: c_int,
    buffer: *const c_void,
    length: size_t,
) -> ssize_t {
    if let Some(bell) = bell(descriptor)
        && bell.load(Ordering::Relaxed) != NONE
    {
        bell.store(RUNG, Ordering::Relaxed);
        return length as ssize_t;
    }
    // SAFETY: the caller's arguments, handed on.
    unsafe { libc::syscall(libc::SYS_write, descriptor, buffer, length) as ssize_t }
}

/// # Safety
/// As the system's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    if let Some(bell) = bell(descriptor) {
        bell.store(NONE, Ordering::Relaxed);
    }
    // SAFETY: the caller's arguments, handed on.
    unsafe { libc::syscall(libc::SYS_close, descriptor) as c_int }
}
