//! Prometheus' text format, as far as it is written here.

use std::fmt::Write as _;

/// What comes before a family's samples.
pub(super) fn head(out: &mut String, name: &str, help: &str, kind: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
