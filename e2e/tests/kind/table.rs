//! What was done, how long it took, how long clients waited, and how it ended: printed when all is
//! over, and written to the file that `ENGRAM_E2E_TABLE` names.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use engram_e2e::kind::traffic::Gaps;

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// One line.
pub struct Row {
    /// The story.
    pub story: String,
    /// Its part; empty for the whole story.
    pub step: String,
    /// How long it took; nothing if it was not run.
    pub took: Option<Duration>,
    /// The longest time that a writer and a reader waited for an answer.
    pub gaps: Option<Gaps>,
    /// How it ended.
    pub result: String,
}

/// Adds a line.
pub fn add(row: Row) {
    ROWS.lock()
        .expect("nobody panics with it in hand")
        .push(row);
}

/// Prints the table, and writes it where that is asked for.
pub fn finish() {
    let rows = ROWS.lock().expect("nobody panics with it in hand");
    let text = text(&rows);
    println!("\n{text}");
    let Some(path) = std::env::var_os("ENGRAM_E2E_TABLE") else {
        return;
    };
    std::fs::write(&path, text)
        .unwrap_or_else(|error| panic!("ENGRAM_E2E_TABLE={}: {error}", path.display()));
}

fn text(rows: &[Row]) -> String {
    let mut text = String::from(
        "| story | step | seconds | longest gap, writes | reads | result |\n|---|---|---:|---:|---:|---|\n",
    );
    for row in rows {
        let seconds = |time: Option<Duration>| match time {
            Some(time) => format!("{:.1}", time.as_secs_f64()),
            None => String::new(),
        };
        let write = seconds(row.gaps.map(|gaps| gaps.write));
        let read = seconds(row.gaps.map(|gaps| gaps.read));
        let took = seconds(row.took);
        let Row {
            story,
            step,
            result,
            ..
        } = row;
        writeln!(
            text,
            "| {story} | {step} | {took} | {write} | {read} | {result} |"
        )
        .expect("a String takes everything");
    }
    text
}
