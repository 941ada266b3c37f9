//! Azure Blob Storage's REST API, and Entra's tokens.

use super::http::{self, Answer, Request};
use super::{BUCKET, MACHINE_TOKEN, Object, Objects, got, page, text};

/// The one account that there is.
pub const ACCOUNT: &str = "engramtests";
/// A token that is believed.
pub const SAS: &str = "sv=2023-11-03&sp=racwdl&sr=c&sig=engram-signature";

pub fn answer(objects: &mut Objects, request: &Request) -> Answer {
    if request.path.ends_with("/oauth2/v2.0/token") {
        return token(request);
    }
    let bearer = format!("Bearer {MACHINE_TOKEN}");
    let is_known = request.asked("sig") == "engram-signature"
        || request.header("authorization") == Some(bearer.as_str());
    if !is_known {
        let words = "Server failed to authenticate the request.";
        return refused(403, "AuthenticationFailed", words);
    }
    let path = request.path.trim_start_matches('/');
    let (container, name) = path.split_once('/').unwrap_or((path, ""));
    if container != BUCKET {
        let words = "The specified container does not exist.";
        return refused(404, "ContainerNotFound", words);
    }
    match request.asked("comp") {
        "list" => return listed(objects, request),
        "batch" => return batch(objects, request),
        _ => {}
    }
    let object = objects.all.get(name).cloned();
    match (request.method.as_str(), object) {
        ("GET" | "HEAD", Some(object)) => got(&object, request),
        ("PUT", object) => put(objects, request, name, object.as_ref()),
        ("DELETE", _) => deleted(objects, name),
        _ => refused(404, "BlobNotFound", "The specified blob does not exist."),
    }
}

/// What a workload gets for the token that Kubernetes gave it.
fn token(request: &Request) -> Answer {
    let said = String::from_utf8_lossy(&request.body);
    let is_known = said.contains("client_assertion=token-of-kubernetes");
    match is_known {
        true => {
            let token = serde_json::json!({
                "access_token": MACHINE_TOKEN, "expires_in": 3600, "token_type": "Bearer",
            });
            Answer::new(200, token.to_string()).with("content-type", "application/json".into())
        }
        false => Answer::new(401, r#"{"error":"invalid_client"}"#),
    }
}

fn put(objects: &mut Objects, request: &Request, name: &str, there: Option<&Object>) -> Answer {
    if request.header("x-ms-blob-type") != Some("BlockBlob") {
        return refused(400, "MissingRequiredHeader", "x-ms-blob-type");
    }
    // Before the condition is looked at: of both, who creates has to understand either.
    if there.is_some_and(|object| object.is_locked) {
        return kept();
    }
    if request.header("if-none-match") == Some("*") && there.is_some() {
        return refused(
            409,
            "BlobAlreadyExists",
            "The specified blob already exists.",
        );
    }
    let tag = there.map(|object| format!("\"{}\"", object.generation));
    if request
        .header("if-match")
        .is_some_and(|wanted| Some(wanted) != tag.as_deref())
    {
        return refused(
            412,
            "ConditionNotMet",
            "The condition specified was not met.",
        );
    }
    let generation = objects.put(name.to_owned(), request.body.clone());
    Answer::new(201, "")
        .with("etag", format!("\"{generation}\""))
        .with("last-modified", "Mon, 30 Nov 2026 06:00:00 GMT".into())
}

fn kept() -> Answer {
    refused(
        409,
        "BlobImmutableDueToPolicy",
        "This operation is not permitted as the blob is immutable due to a policy.",
    )
}

fn deleted(objects: &mut Objects, name: &str) -> Answer {
    match objects.all.get(name) {
        None => refused(404, "BlobNotFound", "The specified blob does not exist."),
        Some(object) if object.is_locked => kept(),
        Some(_) => {
            objects.all.remove(name);
            Answer::new(202, "")
        }
    }
}

/// Several deletions in one request, each a request of its own within.
fn batch(objects: &mut Objects, request: &Request) -> Answer {
    let body = String::from_utf8_lossy(&request.body);
    let mut answers = String::new();
    for (place, part) in body.split("DELETE ").skip(1).enumerate() {
        let raw = format!("DELETE {}\r\n\r\n", part.trim());
        let one = http::read(&mut raw.as_bytes()).expect("a request within one");
        let name = one.path.trim_start_matches('/');
        let name = name.split_once('/').map_or("", |(_, name)| name);
        let answer = deleted(objects, name);
        answers += &format!(
            "--parts\r\nContent-Type: application/http\r\nContent-ID: {place}\r\n\r\n{}\r\n",
            answer.within()
        );
    }
    Answer::new(202, answers + "--parts--\r\n")
        .with("content-type", "multipart/mixed; boundary=parts".into())
}

fn listed(objects: &Objects, request: &Request) -> Answer {
    let has_delimiter = request.asked("delimiter") == "/";
    let page = page(
        objects,
        request.asked("prefix"),
        has_delimiter,
        request.asked("marker"),
    );
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{BUCKET}\"><Blobs>"
    );
    for (name, object) in &page.objects {
        body += &format!(
            "<Blob><Name>{}</Name><Properties><Last-Modified>Mon, 30 Nov 2026 06:00:00 GMT</Last-Modified><Etag>{}</Etag><Content-Length>{}</Content-Length><Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>",
            text(name),
            object.generation,
            object.bytes.len(),
        );
    }
    for prefix in &page.prefixes {
        body += &format!("<BlobPrefix><Name>{}</Name></BlobPrefix>", text(prefix));
    }
    let next = page.next.as_deref().map(text).unwrap_or_default();
    body += &format!("</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>");
    Answer::new(200, body)
}

fn refused(status: u16, code: &str, words: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
    );
    Answer::new(status, body)
        .because(words)
        .with("x-ms-error-code", code.to_owned())
        .with("content-type", "application/xml".into())
}
