//! Durations the way Go prints them, which is how etcd's log and error texts show them.

use std::fmt;
use std::time::Duration;

/// A duration that prints as Go prints it: `100ms`, `1.5s`, `2h0m0s`, `0s`, `1µs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

const NANOS_PER_MICRO: u128 = 1_000;
const NANOS_PER_MILLI: u128 = 1_000_000;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0 => f.write_str("0s"),
            1..NANOS_PER_MICRO => write!(f, "{nanos}ns"),
            NANOS_PER_MICRO..NANOS_PER_MILLI => {
                write_decimal(f, nanos, NANOS_PER_MICRO)?;
                f.write_str("µs")
            }
            NANOS_PER_MILLI..NANOS_PER_SECOND => {
                write_decimal(f, nanos, NANOS_PER_MILLI)?;
                f.write_str("ms")
            }
            _ => write_clock(f, nanos),
        }
    }
}

/// Hours and minutes only where they are needed, then seconds with their fraction.
fn write_clock(f: &mut fmt::Formatter<'_>, nanos: u128) -> fmt::Result {
    let minutes = nanos / NANOS_PER_SECOND / 60;
    let hours = minutes / 60;
    if hours > 0 {
        write!(f, "{hours}h")?;
    }
    if minutes > 0 {
        write!(f, "{}m", minutes % 60)?;
    }
    write_decimal(f, nanos - minutes * 60 * NANOS_PER_SECOND, NANOS_PER_SECOND)?;
    f.write_str("s")
}

/// `value / unit` with as many decimals as are not zero. `unit` is a power of ten.
fn write_decimal(f: &mut fmt::Formatter<'_>, value: u128, unit: u128) -> fmt::Result {
    write!(f, "{}", value / unit)?;
    let mut fraction = value % unit;
    if fraction == 0 {
        return Ok(());
    }
    f.write_str(".")?;
    let mut digit = unit / 10;
    while fraction > 0 {
        write!(f, "{}", fraction / digit)?;
        fraction %= digit;
        digit /= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        let table: [(u64, &str); 14] = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (3_000_000_001, "3.000000001s"),
            (60_000_000_000, "1m0s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (u64::MAX / 2, "2562047h47m16.854775807s"),
        ];
        for (nanos, want) in table {
            assert_eq!(GoDuration(Duration::from_nanos(nanos)).to_string(), want);
        }
    }
}
