//! Answers: whatever results say, their bytes are those that a protobuf library makes of the same message.

use bytes::Bytes;
use engram_codec::answer::{self, Header};
use engram_codec::fixture::{prefixed, wire};
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb;
use engram_types::result::{self, Item};
use engram_types::{ClusterId, KeyValue, LeaseId, MemberId, Revision, Stored};
use pb::response_op::Response;
use prost::Message;

use super::Target;

pub const TARGET: Target = Target {
    name: "answers",
    run,
    seeds,
    cases: 40_000,
};

fn run(bytes: &[u8]) {
    // The bytes say what the answer is to be; results are made of that, and encoded by the product.
    let Ok(mut message) = pb::TxnResponse::decode(bytes) else {
        return;
    };
    let head = *message.header.get_or_insert_default();
    let header = header_of(&head);
    let txn = txn(&mut message);
    assert_eq!(wire(answer::txn(&header, &txn)), prefixed(&message));
    for (op, said) in txn.responses.iter().zip(message.responses) {
        let (answered, expected) = match (op, said.response) {
            (result::TxnOp::Range(range), Some(Response::ResponseRange(said))) => {
                let said = pb::RangeResponse {
                    header: Some(head),
                    ..said
                };
                (answer::range(&header, range), prefixed(&said))
            }
            (result::TxnOp::Put(put), Some(Response::ResponsePut(said))) => {
                let said = pb::PutResponse {
                    header: Some(head),
                    ..said
                };
                (answer::put(&header, put), prefixed(&said))
            }
            (result::TxnOp::DeleteRange(delete), Some(Response::ResponseDeleteRange(said))) => {
                let said = pb::DeleteRangeResponse {
                    header: Some(head),
                    ..said
                };
                (answer::delete_range(&header, delete), prefixed(&said))
            }
            _ => continue,
        };
        assert_eq!(wire(answered), expected);
    }
    let lease = pb::LeaseGrantResponse {
        header: Some(head),
        id: head.revision,
        ttl: 60,
        ..pb::LeaseGrantResponse::default()
    };
    assert_eq!(
        wire(answer::lease(&header, LeaseId(head.revision), 60)),
        prefixed(&lease)
    );
}

fn header_of(head: &pb::ResponseHeader) -> Header {
    Header {
        cluster: ClusterId(head.cluster_id),
        member: MemberId(head.member_id),
        revision: Revision(head.revision),
        term: head.raft_term,
    }
}

/// The result of which `message` is the answer. What no answer says is taken out of it.
fn txn(message: &mut pb::TxnResponse) -> result::Txn {
    message.responses.retain(|op| op.response.is_some());
    let responses = message.responses.iter_mut();
    result::Txn {
        succeeded: message.succeeded,
        responses: responses
            .map(|op| txn_op(op.response.as_mut().expect("others were taken out")))
            .collect(),
    }
}

fn txn_op(response: &mut Response) -> result::TxnOp {
    match response {
        Response::ResponseRange(range) => {
            let revision = within(&mut range.header);
            let kvs = range.kvs.iter().map(key_value);
            // Both ways in which a key-value comes; what is stored has a key.
            let item =
                |(place, bytes): (usize, Bytes)| match place % 2 == 1 && bytes.starts_with(b"\n") {
                    true => Item::Stored(Stored::full(&bytes)),
                    false => Item::Encoded(bytes),
                };
            result::TxnOp::Range(result::Range {
                revision,
                items: kvs.enumerate().map(item).collect(),
                more: range.more,
                count: range.count,
                away: None,
            })
        }
        Response::ResponsePut(put) => result::TxnOp::Put(result::Put {
            revision: within(&mut put.header),
            prev_kv: put.prev_kv.as_ref().map(key_value),
        }),
        Response::ResponseDeleteRange(delete) => result::TxnOp::DeleteRange(result::DeleteRange {
            revision: within(&mut delete.header),
            deleted: delete.deleted,
            prev_kvs: delete.prev_kvs.iter().map(key_value).collect(),
            away: None,
        }),
        Response::ResponseTxn(inner) => {
            inner.header = Some(pb::ResponseHeader::default());
            result::TxnOp::Txn(txn(inner))
        }
    }
}

/// The revision of an answer within another one, whose header says nothing else.
fn within(header: &mut Option<pb::ResponseHeader>) -> Revision {
    let revision = header.unwrap_or_default().revision;
    *header = Some(pb::ResponseHeader {
        revision,
        ..pb::ResponseHeader::default()
    });
    Revision(revision)
}

fn key_value(kv: &mvccpb::KeyValue) -> Bytes {
    let kv = KeyValue {
        key: kv.key.clone(),
        create_revision: Revision(kv.create_revision),
        mod_revision: Revision(kv.mod_revision),
        version: kv.version,
        value: kv.value.clone(),
        lease: LeaseId(kv.lease),
    };
    let encoded = kv.encode();
    assert_eq!(KeyValue::decode(&encoded), Ok(kv));
    encoded
}

fn seeds() -> Vec<Vec<u8>> {
    let kv = |value: usize| mvccpb::KeyValue {
        key: "key".into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: vec![b'v'; value].into(),
        lease: 7,
    };
    let range = pb::RangeResponse {
        kvs: vec![kv(3), kv(0)],
        more: true,
        count: 9,
        ..pb::RangeResponse::default()
    };
    let put = pb::PutResponse {
        prev_kv: Some(kv(5)),
        ..pb::PutResponse::default()
    };
    let delete = pb::DeleteRangeResponse {
        deleted: 2,
        prev_kvs: vec![kv(1), kv(2)],
        ..pb::DeleteRangeResponse::default()
    };
    let op = |response| pb::ResponseOp {
        response: Some(response),
    };
    let answer = |responses| pb::TxnResponse {
        succeeded: true,
        responses,
        ..pb::TxnResponse::default()
    };
    let inner = answer(vec![op(Response::ResponsePut(put.clone()))]);
    let large = pb::RangeResponse {
        kvs: vec![kv(17_000)],
        ..pb::RangeResponse::default()
    };
    let messages = [
        answer(vec![
            op(Response::ResponseRange(range)),
            op(Response::ResponseDeleteRange(delete)),
        ]),
        answer(vec![
            op(Response::ResponsePut(put)),
            op(Response::ResponseTxn(inner)),
        ]),
        answer(vec![op(Response::ResponseRange(large))]),
        answer(vec![]),
    ];
    messages.iter().map(Message::encode_to_vec).collect()
}
