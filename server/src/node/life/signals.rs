//! What signals do, as in a Go program, which etcd is: SIGQUIT says where it was and ends the
//! process by status 2; signals that mean nothing to it change nothing, though the system would end
//! a process by them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::SignalKind;

/// Go's status of a process that was ended by SIGQUIT.
pub const QUIT_STATUS: u8 = 2;
/// Signals that end a process unless it says otherwise, and that Go's runtime passes over. SIGXFSZ
/// is among them: a file that may not grow is an error of the write.
const PASSED_OVER: [i32; 8] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGIO,
    libc::SIGPWR,
];

/// What SIGQUIT does.
pub struct Quit {
    /// Whether it ends the process without a word: nobody waits for it.
    unheard: Arc<AtomicBool>,
}

impl Quit {
    /// Resolves when SIGQUIT has come, once. Call it on a runtime.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub fn wait(&self) -> io::Result<impl Future<Output = ()>> {
        let mut quit = tokio::signal::unix::signal(SignalKind::quit())?;
        self.unheard.store(false, Ordering::Release);
        let unheard = self.unheard.clone();
        Ok(async move {
            quit.recv().await;
            unheard.store(true, Ordering::Release);
        })
    }

    /// From here on SIGQUIT ends the process without a word.
    pub fn unheard(&self) {
        self.unheard.store(true, Ordering::Release);
    }
}

/// Says what signals do, for the life of the process. To be called once.
///
/// # Errors
/// The system refuses.
pub fn arrange() -> io::Result<Quit> {
    for signal in PASSED_OVER {
        // The flag is never read: with a handler the signal has no other effect.
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let unheard = Arc::new(AtomicBool::new(true));
    let status = QUIT_STATUS.into();
    signal_hook::flag::register_conditional_shutdown(libc::SIGQUIT, status, unheard.clone())?;
    Ok(Quit { unheard })
}
