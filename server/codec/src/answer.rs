//! Results as the bytes of etcd's answers. The message is measured, then written once into a buffer
//! of just that size; stored key-values are spliced in as they are.

use bytes::{BufMut, Bytes, BytesMut};

use super::body::{
    Measure, measure_delete, measure_put, measure_range, write_delete, write_put, write_range,
};
use super::frame::{Frame, FrameWriter, delimited_len, int_len};
use super::txn_answer;
use crate::types::LeaseId;
use crate::types::result::{DeleteRange, Item, Put, Range, Txn};

pub use super::body::Header;

/// `RangeResponse`.
pub fn range(header: &Header, result: &Range) -> Frame {
    let mut measure = Measure::default();
    measure.plain(header.len());
    measure_range(result, &mut measure);
    let mut out = FrameWriter::new(measure.len, measure.spliced);
    header.write(&mut out);
    write_range(result, &mut out);
    out.finish()
}

/// One message of a `RangeStream`; only the last one has a header.
pub fn range_chunk(header: Option<&Header>, result: &Range) -> Frame {
    let mut measure = Measure::default();
    measure.plain(header.map_or(0, Header::len));
    measure_range(result, &mut measure);
    let inner = measure.len;
    let mut out = FrameWriter::new(delimited_len(inner), measure.spliced);
    out.open(0x0a, inner);
    if let Some(header) = header {
        header.write(&mut out);
    }
    write_range(result, &mut out);
    out.finish()
}

/// Stored key-values as fields of a message, one after the other: a page of a run.
pub fn fields(field: Field, items: &[Item]) -> Bytes {
    let mut measure = Measure::default();
    for item in items {
        measure.value(item.as_ref().len());
    }
    let mut buffer = BytesMut::with_capacity(measure.len);
    for item in items {
        let bytes = item.as_ref();
        buffer.put_u8(field as u8);
        prost::encoding::encode_varint(bytes.len() as u64, &mut buffer);
        buffer.put_slice(bytes);
    }
    assert_eq!(buffer.len(), measure.len, "a page has its measured length");
    buffer.freeze()
}

/// The bytes of one such field that holds an encoded key-value of `len` bytes.
#[inline]
pub fn field_len(len: usize) -> usize {
    delimited_len(len)
}

/// The field that repeats key-values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// `RangeResponse.kvs`.
    Kvs = 0x12,
    /// `DeleteRangeResponse.prev_kvs`.
    PrevKvs = 0x1a,
}

/// `PutResponse`.
pub fn put(header: &Header, result: &Put) -> Frame {
    let mut measure = Measure::default();
    measure.plain(header.len());
    measure_put(result, &mut measure);
    let mut out = FrameWriter::new(measure.len, measure.spliced);
    header.write(&mut out);
    write_put(result, &mut out);
    out.finish()
}

/// `DeleteRangeResponse`.
pub fn delete_range(header: &Header, result: &DeleteRange) -> Frame {
    let mut measure = Measure::default();
    measure.plain(header.len());
    measure_delete(result, &mut measure);
    let mut out = FrameWriter::new(measure.len, measure.spliced);
    header.write(&mut out);
    write_delete(result, &mut out);
    out.finish()
}

/// `TxnResponse`. `header.revision` is the store's after the transaction.
pub fn txn(header: &Header, result: &Txn) -> Frame {
    txn_answer::encode(header, result)
}

/// An answer that is a header alone (`CompactionResponse`, `LeaseRevokeResponse`).
pub fn header_only(header: &Header) -> Frame {
    let mut out = FrameWriter::new(header.len(), 0);
    header.write(&mut out);
    out.finish()
}

/// `LeaseGrantResponse` and `LeaseKeepAliveResponse`, which share their fields.
pub fn lease(header: &Header, id: LeaseId, ttl_seconds: i64) -> Frame {
    let mut out = FrameWriter::new(header.len() + int_len(id.0) + int_len(ttl_seconds), 0);
    header.write(&mut out);
    out.int(0x10, id.0);
    out.int(0x18, ttl_seconds);
    out.finish()
}
