//! JSON as Go's `encoding/json` writes it: fields in the order of their declaration, those of messages
//! by their names in the protos and only where they are set, bytes in base64, enums as numbers.

use std::io;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

/// What etcd's messages are.
static MESSAGES: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(engram_proto::DESCRIPTORS).expect("the descriptors are our own")
});

/// A value as one line.
pub fn line(value: &(impl Serialize + ?Sized)) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Html(CompactFormatter));
    value
        .serialize(&mut serializer)
        .expect("memory takes what is written");
    out.push(b'\n');
    String::from_utf8(out).expect("JSON is text")
}

/// Bytes in base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A message, as Go's JSON has it.
#[derive(Clone, Debug)]
pub struct Message(DynamicMessage);

impl Message {
    /// `name` is the message's, without its package.
    pub fn new(name: &str, message: &impl prost::Message) -> Message {
        Message::of(&format!("etcdserverpb.{name}"), message)
    }

    /// A message of any package of etcd's, by its whole name.
    pub fn of(name: &str, message: &impl prost::Message) -> Message {
        let descriptor = MESSAGES
            .get_message_by_name(name)
            .unwrap_or_else(|| panic!("etcd has no message {name}"));
        let bytes = message.encode_to_vec();
        let message = DynamicMessage::decode(descriptor, &bytes[..]);
        Message(message.expect("a message is what its descriptor says"))
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fields(&self.0).serialize(serializer)
    }
}

struct Fields<'a>(&'a DynamicMessage);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.descriptor();
        let mut map = serializer.serialize_map(None)?;
        for field in descriptor.fields() {
            if field.containing_oneof().is_none() && self.0.has_field(&field) {
                map.serialize_entry(field.name(), &Go(&self.0.get_field(&field)))?;
            }
        }
        // etcd's answers have one choice, a transaction's `Response`.
        for choice in descriptor.oneofs() {
            map.serialize_entry("Response", &Choice(self.0, choice))?;
        }
        map.end()
    }
}

struct Choice<'a>(&'a DynamicMessage, prost_reflect::OneofDescriptor);

impl Serialize for Choice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in self.1.fields().filter(|field| self.0.has_field(field)) {
            map.serialize_entry(field.name(), &Go(&self.0.get_field(&field)))?;
        }
        map.end()
    }
}

struct Go<'a>(&'a Value);

impl Serialize for Go<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => value.serialize(serializer),
            Value::I32(value) | Value::EnumNumber(value) => value.serialize(serializer),
            Value::I64(value) => value.serialize(serializer),
            Value::U32(value) => value.serialize(serializer),
            Value::U64(value) => value.serialize(serializer),
            Value::F32(value) => value.serialize(serializer),
            Value::F64(value) => value.serialize(serializer),
            Value::String(value) => value.serialize(serializer),
            Value::Bytes(value) => base64(value).serialize(serializer),
            Value::Message(value) => Fields(value).serialize(serializer),
            Value::List(values) => serializer.collect_seq(values.iter().map(Go)),
            // etcd's messages have no maps.
            Value::Map(_) => serializer.serialize_none(),
        }
    }
}

/// Go escapes what HTML would take for its own.
struct Html(CompactFormatter);

impl Formatter for Html {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        let is_escaped = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        while let Some(at) = rest.find(is_escaped) {
            let (plain, behind) = rest.split_at(at);
            let c = behind.chars().next().expect("it was found");
            self.0.write_string_fragment(writer, plain)?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &behind[c.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engram_proto::etcdserverpb as pb;
    use engram_proto::mvccpb::KeyValue;

    #[test]
    fn messages_are_gos() {
        let kv = KeyValue {
            key: b"k".to_vec().into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: b"<>".to_vec().into(),
            lease: 0,
        };
        let range = pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                revision: 3,
                ..pb::ResponseHeader::default()
            }),
            kvs: vec![kv],
            more: false,
            count: 1,
        };
        assert_eq!(
            line(&Message::new("RangeResponse", &range)),
            "{\"header\":{\"cluster_id\":18446744073709551615,\"revision\":3},\
             \"kvs\":[{\"key\":\"aw==\",\"create_revision\":2,\"mod_revision\":3,\"version\":2,\
             \"value\":\"PD4=\"}],\"count\":1}\n"
        );
        let answer = pb::TxnResponse {
            responses: vec![pb::ResponseOp {
                response: Some(pb::response_op::Response::ResponsePut(
                    pb::PutResponse::default(),
                )),
            }],
            ..pb::TxnResponse::default()
        };
        assert_eq!(
            line(&Message::new("TxnResponse", &answer)),
            "{\"responses\":[{\"Response\":{\"response_put\":{}}}]}\n"
        );
        assert_eq!(
            line("a<b>&\u{2028}\""),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\\"\"\n"
        );
    }
}
