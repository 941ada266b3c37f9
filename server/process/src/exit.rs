//! Ending the process by a status, once all that is to be said was said.

use std::io::Write as _;

/// Ends the process by `status`, at once: what was printed is written out, and no destructor and no
/// exit handler runs. C++'s static destructors would take away what threads still use that run to
/// the end (RocksDB's), and a start that merely failed would now and then end by SIGABRT.
pub fn leave(status: u8) -> ! {
    // Whoever closed the other end does not want to hear of it.
    let _ = std::io::stdout().flush();
    signal_hook::low_level::exit(status.into())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    /// Tells the copy of the test's process that it is the one to end.
    const ENDS: &str = "ENGRAM_TEST_LEAVES";

    #[test]
    fn what_was_printed_is_there_and_the_status_is_the_one_asked_for() {
        if std::env::var_os(ENDS).is_some() {
            print!("without a line's end");
            super::leave(3);
        }
        let this = std::env::current_exe().unwrap();
        let name = "exit::tests::what_was_printed_is_there_and_the_status_is_the_one_asked_for";
        let ended = Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(ENDS, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(3), "{ended:?}");
        let out = String::from_utf8_lossy(&ended.stdout);
        assert!(out.contains("without a line's end"), "{out}");
    }
}
