//! The gateway's JSON: what is understood of a request is shown as JSON that means the same, whatever pieces
//! it comes in.

use bytes::Bytes;
use engram_api::fixture::{decode, encode, end};

use super::Target;

pub const TARGET: Target = Target {
    name: "json",
    run,
    seeds,
    cases: 15_000,
};

const PATHS: [&str; 8] = [
    "/v3/kv/range",
    "/v3/kv/put",
    "/v3/kv/txn",
    "/v3/watch",
    "/v3/lease/grant",
    "/v3/auth/role/grant",
    "/v3/cluster/member/add",
    "/v3/maintenance/alarm",
];

fn run(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let path = PATHS[usize::from(which & 0x7f) % PATHS.len()];
    if which & 0x80 != 0 {
        // An answer of the server's own has the order of its fields: others only must not end anything.
        drop(decode(path, Bytes::copy_from_slice(bytes)));
        return;
    }
    let whole = end([bytes]);
    let split = bytes.split_at(bytes.len() / 2);
    assert_eq!(
        end([split.0, split.1]),
        whole,
        "in two pieces it ends elsewhere"
    );
    assert_eq!(
        end(bytes.chunks(1)),
        whole,
        "byte by byte it ends elsewhere"
    );
    if let Some(message) = encode(path, bytes) {
        shown(path, message.into());
    }
}

/// A message, its JSON, and the message that this is.
fn shown(path: &str, message: Bytes) {
    let Some(json) = decode(path, message) else {
        return;
    };
    let text = std::str::from_utf8(&json).expect("JSON is text");
    assert!(
        serde_json::from_str::<serde_json::Value>(text).is_ok(),
        "no JSON: {text}"
    );
    let once = encode(path, &json).unwrap_or_else(|| panic!("it is not understood: {text}"));
    let again = decode(path, once.into()).expect("it was just made");
    assert_eq!(String::from_utf8(again).as_deref(), Ok(text));
}

fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        (
            0,
            r#"{"key":"Zm9v","limit":"5","sort_order":"DESCEND","sort_target":"CREATE"}"#,
        ),
        (
            0,
            r#"{"key":"Zm9v","limit":5e0,"sortOrder":2,"foo":{"bar":[1]},"range_end":null}"#,
        ),
        (
            1,
            r#"{"key":"YQ==","value":"-_8","lease":"-7","prev_kv":true}"#,
        ),
        (
            2,
            r#"{"compare":[{"key":"YQ","target":"MOD","result":"LESS","mod_revision":"4"}],"success":[{"request_put":{"key":"YQ","value":"Yg"}},{"request_txn":{"failure":[{"request_delete_range":{"key":"YQ"}}]}}]}"#,
        ),
        (
            3,
            r#"{"create_request":{"key":"YQ","filters":["NOPUT",1],"start_revision":7}}"#,
        ),
        (4, r#"{"TTL":60,"ID":"9"} {"TTL":1}"#),
        (
            5,
            r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ","range_end":"AA"}}"#,
        ),
        (
            6,
            r#"{"peerURLs":["http:\/\/a:1","\u00e4"],"isLearner":true}"#,
        ),
        (
            7,
            r#"{"action":"ACTIVATE","memberID":"18446744073709551615","alarm":"NOSPACE"}"#,
        ),
        (0x80, "\n\x01a\x18\x05"),
        (0x82, "\n\x05\x08\x01\x1a\x01a\x12\x05\x12\x03\n\x01a"),
        (0, "[{\"key\":\"\\\"}\"}]"),
    ];
    requests
        .iter()
        .map(|(which, text)| [&[*which], text.as_bytes()].concat())
        .collect()
}
