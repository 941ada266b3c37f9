//! JSON ↔ protobuf, by the descriptors: etcd's field names and enum names out, 64-bit numbers as
//! strings and bytes in base64, what is empty left out; in, both spellings of a name, numbers either
//! way, and fields that are not known are passed over.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions,
};
use serde::de::DeserializeSeed;

use super::duplicates::SaidOnce;
use super::pieces::{Piece, Pieces};
use crate::error::Refusal;

/// A message as protobuf's bytes.
///
/// # Errors
/// It is no JSON, or not this message's; nested deeper than 128 levels (`serde_json`'s bound).
pub(super) fn encode(json: &[u8], of: MessageDescriptor) -> Result<Vec<u8>, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let said_once = SaidOnce(of.clone()).deserialize(&mut reader);
    said_once.map_err(|error| Refusal::not_json(&error))?;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(of, &mut reader, &options);
    let message = message.map_err(|error| Refusal::not_json(&error))?;
    Ok(message.encode_to_vec())
}

/// A message, from protobuf's bytes, as JSON at the end of `out`.
///
/// # Errors
/// The bytes are not this message's: the server's own mistake.
pub(super) fn decode(
    message: Bytes,
    of: MessageDescriptor,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let undecodable = |error| Refusal::undecodable(&error);
    let mut pieces = Pieces::new(message, of.clone());
    let mut before = b'{';
    let mut list = None;
    while let Some(piece) = pieces.next().map_err(undecodable)? {
        let number = match &piece {
            Piece::Message(field, ..) if field.is_list() => Some(field.number()),
            _ => None,
        };
        if list.is_some() && list != number {
            out.push(b']');
        }
        let begun = out.len();
        match piece {
            Piece::Scalars(scalars) => scalar_fields(scalars, of.clone(), before, out)?,
            Piece::Message(field, inner, message) => {
                match list == number && list.is_some() {
                    true => out.push(b','),
                    false => name(&field, before, out),
                }
                decode(message, inner, out)?;
            }
        }
        list = number;
        if out.len() > begun {
            before = b',';
        }
    }
    if list.is_some() {
        out.push(b']');
    }
    if before == b'{' {
        out.push(before);
    }
    out.push(b'}');
    Ok(())
}

/// A field's name, as it stands before its only or first message.
fn name(field: &FieldDescriptor, before: u8, out: &mut Vec<u8>) {
    out.extend([before, b'"']);
    out.extend_from_slice(field.name().as_bytes());
    out.extend_from_slice(b"\":");
    if field.is_list() {
        out.push(b'[');
    }
}

/// What fields say that are no messages; nothing, where all of them are empty.
fn scalar_fields(
    scalars: Bytes,
    of: MessageDescriptor,
    before: u8,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let fields =
        DynamicMessage::decode(of, scalars).map_err(|error| Refusal::undecodable(&error))?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(true)
        .stringify_64_bit_integers(true);
    let begun = out.len();
    let mut writer = serde_json::Serializer::new(&mut *out);
    let written = fields.serialize_with_options(&mut writer, &options);
    written.map_err(|error| Refusal::undecodable(&error))?;
    // Its braces are the whole message's.
    out.pop();
    match out.len() - begun {
        1 => out.truncate(begun),
        _ => out[begun] = before,
    }
    Ok(())
}

/// As `serde_json`'s.
const DEPTH_MAX: usize = 128;
/// What an object takes as a tree, at least: a node of a `BTreeMap`.
const OBJECT_BYTES: usize = 1 << 10;
/// The same for an element of a list.
const ELEMENT_BYTES: usize = 64;

/// Finds where messages end in what comes of a body, so that none is parsed before it is whole and
/// every byte is looked at once; and how large a tree they are.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    depth: usize,
    tree_bytes: usize,
    in_string: bool,
    escaped: bool,
}

/// What a splitter saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The message goes on.
    More,
    /// It ends before this byte.
    End(usize),
    /// What is there begins no message.
    NoMessage,
}

impl Splitter {
    /// Looks at what came next.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Seen {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' if self.depth > 0 => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' if self.depth == DEPTH_MAX => return Seen::NoMessage,
                b'{' => {
                    self.depth += 1;
                    self.tree_bytes += OBJECT_BYTES;
                }
                b'[' if self.depth > 0 => self.depth += 1,
                b',' if self.depth > 0 => self.tree_bytes += ELEMENT_BYTES,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Seen::End(at + 1);
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.depth == 0 => return Seen::NoMessage,
                _ => {}
            }
        }
        Seen::More
    }

    /// What the message takes while it is a tree, as far as it has been seen.
    pub(super) fn tree_bytes(&self) -> usize {
        self.tree_bytes
    }

    /// Whether a message has begun that has not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.depth > 0
    }
}

#[cfg(test)]
mod tests {
    use engram_proto::etcdserverpb as pb;

    use super::*;
    use crate::gateway::{fixture, paths};

    fn request<M: Message + Default>(path: &str, json: &str) -> Result<M, Refusal> {
        let bytes = encode(json.as_bytes(), paths::find(path).unwrap().input())?;
        Ok(M::decode(bytes.as_slice()).unwrap())
    }

    fn answer(path: &str, message: &impl Message) -> String {
        let mut out = Vec::new();
        let output = paths::find(path).unwrap().output();
        decode(message.encode_to_vec().into(), output, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_etcd_takes_is_taken() {
        let range = |json| request::<pb::RangeRequest>("/v3/kv/range", json).unwrap();
        let wanted = pb::RangeRequest {
            key: "foo".into(),
            limit: 5,
            sort_order: 2,
            sort_target: 2,
            ..Default::default()
        };
        for json in [
            r#"{"key":"Zm9v","limit":"5","sort_order":"DESCEND","sort_target":"CREATE"}"#,
            r#"{"key":"Zm9v","limit":5,"sortOrder":2,"sortTarget":2}"#,
            r#"{"key":"Zm9v","limit":5e0,"sortOrder":2,"sortTarget":2,"foo":{"bar":[1]}}"#,
            r#"{"key":"Zm9v","limit":5,"sortOrder":2,"sortTarget":2,"range_end":null}"#,
        ] {
            assert_eq!(range(json), wanted, "{json}");
        }
        assert_eq!(range(r#"{"key":"Zm8"}"#).key, "fo");
        assert_eq!(range(r#"{"key":"_-8="}"#).key, &[255, 239][..]);
        assert_eq!(range(r#"{"key":"/+8="}"#).key, &[255, 239][..]);
        assert_eq!(range(r#"{"sort_order":"WHAT"}"#).sort_order, 0);
        assert_eq!(range(r#"{"sort_order":77}"#).sort_order, 77);
    }

    #[test]
    fn what_etcd_refuses_is_refused() {
        for json in [
            r#"{"key":"***"}"#,
            r#"{"key":1}"#,
            r#"{"key":"Zm9v","key":"Zm9w"}"#,
            r#"{"sort_order":1,"sortOrder":null}"#,
            r#"{"key":"Zm 9v"}"#,
            r#"{"limit":99999999999999999999}"#,
            r#"{"limit":""}"#,
            "\"a\"",
            "null",
            "{\"key\":\"Zm9v\"",
            r#"{"limit":"x"}"#,
            r#"{"limit":1.5}"#,
            r#"{"serializable":"yes"}"#,
            "[]",
            "{bad",
        ] {
            let refused = request::<pb::RangeRequest>("/v3/kv/range", json).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{json}");
        }
    }

    #[test]
    fn what_is_said_twice_is_refused_where_it_is_known() {
        let txn = |json| request::<pb::TxnRequest>("/v3/kv/txn", json);
        let refused = [
            r#"{"compare":[{"version":"4","create_revision":"2"}]}"#,
            r#"{"compare":[{"key":"Zm9v","key":"Zm9v"}]}"#,
            r#"{"compare":[null]}"#,
            r#"{"compare":{}}"#,
        ];
        for json in refused {
            assert!(txn(json).is_err(), "{json}");
        }
        let taken = [
            r#"{"compare":[{"version":null,"create_revision":"2","foo":1,"foo":2}]}"#,
            r#"{"compare":null,"foo":{"a":1,"a":2}}"#,
            r#"{"success":[{"request_put":null}]}"#,
        ];
        for json in taken {
            assert!(txn(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |levels: usize| {
            let inner = r#"{"success":[{"request_txn":"#.repeat(levels);
            format!("{inner}{{}}{}", "}]}".repeat(levels))
        };
        assert!(request::<pb::TxnRequest>("/v3/kv/txn", &deep(20)).is_ok());
        assert!(request::<pb::TxnRequest>("/v3/kv/txn", &deep(100_000)).is_err());
    }

    #[test]
    fn answers_are_as_etcd_writes_them() {
        let header = pb::ResponseHeader {
            cluster_id: 11_689_756_654_582_122_405,
            member_id: 10_374_503_385_140_266_822,
            revision: 3,
            raft_term: 2,
        };
        let kv = engram_proto::mvccpb::KeyValue {
            key: "foo".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: "bar".into(),
            lease: 0,
        };
        let range = pb::RangeResponse {
            header: Some(header),
            kvs: vec![kv],
            more: false,
            count: 1,
        };
        assert_eq!(
            answer("/v3/kv/range", &range),
            r#"{"header":{"cluster_id":"11689756654582122405","member_id":"10374503385140266822","revision":"3","raft_term":"2"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2","value":"YmFy"}],"count":"1"}"#
        );
        let alarms = pb::AlarmResponse {
            header: None,
            alarms: vec![pb::AlarmMember {
                member_id: 1,
                alarm: 1,
            }],
        };
        assert_eq!(
            answer("/v3/maintenance/alarm", &alarms),
            r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"}]}"#
        );
        let status = pb::StatusResponse {
            db_size: 20_480,
            raft_index: 15,
            db_size_in_use: 5,
            ..Default::default()
        };
        assert_eq!(
            answer("/v3/maintenance/status", &status),
            r#"{"dbSize":"20480","raftIndex":"15","dbSizeInUse":"5"}"#
        );
    }

    #[test]
    fn messages_in_messages_are_written_wherever_they_stand() {
        let answer_of = |responses| pb::TxnResponse {
            header: Some(pb::ResponseHeader::default()),
            succeeded: true,
            responses,
        };
        let op = |response| pb::ResponseOp {
            response: Some(response),
        };
        let put = op(pb::response_op::Response::ResponsePut(
            pb::PutResponse::default(),
        ));
        let nothing = op(pb::response_op::Response::ResponseTxn(answer_of(vec![])));
        let inner = op(pb::response_op::Response::ResponseTxn(answer_of(vec![
            put.clone(),
            nothing,
        ])));
        assert_eq!(
            answer("/v3/kv/txn", &answer_of(vec![put, inner])),
            concat!(
                r#"{"header":{},"succeeded":true,"responses":[{"response_put":{}},{"response_txn":"#,
                r#"{"header":{},"succeeded":true,"responses":[{"response_put":{}},{"response_txn":"#,
                r#"{"header":{},"succeeded":true}}]}}]}"#
            )
        );
        assert_eq!(answer("/v3/kv/put", &pb::PutResponse::default()), "{}");
        let event = |key: &'static str| engram_proto::mvccpb::Event {
            r#type: 1,
            kv: Some(engram_proto::mvccpb::KeyValue {
                key: key.into(),
                ..Default::default()
            }),
            prev_kv: None,
        };
        let watch = pb::WatchResponse {
            watch_id: 3,
            events: vec![event("a"), event("b")],
            ..Default::default()
        };
        assert_eq!(
            answer("/v3/watch", &watch),
            r#"{"watch_id":"3","events":[{"type":"DELETE","kv":{"key":"YQ=="}},{"type":"DELETE","kv":{"key":"Yg=="}}]}"#
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for bytes in [&[10, 5][..], &[8, 1], &[10], &[18, 2, 10, 9], &[255; 12]] {
            let of = paths::find("/v3/kv/range").unwrap().output();
            let refused = decode(Bytes::copy_from_slice(bytes), of, &mut Vec::new());
            assert!(refused.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn messages_are_split_wherever_they_are_cut() {
        let text = br#" {"a":"}\"{","b":[{}]}{"c":1}"#;
        for cut in 0..text.len() {
            let end = fixture::end([&text[..cut], &text[cut..]]);
            assert_eq!(end, Some(22), "cut at {cut}");
        }
        for none in ["x", " \n]", "\"a\"", "[]", "1"] {
            assert_eq!(Splitter::default().look(none.as_bytes()), Seen::NoMessage);
        }
        assert_eq!(Splitter::default().look(b" \n"), Seen::More);
        let mut deep = Splitter::default();
        assert_eq!(deep.look("{".repeat(DEPTH_MAX).as_bytes()), Seen::More);
        assert_eq!(deep.look(b"{"), Seen::NoMessage);
    }

    #[test]
    fn what_is_small_in_json_and_large_in_memory_is_counted_as_such() {
        let tree = |json: &str| {
            let mut splitter = Splitter::default();
            splitter.look(json.as_bytes());
            splitter.tree_bytes()
        };
        let put = format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "{,".repeat(1000));
        assert!(tree(&put) < 2000);
        let many = format!(r#"{{"compare":[{}]}}"#, ["{}"; 1000].join(","));
        assert!(tree(&many) > 1_000_000);
    }
}
