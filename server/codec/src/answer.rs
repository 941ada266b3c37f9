//! Results as the bytes of etcd's answers. The message is measured, then written once into a buffer
//! of just that size; stored key-values are spliced in as they are.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{Frame, FrameWriter, delimited_len, int_len, splices, uint_len};
use super::txn_answer;
use crate::types::result::{Away, DeleteRange, Item, Put, Range, Run, Txn};
use crate::types::{ClusterId, LeaseId, MemberId, Revision};

/// What an answer's header says. A zero is left out, so `Header::default()` is an empty header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member that answers.
    pub member: MemberId,
    /// The store's revision the answer speaks of.
    pub revision: Revision,
    /// The Raft term.
    pub term: u64,
}

impl Header {
    /// The content's length: at most 44 bytes.
    fn content_len(&self) -> usize {
        uint_len(self.cluster.0)
            + uint_len(self.member.0)
            + int_len(self.revision.0)
            + uint_len(self.term)
    }

    /// The length of the field.
    pub(super) fn len(&self) -> usize {
        delimited_len(self.content_len())
    }

    pub(super) fn write(&self, out: &mut FrameWriter) {
        out.open(0x0a, self.content_len());
        out.uint(0x08, self.cluster.0);
        out.uint(0x10, self.member.0);
        out.int(0x18, self.revision.0);
        out.uint(0x20, self.term);
    }
}

/// A measured length: all of it, and what of it is sent from where it lies.
#[derive(Clone, Copy, Default)]
pub(super) struct Measure {
    pub(super) len: usize,
    pub(super) spliced: usize,
}

impl Measure {
    pub(super) fn plain(&mut self, len: usize) {
        self.len += len;
    }

    /// A field with a stored key-value of `len` bytes.
    pub(super) fn value(&mut self, len: usize) {
        self.len += delimited_len(len);
        if splices(len) {
            self.spliced += len;
        }
    }
}

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

/// The run of an answer whose reads are all done or under way.
fn run(away: Option<&Away>) -> Option<Run> {
    away.map(|away| match away {
        Away::Run(run) => *run,
        Away::Later(_) => unreachable!("what was left for later is read before it is answered"),
    })
}

fn measure_run(away: Option<&Away>, measure: &mut Measure) {
    if let Some(run) = run(away) {
        measure.len += run.bytes;
        measure.spliced += run.bytes;
    }
}

fn write_run(away: Option<&Away>, out: &mut FrameWriter) {
    if let Some(run) = run(away) {
        out.run(run);
    }
}

pub(super) fn measure_range(result: &Range, measure: &mut Measure) {
    measure_run(result.away.as_deref(), measure);
    for item in &result.items {
        measure.value(item.as_ref().len());
    }
    measure.plain(uint_len(u64::from(result.more)) + int_len(result.count));
}

pub(super) fn write_range(result: &Range, out: &mut FrameWriter) {
    write_run(result.away.as_deref(), out);
    for item in &result.items {
        out.item(0x12, item);
    }
    out.flag(0x18, result.more);
    out.int(0x20, result.count);
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

pub(super) fn measure_put(result: &Put, measure: &mut Measure) {
    if let Some(previous) = &result.prev_kv {
        measure.value(previous.len());
    }
}

pub(super) fn write_put(result: &Put, out: &mut FrameWriter) {
    if let Some(previous) = &result.prev_kv {
        out.bytes(0x12, previous);
    }
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

pub(super) fn measure_delete(result: &DeleteRange, measure: &mut Measure) {
    measure.plain(int_len(result.deleted));
    for previous in &result.prev_kvs {
        measure.value(previous.len());
    }
    measure_run(result.away.as_deref(), measure);
}

pub(super) fn write_delete(result: &DeleteRange, out: &mut FrameWriter) {
    out.int(0x10, result.deleted);
    for previous in &result.prev_kvs {
        out.bytes(0x1a, previous);
    }
    write_run(result.away.as_deref(), out);
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
