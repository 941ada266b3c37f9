//! The metadata that a request's headers are: its token, its time limit, and what is named so.
//!
//! Source: `annotateContext` of grpc-gateway.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::deadline;
use crate::{binary_metadata, compression};

/// A header with this prefix becomes metadata.
const PREFIX: &str = "grpc-metadata-";
const TIMEOUT: &str = "grpc-timeout";

/// The metadata, or what is wrong with the headers, in grpc-gateway's words.
pub(super) fn of(headers: &HeaderMap) -> Result<HeaderMap, String> {
    let mut metadata = HeaderMap::new();
    let grpc = HeaderValue::from_static("application/grpc");
    metadata.insert(CONTENT_TYPE, grpc);
    if let Some(given) = headers.get(TIMEOUT)
        && let Some(limit) = deadline::of(given)?
    {
        metadata.insert(TIMEOUT, limit);
    }
    for (name, value) in headers {
        let (name, value) = match name.as_str().strip_prefix(PREFIX) {
            Some(rest) => (
                HeaderName::from_bytes(rest.as_bytes()).ok(),
                checked(name, value)?,
            ),
            None => ((*name == AUTHORIZATION).then(|| name.clone()), value),
        };
        // How its messages are framed is not the client's to say, and its time limit stands elsewhere.
        let name = name
            .filter(|name| *name != CONTENT_TYPE && name != compression::HEADER && name != TIMEOUT);
        if let Some(name) = name {
            metadata.append(name, value.clone());
        }
    }
    Ok(metadata)
}

fn checked<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a HeaderValue, String> {
    match binary_metadata::wrong(name, value) {
        Some(wrong) => Err(format!(
            "invalid binary header {}: {wrong}",
            in_title_case(name)
        )),
        None => Ok(value),
    }
}

/// A header's name as Go writes it.
fn in_title_case(name: &HeaderName) -> String {
    let words = name.as_str().split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_headers(named: &[(&'static str, &'static str)]) -> Result<Vec<(String, String)>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in named {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let metadata = of(&headers)?;
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let pairs = metadata
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)));
        Ok(pairs.filter(|(name, _)| name != "content-type").collect())
    }

    #[test]
    fn what_is_named_so_is_metadata() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(of_headers(&[("x-other", "1")]), Ok(Vec::new()));
        assert_eq!(
            of_headers(&[("authorization", "t")]),
            Ok(pair("authorization", "t"))
        );
        assert_eq!(
            of_headers(&[("grpc-metadata-token", "t")]),
            Ok(pair("token", "t"))
        );
        for framing in ["content-type", "grpc-encoding", "grpc-timeout"] {
            let name: &'static str = Box::leak(format!("grpc-metadata-{framing}").into_boxed_str());
            assert_eq!(of_headers(&[(name, "1")]), Ok(Vec::new()), "{framing}");
        }
    }

    #[test]
    fn what_is_unreadable_is_told() {
        assert_eq!(
            of_headers(&[("grpc-metadata-foo-bin", "***")]),
            Err(
                "invalid binary header Grpc-Metadata-Foo-Bin: illegal base64 data at input byte 0"
                    .into()
            )
        );
        assert_eq!(of_headers(&[("foo-bin", "***")]), Ok(Vec::new()));
        assert_eq!(
            of_headers(&[("grpc-timeout", "1x")]),
            Err("invalid grpc-timeout: 1x".into())
        );
    }
}
