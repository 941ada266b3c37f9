//! Attributes of spans.

use opentelemetry::KeyValue;

/// What a text may have, in bytes: keys of a megabyte, in a queue full of spans, would take gigabytes.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// A text: what clients sent, of which what is no UTF-8 is replaced, and what is too long left out.
pub fn text(name: &'static str, value: &[u8]) -> KeyValue {
    KeyValue::new(name, within_bounds(value))
}

/// A number.
pub fn number(name: &'static str, value: i64) -> KeyValue {
    KeyValue::new(name, value)
}

/// Yes or no.
pub fn flag(name: &'static str, value: bool) -> KeyValue {
    KeyValue::new(name, value)
}

pub(crate) fn within_bounds(value: &[u8]) -> String {
    let end = value.len().min(TEXT_BYTES_MAX);
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_utf_8_and_bounded() {
        assert_eq!(within_bounds(b"/registry/pods"), "/registry/pods");
        assert_eq!(within_bounds(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(within_bounds(&[b'k'; 1 << 20]).len(), TEXT_BYTES_MAX);
    }
}
