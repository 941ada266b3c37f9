//! A field that a message names twice, and two of a choice of which there may be one: protobuf's JSON
//! refuses them, as the reader of etcd's does; `prost-reflect` takes the last.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use prost_reflect::{Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Refuses JSON of this message that says anything twice. What else is wrong with it is not its to say.
pub(super) struct SaidOnce(pub(super) MessageDescriptor);

impl<'de> DeserializeSeed<'de> for SaidOnce {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SaidOnce {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message {}", self.0.full_name())
    }

    /// `null` in a field's place is the field left out.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let named = self.0.get_field_by_json_name(&name);
            let Some(field) = named.or_else(|| self.0.get_field_by_name(&name)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if !seen.insert(field.number()) {
                return Err(A::Error::custom(format_args!("duplicate field {name:?}")));
            }
            match field.kind() {
                Kind::Message(of) => map.next_value_seed(SaidOnce(of))?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements
            .next_element_seed(SaidOnce(self.0.clone()))?
            .is_some()
        {}
        Ok(())
    }
}
