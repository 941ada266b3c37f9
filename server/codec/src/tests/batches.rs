//! Batches: as every release wrote them, and whatever is drawn.

use bytes::Bytes;
use engram_proto::raft;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::operations::asked;
use crate::entry::{self, BatchHeader, DecodeError, decode_batch, encode_batch};
use crate::types::auth::{AuthOp, Identity, Secret};
use crate::types::request::{Asked, MemberAttributes, Op, Put};
use crate::types::{LeaseId, MemberId};

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
