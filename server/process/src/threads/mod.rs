//! Threads: what a panic does, and whether each thread still turns.
//!
//! The rule: a panic ends the process, for what it leaves behind is a member that looks alive and
//! does nothing. The one exception is work for one caller (a client's call or connection, or a
//! peer's): it says so ([`ForCaller`]), and a panic in it ends that call with an error. Whoever
//! forgets to say so gets the rule.
//!
//! A thread that others rely on is started here ([`spawn`]) and tells when it turns, waits for work
//! or waits for the disk ([`turn`], [`idle`], [`on_disk`]); [`stuck`] is what `/livez` asks.
//!
//! Must never hold up whom it looks after: a thread tells by one store to memory.

mod caller;
mod panics;
mod pulse;
pub mod steps;
#[cfg(test)]
mod tests;
mod watchdog;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::thread::{Builder, JoinHandle};

pub use caller::{ForCaller, Panicked, catch_for_caller, spawn_blocking};
pub use panics::end_process_on_panic;
pub use pulse::{Pulse, STUCK_AFTER, beat, idle, on_disk, slow_disk, stuck, turn};
pub use watchdog::Watchdog;

/// Starts a thread, with a pulse of that name. A panic in it ends the process. On a simulator's stage it
/// has ended when this returns: what goes on and on is started by [`steps::start`].
///
/// # Errors
/// The system has no thread to give.
pub fn spawn<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    let pulse = Pulse::new(name);
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        pulse::wear(pulse);
        work()
    })?;
    while steps::is_on_stage() && !thread.is_finished() {
        std::thread::yield_now();
    }
    Ok(thread)
}

/// Starts a task that others rely on, on the runtime of the calling thread, for as long as that lasts.
/// Its type says that it never returns; a panic in it ends the process.
pub fn spawn_endless(work: impl Future<Output = Infallible> + Send + 'static) {
    drop(tokio::spawn(work));
}
