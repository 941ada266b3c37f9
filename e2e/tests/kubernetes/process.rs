//! Kubernetes' programs as processes: started, waited for, and ended with the test.
//!
//! A [`Program`] never outlives its value. The datastore is the harness's own `Server`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of a log is shown when the test fails.
const LOG_TAIL_LINES: usize = 25;

/// A running program, whose output goes to a file.
pub struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`. Output is appended to `log`.
    pub fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Program {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("open a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Program { name, child, log }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for a child of ours")
    }

    /// Fails the test, with the end of the log, if the program has ended.
    pub fn must_run(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended by itself: {status}", self.name);
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power failure would (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself, which is as good.
        drop(self.child.kill());
        self.child.wait().expect("wait for a child of ours");
    }

    /// User and system time used so far, in seconds (`/proc/PID/stat`, in ticks of 10 ms).
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
            eprintln!("--- end of {} ---\n{tail}", self.log.display());
        }
    }
}

/// Waits until `condition` gives a value; fails the test after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            started.elapsed() < limit,
            "waited {limit:?} in vain: {what}"
        );
        thread::sleep(POLL);
    }
}

/// User and system time that a process has used, in seconds (`/proc/PID/stat`: ticks of 10 ms).
pub fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name stands in parentheses and may hold spaces.
    let (_, rest) = text.rsplit_once(") ").unwrap_or_default();
    let ticks = |index| rest.split(' ').nth(index)?.parse::<f64>().ok();
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}
