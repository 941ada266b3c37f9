//! A thread that says which others are stuck or wait for the disk: they cannot say it themselves.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::pulse::{SLOW_DISK, slow_disk, stuck};

/// Looks at the pulses until it is dropped.
pub struct Watchdog {
    /// The thread ends when this is gone.
    _stop: Sender<()>,
}

impl Watchdog {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start() -> io::Result<Watchdog> {
        let (stop, stopped) = channel();
        super::spawn("engram-watchdog", move || watch(&stopped))?;
        Ok(Watchdog { _stop: stop })
    }
}

/// Says it once in [`SLOW_DISK`] for as long as it is so.
fn watch(stopped: &Receiver<()>) {
    let every: Duration = SLOW_DISK;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        for waiting in slow_disk() {
            crate::log!(warn, "the disk is slow", what = waiting);
        }
        if let Some(stuck) = stuck() {
            crate::log!(
                error,
                "a thread is stuck: /livez fails until it turns",
                what = stuck
            );
        }
    }
}
