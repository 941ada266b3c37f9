//! `TxnResponse`: answers within answers, each behind its length. Lengths are measured once, in the
//! order they are written, so that deep nesting costs no more than its size.

use super::body::{
    Header, Measure, measure_delete, measure_put, measure_range, write_delete, write_put,
    write_range,
};
use super::frame::{Frame, FrameWriter, delimited_len, uint_len};
use crate::types::result::{Txn, TxnOp};
use crate::types::within;

/// The header of an answer within: its revision alone. That of a transaction within is there, but
/// empty.
fn inner_header(op: &TxnOp) -> Header {
    let revision = match op {
        TxnOp::Range(range) => range.revision,
        TxnOp::Put(put) => put.revision,
        TxnOp::DeleteRange(delete) => delete.revision,
        TxnOp::Txn(_) => return Header::default(),
    };
    Header {
        revision,
        ..Header::default()
    }
}

pub(super) fn encode(header: &Header, result: &Txn) -> Frame {
    let mut lengths = Vec::new();
    let measure = measure_txn(header, result, &mut lengths);
    let mut out = FrameWriter::new(measure.len, measure.spliced);
    write_txn(header, result, &mut lengths.into_iter(), &mut out);
    out.finish()
}

fn measure_txn(header: &Header, txn: &Txn, lengths: &mut Vec<usize>) -> Measure {
    let mut total = Measure::default();
    total.plain(header.len() + uint_len(u64::from(txn.succeeded)));
    for op in &txn.responses {
        // The place in the list is taken before what lies within is measured: written order.
        let place = lengths.len();
        lengths.push(0);
        let answer = measure_op(op, lengths);
        lengths[place] = answer.len;
        total.plain(delimited_len(delimited_len(answer.len)));
        total.spliced += answer.spliced;
    }
    total
}

fn measure_op(op: &TxnOp, lengths: &mut Vec<usize>) -> Measure {
    let header = inner_header(op);
    let mut measure = Measure::default();
    match op {
        TxnOp::Txn(inner) => return within(|| measure_txn(&header, inner, lengths)),
        TxnOp::Range(range) => measure_range(range, &mut measure),
        TxnOp::Put(put) => measure_put(put, &mut measure),
        TxnOp::DeleteRange(delete) => measure_delete(delete, &mut measure),
    }
    measure.plain(header.len());
    measure
}

fn write_txn(
    header: &Header,
    txn: &Txn,
    lengths: &mut std::vec::IntoIter<usize>,
    out: &mut FrameWriter,
) {
    header.write(out);
    out.flag(0x10, txn.succeeded);
    for op in &txn.responses {
        let len = lengths.next().expect("every answer was measured");
        out.open(0x1a, delimited_len(len));
        out.open(tag(op), len);
        let header = inner_header(op);
        if let TxnOp::Txn(inner) = op {
            within(|| write_txn(&header, inner, lengths, out));
            continue;
        }
        header.write(out);
        match op {
            TxnOp::Range(range) => write_range(range, out),
            TxnOp::Put(put) => write_put(put, out),
            TxnOp::DeleteRange(delete) => write_delete(delete, out),
            TxnOp::Txn(_) => unreachable!("written above"),
        }
    }
}

/// The tag of the answer's field in `ResponseOp`.
fn tag(op: &TxnOp) -> u8 {
    match op {
        TxnOp::Range(_) => 0x0a,
        TxnOp::Put(_) => 0x12,
        TxnOp::DeleteRange(_) => 0x1a,
        TxnOp::Txn(_) => 0x22,
    }
}
