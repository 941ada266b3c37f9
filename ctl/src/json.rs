//! Answers as etcdctl's JSON: its names of fields, keys and values in base64, nothing that is empty.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::KeyValue;
use serde_json::{Map, Value, json};

/// A response's header.
pub fn header(header: &Option<pb::ResponseHeader>) -> Value {
    let header = header.unwrap_or_default();
    without_zeros(json!({
        "cluster_id": header.cluster_id,
        "member_id": header.member_id,
        "revision": header.revision,
        "raft_term": header.raft_term,
    }))
}

/// An answer in whose Go type the header is embedded: its fields stand beside the others.
pub fn flattened(header: &Option<pb::ResponseHeader>, fields: Value) -> Value {
    let mut value = self::header(header);
    if let (Value::Object(value), Value::Object(fields)) = (&mut value, fields) {
        value.extend(fields);
    }
    value
}

/// A key-value.
pub fn key_value(kv: &KeyValue) -> Value {
    without_zeros(json!({
        "key": base64(&kv.key),
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
        "value": base64(&kv.value),
        "lease": kv.lease,
    }))
}

/// The answer of `get`.
pub fn range(answer: &pb::RangeResponse) -> Value {
    let kvs: Vec<Value> = answer.kvs.iter().map(key_value).collect();
    without_zeros(json!({
        "header": header(&answer.header), "kvs": kvs, "more": answer.more, "count": answer.count,
    }))
}

/// The answer of `put`.
pub fn put(answer: &pb::PutResponse) -> Value {
    let previous = answer.prev_kv.as_ref().map(key_value);
    without_zeros(json!({ "header": header(&answer.header), "prev_kv": previous }))
}

/// The answer of `del`.
pub fn delete(answer: &pb::DeleteRangeResponse) -> Value {
    let previous: Vec<Value> = answer.prev_kvs.iter().map(key_value).collect();
    without_zeros(json!({
        "header": header(&answer.header), "deleted": answer.deleted, "prev_kvs": previous,
    }))
}

/// The answer of `member list`.
pub fn members(answer: &pb::MemberListResponse) -> Value {
    let members: Vec<Value> = answer.members.iter().map(member).collect();
    json!({ "header": header(&answer.header), "members": members })
}

/// A member.
pub fn member(member: &pb::Member) -> Value {
    without_zeros(json!({
        "ID": member.id,
        "name": member.name,
        "peerURLs": member.peer_ur_ls,
        "clientURLs": member.client_ur_ls,
        "isLearner": member.is_learner,
    }))
}

/// Bytes in base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Go's `omitempty`.
pub fn without_zeros(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let is_zero = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let fields: Map<String, Value> = fields
        .into_iter()
        .filter(|(_, value)| !is_zero(value))
        .collect();
    Value::Object(fields)
}
