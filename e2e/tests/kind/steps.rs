//! The parts of a story, each with its time and a line in the table.

use std::cell::RefCell;
use std::time::Instant;

use engram_e2e::kind::traffic::Traffic;

use crate::table::{self, Row};

thread_local! {
    /// The story that this thread tells.
    static STORY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Says whose steps follow.
pub fn of_story(name: &str) {
    STORY.with_borrow_mut(|story| name.clone_into(story));
}

/// Runs a part of a story, prints what it took, and adds it to the table.
pub fn step<T>(what: &str, part: impl FnOnce() -> T) -> T {
    let _line = Line::begin(what, None);
    part()
}

/// [`step`] with clients at work: how long they waited is part of the line.
pub fn step_under<T>(traffic: &Traffic, what: &str, part: impl FnOnce() -> T) -> T {
    traffic.lap();
    let _line = Line::begin(what, Some(traffic));
    part()
}

/// A line that is written when the part ends, well or not.
struct Line<'a> {
    what: &'a str,
    started: Instant,
    traffic: Option<&'a Traffic>,
}

impl<'a> Line<'a> {
    fn begin(what: &'a str, traffic: Option<&'a Traffic>) -> Line<'a> {
        Line {
            what,
            started: Instant::now(),
            traffic,
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let gaps = self.traffic.map(Traffic::lap);
        let waited = gaps.map_or_else(String::new, |gaps| {
            let (write, read) = (gaps.write.as_secs_f64(), gaps.read.as_secs_f64());
            format!("  (longest gap: writes {write:.2} s, reads {read:.2} s)")
        });
        let failed = std::thread::panicking();
        let mark = if failed { "  FAILED" } else { "" };
        println!("{:6.1} s  {}{waited}{mark}", took.as_secs_f64(), self.what);
        table::add(Row {
            story: STORY.with_borrow(String::clone),
            step: self.what.trim().to_owned(),
            took: Some(took),
            gaps,
            result: if failed { "failed" } else { "ok" }.to_owned(),
        });
    }
}
