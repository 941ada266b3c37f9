//! The header `Grpc-Timeout`, which may be of any length and negative here: a number of 64 bits and a unit.
//!
//! Source: `timeoutDecode` of grpc-gateway.

use http::HeaderValue;

/// Digits of a time limit in gRPC at most.
const DIGITS_MAX: u64 = 99_999_999;
/// The units, each with how many of the one before it are one.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1000),
    (b'm', 1000),
    (b'S', 1000),
    (b'M', 60),
    (b'H', 60),
];

/// The time limit as gRPC writes it, or what is wrong, in grpc-gateway's words. One that had passed before
/// it began is one of nothing, and 0 is none.
pub(super) fn of(given: &HeaderValue) -> Result<Option<HeaderValue>, String> {
    let read = given.to_str().ok().and_then(read);
    read.ok_or_else(|| {
        let given = String::from_utf8_lossy(given.as_bytes());
        format!("invalid grpc-timeout: {given}")
    })
}

fn read(given: &str) -> Option<Option<HeaderValue>> {
    let (unit, digits) = (*given.as_bytes().last()?, given.get(..given.len() - 1)?);
    let mut unit = UNITS.iter().position(|(name, _)| *name == unit)?;
    let given = digits.parse::<i64>().ok()?;
    if given == 0 {
        return Some(None);
    }
    let mut count = u64::try_from(given).unwrap_or(0);
    // More digits than gRPC takes: in a larger unit, rounded up. Hours enough for anybody are the end.
    while count > DIGITS_MAX && unit + 1 < UNITS.len() {
        unit += 1;
        count = count.div_ceil(UNITS[unit].1);
    }
    let text = format!("{}{}", count.min(DIGITS_MAX), char::from(UNITS[unit].0));
    HeaderValue::from_str(&text).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_written_as_grpc_takes_it() {
        for (given, written) in [
            ("1n", Some("1n")),
            ("5S", Some("5S")),
            ("+5S", Some("5S")),
            ("-1S", Some("0S")),
            ("0S", Some("none")),
            ("-0n", Some("none")),
            ("00000000005m", Some("5m")),
            ("100000000n", Some("100000u")),
            ("100000001n", Some("100001u")),
            ("9223372036854775807H", Some("99999999H")),
            ("9223372036854775807n", Some("2562048H")),
            ("9223372036854775808n", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("1x", None),
            ("1.5S", None),
        ] {
            let read = of(&HeaderValue::from_static(given));
            let told = read.as_ref().ok().map(|limit| match limit {
                Some(value) => value.to_str().unwrap(),
                None => "none",
            });
            assert_eq!(told, written, "{given}");
        }
    }
}
