//! `--auto-compaction-mode` and `--auto-compaction-retention`, which only mean something together.

use std::time::Duration;

use super::golang::{parse_duration, quote};
use super::settings::AutoCompaction;

const SECONDS_PER_HOUR: u64 = 3_600;

/// Reads the retention by the mode: a bare number is hours in `periodic` mode and revisions in
/// `revision` mode; anything else is a duration. Zero, and the empty text, keep all history.
pub(super) fn parse_auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, String> {
    let retention = if retention.is_empty() { "0" } else { retention };
    match mode {
        "periodic" => parse_periodic(retention),
        "revision" => parse_revision(retention),
        "" => Err("undefined auto-compaction-mode".to_owned()),
        mode => Err(format!("unknown auto-compaction-mode {}", quote(mode))),
    }
}

fn parse_periodic(retention: &str) -> Result<AutoCompaction, String> {
    let nanos = match decimal(retention) {
        Some(hours) => {
            let period = hours.checked_mul(SECONDS_PER_HOUR).map(Duration::from_secs);
            let nanos = period.and_then(|period| i64::try_from(period.as_nanos()).ok());
            nanos.ok_or_else(|| {
                format!("error parsing CompactionRetention: {hours} hours are out of range")
            })?
        }
        None => parse_duration(retention)
            .map_err(|reason| format!("error parsing CompactionRetention: {reason}"))?,
    };
    match u64::try_from(nanos) {
        Ok(0) => Ok(AutoCompaction::Off),
        Ok(nanos) => Ok(AutoCompaction::Periodic(Duration::from_nanos(nanos))),
        Err(_) => Err(format!(
            "error parsing CompactionRetention: {} must not be negative",
            quote(retention)
        )),
    }
}

/// etcd would take a duration for that many nanoseconds' worth of revisions, which keeps all
/// history without saying so; here it is an error.
fn parse_revision(retention: &str) -> Result<AutoCompaction, String> {
    let revisions = decimal(retention).and_then(|revisions| i64::try_from(revisions).ok());
    match revisions {
        Some(0) => Ok(AutoCompaction::Off),
        Some(revisions) => Ok(AutoCompaction::Revision(revisions)),
        None => Err(format!(
            "error parsing CompactionRetention: {} is not a number of revisions",
            quote(retention)
        )),
    }
}

/// A decimal number without a negative sign, as Go's `Atoi` reads it.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_by_the_mode() {
        let hours = |hours: u64| AutoCompaction::Periodic(Duration::from_secs(hours * 3_600));
        let table = [
            ("periodic", "0", AutoCompaction::Off),
            ("periodic", "", AutoCompaction::Off),
            ("periodic", "0s", AutoCompaction::Off),
            ("periodic", "1", hours(1)),
            ("periodic", "+24", hours(24)),
            (
                "periodic",
                "5m",
                AutoCompaction::Periodic(Duration::from_secs(300)),
            ),
            ("revision", "0", AutoCompaction::Off),
            ("revision", "1000", AutoCompaction::Revision(1_000)),
        ];
        for (mode, retention, want) in table {
            assert_eq!(
                parse_auto_compaction(mode, retention),
                Ok(want),
                "{mode} {retention}"
            );
        }
    }

    #[test]
    fn errors_name_the_cause() {
        let prefix = "error parsing CompactionRetention: ";
        let table = [
            (
                "periodic",
                "x",
                format!("{prefix}time: invalid duration \"x\""),
            ),
            (
                "periodic",
                "-1",
                format!("{prefix}time: missing unit in duration \"-1\""),
            ),
            (
                "periodic",
                "-1h",
                format!("{prefix}\"-1h\" must not be negative"),
            ),
            (
                "periodic",
                "2562048",
                format!("{prefix}2562048 hours are out of range"),
            ),
            (
                "revision",
                "1h",
                format!("{prefix}\"1h\" is not a number of revisions"),
            ),
            ("", "0", "undefined auto-compaction-mode".to_owned()),
            (
                "foo",
                "0",
                "unknown auto-compaction-mode \"foo\"".to_owned(),
            ),
        ];
        for (mode, retention, want) in table {
            assert_eq!(
                parse_auto_compaction(mode, retention),
                Err(want),
                "{mode} {retention}"
            );
        }
    }
}
