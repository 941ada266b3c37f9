//! Answers on standard output, as etcdctl writes them.

mod answer;
mod fields;
mod table;

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

pub use self::answer::Answer;
pub use self::fields::Fields;
use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::go::json;

/// Writes rows of Engram's own as `a, b, c` lines, a table, or as JSON.
pub fn rows(
    global: &Global,
    header: &[&str],
    rows: &[Vec<String>],
    json: impl FnOnce() -> Value,
) -> Result<(), Failure> {
    Answer::rows(header, rows)
        .json(|| self::json::line(&json()))
        .write(global)
}

/// Writes bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(bytes).and_then(|()| out.flush())?)
}

/// Writes text as it is.
pub fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes an answer of Engram's own: `simple` for people, the value for programs.
pub fn answer(
    global: &Global,
    simple: impl FnOnce() -> Vec<u8>,
    json: impl FnOnce() -> Value,
) -> Result<(), Failure> {
    Answer::new(simple)
        .json(|| self::json::line(&json()))
        .write(global)
}

/// Writes a result where `--result-file` asks for it.
pub fn result(global: &Global, value: &impl Serialize) -> Result<(), Failure> {
    let Some(path) = &global.result_file else {
        return Ok(());
    };
    let write = |path: &Path| std::fs::write(path, json::line(value));
    write(path).map_err(|error| Failure::new(format!("--result-file {}: {error}", path.display())))
}

/// The failure of an answer that has no such format.
pub fn unsupported(format: Format) -> Failure {
    let name = format.name();
    Failure::feature(format!("{name} not supported as output format"))
}

/// Bytes as Go's humanize writes them (`2.1 GB`).
pub fn humanize(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    match value < 10.0 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_gos() {
        let cases = [
            (0, "0 B"),
            (9, "9 B"),
            (20_480, "20 kB"),
            (2_147_483_648, "2.1 GB"),
            (82_854_982, "83 MB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(humanize(bytes), shown);
        }
    }
}
