//! What a gRPC request's head must be before anything is made of it: a POST, with a time limit that is
//! one. The rules and words are grpc-go's (`http2Server.operateHeaders`, `decodeTimeout`).

use http::request::Parts;
use http::{Method, Response, StatusCode};
use tonic::body::Body;
use tonic::{Code, Status};

/// Digits of a time limit at most, with its unit.
const TIMEOUT_LEN_MAX: usize = 9;

/// The answer to a request whose head is none of a call.
pub(super) fn refused(head: &Parts) -> Option<Response<Body>> {
    if let Some(given) = head.headers.get("grpc-timeout")
        && let Some(wrong) = malformed(given.as_bytes())
    {
        let text = format!("malformed grpc-timeout: {wrong}");
        return Some(answer(StatusCode::BAD_REQUEST, text));
    }
    if head.method != Method::POST {
        let method = head.method.as_str();
        let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        return Some(answer(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    None
}

fn answer(http: StatusCode, text: String) -> Response<Body> {
    let mut answer = Status::new(Code::Internal, text).into_http();
    *answer.status_mut() = http;
    answer
}

/// What is wrong with a time limit: up to eight digits and a unit.
fn malformed(given: &[u8]) -> Option<String> {
    let text = || String::from_utf8_lossy(given);
    if given.len() > TIMEOUT_LEN_MAX {
        return Some(format!(
            "transport: timeout string is too long: {:?}",
            text()
        ));
    }
    let Some((unit, count @ [_, ..])) = given.split_last() else {
        return Some(format!(
            "transport: timeout string is too short: {:?}",
            text()
        ));
    };
    if !matches!(unit, b'H' | b'M' | b'S' | b'm' | b'u' | b'n') {
        return Some(format!(
            "transport: timeout unit is not recognized: {:?}",
            text()
        ));
    }
    if !count.iter().all(u8::is_ascii_digit) {
        let count = String::from_utf8_lossy(count);
        return Some(format!(
            "strconv.ParseUint: parsing {count:?}: invalid syntax"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_read_or_refused() {
        for (given, wrong) in [
            ("1S", ""),
            ("99999999n", ""),
            ("", "transport: timeout string is too short: \"\""),
            ("1", "transport: timeout string is too short: \"1\""),
            ("1X", "transport: timeout unit is not recognized: \"1X\""),
            (
                "999999999S",
                "transport: timeout string is too long: \"999999999S\"",
            ),
            ("1.5S", "strconv.ParseUint: parsing \"1.5\": invalid syntax"),
            ("+1S", "strconv.ParseUint: parsing \"+1\": invalid syntax"),
        ] {
            let told = malformed(given.as_bytes()).unwrap_or_default();
            assert_eq!(told, wrong, "{given}");
        }
    }
}
