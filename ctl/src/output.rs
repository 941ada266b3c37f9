//! Answers on standard output, as etcdctl writes them.

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::cli::{Format, Global};
use crate::failure::Failure;

/// Writes rows as `a, b, c` lines, a table, or as JSON.
pub fn rows(
    global: &Global,
    header: &[&str],
    rows: &[Vec<String>],
    json: impl FnOnce() -> Value,
) -> Result<(), Failure> {
    match global.write_out {
        Format::Simple => text(&lines(rows)),
        Format::Table => text(&table(header, rows)),
        Format::Json => text(&format!("{}\n", json())),
    }
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

/// Writes one answer: `simple` for people, the value for programs.
pub fn answer(
    global: &Global,
    simple: impl FnOnce() -> Vec<u8>,
    json: impl FnOnce() -> Value,
) -> Result<(), Failure> {
    match global.write_out {
        Format::Simple => bytes(&simple()),
        Format::Json => text(&format!("{}\n", json())),
        Format::Table => Err(Failure::arguments(
            "table is not a supported output format here",
        )),
    }
}

/// Writes a result where `--result-file` asks for it.
pub fn result(global: &Global, value: &Value) -> Result<(), Failure> {
    let Some(path) = &global.result_file else {
        return Ok(());
    };
    let write = |path: &Path| std::fs::write(path, format!("{value}\n"));
    write(path).map_err(|error| Failure::new(format!("--result-file {}: {error}", path.display())))
}

fn lines(rows: &[Vec<String>]) -> String {
    rows.iter()
        .map(|row| format!("{}\n", row.join(", ")))
        .collect()
}

/// A table as etcdctl 3.7 draws it: names in the middle, values to the right.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let rule = |left: &str, between: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(between))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let padded = |(cell, width): (&String, &usize)| format!("{cell:>width$}");
    let centred = |(cell, width): (&String, &usize)| format!("{cell:^width$}");
    let body = rows
        .iter()
        .map(|row| line(row.iter().zip(&widths).map(padded).collect()));
    [
        rule("┌", "┬", "┐"),
        line(header.iter().zip(&widths).map(centred).collect()),
        rule("├", "┼", "┤"),
        body.collect(),
        rule("└", "┴", "┘"),
    ]
    .concat()
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

    #[test]
    fn tables_are_etcdctls() {
        let shown = table(&["hash", "x"], &[vec!["7ef846e".into(), "1".into()]]);
        let wanted = [
            "┌─────────┬───┐",
            "│  HASH   │ X │",
            "├─────────┼───┤",
            "│ 7ef846e │ 1 │",
            "└─────────┴───┘\n",
        ];
        let wanted = wanted.join("\n");
        assert_eq!(shown, wanted);
    }
}
