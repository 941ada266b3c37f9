//! What the spans within a call say, with `--enable-distributed-tracing`: etcd's names and attributes, of
//! what the call asks of the core.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use engram_spans::{Attribute, Call, Child, Entered, current, flag, number, text};
use http::HeaderMap;
use tonic::Code;

use super::Edge;
use super::backend::Backend;
use super::error::Refusal;
use super::table::Row;
use crate::types::request::{DeleteRange, Put, Range, Txn, TxnOp};
use crate::types::{KeyRange, RangeEnd};
use engram_watch::Create;

/// A span's name and what it says.
pub(super) type Span = (&'static str, Vec<Attribute>);

impl<B: Backend> Edge<B> {
    /// The span of a call that begins, where it has one.
    pub(super) fn span_of_call(
        &self,
        row: &Row,
        headers: &HeaderMap,
        local: Option<SocketAddr>,
    ) -> Option<Arc<Call>> {
        let spans = self.config().spans.as_ref()?;
        spans.begin(row.path, headers, local)
    }

    /// Begins the span of what is asked of the core, where the call has spans: it lasts until what is
    /// returned is dropped.
    pub(super) fn span(&self, of: impl FnOnce() -> Span) -> Option<Box<Entered>> {
        let call = self.call_with_spans()?;
        let (name, attributes) = of();
        Some(call.enter(name, attributes))
    }

    /// The same of what lasts while the call goes on with other things.
    pub(super) fn child_span(&self, of: impl FnOnce() -> Span) -> Option<Child> {
        let call = self.call_with_spans()?;
        let (name, attributes) = of();
        Some(call.child(name, attributes))
    }

    /// Something happens now.
    pub(super) fn span_event(&self, name: &'static str) {
        if let Some(call) = self.call_with_spans() {
            call.event(name);
        }
    }

    /// Whether any call may have spans.
    pub(super) fn has_spans(&self) -> bool {
        self.config().spans.is_some()
    }

    fn call_with_spans(&self) -> Option<Arc<Call>> {
        self.has_spans().then(current).flatten()
    }
}

/// A call is answered so.
pub(super) fn end(call: &Call, ended: Result<(), &Refusal>) {
    match ended {
        Ok(()) => call.end(Code::Ok, ""),
        Err(refusal) => call.end(refusal.code(), &refusal.to_string()),
    }
}

pub(super) fn range(query: &Range) -> Span {
    let mut said = range_stream(query).1;
    said.push(flag("keys_only", query.keys_only));
    ("range", said)
}

pub(super) fn range_stream(query: &Range) -> Span {
    let said = vec![
        text("range_begin", &query.range.start),
        text("range_end", range_end(&query.range)),
        number("rev", query.revision),
        number("limit", query.limit),
        flag("count_only", query.count_only),
    ];
    ("range_streaming", said)
}

pub(super) fn put(put: &Put) -> Span {
    ("put", vec![text("key", &put.key)])
}

pub(super) fn delete_range(delete: &DeleteRange) -> Span {
    let said = vec![
        text("range_begin", &delete.range.start),
        text("range_end", range_end(&delete.range)),
    ];
    ("delete_range", said)
}

pub(super) fn txn(txn: &Txn) -> Span {
    let mut compared = txn.compare.iter().map(|compare| &compare.range.start);
    let first_compared = compared.find(|key| !key.is_empty());
    let mut keys = txn.success.iter().filter_map(key);
    let first_key = keys.find(|key| !key.is_empty());
    let mut leases = txn.success.iter().filter_map(|op| match op {
        TxnOp::Put(put) => Some(put.lease.0),
        _ => None,
    });
    let said = vec![
        text(
            "compare_first_key",
            first_compared.map_or(&[][..], Bytes::as_ref),
        ),
        text("success_first_key", first_key.unwrap_or_default()),
        text(
            "success_first_type",
            txn.success.first().map_or(&[][..], kind),
        ),
        number("success_first_lease", leases.next().unwrap_or(-1)),
        number("compare_len", count(&txn.compare)),
        number("success_len", count(&txn.success)),
        number("failure_len", count(&txn.failure)),
        flag("read_only", txn.is_read_only()),
    ];
    ("txn", said)
}

pub(super) fn compact(revision: i64, physical: bool) -> Span {
    let said = vec![flag("is_physical", physical), number("rev", revision)];
    ("compact", said)
}

/// The lease's id is said where the client chose it, else once it is chosen.
pub(super) fn lease_grant(id: i64, ttl: i64) -> Span {
    let chosen = (id != 0).then(|| lease_id(id));
    let said = chosen.into_iter().chain([number("ttl", ttl)]);
    ("lease_grant", said.collect())
}

pub(super) fn lease_revoke(id: i64) -> Span {
    ("lease_revoke", vec![lease_id(id)])
}

pub(super) fn lease_renew(id: i64) -> Span {
    ("lease_renew", vec![lease_id(id)])
}

pub(super) fn lease_id(id: i64) -> Attribute {
    number("id", id)
}

pub(super) fn watch(create: &Create) -> Span {
    let start: &[u8] = match create.range.start.as_ref() {
        [] => &[0],
        start => start,
    };
    let end: &[u8] = match &create.range.end {
        // A watch's is turned into none before it is told.
        RangeEnd::Unbounded => &[],
        _ => range_end(&create.range),
    };
    let said = vec![
        text("key", start),
        text("range_end", end),
        number("start_rev", create.start_revision),
        flag("progress_notify", create.progress_notify),
        flag("prev_kv", create.prev_kv),
        flag("fragment", create.fragment),
    ];
    ("watch", said)
}

/// As a client has it.
fn range_end(range: &KeyRange) -> &[u8] {
    match &range.end {
        RangeEnd::SingleKey => &[],
        RangeEnd::Unbounded => &[0],
        RangeEnd::Before(end) => end,
    }
}

fn key(op: &TxnOp) -> Option<&[u8]> {
    match op {
        TxnOp::Range(range) => Some(&range.range.start),
        TxnOp::Put(put) => Some(&put.key),
        TxnOp::DeleteRange(delete) => Some(&delete.range.start),
        TxnOp::Txn(_) => None,
    }
}

fn kind(op: &TxnOp) -> &'static [u8] {
    match op {
        TxnOp::Range(_) => b"range",
        TxnOp::Put(_) => b"put",
        TxnOp::DeleteRange(_) => b"delete_range",
        TxnOp::Txn(_) => b"txn",
    }
}

fn count<T>(of: &[T]) -> i64 {
    i64::try_from(of.len()).unwrap_or(i64::MAX)
}
