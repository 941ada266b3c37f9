//! The caller's span, as W3C's trace context names it in a call's metadata, read as Go's library does.

use ::http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");
/// The last version there may ever be; further ones only add to it.
const VERSION_MAX: u8 = 0xfe;
/// Bits that version 0 knows: sampled, and made of random numbers.
const FLAGS: u8 = 0b11;
/// What a state may have, in bytes, as the standard has it at least.
const STATE_BYTES_MAX: usize = 512;

/// The span that a call is made within, if its metadata names one.
pub(crate) fn of(headers: &HeaderMap) -> Option<SpanContext> {
    let text = headers.get(PARENT)?.to_str().ok()?;
    let mut parts = text.split('-');
    let [version] = bytes(parts.next()?)?;
    let trace = bytes(parts.next()?).map(TraceId::from_bytes)?;
    let span = bytes(parts.next()?).map(SpanId::from_bytes)?;
    let [flags] = bytes(parts.next()?)?;
    let is_whole = version != 0 || (parts.next().is_none() && flags <= FLAGS);
    if version > VERSION_MAX || !is_whole {
        return None;
    }
    let flags = TraceFlags::new(flags & FLAGS);
    let parent = SpanContext::new(trace, span, flags, true, state(headers));
    parent.is_valid().then_some(parent)
}

/// What the caller's tracer says besides. What cannot be read is none.
fn state(headers: &HeaderMap) -> TraceState {
    let text = headers.get(STATE).and_then(|value| value.to_str().ok());
    let text = text.filter(|text| text.len() <= STATE_BYTES_MAX);
    let read = text.and_then(|text| text.parse().ok());
    read.unwrap_or_default()
}

/// Bytes in lower case hexadecimal digits, all of them.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parent(text: &str) -> Option<SpanContext> {
        let mut headers = HeaderMap::new();
        headers.insert(PARENT, text.parse().unwrap());
        of(&headers)
    }

    #[test]
    fn a_parent_is_read_whole() {
        let parent = parent(WHOLE).unwrap();
        assert_eq!(
            parent.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(parent.span_id().to_string(), "b7ad6b7169203331");
        assert!(parent.is_sampled());
        assert!(parent.is_remote());
    }

    #[test]
    fn what_is_no_parent_is_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-04",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parent(text), None, "{text}");
        }
        let later = WHOLE.replacen("00", "01", 1) + "-more";
        assert!(parent(&later).is_some());
    }

    #[test]
    fn a_state_goes_with_its_parent_and_does_no_harm() {
        let mut headers = HeaderMap::new();
        headers.insert(PARENT, WHOLE.parse().unwrap());
        headers.insert(STATE, "a=1,b=2".parse().unwrap());
        assert_eq!(of(&headers).unwrap().trace_state().header(), "a=1,b=2");
        headers.insert(STATE, "no state".parse().unwrap());
        assert_eq!(of(&headers).unwrap().trace_state().header(), "");
        headers.insert(STATE, "a=1".repeat(1000).parse().unwrap());
        assert_eq!(of(&headers).unwrap().trace_state().header(), "");
    }
}
