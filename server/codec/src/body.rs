//! What answers are made of: their header, and each kind's fields, measured and written.

use super::frame::{FrameWriter, delimited_len, int_len, splices, uint_len};
use crate::types::result::{Away, DeleteRange, Put, Range, Run};
use crate::types::{ClusterId, MemberId, Revision};

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
