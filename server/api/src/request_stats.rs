//! The log's lines about requests that took long: etcd's, so that what reads its log reads ours.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use engram_proto::etcdserverpb as pb;
use prost::Message;

use super::error::Refusal;
use super::request_text::Text;
use super::table::{Row, Rpc};
use crate::codec::Frame;
use crate::log;
use crate::net::PeerAddress;

/// A unary call that has been answered.
pub(super) struct Answered<'a> {
    /// Which.
    pub(super) row: &'static Row,
    /// Who asked.
    pub(super) peer: PeerAddress,
    /// The request's message.
    pub(super) message: &'a Bytes,
    /// The answer.
    pub(super) answer: &'a Result<Frame, Refusal>,
    /// How long it took.
    pub(super) took: Duration,
}

/// What etcd tells of a request and its answer: counts and bytes, -1 where it tells nothing.
#[derive(Debug, PartialEq, Eq)]
struct Stats {
    request_count: i64,
    request_size: i64,
    response_count: i64,
    response_size: i64,
    content: String,
}

/// Tells of a request: as a warning if it took long, or else for debugging.
pub(super) fn tell(answered: &Answered<'_>, as_warning: bool) {
    let stats = answered.stats();
    let started = SystemTime::now() - answered.took;
    // Two sites, because each has its own level; the fields are the same.
    if as_warning {
        log!(warn, "request stats", "start time" = started, "time spent" = answered.took,
            "remote" = %answered.peer, "response type" = answered.row.path,
            "request count" = stats.request_count, "request size" = stats.request_size,
            "response count" = stats.response_count, "response size" = stats.response_size,
            "request content" = stats.content);
    } else {
        log!(debug, "request stats", "start time" = started, "time spent" = answered.took,
            "remote" = %answered.peer, "response type" = answered.row.path,
            "request count" = stats.request_count, "request size" = stats.request_size,
            "response count" = stats.response_count, "response size" = stats.response_size,
            "request content" = stats.content);
    }
}

/// Tells of a read that took longer than `expected`, if the request is one. True if it is.
pub(super) fn tell_slow_read(answered: &Answered<'_>, expected: Duration) -> bool {
    let Some(prefix) = answered.read_kind() else {
        return false;
    };
    let Stats {
        response_count,
        response_size,
        content,
        ..
    } = answered.stats();
    let error = answered.answer.as_ref().err().map(ToString::to_string);
    let response = match answered.row.rpc {
        Rpc::Range => format!("range_response_count:{response_count} size:{response_size}"),
        _ => format!("size:{response_size}"),
    };
    log!(
        warn,
        "apply request took too long",
        took = answered.took,
        "expected-duration" = expected,
        prefix = prefix,
        request = content,
        response = response,
        error = error.unwrap_or_default()
    );
    true
}

impl Answered<'_> {
    /// etcd's prefix of the line about a slow read; none for what writes.
    fn read_kind(&self) -> Option<&'static str> {
        match self.row.rpc {
            Rpc::Range => Some("read-only range "),
            Rpc::Txn if is_read_only(&self.decoded()) => Some("read-only txn "),
            _ => None,
        }
    }

    fn stats(&self) -> Stats {
        let size = size_of_message(self.message.len());
        match self.row.rpc {
            Rpc::Range => {
                let text = Text::default().range(&self.decoded());
                self.with_answer(0, size, text, |shape: RangeShape| shape.count)
            }
            Rpc::Put => {
                let text = Text::default().put(&self.decoded());
                self.with_answer(1, size, text, |_: ()| 0)
            }
            Rpc::DeleteRange => {
                let text = Text::default().delete_range(&self.decoded());
                self.with_answer(0, size, text, |shape: DeleteShape| shape.deleted)
            }
            Rpc::Txn => self.txn_stats(),
            _ => Stats {
                request_count: -1,
                request_size: -1,
                response_count: -1,
                response_size: -1,
                content: String::new(),
            },
        }
    }

    /// The branch taken is what counts; of a failed one nobody knows which that is.
    fn txn_stats(&self) -> Stats {
        let txn: pb::TxnRequest = self.decoded();
        let (mut count, mut size, mut text) = (0, 0, Text::default());
        if let Ok(frame) = self.answer {
            let shape: TxnShape = shape_of(frame);
            let branch = if shape.succeeded {
                &txn.success
            } else {
                &txn.failure
            };
            count = size_of_message(branch.len());
            size = size_of_message(branch.iter().map(Message::encoded_len).sum());
            text = text.txn(&txn);
        }
        self.with_answer(count, size, text, |_: ()| 0)
    }

    fn with_answer<S: Message + Default>(
        &self,
        request_count: i64,
        request_size: i64,
        text: Text,
        count: impl FnOnce(S) -> i64,
    ) -> Stats {
        let (response_count, response_size) = match self.answer {
            Ok(frame) => (count(shape_of(frame)), size_of_message(frame.message_len())),
            Err(_) => (0, 0),
        };
        Stats {
            request_count,
            request_size,
            response_count,
            response_size,
            content: text.finish(),
        }
    }

    /// The request; an empty one where it cannot be decoded, of which the answer told.
    fn decoded<M: Message + Default>(&self) -> M {
        M::decode(self.message.clone()).unwrap_or_default()
    }
}

fn is_read_only(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestRange(_)) | None => true,
        Some(Request::RequestTxn(txn)) => is_read_only(txn),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
    })
}

fn size_of_message(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// The fields of an answer that the line needs; the rest is skipped, not copied.
#[derive(Clone, PartialEq, Eq, Message)]
struct RangeShape {
    #[prost(int64, tag = "4")]
    count: i64,
}

/// See [`RangeShape`].
#[derive(Clone, PartialEq, Eq, Message)]
struct DeleteShape {
    #[prost(int64, tag = "2")]
    deleted: i64,
}

/// See [`RangeShape`].
#[derive(Clone, PartialEq, Eq, Message)]
struct TxnShape {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

fn shape_of<S: Message + Default>(frame: &Frame) -> S {
    let rest: VecDeque<&[u8]> = frame.message_pieces().collect();
    let remaining = rest.iter().map(|piece| piece.len()).sum();
    let mut shape = S::default();
    let read = shape.merge(Pieces { rest, remaining });
    // Without its runs, what is within an answer of a transaction is shorter than it says. What is
    // told here comes before it.
    assert!(
        read.is_ok() || remaining < frame.message_len(),
        "an answer that was encoded here is decodable"
    );
    shape
}

/// A frame's pieces, read as one.
struct Pieces<'a> {
    rest: VecDeque<&'a [u8]>,
    remaining: usize,
}

impl Buf for Pieces<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.rest.front().copied().unwrap_or_default()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while let Some(piece) = self.rest.front_mut() {
            if count < piece.len() {
                *piece = &piece[count..];
                return;
            }
            count -= piece.len();
            self.rest.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::answer::{self, Header};
    use crate::table::ROWS;
    use crate::types::result::{self, Item};
    use crate::types::{ClusterId, MemberId, Revision};

    fn row(rpc: Rpc) -> &'static Row {
        ROWS.iter().find(|row| row.rpc == rpc).unwrap()
    }

    fn stats(rpc: Rpc, message: &impl Message, answer: Result<Frame, Refusal>) -> Stats {
        let message = message.encode_to_vec().into();
        let answered = Answered {
            row: row(rpc),
            peer: PeerAddress::Unix,
            message: &message,
            answer: &answer,
            took: Duration::from_secs(1),
        };
        answered.stats()
    }

    #[test]
    fn a_range_is_told_with_its_count_whatever_pieces_it_is_sent_in() {
        let range = pb::RangeRequest {
            key: "k".into(),
            limit: 2,
            ..Default::default()
        };
        let header = Header {
            cluster: ClusterId(1),
            member: MemberId(2),
            revision: Revision(3),
            term: 4,
        };
        let kv = crate::types::KeyValue {
            key: "k".into(),
            value: vec![1; 100_000].into(),
            ..Default::default()
        };
        let found = result::Range {
            items: vec![Item::Encoded(kv.encode()), Item::Encoded(kv.encode())],
            more: true,
            count: 700,
            ..Default::default()
        };
        let frame = answer::range(&header, &found);
        let len = size_of_message(frame.message_len());
        let told = stats(Rpc::Range, &range, Ok(frame));
        assert_eq!((told.request_count, told.request_size), (0, 5));
        assert_eq!((told.response_count, told.response_size), (700, len));
        assert_eq!(told.content, "key:\"k\" limit:2");
    }

    #[test]
    fn a_failed_put_is_told_without_an_answer() {
        let put = pb::PutRequest {
            key: "k".into(),
            value: "secret".into(),
            ..Default::default()
        };
        let told = stats(Rpc::Put, &put, Err(Refusal::NO_SPACE));
        let wanted = Stats {
            request_count: 1,
            request_size: 11,
            response_count: 0,
            response_size: 0,
            content: "key:\"k\" value_size:6".into(),
        };
        assert_eq!(told, wanted);
    }

    #[test]
    fn of_other_calls_only_the_duration_is_told() {
        let told = stats(Rpc::Status, &pb::StatusRequest {}, Err(Refusal::NO_LEADER));
        assert_eq!((told.request_count, told.response_size), (-1, -1));
    }

    #[test]
    fn a_transaction_with_a_write_in_any_depth_is_no_read() {
        use pb::request_op::Request;
        let op = |request| pb::RequestOp {
            request: Some(request),
        };
        let of = |ops| pb::TxnRequest {
            success: ops,
            ..Default::default()
        };
        let read = of(vec![op(Request::RequestRange(pb::RangeRequest::default()))]);
        assert!(is_read_only(&read));
        let write = of(vec![op(Request::RequestPut(pb::PutRequest::default()))]);
        assert!(!is_read_only(&of(vec![op(Request::RequestTxn(write))])));
    }
}
