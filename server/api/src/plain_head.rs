//! What the head of a request over HTTP/1 must be before any page looks at it: one `Host`, which could be
//! one, and nothing expected that this server does not do. The rules and words are those of Go's server
//! (`conn.readRequest` and `conn.serve` of `net/http`); what no request could be, hyper has refused.

use http::header::{CONNECTION, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use tonic::body::Body;

use super::http::{PLAIN, page};

/// The answer to a request whose head is none.
pub(super) fn refused(head: &Parts) -> Option<Response<Body>> {
    if head.version > Version::HTTP_11 {
        return None;
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let wrong = match host {
        None if head.version == Version::HTTP_11 && head.method != Method::CONNECT => {
            Some("400 Bad Request: missing required Host header")
        }
        Some(_) if second.is_some() => Some("400 Bad Request"),
        Some(host) if !could_be_a_host(host.as_bytes()) => {
            Some("400 Bad Request: malformed Host header")
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Some(last(page(StatusCode::BAD_REQUEST, PLAIN, wrong.to_owned())));
    }
    let expected = head
        .headers
        .get(EXPECT)
        .filter(|expected| !expected.is_empty())?;
    if names_continue(expected) {
        return None;
    }
    let mut failed = Response::new(Body::empty());
    *failed.status_mut() = StatusCode::EXPECTATION_FAILED;
    Some(last(failed))
}

/// The connection ends with the answer.
fn last(mut answer: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

/// Whether a host could be named so (`httpguts.ValidHostHeader`).
fn could_be_a_host(name: &[u8]) -> bool {
    let could = |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(byte);
    name.iter().all(could)
}

fn names_continue(expected: &HeaderValue) -> bool {
    let text = expected.to_str().unwrap_or_default();
    let mut tokens = text.split(',').map(str::trim);
    tokens.any(|token| token.eq_ignore_ascii_case("100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn told(version: Version, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::get("/version").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        refused(&head).map(|answer| answer.status().as_u16())
    }

    #[test]
    fn one_host_is_named_that_could_be_one() {
        let of_1_1 = |headers: &[(&str, &str)]| told(Version::HTTP_11, headers);
        assert_eq!(of_1_1(&[("host", "a:2379")]), None);
        assert_eq!(of_1_1(&[("host", "[::1]:2379")]), None);
        assert_eq!(of_1_1(&[("host", "")]), None);
        assert_eq!(of_1_1(&[]), Some(400));
        assert_eq!(of_1_1(&[("host", "a"), ("host", "b")]), Some(400));
        assert_eq!(of_1_1(&[("host", "a b")]), Some(400));
        assert_eq!(told(Version::HTTP_10, &[]), None);
        assert_eq!(told(Version::HTTP_10, &[("host", "a/b")]), Some(400));
        assert_eq!(told(Version::HTTP_2, &[]), None);
    }

    #[test]
    fn what_is_expected_is_a_continue() {
        let expecting = |what| told(Version::HTTP_11, &[("host", "a"), ("expect", what)]);
        assert_eq!(expecting("100-Continue"), None);
        assert_eq!(expecting(""), None);
        assert_eq!(expecting("tea"), Some(417));
    }
}
