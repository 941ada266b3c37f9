//! The few protobuf writers a watch response needs. Zero and empty fields are left to the callers.

use bytes::BufMut;

/// The bytes a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

/// Writes a varint.
pub(super) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

/// Writes a tag and a number, unless it is zero.
pub(super) fn put_number(out: &mut impl BufMut, tag: u8, value: u64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value);
    }
}

/// The bytes [`put_number`] writes.
pub(super) fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Writes the tag and the length that come before a field of `len` bytes.
pub(super) fn put_length(out: &mut impl BufMut, tag: u8, len: usize) {
    out.put_u8(tag);
    put_varint(out, len_to_u64(len));
}

/// The bytes a field of `len` bytes takes with its tag and length.
pub(super) fn field_len(len: usize) -> usize {
    1 + varint_len(len_to_u64(len)) + len
}

fn len_to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_take_the_bytes_foretold() {
        assert_eq!(
            (field_len(0), field_len(127), field_len(128)),
            (2, 129, 131)
        );
        assert_eq!((number_len(0), number_len(127), number_len(300)), (0, 2, 3));
    }

    #[test]
    fn a_varint_takes_the_bytes_foretold() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                assert_eq!(
                    prost::decode_length_delimiter(out.as_slice()).ok(),
                    usize::try_from(value).ok()
                );
            }
        }
    }
}
