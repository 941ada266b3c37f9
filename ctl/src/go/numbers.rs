//! Numbers as Go's `strconv` reads and its `fmt` writes them.

use std::fmt;
use std::num::{IntErrorKind, ParseIntError};

/// `strconv.ParseInt`, hexadecimal.
///
/// # Errors
/// Go's sentence.
pub fn parse_int(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|error| sentence("ParseInt", text, &error))
}

/// `strconv.ParseUint`, hexadecimal. It takes no sign.
///
/// # Errors
/// Go's sentence.
pub fn parse_uint(text: &str) -> Result<u64, String> {
    // Rust's takes a `+`.
    let digits = if text.starts_with('+') { "" } else { text };
    u64::from_str_radix(digits, 16).map_err(|error| sentence("ParseUint", text, &error))
}

fn sentence(function: &str, text: &str, error: &ParseIntError) -> String {
    let why = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    let text = super::quoted::quoted(text.as_bytes());
    format!("strconv.{function}: parsing {text}: {why}")
}

/// A number as `%016x` writes it: the sign is one of the sixteen characters.
#[derive(Clone, Copy, Debug)]
pub struct Hex16(pub i64);

impl fmt::Display for Hex16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs();
        match self.0 < 0 {
            true => write!(f, "-{digits:015x}"),
            false => write!(f, "{digits:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read_and_what_it_refuses_is_refused_in_its_words() {
        assert_eq!(parse_int("7fffffffffffffff"), Ok(i64::MAX));
        assert_eq!(parse_int("-1"), Ok(-1));
        for (text, why) in [
            ("ffffffffffffffff", "value out of range"),
            ("xyz", "invalid syntax"),
            ("", "invalid syntax"),
        ] {
            let wanted = format!("strconv.ParseInt: parsing \"{text}\": {why}");
            assert_eq!(parse_int(text), Err(wanted));
        }
        assert_eq!(parse_uint("ffffffffffffffff"), Ok(u64::MAX));
        for text in ["+1", "-1"] {
            let wanted = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_uint(text), Err(wanted));
        }
    }

    #[test]
    fn a_sign_takes_a_digits_place() {
        assert_eq!(Hex16(0x12ab).to_string(), "00000000000012ab");
        assert_eq!(Hex16(-0x12ab).to_string(), "-0000000000012ab");
        assert_eq!(Hex16(i64::MIN).to_string(), "-8000000000000000");
    }
}
