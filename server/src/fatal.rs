//! Ends the process where going on could lose or corrupt what was acknowledged: a failed write or
//! fsync of the log, an error of the storage engine, a broken invariant of apply.
//!
//! The rule (fsync errors are never retried; corruption is never papered over) is the one
//! PostgreSQL and etcd learned the hard way. A restart replays the log from what is really on disk.

use std::fmt;

/// Says what happened and what to do, then ends the process at once, without unwinding: destructors
/// could write.
pub fn end_process(what: impl fmt::Display, advice: &str) -> ! {
    crate::log!(fatal, "stopping: going on could lose data", error = %what, advice = advice);
    // 134 is what a shell shows for an abort; a supervisor restarts on it. No core dump is wanted.
    std::process::exit(134)
}
