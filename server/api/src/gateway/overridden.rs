//! `X-HTTP-Method-Override` on a form that is posted: the request is one of that method, and its body was the
//! form's. No path of etcd's takes parameters from a form, so nothing of it is used.
//!
//! Source: `ServeMux.ServeHTTP` and `isPathLengthFallback` of grpc-gateway.

use http::Method;
use http::header::CONTENT_TYPE;
use http::request::Parts;

const OVERRIDE: &str = "x-http-method-override";
/// With parameters behind it it is another, for grpc-gateway.
const FORM: &str = "application/x-www-form-urlencoded";

/// The method that a request names instead of its own, where it may.
pub(super) fn method(request: &Parts) -> Option<Method> {
    let given = request.headers.get(OVERRIDE)?;
    let is_form = request.method == Method::POST
        && request
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == FORM);
    if !is_form || given.is_empty() {
        return None;
    }
    let named = given.as_bytes().to_ascii_uppercase();
    // What is no method is none that a path has.
    Some(Method::from_bytes(&named).unwrap_or(Method::TRACE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn named(own: Method, kind: &str, over: &str) -> Option<Method> {
        let request = Request::builder().method(own).header(CONTENT_TYPE, kind);
        let request = request.header(OVERRIDE, over).body(()).unwrap();
        method(&request.into_parts().0)
    }

    #[test]
    fn only_a_form_names_another_method() {
        assert_eq!(named(Method::POST, FORM, "get"), Some(Method::GET));
        assert_eq!(named(Method::POST, FORM, "POST"), Some(Method::POST));
        assert_eq!(named(Method::POST, FORM, ""), None);
        assert_eq!(named(Method::PUT, FORM, "POST"), None);
        assert_eq!(named(Method::POST, "application/json", "GET"), None);
        let with_charset = "application/x-www-form-urlencoded; charset=utf-8";
        assert_eq!(named(Method::POST, with_charset, "GET"), None);
    }
}
