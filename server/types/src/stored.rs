//! A stored key-value: the protobuf bytes of `mvccpb.KeyValue`, encoded once when the write is
//! applied and spliced into every answer, watch event, hash and snapshot from then on.
//!
//! Field numbers: 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease. Zero and
//! empty fields are left out, fields are in ascending order: the bytes equal what etcd stores, which
//! HashKV depends on. A tombstone is encoded with its key alone.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use triomphe::ThinArc;

use super::{LeaseId, Revision};

/// A decoded key-value. `key` and `value` share the memory of the bytes they were decoded from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key; never empty in the store.
    pub key: Bytes,
    /// The revision that created the key's current generation.
    pub create_revision: Revision,
    /// The revision of this write.
    pub mod_revision: Revision,
    /// 1 at creation, +1 with every put of the generation. 0 in a tombstone.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease attached, or none.
    pub lease: LeaseId,
}

/// A decoded key-value, where its bytes lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueRef<'b> {
    /// See [`KeyValue::key`].
    pub key: &'b [u8],
    /// See [`KeyValue::create_revision`].
    pub create_revision: Revision,
    /// See [`KeyValue::mod_revision`].
    pub mod_revision: Revision,
    /// See [`KeyValue::version`].
    pub version: i64,
    /// See [`KeyValue::value`].
    pub value: &'b [u8],
    /// See [`KeyValue::lease`].
    pub lease: LeaseId,
}

/// Bytes that are not a key-value. Met only where a file is damaged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("stored key-value is not valid protobuf at byte {offset}")]
pub struct KeyValueError {
    /// How far decoding came.
    pub offset: usize,
}

impl KeyValue {
    /// Encodes the key-value as etcd does.
    pub fn encode(&self) -> Bytes {
        let revisions = (self.create_revision, self.mod_revision, self.version);
        KeyValue::encode_parts(&self.key, revisions, &self.value, self.lease)
    }

    /// Encodes a key-value from borrowed parts; `revisions` are create and mod revision and version.
    pub fn encode_parts(
        key: &[u8],
        revisions: (Revision, Revision, i64),
        value: &[u8],
        lease: LeaseId,
    ) -> Bytes {
        let mut out = BytesMut::with_capacity(key.len() + value.len() + 48);
        put_bytes(&mut out, 0x0a, key);
        put_int(&mut out, 0x10, revisions.0.0);
        put_int(&mut out, 0x18, revisions.1.0);
        put_int(&mut out, 0x20, revisions.2);
        put_bytes(&mut out, 0x2a, value);
        put_int(&mut out, 0x30, lease.0);
        out.freeze()
    }

    /// Decodes a key-value.
    ///
    /// # Errors
    /// The bytes are not `mvccpb.KeyValue`.
    pub fn decode(bytes: &Bytes) -> Result<KeyValue, KeyValueError> {
        let kv = KeyValueRef::decode(bytes)?;
        Ok(KeyValue {
            key: bytes.slice_ref(kv.key),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: bytes.slice_ref(kv.value),
            lease: kv.lease,
        })
    }

    /// The key-value, lent.
    pub fn lent(&self) -> KeyValueRef<'_> {
        KeyValueRef {
            key: &self.key,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            value: &self.value,
            lease: self.lease,
        }
    }

    /// Decodes a key-value that is encoded exactly as [`KeyValue::encode`] would.
    ///
    /// # Errors
    /// The bytes are not `mvccpb.KeyValue`, or another encoding of it.
    pub fn decode_exact(bytes: &Bytes) -> Result<KeyValue, KeyValueError> {
        let kv = KeyValue::decode(bytes)?;
        match is_exact(bytes) {
            true => Ok(kv),
            false => Err(KeyValueError { offset: 0 }),
        }
    }

    /// The key inside encoded bytes, without decoding the rest.
    #[inline]
    pub fn key_of(encoded: &[u8]) -> Option<&[u8]> {
        let (&tag, rest) = encoded.split_first()?;
        if tag != 0x0a {
            return None;
        }
        let mut cursor = rest;
        let len = usize::try_from(get_varint(&mut cursor)?).ok()?;
        cursor.get(..len)
    }
}

impl<'b> KeyValueRef<'b> {
    /// Decodes a key-value.
    ///
    /// # Errors
    /// The bytes are not `mvccpb.KeyValue`.
    pub fn decode(bytes: &'b [u8]) -> Result<KeyValueRef<'b>, KeyValueError> {
        let mut rest = bytes;
        let mut kv = KeyValueRef::default();
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            decode_field(&mut rest, &mut kv).ok_or(KeyValueError { offset })?;
        }
        Ok(kv)
    }
}

fn decode_field<'b>(rest: &mut &'b [u8], kv: &mut KeyValueRef<'b>) -> Option<()> {
    match get_varint(rest)? {
        0x0a => kv.key = get_bytes(rest)?,
        0x10 => kv.create_revision = Revision(get_int(rest)?),
        0x18 => kv.mod_revision = Revision(get_int(rest)?),
        0x20 => kv.version = get_int(rest)?,
        0x2a => kv.value = get_bytes(rest)?,
        0x30 => kv.lease = LeaseId(get_int(rest)?),
        _ => return None,
    }
    Some(())
}

/// Whether a key-value that can be decoded has each field once, in order, only where it says something, and
/// every number in as few bytes as it takes.
fn is_exact(mut rest: &[u8]) -> bool {
    let mut last = 0;
    while let Some((&tag, field)) = rest.split_first() {
        rest = field;
        let Some(number) = get_varint(&mut rest) else {
            return false;
        };
        let bytes = usize::try_from((64 - (number | 1).leading_zeros()).div_ceil(7));
        let is_shortest = bytes == Ok(field.len() - rest.len());
        if tag <= last || number == 0 || !is_shortest {
            return false;
        }
        last = tag;
        if matches!(tag, 0x0a | 0x2a) {
            let skipped = usize::try_from(number)
                .ok()
                .and_then(|bytes| rest.get(bytes..));
            let Some(behind) = skipped else {
                return false;
            };
            rest = behind;
        }
    }
    true
}

fn get_int(rest: &mut &[u8]) -> Option<i64> {
    get_varint(rest).map(u64::cast_signed)
}

fn get_bytes<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = usize::try_from(get_varint(rest)?).ok()?;
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(bytes)
}

/// Reads a protobuf varint of at most ten bytes.
fn get_varint(buf: &mut impl Buf) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        if !buf.has_remaining() {
            return None;
        }
        let byte = buf.get_u8();
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_int(out: &mut BytesMut, tag: u8, value: i64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value.cast_unsigned());
    }
}

fn put_bytes(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(tag);
        put_varint(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

/// What the in-memory index keeps of a key: the encoded key-value of its latest put in full, or
/// only the key field of it (when the value cache has no room, or the key is deleted). One thin,
/// shared allocation; cloning is a reference count.
#[derive(Clone)]
pub struct Stored(ThinArc<bool, u8>);

impl Stored {
    /// Keeps the whole encoded key-value. `encoded` must be the result of [`KeyValue::encode`].
    pub fn full(encoded: &[u8]) -> Stored {
        assert!(
            KeyValue::key_of(encoded).is_some(),
            "a stored key-value begins with its key"
        );
        Stored(ThinArc::from_header_and_slice(true, encoded))
    }

    /// Keeps the key alone.
    pub fn key_only(key: &[u8]) -> Stored {
        let mut field = BytesMut::with_capacity(key.len() + 6);
        put_bytes(&mut field, 0x0a, key);
        Stored(ThinArc::from_header_and_slice(false, &field))
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        KeyValue::key_of(&self.0.slice).expect("checked when it was stored")
    }

    /// The encoded key-value, where the value is kept.
    #[inline]
    pub fn encoded(&self) -> Option<&[u8]> {
        self.0.header.header.then_some(&self.0.slice)
    }

    /// The heap bytes this holds.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.0.slice.len() + 24
    }

    /// The same key without its value.
    pub fn without_value(&self) -> Stored {
        let key = self.key().len();
        let length_bytes = (1..10)
            .find(|bytes| key >> (7 * bytes) == 0)
            .expect("a usize in a varint");
        // The key field comes first: a tag, the key's length, the key.
        let field = &self.0.slice[..1 + length_bytes + key];
        Stored(ThinArc::from_header_and_slice(false, field))
    }
}

impl AsRef<[u8]> for Stored {
    /// The encoded bytes held (the key field alone, where the value is not kept).
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Stored({:?}, full={})",
            Bytes::copy_from_slice(self.key()),
            self.0.header.header
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"foo"),
            create_revision: Revision(2),
            mod_revision: Revision(300),
            version: 7,
            value: Bytes::from_static(b"bar"),
            lease: LeaseId(-9),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let kv = sample();
        assert_eq!(KeyValue::decode(&kv.encode()), Ok(kv.clone()));
        assert_eq!(KeyValue::key_of(&kv.encode()), Some(b"foo".as_ref()));
        assert_eq!(KeyValue::default().encode().len(), 0);
    }

    #[test]
    fn another_encoding_of_the_same_is_told_from_ours() {
        let kv = sample();
        assert_eq!(KeyValue::decode_exact(&kv.encode()), Ok(kv.clone()));
        let others: [&[u8]; 6] = [
            b"\x0a\x03foo\x18\x02\x10\x02", // out of order
            b"\x0a\x03foo\x10\x02\x10\x02", // twice
            b"\x0a\x03foo\x10\x82\x00",     // two bytes for a 2
            b"\x0a\x83\x00foo",             // two bytes for a length
            b"\x0a\x03foo\x20\x00",         // a zero
            b"\x0a\x03foo\x2a\x00",         // an empty value
        ];
        for other in others {
            let other = Bytes::from_static(other);
            let decoded = KeyValue::decode(&other).expect("it is one");
            assert_ne!(decoded.encode(), other);
            assert!(KeyValue::decode_exact(&other).is_err(), "{other:?}");
        }
        for number in (0..63)
            .map(|shift| 1_i64 << shift)
            .flat_map(|it| [it - 1, it, -it])
        {
            let kv = KeyValue {
                version: number,
                ..sample()
            };
            assert_eq!(KeyValue::decode_exact(&kv.encode()), Ok(kv));
        }
    }

    #[test]
    fn bytes_equal_etcds() {
        let kv = KeyValue {
            version: 1,
            lease: LeaseId::NONE,
            ..sample()
        };
        assert_eq!(
            kv.encode().as_ref(),
            b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x01\x2a\x03bar"
        );
    }

    #[test]
    fn every_truncation_is_an_error_or_another_value_never_a_panic() {
        let whole = sample().encode();
        for len in 0..whole.len() {
            assert_ne!(KeyValue::decode(&whole.slice(..len)), Ok(sample()));
        }
    }

    #[test]
    fn stored_keeps_the_key_when_the_value_goes() {
        let stored = Stored::full(&sample().encode());
        assert_eq!(stored.encoded(), Some(sample().encode().as_ref()));
        let bare = stored.without_value();
        assert_eq!((bare.key(), bare.encoded()), (b"foo".as_ref(), None));
    }
}
