//! Go's rules for numbers, booleans, durations and quoting, as far as etcd's flags
//! depend on them. Only behaviour is shared with Go; the texts of errors are Go's on purpose.

/// Why a number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not a number.
    Syntax,
    /// A number that is too large or too small.
    Range,
}

impl NumberError {
    /// What Go's `flag` package says.
    pub(super) const fn flag_text(self) -> &'static str {
        match self {
            Self::Syntax => "parse error",
            Self::Range => "value out of range",
        }
    }

    /// What Go's `strconv` says about the `function` that was given `text`.
    pub(super) fn strconv_text(self, function: &str, text: &str) -> String {
        let reason = match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        };
        format!("strconv.{function}: parsing {}: {reason}", quote(text))
    }
}

/// An unsigned number in Go's notation: decimal, `0x`, `0o` or `0` for octal, `0b`, and `_`
/// between digits.
pub(super) fn parse_unsigned(text: &str, max: u64) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16, true),
        [b'0', b'o', ..] => (&lower[2..], 8, true),
        [b'0', b'b', ..] => (&lower[2..], 2, true),
        [b'0', _, ..] => (&lower[1..], 8, true),
        _ => (&lower[..], 10, false),
    };
    if !underscores_separate_digits(digits, prefixed) {
        return Err(NumberError::Syntax);
    }
    let mut value: u64 = 0;
    let mut seen = false;
    for character in digits.chars().filter(|&character| character != '_') {
        let digit = character.to_digit(radix).ok_or(NumberError::Syntax)?;
        let grown = value
            .checked_mul(u64::from(radix))
            .ok_or(NumberError::Range)?;
        value = grown
            .checked_add(u64::from(digit))
            .ok_or(NumberError::Range)?;
        seen = true;
    }
    if !seen {
        return Err(NumberError::Syntax);
    }
    if value > max {
        return Err(NumberError::Range);
    }
    Ok(value)
}

/// Whether each `_` stands between two digits, of which the first may be the base's prefix.
fn underscores_separate_digits(digits: &str, prefixed: bool) -> bool {
    (prefixed || !digits.starts_with('_')) && !digits.ends_with('_') && !digits.contains("__")
}

/// A signed number in the notation of [`parse_unsigned`].
pub(super) fn parse_signed(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let limit = if negative {
        i64::MIN.unsigned_abs()
    } else {
        i64::MAX.unsigned_abs()
    };
    let magnitude = parse_unsigned(digits, limit)?;
    let signed = i128::from(magnitude) * if negative { -1 } else { 1 };
    i64::try_from(signed).map_err(|_| NumberError::Range)
}

/// A boolean as Go reads it.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Nanoseconds of a duration as Go reads it: `300ms`, `-1.5h`, `2h45m`, `0`. The error is the text
/// of Go's.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let nanos_per_unit = unit_nanos(unit).ok_or_else(|| {
            format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            )
        })?;
        let part = decimal_times(number, nanos_per_unit).ok_or_else(invalid)?;
        total = total
            .checked_add(part)
            .filter(|&sum| sum <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn unit_nanos(unit: &str) -> Option<i128> {
    match unit {
        "ns" => Some(1),
        "us" | "µs" | "μs" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" => Some(60_000_000_000),
        "h" => Some(3_600_000_000_000),
        _ => None,
    }
}

/// `number × factor`, cut to a whole number; `None` when it is out of range.
fn decimal_times(number: &str, factor: i128) -> Option<i128> {
    /// Decimals beyond these are worth less than a nanosecond in any unit.
    const DECIMALS_MAX: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(DECIMALS_MAX)];
    let decimals = u32::try_from(fraction.len()).ok()?;
    let fraction: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let scaled_fraction = fraction * factor / 10_i128.pow(decimals);
    whole.checked_mul(factor)?.checked_add(scaled_fraction)
}

/// The text in double quotes, escaped as Go's `%q` escapes it.
pub(super) fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        let escape = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{b}' => "\\v",
            control if control.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(control));
                continue;
            }
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
                continue;
            }
            other => {
                quoted.push(other);
                continue;
            }
        };
        quoted.push_str(escape);
    }
    quoted.push('"');
    quoted
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(super) fn quote_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(quote).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_gos_notation() {
        let table = [
            ("0", Ok(0)),
            ("007", Ok(7)),
            ("0x1F", Ok(31)),
            ("0o17", Ok(15)),
            ("0b101", Ok(5)),
            ("1_000", Ok(1000)),
            ("0x_ff", Ok(255)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(NumberError::Range)),
            ("", Err(NumberError::Syntax)),
            ("0x", Err(NumberError::Syntax)),
            ("08", Err(NumberError::Syntax)),
            ("_1", Err(NumberError::Syntax)),
            ("1_", Err(NumberError::Syntax)),
            ("1__0", Err(NumberError::Syntax)),
            ("-1", Err(NumberError::Syntax)),
            ("+1", Err(NumberError::Syntax)),
            (" 1", Err(NumberError::Syntax)),
            ("1e3", Err(NumberError::Syntax)),
        ];
        for (text, want) in table {
            assert_eq!(parse_unsigned(text, u64::MAX), want, "{text}");
        }
        assert_eq!(parse_unsigned("256", 255), Err(NumberError::Range));
        assert_eq!(parse_signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(
            parse_signed("-9223372036854775809"),
            Err(NumberError::Range)
        );
        assert_eq!(parse_signed("9223372036854775808"), Err(NumberError::Range));
        assert_eq!(parse_signed("+5"), Ok(5));
        assert_eq!(parse_signed("--5"), Err(NumberError::Syntax));
    }

    #[test]
    fn durations_are_read_in_gos_notation() {
        let table = [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("5s", Ok(5_000_000_000)),
            ("1.5h", Ok(5_400_000_000_000)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("2h45m", Ok(9_900_000_000_000)),
            ("-300ms", Ok(-300_000_000)),
            ("+1ns", Ok(1)),
            ("1us1µs1μs", Ok(3_000)),
            ("0.000000001h", Ok(3_600)),
            ("9223372036854775807ns", Ok(i64::MAX)),
            ("-9223372036854775808ns", Ok(i64::MIN)),
            (
                "9223372036854775808ns",
                Err("time: invalid duration \"9223372036854775808ns\""),
            ),
            ("", Err("time: invalid duration \"\"")),
            ("-", Err("time: invalid duration \"-\"")),
            ("s", Err("time: invalid duration \"s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("1..5s", Err("time: invalid duration \"1..5s\"")),
            ("1", Err("time: missing unit in duration \"1\"")),
            ("1d", Err("time: unknown unit \"d\" in duration \"1d\"")),
            ("1 s", Err("time: unknown unit \" s\" in duration \"1 s\"")),
            (
                "999999999999999999999999999999999999999999h",
                Err("time: invalid duration \"999999999999999999999999999999999999999999h\""),
            ),
        ];
        for (text, want) in table {
            assert_eq!(parse_duration(text), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        assert_eq!(
            quote("a\"b\\c\n\u{1}é\u{85}"),
            "\"a\\\"b\\\\c\\n\\x01é\\u0085\""
        );
        assert_eq!(quote_list(["a", "b c"]), "[\"a\" \"b c\"]");
    }
}
