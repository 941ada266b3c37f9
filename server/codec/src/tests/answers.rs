//! Answers: prost's bytes, and values that are sent from where they lie.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::operations::{bytes, key};
use crate::answer::{self, Header};
use crate::fixture::{prefixed, wire};
use crate::types::result::{self, Item};
use crate::types::{ClusterId, KeyValue, LeaseId, MemberId, Revision, Stored};
use crate::{PREFIX_LEN, Piece};

fn header() -> impl Strategy<Value = Header> {
    (any::<u64>(), any::<u64>(), 1..i64::MAX, any::<u64>()).prop_map(|(c, m, revision, term)| {
        Header {
            cluster: ClusterId(c),
            member: MemberId(m),
            revision: Revision(revision),
            term,
        }
    })
}

fn pb_header(header: &Header) -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: header.cluster.0,
        member_id: header.member.0,
        revision: header.revision.0,
        raft_term: header.term,
    }
}

/// Now and then a value large enough to be spliced.
fn key_value() -> impl Strategy<Value = KeyValue> {
    let value = prop_oneof![
        9 => bytes(64),
        1 => (16_300..40_000usize).prop_map(|len| Bytes::from(vec![7; len])),
    ];
    (key(), any::<[i64; 4]>(), value).prop_map(|(key, numbers, value)| KeyValue {
        key,
        create_revision: Revision(numbers[0]),
        mod_revision: Revision(numbers[1]),
        version: numbers[2],
        value,
        lease: LeaseId(numbers[3]),
    })
}

fn item() -> impl Strategy<Value = Item> {
    (key_value(), any::<bool>()).prop_map(|(kv, stored)| {
        if stored {
            Item::Stored(Stored::full(&kv.encode()))
        } else {
            Item::Encoded(kv.encode())
        }
    })
}

fn revision() -> impl Strategy<Value = Revision> {
    (0..i64::MAX).prop_map(Revision)
}

fn range_result() -> impl Strategy<Value = result::Range> {
    (vec(item(), 0..6), any::<bool>(), any::<i64>(), revision()).prop_map(
        |(items, more, count, revision)| result::Range {
            revision,
            items,
            more,
            count,
            away: None,
        },
    )
}

fn put_result() -> impl Strategy<Value = result::Put> {
    (proptest::option::of(key_value()), revision()).prop_map(|(kv, revision)| result::Put {
        revision,
        prev_kv: kv.map(|kv| kv.encode()),
    })
}

fn delete_result() -> impl Strategy<Value = result::DeleteRange> {
    (0i64..3, vec(key_value(), 0..3), revision()).prop_map(|(deleted, kvs, revision)| {
        result::DeleteRange {
            revision,
            deleted,
            prev_kvs: kvs.iter().map(KeyValue::encode).collect(),
            away: None,
        }
    })
}

fn txn_result() -> impl Strategy<Value = result::Txn> {
    let leaf = prop_oneof![
        range_result().prop_map(result::TxnOp::Range),
        put_result().prop_map(result::TxnOp::Put),
        delete_result().prop_map(result::TxnOp::DeleteRange)
    ];
    let op = leaf.prop_recursive(5, 24, 4, |inner| {
        (any::<bool>(), vec(inner, 0..4)).prop_map(|(succeeded, responses)| {
            result::TxnOp::Txn(result::Txn {
                succeeded,
                responses,
            })
        })
    });
    (any::<bool>(), vec(op, 0..5)).prop_map(|(succeeded, responses)| result::Txn {
        succeeded,
        responses,
    })
}

fn pb_kv(encoded: &[u8]) -> mvccpb::KeyValue {
    mvccpb::KeyValue::decode(encoded).expect("an encoded key-value")
}

fn pb_range(header: Option<pb::ResponseHeader>, range: &result::Range) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: range
            .items
            .iter()
            .map(|item| pb_kv(item.as_ref()))
            .collect(),
        more: range.more,
        count: range.count,
    }
}

fn pb_put(header: pb::ResponseHeader, put: &result::Put) -> pb::PutResponse {
    pb::PutResponse {
        header: Some(header),
        prev_kv: put.prev_kv.as_deref().map(pb_kv),
    }
}

fn pb_delete(header: pb::ResponseHeader, delete: &result::DeleteRange) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: delete.deleted,
        prev_kvs: delete.prev_kvs.iter().map(|kv| pb_kv(kv)).collect(),
    }
}

fn pb_txn(header: pb::ResponseHeader, txn: &result::Txn) -> pb::TxnResponse {
    use pb::response_op::Response;
    let response = |op: &result::TxnOp| match op {
        result::TxnOp::Range(range) => {
            Response::ResponseRange(pb_range(Some(inner_header(range.revision)), range))
        }
        result::TxnOp::Put(put) => Response::ResponsePut(pb_put(inner_header(put.revision), put)),
        result::TxnOp::DeleteRange(delete) => {
            Response::ResponseDeleteRange(pb_delete(inner_header(delete.revision), delete))
        }
        result::TxnOp::Txn(inner) => {
            Response::ResponseTxn(pb_txn(pb::ResponseHeader::default(), inner))
        }
    };
    let wrapped = |op| pb::ResponseOp {
        response: Some(response(op)),
    };
    pb::TxnResponse {
        header: Some(header),
        succeeded: txn.succeeded,
        responses: txn.responses.iter().map(wrapped).collect(),
    }
}

fn inner_header(revision: Revision) -> pb::ResponseHeader {
    pb::ResponseHeader {
        revision: revision.0,
        ..pb::ResponseHeader::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn answers_equal_prosts_bytes(
        header in header(),
        range in range_result(),
        put in put_result(),
        delete in delete_result(),
    ) {
        let pb_head = pb_header(&header);
        prop_assert_eq!(wire(answer::range(&header, &range)), prefixed(&pb_range(Some(pb_head), &range)));
        prop_assert_eq!(wire(answer::put(&header, &put)), prefixed(&pb_put(pb_head, &put)));
        prop_assert_eq!(wire(answer::delete_range(&header, &delete)), prefixed(&pb_delete(pb_head, &delete)));
        for head in [None, Some(header)] {
            let inner = pb_range(head.as_ref().map(pb_header), &range);
            let message = pb::RangeStreamResponse { range_response: Some(inner) };
            prop_assert_eq!(wire(answer::range_chunk(head.as_ref(), &range)), prefixed(&message));
        }
        let compacted = pb::CompactionResponse { header: Some(pb_head) };
        prop_assert_eq!(wire(answer::header_only(&header)), prefixed(&compacted));
        let grant = pb::LeaseGrantResponse { header: Some(pb_head), id: -5, ttl: 60, ..Default::default() };
        prop_assert_eq!(wire(answer::lease(&header, LeaseId(-5), 60)), prefixed(&grant));
    }

    #[test]
    fn answers_of_transactions_equal_prosts_bytes(header in header(), txn in txn_result()) {
        let message = pb_txn(pb_header(&header), &txn);
        prop_assert_eq!(wire(answer::txn(&header, &txn)), prefixed(&message));
    }
}

#[test]
fn large_values_are_sent_from_where_they_lie() {
    let kv = KeyValue {
        key: Bytes::from_static(b"k"),
        value: vec![1; 20_000].into(),
        ..Default::default()
    };
    let encoded = kv.encode();
    let items = vec![
        Item::Encoded(encoded.clone()),
        Item::Stored(Stored::full(&encoded)),
    ];
    let frame = answer::range(
        &Header::default(),
        &result::Range {
            revision: Revision(2),
            items,
            more: false,
            count: 2,
            away: None,
        },
    );
    let (first, more, _) = frame.into_pieces();
    assert!(first.len() < 32, "the head holds no value");
    assert!(
        more.into_iter().any(
            |piece| matches!(piece, Piece::Bytes(piece) if piece.as_ptr() == encoded.as_ptr())
        )
    );
}

#[test]
fn a_frame_begins_with_its_length() {
    let frame = answer::header_only(&Header {
        revision: Revision(5),
        ..Header::default()
    });
    assert_eq!(frame.message_len(), 4);
    assert_eq!(
        frame.message_pieces().collect::<Vec<_>>().concat(),
        [0x0a, 2, 0x18, 5]
    );
    assert_eq!(wire(frame), [0, 0, 0, 0, 4, 0x0a, 2, 0x18, 5]);
    assert_eq!(PREFIX_LEN, 5);
}

#[test]
fn an_answer_beyond_what_a_prefix_can_say_is_measured_and_not_a_panic() {
    let value = Bytes::from(vec![1; 1 << 20]);
    let items = vec![Item::Encoded(value); 5 << 10];
    let frame = answer::range(
        &Header::default(),
        &result::Range {
            items,
            ..result::Range::default()
        },
    );
    assert!(frame.message_len() > 5 << 30);
    assert!(frame.message_len() > crate::MESSAGE_BYTES_MAX);
}

#[test]
fn answers_within_answers_have_room() {
    let mut result = result::Txn::default();
    for _ in 1..4_999 {
        result = result::Txn {
            succeeded: true,
            responses: vec![result::TxnOp::Txn(result)],
        };
    }
    assert!(answer::txn(&Header::default(), &result).message_len() > 4_999 * 4);
}
