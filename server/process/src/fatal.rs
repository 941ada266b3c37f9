//! Ends the process where going on could lose or corrupt what was acknowledged: a failed write or
//! fsync of the log, an error of the storage engine, a broken invariant of apply.
//!
//! The rule (fsync errors are never retried; corruption is never papered over) is the one
//! PostgreSQL and etcd learned the hard way. A restart replays the log from what is really on disk.

use std::fmt;
use std::time::Duration;

/// What a shell shows for an abort; a supervisor restarts on it.
const STATUS: i32 = 134;
/// How long the last words may take: a log output that blocks (a full pipe that nobody reads) must
/// not keep a process alive that has decided to end.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Says what happened and what to do, then ends the process at once: no unwinding, no destructors
/// (Rust's or C++'s) and no exit handlers. They could write, and RocksDB's wait for threads that
/// may be the ones that failed.
///
/// It ends by a status, not by SIGABRT: the same for a supervisor, but it also works for process 1
/// of a container, and writes no core file onto a disk that may be full (or with keys in it).
pub fn end_process(what: impl fmt::Display, advice: &str) -> ! {
    if crate::threads::steps::is_on_stage() {
        crate::log!(error, "stopping: going on could lose data", error = %what, advice = advice);
        crate::threads::steps::end_member();
    }
    let watchdog = std::thread::Builder::new().name("engram-end".into());
    // Without the thread the words are said all the same.
    drop(watchdog.spawn(|| {
        std::thread::sleep(LAST_WORDS_MAX);
        end_now()
    }));
    // Written through when it returns: the log buffers nothing.
    crate::log!(fatal, "stopping: going on could lose data", error = %what, advice = advice);
    end_now()
}

fn end_now() -> ! {
    signal_hook::low_level::exit(STATUS)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Tells the copy of the test's process that it is the one to end.
    const ENDS: &str = "ENGRAM_TEST_ENDS_PROCESS";
    const UNFLUSHED: &str = "only an exit handler writes this";

    #[test]
    fn the_words_are_said_and_no_exit_handler_runs() {
        if std::env::var_os(ENDS).is_some() {
            let mut buffered = std::io::stdout().lock();
            buffered.write_all(UNFLUSHED.as_bytes()).unwrap();
            super::end_process("the disk is gone", "look at the disk");
        }
        let this = std::env::current_exe().unwrap();
        let name = "fatal::tests::the_words_are_said_and_no_exit_handler_runs";
        let ended = Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(ENDS, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(super::STATUS), "{ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            said.contains("the disk is gone") && said.contains("look at the disk"),
            "{said}"
        );
        let out = String::from_utf8_lossy(&ended.stdout);
        assert!(!out.contains(UNFLUSHED), "{out}");
    }
}
