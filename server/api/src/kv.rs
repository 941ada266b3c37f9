//! Reads and writes of keys.

use std::time::Duration;

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_spans::Child;
use futures_util::stream;

use super::backend::{Backend, RangeCursor};
use super::caller::{Caller, Credentials};
use super::durations::RequestType;
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, next_request};
use super::{Edge, decode, decode_streamed, overlap, spans};
use crate::codec::{Frame, Pages, answer, request};
use crate::read::Answer;
use crate::types::request::{Compact, Op, Range, SortOrder, SortTarget, Txn};
use crate::types::result::{self, Applied, Outcome};
use crate::types::{LeaseId, Revision};

/// Keys in the first message of a range stream (etcd's).
const FIRST_CHUNK_KEYS: usize = 10;
/// The longest time to live a lease may have, seconds (etcd's).
const LEASE_TTL_MAX: i64 = 9_000_000_000;
/// How long a serializable read waits for a revision that this member has not reached: a pause of its disk, and
/// no more where nobody leads.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// What a span tells of an operation on its way, in etcd's words.
const SENT: &str = "Send raft proposal";
const APPLIED: &str = "Receive raft result";

impl<B: Backend> Edge<B> {
    pub(super) async fn range(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let query = request::range(decode(message)?)?;
        let _span = self.span(|| spans::range(&query));
        let started = self.metrics().request_clock();
        let read = self.read_range(&query, caller).await;
        self.metrics()
            .answered(Some(RequestType::Range), started, read.is_ok());
        let read = read?;
        let frame = answer::range(&self.header(read.head), &read.found);
        Ok(frame.with_pages(read.pages))
    }

    async fn read_range(
        &self,
        query: &Range,
        caller: &Caller,
    ) -> Result<Answer<result::Range>, Refusal> {
        if !query.serializable {
            self.require_voter()?;
        }
        self.await_readable(query.serializable, query.revision)
            .await?;
        self.check(caller, |auth, by| auth.may_read(by, &query.range))?;
        let started = self.metrics().request_clock();
        let read = self.backend().range(query).await;
        self.metrics().ranged(started, read.is_ok());
        let read = read?;
        self.check_unchanged(caller)?;
        Ok(read)
    }

    /// Returns once a read may run here. A linearizable one waits for all that was acknowledged before it, a
    /// serializable one for nothing, unless it names a revision that this member has not reached: another
    /// member may have told the caller of it (clients spread their calls), and refusing it as one of the
    /// future would be wrong. What is not here within [`BEHIND_MAX`] is refused when the read runs.
    async fn await_readable(&self, serializable: bool, revision: i64) -> Result<(), Refusal> {
        let barrier = self.backend().read_barrier();
        if !serializable {
            barrier.await?;
        } else if revision > self.backend().header().revision.0 {
            let _ = tokio::time::timeout(BEHIND_MAX, barrier).await;
        }
        Ok(())
    }

    pub(super) async fn put(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let len = message.len();
        let put = request::put(decode(message)?)?;
        let _span = self.span(|| spans::put(&put));
        self.check_size(len)?;
        let (revision, applied) = self.propose(caller.asks(Op::Put(put))?).await?;
        let Applied::Put(put) = applied else {
            unreachable!("a put answers as a put")
        };
        Ok(answer::put(&self.header(revision), &put))
    }

    pub(super) async fn delete_range(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let len = message.len();
        let delete = request::delete_range(decode(message)?)?;
        let _span = self.span(|| spans::delete_range(&delete));
        self.check_size(len)?;
        let op = caller.asks(Op::DeleteRange(delete))?;
        let (revision, applied, pages) = self.propose_whole(op).await?;
        let Applied::DeleteRange(delete) = applied else {
            unreachable!("a delete answers as a delete")
        };
        Ok(answer::delete_range(&self.header(revision), &delete).with_pages(pages))
    }

    pub(super) async fn txn(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let len = message.len();
        let txn = request::decode_txn(message, self.config().max_txn_ops)?;
        overlap::check(&txn)?;
        let _span = self.span(|| spans::txn(&txn));
        if txn.is_read_only() {
            let started = self.metrics().request_clock();
            let read = self.read_txn(&txn, caller).await;
            self.metrics()
                .answered(Some(RequestType::ReadonlyTxn), started, read.is_ok());
            let read = read?;
            let frame = answer::txn(&self.header(read.head), &read.found);
            return Ok(frame.with_pages(read.pages));
        }
        self.check_size(len)?;
        let op = caller.asks(Op::Txn(txn))?;
        let (revision, applied, pages) = self.propose_whole(op).await?;
        let Applied::Txn(txn) = applied else {
            unreachable!("a transaction answers as a transaction")
        };
        Ok(answer::txn(&self.header(revision), &txn).with_pages(pages))
    }

    async fn read_txn(&self, txn: &Txn, caller: &Caller) -> Result<Answer<result::Txn>, Refusal> {
        self.await_readable(txn.is_serializable(), txn.latest_revision())
            .await?;
        self.check(caller, |auth, by| auth.may_run_read(by, txn))?;
        let read = self.backend().read_txn(txn).await?;
        self.check_unchanged(caller)?;
        Ok(read)
    }

    pub(super) async fn compact(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let wanted: pb::CompactionRequest = decode(message)?;
        let _span = self.span(|| spans::compact(wanted.revision, wanted.physical));
        let op = Op::Compact(Compact {
            revision: wanted.revision,
        });
        self.propose(caller.asks(op)?).await?;
        if wanted.physical {
            self.backend()
                .compacted_physically(Revision(wanted.revision))
                .await?;
        }
        Ok(answer::header_only(&self.header_now()))
    }

    pub(super) async fn lease_grant(&self, message: Bytes) -> Result<Frame, Refusal> {
        let grant: pb::LeaseGrantRequest = decode(message)?;
        let span = self.span(|| spans::lease_grant(grant.id, grant.ttl));
        if grant.ttl > LEASE_TTL_MAX {
            return Err(Refusal::LEASE_TTL_TOO_LARGE);
        }
        let started = self.metrics().request_clock();
        self.span_event(SENT);
        let granted = self
            .backend()
            .lease_grant(LeaseId(grant.id), grant.ttl)
            .await;
        if granted.is_ok() {
            self.span_event(APPLIED);
        }
        self.metrics()
            .answered(Some(RequestType::LeaseGrant), started, granted.is_ok());
        let outcome = granted?;
        let Applied::LeaseGrant { id, ttl_seconds } = outcome.result? else {
            unreachable!("a grant answers as a grant")
        };
        if let Some(span) = span
            && grant.id == 0
        {
            span.set(spans::lease_id(id.0));
        }
        Ok(answer::lease(
            &self.header(outcome.revision),
            id,
            ttl_seconds,
        ))
    }

    /// Has an operation applied: the store's revision after it, and what it answered.
    pub(super) async fn propose(&self, op: Op) -> Result<(Revision, Applied), Refusal> {
        let outcome = self.outcome(op).await?;
        Ok((outcome.revision, outcome.result?))
    }

    /// Has an operation applied that may read much, and begins to read what is left of that.
    async fn propose_whole(&self, op: Op) -> Result<(Revision, Applied, Option<Pages>), Refusal> {
        let outcome = self.outcome(op).await?;
        let mut applied = outcome.result?;
        let pages = match outcome.kept {
            None => None,
            Some(kept) => Box::pin(self.backend().complete(&mut applied, kept)).await?,
        };
        Ok((outcome.revision, applied, pages))
    }

    async fn outcome(&self, op: Op) -> Result<Outcome, Refusal> {
        let (request, started) = (RequestType::of(&op), self.metrics().request_clock());
        self.span_event(SENT);
        let proposed = self.backend().propose(op).await;
        if proposed.is_ok() {
            self.span_event(APPLIED);
        }
        // What applying answered is a success of the request, as etcd counts it.
        self.metrics().answered(request, started, proposed.is_ok());
        Ok(proposed?)
    }

    fn check_size(&self, message_len: usize) -> Result<(), Refusal> {
        if request::raft_request_len(message_len) > self.config().max_request_bytes {
            return Err(Refusal::REQUEST_TOO_LARGE);
        }
        Ok(())
    }

    /// The range in chunks at one revision; header, `more` and `count` are in the last one.
    pub(super) fn range_stream(self, mut requests: Requests, credentials: Credentials) -> Answers {
        let opening = async move {
            let message = next_request(&mut requests)
                .await?
                .ok_or(Refusal::NO_REQUEST)?;
            let caller = self.holder(&credentials).await?;
            self.open_range_stream(message, &caller).await
        };
        let states = stream::unfold(Chunks::Opening(Box::pin(opening)), Chunks::next);
        Box::pin(states)
    }

    async fn open_range_stream(
        self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Chunks<B>, Refusal> {
        let query = request::range(decode_streamed(message)?)?;
        check_streamable(&query)?;
        let span = self.child_span(|| spans::range_stream(&query));
        self.await_readable(query.serializable, query.revision)
            .await?;
        self.check(caller, |auth, by| auth.may_read(by, &query.range))?;
        if query.count_only {
            let read = self.backend().range(&query).await?;
            let count = result::Range {
                count: read.found.count,
                ..result::Range::default()
            };
            let frame = answer::range_chunk(Some(&self.header(read.head)), &count);
            return Ok(Chunks::Last(frame));
        }
        let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
        // etcd's quirk: a negative limit is none for the first chunk too.
        let keys = if query.limit < 0 {
            usize::MAX
        } else {
            FIRST_CHUNK_KEYS
        };
        let cursor = self.backend().range_cursor(query).await?;
        Ok(Chunks::Reading(Box::new(Reading {
            edge: self,
            cursor,
            left: limit.unwrap_or(usize::MAX),
            sent: 0,
            keys,
            _span: span,
        })))
    }
}

fn check_streamable(query: &Range) -> Result<(), Refusal> {
    // Unsorted is unsorted, whatever the target.
    let by_key = match query.sort_order {
        SortOrder::None => true,
        SortOrder::Ascend => query.sort_target == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !by_key {
        return Err(Refusal::STREAM_SORT);
    }
    if query.has_revision_filter() {
        return Err(Refusal::STREAM_FILTER);
    }
    Ok(())
}

type Opening<B> =
    std::pin::Pin<Box<dyn Future<Output = Result<Chunks<B>, Refusal>> + Send + 'static>>;

/// How far a range stream is.
enum Chunks<B: Backend> {
    Opening(Opening<B>),
    Reading(Box<Reading<B>>),
    Last(Frame),
    Done,
}

struct Reading<B: Backend> {
    edge: Edge<B>,
    cursor: B::Cursor,
    /// Keys still allowed by the request's limit.
    left: usize,
    sent: i64,
    /// Keys to ask for next.
    keys: usize,
    /// Of the stream, until its last chunk is read.
    _span: Option<Child>,
}

impl<B: Backend> Chunks<B> {
    async fn next(self) -> Option<(Result<Outgoing, Refusal>, Chunks<B>)> {
        let mut state = self;
        loop {
            state = match state {
                Chunks::Opening(opening) => match opening.await {
                    Ok(opened) => opened,
                    Err(refusal) => return Some((Err(refusal), Chunks::Done)),
                },
                Chunks::Last(frame) => return Some((Ok(Outgoing::Frame(frame)), Chunks::Done)),
                Chunks::Done => return None,
                Chunks::Reading(reading) => {
                    return Some(match reading.next().await {
                        Ok((frame, next)) => (Ok(Outgoing::Frame(frame)), next),
                        Err(refusal) => (Err(refusal), Chunks::Done),
                    });
                }
            }
        }
    }
}

impl<B: Backend> Reading<B> {
    async fn next(mut self: Box<Self>) -> Result<(Frame, Chunks<B>), Refusal> {
        let asked = self.keys.min(self.left);
        let page = self.cursor.next_page(asked).await?;
        let read = page.items.len();
        assert!(read <= asked, "a page holds no more than was asked for");
        self.left -= read;
        let remaining = page.count;
        let last = !page.more || self.left == 0;
        let mut chunk = result::Range {
            items: page.items,
            ..result::Range::default()
        };
        if last {
            chunk.more = page.more;
            chunk.count = self.sent + remaining;
            let header = self.edge.header(self.cursor.head());
            return Ok((answer::range_chunk(Some(&header), &chunk), Chunks::Done));
        }
        // An empty chunk before the end would fail a client's list (and never end here).
        assert!(read > 0, "a page with more behind it is not empty");
        self.sent += i64::try_from(read).expect("a page's length fits");
        let frame = answer::range_chunk(None, &chunk);
        self.keys = next_keys(
            asked,
            frame.message_len(),
            self.edge.config().max_request_bytes,
        );
        Ok((frame, Chunks::Reading(self)))
    }
}

/// How many keys to ask for next, so that a chunk is about `target` bytes: doubled below half of
/// it, halved above twice of it (as etcd).
fn next_keys(last: usize, bytes: usize, target: usize) -> usize {
    if bytes < target / 2 {
        last.saturating_mul(2)
    } else if bytes > target.saturating_mul(2) {
        (last / 2).max(1)
    } else {
        last
    }
}
