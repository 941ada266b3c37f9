//! What a gRPC request's head must be before anything is made of it: a POST, with a time limit and binary
//! metadata that are such. The rules and words are grpc-go's (`http2Server.operateHeaders`).

use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use tonic::body::Body;
use tonic::{Code, Status};

use super::{binary_metadata, framing};

/// The answer to a request whose head is none of a call.
pub(super) fn refused(head: &Parts) -> Option<Response<Body>> {
    if let Some(given) = head.headers.get("grpc-timeout")
        && let Err(wrong) = framing::time_limit(given.as_bytes())
    {
        let text = format!("malformed grpc-timeout: {wrong}");
        return Some(answer(StatusCode::BAD_REQUEST, text));
    }
    if let Some(text) = unreadable_metadata(&head.headers) {
        return Some(answer(StatusCode::BAD_REQUEST, text));
    }
    if head.method != Method::POST {
        let method = head.method.as_str();
        let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        return Some(answer(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    None
}

fn unreadable_metadata(headers: &HeaderMap) -> Option<String> {
    headers.iter().find_map(|(name, value)| {
        let wrong = binary_metadata::wrong(name, value)?;
        let (name, value) = (name.as_str(), String::from_utf8_lossy(value.as_bytes()));
        Some(format!(
            "malformed binary metadata {value:?} in header {name:?}: {wrong}"
        ))
    })
}

fn answer(http: StatusCode, text: String) -> Response<Body> {
    let mut answer = Status::new(Code::Internal, text).into_http();
    *answer.status_mut() = http;
    answer
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
            let told = framing::time_limit(given.as_bytes())
                .err()
                .unwrap_or_default();
            assert_eq!(told, wrong, "{given}");
        }
    }
}
