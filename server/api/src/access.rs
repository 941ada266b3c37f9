//! Which plain HTTP requests are answered, and which pages of browsers may read the answers:
//! `--host-whitelist` and `--cors`. gRPC is not asked, as in etcd: no page can speak it.
//!
//! Source: `accessController` of etcd's `server/embed/serve.go`.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tonic::body::Body;

use super::backend::Backend;
use super::http::error;
use super::{Edge, RequestBody, gateway, mux, plain_head};
use crate::net::PeerInfo;
use crate::net::tls::PeerIdentity;

/// Means every host or origin.
const ALL: &str = "*";

/// Who may ask over plain HTTP, and who may read the answers.
#[derive(Clone, Debug)]
pub struct Access {
    /// Origins whose pages may read answers; `*` is all of them.
    pub origins: BTreeSet<String>,
    /// Host names that requests without TLS may ask for; `*` is all of them.
    pub hosts: BTreeSet<String>,
}

impl Default for Access {
    fn default() -> Access {
        let all = || BTreeSet::from([ALL.to_owned()]);
        Access {
            origins: all(),
            hosts: all(),
        }
    }
}

impl Access {
    fn admits_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.contains(ALL) || self.hosts.contains(host)
    }

    /// The origin that the answer is for: `*`, or the request's where it is listed.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() || self.origins.contains(ALL) {
            return Some(HeaderValue::from_static(ALL));
        }
        let origin = headers.get(ORIGIN)?;
        let listed = self.origins.contains(origin.to_str().ok()?);
        listed.then(|| origin.clone())
    }
}

/// What etcd says over the gateway to who might expect to be known by a certificate.
const NAME_IGNORED: &str = "CommonName of client sending a request against gateway will be ignored \
                            and not used as expected";

impl<B: Backend> Edge<B> {
    /// Answers a request that is not gRPC, where it may be asked.
    pub(super) async fn guarded_http<R: RequestBody>(
        &self,
        request: Request<R>,
        peer: PeerInfo,
    ) -> Response<Body> {
        let (mut request, body) = request.into_parts();
        if let Some(refused) = plain_head::refused(&request) {
            return refused;
        }
        let access = &self.config().access;
        let host = host_name(&request);
        if !peer.is_tls && !access.admits_host(host) {
            crate::log!(
                warn,
                "rejecting HTTP request to prevent DNS rebinding attacks",
                host = host
            );
            return error(StatusCode::MISDIRECTED_REQUEST, &unrecognized(host));
        }
        if let Some(decoded) = mux::decoded(&request.uri) {
            request.uri = decoded;
        }
        let through_gateway = self.config().gateway && gateway::answers(request.uri.path());
        if through_gateway && self.has_users_certificate(&peer) {
            return error(StatusCode::BAD_REQUEST, NAME_IGNORED);
        }
        let mut answer = if request.method == Method::OPTIONS {
            Response::new(Body::empty())
        } else if let Some(elsewhere) = mux::elsewhere(&request.method, &request.uri) {
            elsewhere
        } else if through_gateway {
            self.gateway(&request, body, peer).await
        } else {
            self.http(&request, false).await
        };
        let is_http = answer.status() != StatusCode::SWITCHING_PROTOCOLS;
        if let Some(origin) = access.origin(&request.headers).filter(|_| is_http) {
            allow(answer.headers_mut(), origin);
        }
        answer
    }

    /// Whether a connection's certificate would be taken for a user, were its call gRPC.
    fn has_users_certificate(&self, peer: &PeerInfo) -> bool {
        let named = |identity: &Arc<PeerIdentity>| !identity.common_name.is_empty();
        self.config().client_cert_auth
            && peer.identity.as_ref().is_some_and(named)
            && self.backend().is_auth_enabled()
    }
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    let allowed = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
}

/// The host that a request asks for, without its port.
fn host_name(request: &Parts) -> &str {
    let named = request.uri.authority().map(http::uri::Authority::as_str);
    let header = || request.headers.get(HOST)?.to_str().ok();
    without_port(named.or_else(header).unwrap_or_default())
}

/// As Go's `net.SplitHostPort`; a text that has no port is the host.
fn without_port(text: &str) -> &str {
    let split = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':').filter(|(_, port)| !port.contains(':')),
    };
    split.map_or(text, |(host, _)| host)
}

/// etcd's words.
fn unrecognized(host: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host:?}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_with_and_without_its_port() {
        for (text, host) in [
            ("example.org:2379", "example.org"),
            ("example.org", "example.org"),
            ("[::1]:2379", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(without_port(text), host);
        }
    }
}
