//! Which page a plain HTTP request asks for, as Go's `ServeMux` takes its path: a path with empty, `.` or
//! `..` segments is sent to the clean one, and a segment may be percent-encoded.

use http::header::LOCATION;
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use tonic::body::Body;

use super::http as pages;

/// Where a request has to ask instead, if its path is not clean.
pub(super) fn elsewhere(method: &Method, asked: &Uri) -> Option<Response<Body>> {
    let path = cleaned(asked.path())?;
    Some(redirect(method, &path, asked.query()))
}

/// Sends a request to `path`. As Go's, with a page for people only where one was asked for.
pub(super) fn redirect(method: &Method, path: &str, query: Option<&str>) -> Response<Body> {
    let there = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut answer = match *method {
        Method::GET => {
            let shown = there.replace('&', "&amp;").replace('"', "&#34;");
            pages::html(&format!("<a href=\"{shown}\">Temporary Redirect</a>.\n\n"))
        }
        Method::HEAD => pages::html(""),
        _ => Response::new(Body::empty()),
    };
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    // What a URI holds is what a header takes.
    if let Ok(there) = HeaderValue::try_from(there) {
        answer.headers_mut().insert(LOCATION, there);
    }
    answer
}

/// The path without its empty, `.` and `..` segments; none if it has none.
fn cleaned(path: &str) -> Option<String> {
    let segments = || path.split('/').skip(1);
    let count = segments().count();
    let is_odd = |(at, segment): (usize, &str)| match segment {
        // A slash at the end stays.
        "" => at + 1 < count,
        segment => matches!(segment, "." | ".."),
    };
    if !segments().enumerate().any(is_odd) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in segments() {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let slash = path.ends_with('/') && !kept.is_empty();
    let end = if slash { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/")))
}

/// The URI with its path's percent-encoding taken out, where it has one that does not make another
/// path of it.
pub(super) fn decoded(asked: &Uri) -> Option<Uri> {
    let path = asked.path();
    if !path.contains('%') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(left.next()?)? * 16 + digit(left.next()?)?;
        let value = u8::try_from(value).ok()?;
        if matches!(value, b'/' | b'?' | b'#' | b'%') {
            return None;
        }
        bytes.push(value);
    }
    let plain = String::from_utf8(bytes).ok()?;
    let target = match asked.query() {
        Some(query) => format!("{plain}?{query}"),
        None => plain,
    };
    let mut parts = asked.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_gos_mux_cleans_it() {
        for (path, clean) in [
            ("/", None),
            ("/health", None),
            ("/health/", None),
            ("//health", Some("/health")),
            ("/v3//kv///range", Some("/v3/kv/range")),
            ("/./health", Some("/health")),
            ("/a/../health/", Some("/health/")),
            ("/health//", Some("/health/")),
            ("/../..", Some("/")),
            ("//", Some("/")),
            ("/a..b/.c", None),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn a_segment_may_be_percent_encoded() {
        for (uri, plain) in [
            ("/health", None),
            ("/%68ealth", Some("/health")),
            ("/%68ealth?a=%62", Some("/health?a=%62")),
            ("/health%2f", None),
            ("/health%3fa", None),
            ("/%zz", None),
            ("/%6", None),
            ("/%00", None),
        ] {
            let asked: Uri = uri.parse().unwrap();
            let decoded = decoded(&asked).map(|uri| uri.to_string());
            assert_eq!(decoded.as_deref(), plain, "{uri}");
        }
    }
}
