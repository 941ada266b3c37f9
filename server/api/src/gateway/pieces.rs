//! A message of protobuf cut where messages lie in it, so that an answer of a million key-values is
//! never a tree of a million nodes, of which a small one takes thirty times its bytes.

use bytes::{Buf, Bytes};
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, skip_field,
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// What lies in a message, in the order of its bytes.
pub(super) enum Piece {
    /// Fields that are no messages, as they are encoded.
    Scalars(Bytes),
    /// A message in a field.
    Message(FieldDescriptor, MessageDescriptor, Bytes),
}

/// The pieces of a message.
pub(super) struct Pieces {
    rest: Bytes,
    of: MessageDescriptor,
    /// A message that lies behind scalars that were given first.
    next: Option<Piece>,
}

impl Pieces {
    pub(super) fn new(message: Bytes, of: MessageDescriptor) -> Pieces {
        Pieces {
            rest: message,
            of,
            next: None,
        }
    }

    /// The next piece; scalars are never empty.
    ///
    /// # Errors
    /// The bytes are not this message's.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, DecodeError> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        let mut at = self.rest.clone();
        while at.has_remaining() {
            let scalars = self.rest.len() - at.len();
            let (number, wire) = decode_key(&mut at)?;
            let Some((field, inner)) = self.message_field(number) else {
                skip_field(wire, number, &mut at, DecodeContext::default())?;
                continue;
            };
            let message = Piece::Message(field, inner, delimited(wire, number, &mut at)?);
            let scalars = self.rest.split_to(scalars);
            self.rest = at;
            return Ok(Some(match scalars.is_empty() {
                true => message,
                false => {
                    self.next = Some(message);
                    Piece::Scalars(scalars)
                }
            }));
        }
        let scalars = std::mem::take(&mut self.rest);
        Ok((!scalars.is_empty()).then_some(Piece::Scalars(scalars)))
    }

    fn message_field(&self, number: u32) -> Option<(FieldDescriptor, MessageDescriptor)> {
        let field = self.of.get_field(number).filter(|field| !field.is_map())?;
        match field.kind() {
            Kind::Message(inner) => Some((field, inner)),
            _ => None,
        }
    }
}

/// The message that a field is.
fn delimited(wire: WireType, number: u32, at: &mut Bytes) -> Result<Bytes, DecodeError> {
    check_wire_type(WireType::LengthDelimited, wire)?;
    let mut message = at.clone();
    skip_field(wire, number, at, DecodeContext::default())?;
    decode_varint(&mut message)?;
    message.truncate(message.len() - at.len());
    Ok(message)
}
