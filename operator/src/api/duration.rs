//! Durations as Go and Kubernetes write them: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// What the schema asks of a duration.
pub(super) const PATTERN: &str = "^([0-9]+(ms|s|m|h))+$";

/// Not a duration such as `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write it as 30s, 5m or 1h30m")]
pub struct InvalidDuration(pub String);

/// Reads a duration: whole numbers with `ms`, `s`, `m` or `h`, one after the other.
///
/// # Errors
/// It is empty, has another unit or none, or does not fit.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let refuse = || InvalidDuration(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let unit = rest
            .bytes()
            .take_while(|byte| !byte.is_ascii_digit())
            .count();
        let part = match &rest[..unit] {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        };
        let part = part.ok_or_else(refuse)?;
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = &rest[unit..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes_and_refuses_the_rest() {
        let seconds = |text| parse_duration(text).map(|read| read.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "",
            "5",
            "m",
            "5d",
            "-3s",
            "1.5h",
            "99999999999999999999s",
            "5m ",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
