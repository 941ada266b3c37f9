//! One test at a time: they measure times, kill processes at chosen moments and use both cores.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

static TURN: Mutex<()> = Mutex::new(());

/// The right to run. On drop it prints how long the test took.
pub struct Turn {
    name: &'static str,
    started: Instant,
    _turn: MutexGuard<'static, ()>,
}

/// Waits until no other test of this process runs.
pub fn take(name: &'static str) -> Turn {
    // A test that failed while it had the turn leaves nothing behind that the next could not use.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    println!("-- {name}");
    Turn {
        name,
        started: Instant::now(),
        _turn: turn,
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        // Not println!: the time of a test that passed is wanted as well.
        eprintln!("{}: {seconds:.1} s", self.name);
    }
}
