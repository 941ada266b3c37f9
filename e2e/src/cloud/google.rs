//! Google Cloud Storage's XML API, and the metadata server of its machines.

use super::http::{Answer, Request};
use super::{BUCKET, MACHINE_TOKEN, Object, Objects, got, page, text};

/// The id of the service account's one key that is believed.
pub const KEY_ID: &str = "engram-key-1";
const METADATA: &str = "/computeMetadata/v1/instance/service-accounts/default/";

pub fn answer(objects: &mut Objects, request: &Request) -> Answer {
    if let Some(what) = request.path.strip_prefix(METADATA) {
        return metadata(request, what);
    }
    if !is_known(request) {
        return refused(401, "AuthenticationRequired", "Authentication required.");
    }
    let path = request.path.trim_start_matches('/');
    let (bucket, name) = path.split_once('/').unwrap_or((path, ""));
    if bucket != BUCKET {
        return refused(404, "NoSuchBucket", "The specified bucket does not exist.");
    }
    let (method, object) = (request.method.as_str(), objects.all.get(name).cloned());
    match (method, object) {
        ("GET", _) if name.is_empty() => listed(objects, request),
        ("GET" | "HEAD", Some(object)) => got(&object, request),
        ("PUT", object) => put(objects, request, name, object.as_ref()),
        ("DELETE", Some(object)) if object.is_locked => kept(),
        ("DELETE", Some(_)) => {
            objects.all.remove(name);
            Answer::new(204, "")
        }
        _ => refused(404, "NoSuchKey", "The specified key does not exist."),
    }
}

fn metadata(request: &Request, what: &str) -> Answer {
    match (request.header("metadata-flavor"), what) {
        (Some("Google"), "token") => {
            let token = serde_json::json!({
                "access_token": MACHINE_TOKEN, "expires_in": 3600, "token_type": "Bearer",
            });
            Answer::new(200, token.to_string()).with("content-type", "application/json".into())
        }
        (Some("Google"), "email") => Answer::new(200, "machine@engram"),
        _ => Answer::new(404, ""),
    }
}

/// Whether who asks shows the machine's token, or one that the service account's key signed. What is signed
/// with another key has another id.
fn is_known(request: &Request) -> bool {
    let shown = request.header("authorization").unwrap_or_default();
    let token = shown.trim_start_matches("Bearer ");
    let parts: Vec<&str> = token.split('.').collect();
    token == MACHINE_TOKEN || (parts.len() == 3 && key_of(parts[0]).as_deref() == Some(KEY_ID))
}

/// The id of the key in a token's first part.
fn key_of(head: &str) -> Option<String> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in head.bytes() {
        let value = letters.iter().position(|known| *known == letter)?;
        held = held << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    let head: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    head["kid"].as_str().map(str::to_owned)
}

fn kept() -> Answer {
    refused(
        403,
        "RetentionPolicyNotMet",
        "Object is subject to bucket's retention policy and cannot be deleted or overwritten until 2027-01-01",
    )
}

fn put(objects: &mut Objects, request: &Request, name: &str, there: Option<&Object>) -> Answer {
    let generation = there.map_or(0, |object| object.generation);
    let wanted = request.header("x-goog-if-generation-match");
    if wanted.is_some_and(|wanted| wanted != generation.to_string()) {
        let words = "At least one of the pre-conditions you specified did not hold.";
        return refused(412, "PreconditionFailed", words);
    }
    if there.is_some_and(|object| object.is_locked) {
        return kept();
    }
    let generation = objects.put(name.to_owned(), request.body.clone());
    Answer::new(200, "")
        .with("etag", format!("\"{generation}\""))
        .with("x-goog-generation", generation.to_string())
}

fn listed(objects: &Objects, request: &Request) -> Answer {
    let after = match request.asked("continuation-token") {
        "" => request.asked("start-after"),
        token => token,
    };
    let page = page(
        objects,
        request.asked("prefix"),
        request.asked("delimiter") == "/",
        after,
    );
    let mut body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{}</IsTruncated>",
        page.next.is_some()
    );
    for (name, object) in &page.objects {
        body += &format!(
            "<Contents><Key>{}</Key><Generation>{g}</Generation><LastModified>2026-11-30T06:00:00.000Z</LastModified><ETag>\"{g}\"</ETag><Size>{}</Size></Contents>",
            text(name),
            object.bytes.len(),
            g = object.generation,
        );
    }
    for prefix in &page.prefixes {
        body += &format!(
            "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
            text(prefix)
        );
    }
    if let Some(next) = &page.next {
        body += &format!(
            "<NextContinuationToken>{}</NextContinuationToken>",
            text(next)
        );
    }
    Answer::new(200, body + "</ListBucketResult>")
}

fn refused(status: u16, code: &str, words: &str) -> Answer {
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
    );
    Answer::new(status, body).with("content-type", "application/xml; charset=UTF-8".into())
}
