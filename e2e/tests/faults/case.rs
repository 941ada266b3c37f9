//! One story: its turn, and a line on what was seen for the report.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

use engram_e2e::turn::{self, Turn};

/// A story under way. On drop its line is printed, and written to the report if there is one.
pub struct Case {
    name: &'static str,
    seen: RefCell<Vec<String>>,
    started: Instant,
    _turn: Turn,
}

/// Waits for the turn.
pub fn begin(name: &'static str) -> Case {
    let turn = turn::take(name);
    Case {
        name,
        seen: RefCell::new(Vec::new()),
        started: Instant::now(),
        _turn: turn,
    }
}

impl Case {
    /// Notes what was seen, before it is judged.
    pub fn saw(&self, text: impl Into<String>) {
        let text = text.into();
        println!("{}: {text}", self.name);
        self.seen.borrow_mut().push(text);
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let Some(report) = std::env::var_os("ENGRAM_FAULTS_REPORT") else {
            return;
        };
        let held = if std::thread::panicking() {
            "FAULT"
        } else {
            "held"
        };
        let seen = self.seen.borrow().join("; ");
        // A row of a table is one line.
        let seen = seen.replace('|', "/").replace('\n', " ");
        let seconds = self.started.elapsed().as_secs();
        let file = OpenOptions::new().create(true).append(true).open(report);
        let line = format!("| {} | {held} | {seconds} s | {seen} |", self.name);
        // Not a reason to fail in a drop: the line is on the terminal as well.
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("the report lacks {line}: {error}");
        }
    }
}
