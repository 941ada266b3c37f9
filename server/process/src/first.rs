//! Process 1, which a container's program is.
//!
//! The kernel gives it no default actions: a SIGTERM that it does not hear is lost, and whoever stops the container
//! waits until the grace period is over (30 s on Kubernetes). Any other process is ended by it until it hears it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

/// Go's status of a process that a signal ended, where it is process 1: etcd's while it starts.
const STATUS: i32 = 2;

/// Whether nobody hears SIGTERM and SIGINT yet.
static UNHEARD: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Until [`heard`] is said, SIGTERM and SIGINT end this process also where it is process 1, at once and as a crash
/// would: what was acknowledged is on the disk. To be called once, before anything that could take time.
///
/// # Errors
/// The system takes no handler.
pub fn end_while_unheard() -> io::Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, STATUS, UNHEARD.clone())?;
    }
    Ok(())
}

/// From here on somebody hears them, and ends the process in its own way.
pub fn heard() {
    UNHEARD.store(false, Ordering::Release);
}
