//! What answers plain HTTP on the peer port, as etcd does: `/members`, `/version`, `/downgrade/enabled`.

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tonic::body::Body;

use super::{PeerHandler, message};
use crate::config::ETCD_VERSION;
use crate::types::ClusterId;

const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

/// Whether a request is a gRPC call.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == http::Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a plain request.
pub(super) fn answer<B>(request: &Request<B>, handler: &impl PeerHandler) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(path, "/members" | "/version" | "/downgrade/enabled") {
        return error(StatusCode::NOT_FOUND, "404 page not found");
    }
    if request.method() != Method::GET {
        let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match path {
        "/members" => members(&handler.members()),
        "/downgrade/enabled" => downgrade(handler),
        _ => version(handler),
    }
}

/// A member, in the order of etcd's fields.
#[derive(Serialize)]
struct Member<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

fn members(table: &message::MembersResponse) -> Response<Body> {
    let members: Vec<Member<'_>> = table.members.iter().map(member).collect();
    let mut text = serde_json::to_string(&members).expect("strings and numbers are JSON");
    // Go's encoder ends with one.
    text.push('\n');
    of_cluster(
        table.cluster,
        page(StatusCode::OK, "application/json", text),
    )
}

fn of_cluster(id: u64, mut response: Response<Body>) -> Response<Body> {
    let cluster = HeaderValue::try_from(ClusterId(id).to_string());
    let cluster = cluster.expect("hexadecimal digits are a header's value");
    response.headers_mut().insert(CLUSTER_ID, cluster);
    response
}

fn downgrade(handler: &impl PeerHandler) -> Response<Body> {
    let enabled = handler.is_downgrading().to_string();
    let response = page(StatusCode::OK, "text/plain", enabled);
    of_cluster(handler.members().cluster, response)
}

fn member(member: &message::Member) -> Member<'_> {
    Member {
        id: member.id,
        peer_urls: &member.peer_urls,
        is_learner: member.learner,
        name: &member.name,
        client_urls: &member.client_urls,
    }
}

/// The versions, in the order of etcd's fields.
#[derive(Serialize)]
struct Versions<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

fn version(handler: &impl PeerHandler) -> Response<Body> {
    let (cluster, storage) = handler.versions();
    let versions = Versions {
        etcdserver: ETCD_VERSION,
        etcdcluster: cluster.as_deref().unwrap_or("not_decided"),
        storage: storage.as_deref().unwrap_or("unknown"),
    };
    let text = serde_json::to_string(&versions).expect("strings are JSON");
    page(StatusCode::OK, "application/json", text)
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let body = http_body_util::Full::new(bytes::Bytes::from(text));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// As Go's `http.Error`.
fn error(status: StatusCode, text: &str) -> Response<Body> {
    page(status, "text/plain; charset=utf-8", format!("{text}\n"))
}
