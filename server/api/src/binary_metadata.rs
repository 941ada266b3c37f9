//! Metadata whose name ends in `-bin`: base64, with its padding or without. Nothing here reads its bytes;
//! that they are some is checked, with Go's words where they are none.
//!
//! Source: `decodeMetadataHeader` of grpc-go and `decodeBinHeader` of grpc-gateway; `base64.Encoding.decodeQuantum`.

use http::{HeaderName, HeaderValue};

/// The end of such a name.
const SUFFIX: &str = "-bin";

/// What is wrong with a header's value, if it has such a name and is no base64.
pub(super) fn wrong(name: &HeaderName, value: &HeaderValue) -> Option<String> {
    if !name.as_str().ends_with(SUFFIX) {
        return None;
    }
    let at = wrong_at(value.as_bytes())?;
    Some(format!("illegal base64 data at input byte {at}"))
}

fn wrong_at(value: &[u8]) -> Option<usize> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // Go takes a value of whole quanta for one with padding, every other for one without.
    let is_padded = value.len().is_multiple_of(4);
    let Some(end) = value.iter().position(|byte| !is_digit(byte)) else {
        return (value.len() % 4 == 1).then(|| value.len() - 1);
    };
    let digits_before = end % 4;
    if value[end] != b'=' || !is_padded || digits_before < 2 {
        return Some(end);
    }
    let last = match digits_before {
        2 if value[end + 1] != b'=' => return Some(end),
        2 => end + 1,
        _ => end,
    };
    (last + 1 < value.len()).then_some(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places are what Go's `base64` says of the same.
    #[test]
    fn base64_is_told_from_what_is_none() {
        for (value, at) in [
            ("", None),
            ("YQ==", None),
            ("YQ", None),
            ("YWI", None),
            ("YWJj", None),
            ("YWI=", None),
            ("+/+/", None),
            ("***", Some(0)),
            ("YQ=", Some(2)),
            ("Y", Some(0)),
            ("YWJjY", Some(4)),
            ("YQ==YQ==", Some(4)),
            ("Y===", Some(1)),
            ("YQ=a", Some(2)),
            ("YWI=YWI=", Some(4)),
            ("YW I", Some(2)),
            ("YQ--", Some(2)),
        ] {
            assert_eq!(wrong_at(value.as_bytes()), at, "{value}");
        }
    }
}
