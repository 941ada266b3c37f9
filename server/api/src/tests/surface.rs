//! `docs/surface.md` has a row for every call, flag and page, and each row names a test that is there; so does
//! each row of `docs/compatibility.md`.

use std::path::PathBuf;

use crate::http::CHECKS;
use crate::table::ROWS;

/// One row: what it is of, whether it is as in etcd, the tests that show it.
struct Row {
    of: Vec<String>,
    how: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it")).join("../..")
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(root().join("docs/surface.md")).unwrap();
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [of, how, tests] = cells[..] else {
            panic!("three cells: {line}");
        };
        Row {
            of: quoted(of),
            how: how.to_owned(),
            tests: quoted(tests),
        }
    });
    rows.collect()
}

#[test]
fn every_row_names_a_test_that_is_there() {
    let rows = rows();
    assert!(rows.len() > 200, "{} rows", rows.len());
    for Row { of, how, tests } in rows {
        assert!(
            ["same", "better", "differs"].contains(&how.as_str()),
            "{of:?}: {how}"
        );
        must_be_tests(&format!("{of:?}"), &tests);
    }
}

/// Whether a row names tests, and those that it names are there.
fn must_be_tests(row: &str, tests: &[String]) {
    assert!(!tests.is_empty(), "{row} has no test");
    for test in tests {
        let text = std::fs::read_to_string(root().join(test)).unwrap_or_default();
        assert!(
            text.contains("#[test]") || text.contains("#[tokio::test]"),
            "{row}: {test}"
        );
    }
}

#[test]
fn what_differs_names_a_test_that_is_there() {
    let page = std::fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.ends_with("| test |");
    let mut count = 0;
    for line in page.lines().filter(is_row) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "what, Engram, why and the test: {line}");
        must_be_tests(cells[0], &quoted(cells[3]));
        count += 1;
    }
    assert!(count > 50, "{count} rows");
}

#[test]
fn every_call_flag_and_page_has_a_row() {
    let rows = rows();
    let has = |name: &str| rows.iter().any(|row| row.of.iter().any(|of| of == name));
    let calls = ROWS.iter().map(|row| row.path.to_owned());
    let flags = crate::config::flags().map(|flag| format!("--{}", flag.name));
    let checks = CHECKS.iter().map(|(of, _)| format!("/{of}"));
    let pages = ["/health", "/metrics", "/version", "/debug/vars", "/v3/"].map(str::to_owned);
    let all = calls.chain(flags).chain(checks).chain(pages);
    let without: Vec<_> = all.filter(|name| !has(name)).collect();
    assert!(without.is_empty(), "{without:#?}");
}
