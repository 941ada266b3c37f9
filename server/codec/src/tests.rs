//! Requests survive the way into a log entry and back; answers equal prost's bytes.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::{mvccpb, raft};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::answer::{self, Header};
use super::entry::{self, BatchHeader, DecodeError, decode_batch, encode_batch};
use super::{Frame, Invalid, PREFIX_LEN, Piece, TxnRefused, Undecodable, request};
use crate::types::auth::{Allows, AuthOp, Identity, Permission, Secret};
use crate::types::request::{
    Alarm, AlarmType, Asked, Compact, Compare, CompareResult, CompareTarget, DeleteRange,
    LeaseGrant, MemberAttributes, Op, Put, Range, SortOrder, SortTarget, Txn, TxnOp,
};
use crate::types::result::{self, Item};
use crate::types::{ClusterId, KeyRange, KeyValue, LeaseId, MemberId, Revision, Stored};

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..=12).prop_map(Bytes::from)
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    (
        key(),
        prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), key()],
    )
        .prop_map(|(start, end)| KeyRange::from_request(start, end))
}

fn range() -> impl Strategy<Value = Range> {
    let order = prop_oneof![
        Just(SortOrder::None),
        Just(SortOrder::Ascend),
        Just(SortOrder::Descend)
    ];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::Create),
        Just(SortTarget::Mod),
        Just(SortTarget::Value)
    ];
    let numbers = proptest::array::uniform6(any::<i64>());
    (key_range(), numbers, order, target, any::<[bool; 3]>()).prop_map(
        |(range, numbers, sort_order, sort_target, flags)| Range {
            range,
            limit: numbers[0],
            revision: numbers[1],
            sort_order,
            sort_target,
            serializable: flags[0],
            keys_only: flags[1],
            count_only: flags[2],
            min_mod_revision: numbers[2],
            max_mod_revision: numbers[3],
            min_create_revision: numbers[4],
            max_create_revision: numbers[5],
        },
    )
}

fn put() -> impl Strategy<Value = Put> {
    (key(), bytes(40), any::<i64>(), any::<[bool; 3]>()).prop_map(|(key, value, lease, flags)| {
        Put {
            key,
            value: if flags[1] { Bytes::new() } else { value },
            lease: if flags[2] {
                LeaseId::NONE
            } else {
                LeaseId(lease)
            },
            prev_kv: flags[0],
            ignore_value: flags[1],
            ignore_lease: flags[2],
        }
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::Create),
        any::<i64>().prop_map(CompareTarget::Mod),
        bytes(9).prop_map(CompareTarget::Value),
        any::<i64>().prop_map(CompareTarget::Lease),
    ];
    let relation = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual)
    ];
    (key_range(), relation, target).prop_map(|(range, result, target)| Compare {
        range,
        result,
        target,
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        range().prop_map(TxnOp::Range),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::DeleteRange)
    ];
    let op = leaf.prop_recursive(4, 24, 4, |inner| {
        (
            vec(compare(), 0..3),
            vec(inner.clone(), 0..4),
            vec(inner, 0..4),
        )
            .prop_map(|(compare, success, failure)| {
                TxnOp::Txn(Txn {
                    compare,
                    success,
                    failure,
                })
            })
    });
    (vec(compare(), 0..4), vec(op.clone(), 0..5), vec(op, 0..5)).prop_map(
        |(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let alarm_type = prop_oneof![Just(AlarmType::NoSpace), Just(AlarmType::Corrupt)];
    let text = "[a-z:/]{0,12}";
    prop_oneof![
        put().prop_map(Op::Put),
        delete().prop_map(Op::DeleteRange),
        txn().prop_map(Op::Txn),
        any::<i64>().prop_map(|revision| Op::Compact(Compact { revision })),
        any::<(i64, i64)>().prop_map(|(id, ttl_seconds)| Op::LeaseGrant(LeaseGrant {
            id: LeaseId(id),
            ttl_seconds
        })),
        any::<i64>().prop_map(|id| Op::LeaseRevoke(LeaseId(id))),
        (any::<u64>(), alarm_type, any::<bool>()).prop_map(|(id, kind, raise)| {
            let member = MemberId(id);
            Op::Alarm(if raise {
                Alarm::Activate(member, kind)
            } else {
                Alarm::Deactivate(member, kind)
            })
        }),
        (any::<u64>(), any::<u64>(), text, vec(text, 0..3)).prop_map(|(id, n, name, urls)| {
            Op::PublishMember {
                member: MemberId(id),
                incarnation: n,
                attributes: MemberAttributes {
                    name,
                    client_urls: urls,
                    apply_version: n as u32,
                },
            }
        }),
        text.prop_map(Op::SetClusterVersion),
        auth_op().prop_map(Op::Auth),
    ]
}

fn auth_op() -> impl Strategy<Value = AuthOp> {
    let text = "[a-z]{0,8}";
    let secret = || "[ -~]{0,60}".prop_map(|text| Secret(text.into_bytes()));
    let permission = (key(), bytes(4), 0..3).prop_map(|(key, range_end, allows)| Permission {
        key,
        range_end,
        allows: [Allows::Read, Allows::Write, Allows::ReadWrite][allows as usize],
    });
    prop_oneof![
        Just(AuthOp::Enable),
        Just(AuthOp::Disable),
        (text, secret())
            .prop_map(|(user, token_prefix)| AuthOp::Authenticate { user, token_prefix }),
        (text, secret(), any::<bool>()).prop_map(|(name, password_hash, no_password)| {
            AuthOp::UserAdd {
                name,
                password_hash,
                no_password,
            }
        }),
        text.prop_map(AuthOp::UserDelete),
        (text, secret()).prop_map(|(name, password_hash)| AuthOp::UserChangePassword {
            name,
            password_hash,
        }),
        (text, text).prop_map(|(user, role)| AuthOp::UserGrantRole { user, role }),
        (text, text).prop_map(|(user, role)| AuthOp::UserRevokeRole { user, role }),
        text.prop_map(AuthOp::RoleAdd),
        text.prop_map(AuthOp::RoleDelete),
        (text, permission)
            .prop_map(|(role, permission)| AuthOp::RoleGrantPermission { role, permission }),
        (text, key(), bytes(4)).prop_map(|(role, key, range_end)| AuthOp::RoleRevokePermission {
            role,
            key,
            range_end,
        }),
    ]
}

/// An operation, and now and then somebody who asks for it.
fn asked() -> impl Strategy<Value = Op> {
    let by = proptest::option::of(("[a-z]{0,8}", any::<u64>()));
    (op(), by).prop_map(|(op, by)| match by {
        None => op,
        Some((user, revision)) => {
            let by = Identity { user, revision };
            Op::By(Box::new(Asked { by, op }))
        }
    })
}

/// Batches of this release, byte for byte: the log of a member holds them, and so do the members of
/// the release after this one. A difference is a new apply version.
#[test]
fn batches_are_written_as_they_were_written() {
    let header = BatchHeader {
        proposer: MemberId(7),
        sequence: 3,
        wall_ms: 5,
    };
    let put = Op::Put(Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: LeaseId(0),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    });
    let by = Identity {
        user: "al".to_owned(),
        revision: 9,
    };
    let op = put.clone();
    let user_add = AuthOp::UserAdd {
        name: "al".to_owned(),
        password_hash: Secret(b"$2a$".to_vec()),
        no_password: false,
    };
    let publish = Op::PublishMember {
        member: MemberId(7),
        incarnation: 2,
        attributes: MemberAttributes {
            name: "m".to_owned(),
            client_urls: vec!["u".to_owned()],
            apply_version: 2,
        },
    };
    let batches = [
        vec![put],
        vec![Op::By(Box::new(Asked { by, op }))],
        vec![Op::Auth(user_add)],
        vec![publish],
    ];
    let written = batches.each_ref().map(|ops| encode_batch(&header, ops));
    let wanted = [PUT_BATCH, ASKED_BATCH, USER_BATCH, PUBLISH_BATCH];
    assert_eq!(written.each_ref().map(|bytes| hex(bytes)), wanted);
    for (bytes, ops) in written.into_iter().zip(batches) {
        assert_eq!(decode_batch(bytes).unwrap(), (header, ops));
    }
    // What the release before this one wrote of itself is read, and says nothing of what it knows.
    let (_, ops) = decode_batch(unhex(PUBLISH_BATCH_BEFORE)).unwrap();
    let [Op::PublishMember { attributes, .. }] = &ops[..] else {
        panic!("{ops:?}")
    };
    assert_eq!(
        (attributes.name.as_str(), attributes.apply_version),
        ("m", 0)
    );
}

/// Without users, as every release writes it.
const PUT_BATCH: &str = "08011007180320052a0852060a016b120176";
const ASKED_BATCH: &str = "08021007180320052a101202616c1809200152060a016b120176";
const USER_BATCH: &str = "08021007180320052a11a2010e220c0a02616c1a00220424326124";
const PUBLISH_BATCH: &str = "08011007180320052a0f8a010c080710021a016d2201752802";
const PUBLISH_BATCH_BEFORE: &str = "08011007180320052a0d8a010a080710021a016d220175";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

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

fn wire(frame: Frame) -> Vec<u8> {
    let (first, more, _) = frame.into_pieces();
    more.fold(first.to_vec(), |mut all, piece| {
        let Piece::Bytes(piece) = piece else {
            unreachable!("no runs were asked for")
        };
        all.extend_from_slice(&piece);
        all
    })
}

fn prefixed(message: &impl Message) -> Vec<u8> {
    let mut all = vec![0];
    all.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    all.extend_from_slice(&message.encode_to_vec());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_batch_comes_back_as_it_went_in(
        ops in vec(asked(), 0..6),
        proposer in any::<u64>(),
        sequence in any::<u64>(),
        wall_ms in any::<u64>(),
    ) {
        let header = BatchHeader { proposer: MemberId(proposer), sequence, wall_ms };
        let (back, decoded) = decode_batch(encode_batch(&header, &ops)).unwrap();
        prop_assert_eq!(back, header);
        prop_assert_eq!(decoded, ops);
    }

    #[test]
    fn a_joined_batch_is_what_prost_would_write(ops in vec(asked(), 0..4), sequence in any::<u64>()) {
        let header = BatchHeader { proposer: MemberId(3), sequence, wall_ms: 9 };
        let joined = encode_batch(&header, &ops);
        let message = raft::Batch::decode(joined.clone()).unwrap();
        prop_assert_eq!(message.encode_to_vec(), joined.to_vec());
        let encoded: Vec<Bytes> = ops.iter().map(entry::encode_op).collect();
        let head = encode_batch(&header, &[]).len();
        let sum: usize = encoded.iter().map(entry::len_in_batch).sum();
        prop_assert_eq!(joined.len(), head + sum);
    }

    #[test]
    fn damaged_batches_are_errors_or_other_batches_never_panics(
        ops in vec(asked(), 1..3),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = encode_batch(&BatchHeader::default(), &ops).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = decode_batch(Bytes::from(bytes.clone()));
        bytes.truncate(at);
        let _ = decode_batch(Bytes::from(bytes));
    }

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
fn an_unknown_apply_version_is_named_with_the_way_out() {
    let batch = raft::Batch {
        apply_version: 3,
        ..Default::default()
    };
    let error = decode_batch(batch.encode_to_vec().into()).unwrap_err();
    assert!(matches!(error, DecodeError::UnknownVersion { found: 3 }));
    assert!(error.to_string().contains("upgrade this member"));
}

fn request_op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn pb_puts(count: usize) -> Vec<pb::RequestOp> {
    let put = |n: usize| pb::PutRequest {
        key: format!("{n}").into(),
        ..Default::default()
    };
    (0..count)
        .map(|n| request_op(pb::request_op::Request::RequestPut(put(n))))
        .collect()
}

fn pb_nested(inner: pb::TxnRequest) -> pb::RequestOp {
    request_op(pb::request_op::Request::RequestTxn(inner))
}

#[test]
fn a_nested_transaction_has_what_its_parent_leaves_of_the_operations() {
    let of = |count, nested: usize| {
        let mut success = pb_puts(count);
        success.push(pb_nested(pb::TxnRequest {
            success: pb_puts(nested),
            ..Default::default()
        }));
        request::txn(
            pb::TxnRequest {
                success,
                ..Default::default()
            },
            128,
        )
    };
    assert!(of(125, 2).is_ok());
    assert_eq!(of(127, 2), Err(Invalid::TooManyOperations));
    assert_eq!(of(128, 0), Err(Invalid::TooManyOperations));
}

#[test]
fn mistakes_answer_in_etcds_order() {
    let compare = pb::Compare::default();
    let broken = pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp::default()],
        failure: vec![],
    };
    assert_eq!(
        request::txn(broken.clone(), 0),
        Err(Invalid::TooManyOperations)
    );
    assert_eq!(request::txn(broken.clone(), 9), Err(Invalid::EmptyKey));
    let no_compare = pb::TxnRequest {
        compare: vec![],
        ..broken
    };
    assert_eq!(request::txn(no_compare, 9), Err(Invalid::EmptyOperation));
    let range = pb::RangeRequest {
        sort_order: 9,
        ..Default::default()
    };
    assert_eq!(request::range(range.clone()), Err(Invalid::EmptyKey));
    let keyed = pb::RangeRequest {
        key: "a".into(),
        ..range
    };
    assert_eq!(request::range(keyed), Err(Invalid::SortOption));
    let put = pb::PutRequest {
        key: "a".into(),
        value: "v".into(),
        lease: 3,
        ignore_value: true,
        ignore_lease: true,
        prev_kv: false,
    };
    assert_eq!(request::put(put.clone()), Err(Invalid::ValueProvided));
    assert_eq!(
        request::put(pb::PutRequest {
            value: Bytes::new(),
            ..put
        }),
        Err(Invalid::LeaseProvided)
    );
}

/// A put within `depth` transactions, encoded.
fn encoded_nested(depth: usize) -> Bytes {
    let mut encoded = pb::TxnRequest {
        success: pb_puts(1),
        ..Default::default()
    }
    .encode_to_vec();
    for _ in 1..depth {
        // `RequestOp.request_txn`, and that in `TxnRequest.failure`.
        for tag in [4, 3] {
            let mut outer = Vec::with_capacity(encoded.len() + 8);
            prost::encoding::bytes::encode(tag, &encoded, &mut outer);
            encoded = outer;
        }
    }
    encoded.into()
}

/// How deep the transaction nests along its first operations.
fn depth_of(txn: &Txn) -> usize {
    let (mut txn, mut depth) = (txn, 1);
    while let Some(TxnOp::Txn(inner)) = txn.success.first().or(txn.failure.first()) {
        (txn, depth) = (inner, depth + 1);
    }
    depth
}

#[test]
fn transactions_nest_as_deep_as_in_etcd_and_come_back_from_the_log() {
    for depth in [1, 40, 41, 49, 50, 128, 129, 4_999] {
        let bytes = encoded_nested(depth);
        let txn = request::decode_txn(bytes.clone(), depth).unwrap();
        assert_eq!(depth_of(&txn), depth);
        let too_many = request::decode_txn(bytes, depth - 1);
        assert!(matches!(
            too_many,
            Err(TxnRefused::Invalid(Invalid::TooManyOperations))
        ));
        let ops = [Op::LeaseRevoke(LeaseId(7)), Op::Txn(txn)];
        let encoded = encode_batch(&BatchHeader::default(), &ops);
        let (_, back) = decode_batch(encoded.clone()).unwrap();
        assert_eq!(back[0], ops[0]);
        let Op::Txn(txn) = &back[1] else {
            panic!("a transaction comes back as one")
        };
        assert_eq!(depth_of(txn), depth);
        assert_eq!(encode_batch(&BatchHeader::default(), &back), encoded);
    }
}

#[test]
fn deeper_than_etcd_decodes_is_refused_whatever_is_admitted() {
    for depth in [5_001, 20_000] {
        let refused = request::decode_txn(encoded_nested(depth), usize::MAX);
        assert!(matches!(
            refused,
            Err(TxnRefused::Undecodable(Undecodable::TooDeep))
        ));
    }
    let mut broken = encoded_nested(300).to_vec();
    broken.pop();
    let refused = request::decode_txn(broken.into(), usize::MAX);
    assert!(matches!(
        refused,
        Err(TxnRefused::Undecodable(Undecodable::Protobuf(_)))
    ));
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

#[test]
fn compares_of_unknown_kind_mean_what_etcd_makes_of_them() {
    let of = |target, result, value| {
        let compare = pb::Compare {
            result,
            target,
            key: "k".into(),
            target_union: value,
            ..Default::default()
        };
        let message = pb::TxnRequest {
            compare: vec![compare],
            ..Default::default()
        };
        request::txn(message, 9)
            .unwrap()
            .compare
            .pop()
            .map(|c| (c.result, c.target))
    };
    // Zero equals zero: holds always, so it is left out; anything else never does.
    assert_eq!(of(9, 0, None), None);
    assert_eq!(
        of(9, 1, None),
        Some((CompareResult::Less, CompareTarget::Version(i64::MIN)))
    );
    // An unknown relation holds, but a value has to be there.
    assert_eq!(of(0, 7, None), None);
    assert_eq!(
        of(3, 7, None),
        Some((CompareResult::Greater, CompareTarget::Version(0)))
    );
    // A value of another type than the target counts as zero.
    let lease = Some(pb::compare::TargetUnion::Lease(4));
    assert_eq!(
        of(0, 0, lease),
        Some((CompareResult::Equal, CompareTarget::Version(0)))
    );
}
