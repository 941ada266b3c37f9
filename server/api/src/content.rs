//! What a gRPC request says that it carries, and what its headers take. The rules are grpc-go's
//! (`grpcutil.ContentSubtype`, `http2Server.operateHeaders`).

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use tonic::Status;
use tonic::body::Body;

/// What every gRPC request carries; its codec may be named behind it.
const GRPC: &str = "application/grpc";

/// Whether a content type is gRPC's.
pub(super) fn is_grpc(named: &HeaderValue) -> bool {
    let rest = named.as_bytes().strip_prefix(GRPC.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The content type that a request's answer has, where it is not the plain one.
pub(super) fn subtype(request: &HeaderMap) -> Option<HeaderValue> {
    let named = request.get(CONTENT_TYPE)?.as_bytes();
    let codec = named.strip_prefix(GRPC.as_bytes())?.get(1..)?;
    let echoed = [GRPC.as_bytes(), b"+", codec].concat();
    (!codec.is_empty()).then(|| HeaderValue::from_bytes(&echoed).ok())?
}

/// Gives an answer that content type.
pub(super) fn echo(named: &HeaderValue, answer: &mut HeaderMap) {
    answer.insert(CONTENT_TYPE, named.clone());
}

/// The answer to a call that says it carries something else.
pub(super) fn refused(request: &HeaderMap) -> Response<Body> {
    let named = request.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let named = String::from_utf8_lossy(named.unwrap_or_default());
    let text = format!("invalid gRPC request content-type {named:?}");
    let mut answer = Status::invalid_argument(text).into_http();
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    answer
}

/// What a request's headers take, as HTTP/2 counts them.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_may_be_named_behind_grpc() {
        for (named, is_one, echoed) in [
            ("application/grpc", true, None),
            ("application/grpc+", true, None),
            (
                "application/grpc+proto",
                true,
                Some("application/grpc+proto"),
            ),
            (
                "application/grpc;proto",
                true,
                Some("application/grpc+proto"),
            ),
            ("application/grpcx", false, None),
            ("text/plain", false, None),
        ] {
            let value = HeaderValue::from_static(named);
            assert_eq!(is_grpc(&value), is_one, "{named}");
            if is_one {
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
                let echoed = echoed.map(HeaderValue::from_static);
                assert_eq!(subtype(&headers), echoed, "{named}");
            }
        }
    }
}
