//! The batches of log entries and of other members' proposals: what is decoded can be encoded, and is the same.

use bytes::Bytes;
use engram_codec::entry::{BatchHeader, decode_batch, encode_batch};
use engram_types::auth::Identity;
use engram_types::request::MemberAttributes;
use engram_types::request::{
    Alarm, AlarmType, Asked, Compact, DeleteRange, LeaseGrant, Op, Put, Txn, TxnOp,
};
use engram_types::{KeyRange, LeaseId, MemberId};

use super::Target;

pub const TARGET: Target = Target {
    name: "batch",
    run,
    seeds,
    cases: 40_000,
};

fn run(bytes: &[u8]) {
    let (header, ops) = match decode_batch(Bytes::copy_from_slice(bytes)) {
        Ok(decoded) => decoded,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return;
        }
    };
    let again = encode_batch(&header, &ops);
    let (header_again, ops_again) = decode_batch(again).expect("it was made by this build");
    assert_eq!(header, header_again);
    assert_eq!(ops, ops_again);
}

fn seeds() -> Vec<Vec<u8>> {
    let put = Put {
        key: "key".into(),
        value: "value".into(),
        lease: LeaseId(7),
        prev_kv: true,
        ignore_value: false,
        ignore_lease: false,
    };
    let delete = DeleteRange {
        range: KeyRange::from_request("a".into(), "b".into()),
        prev_kv: false,
    };
    let inner = Txn {
        success: vec![TxnOp::Put(put.clone())],
        ..Txn::default()
    };
    let txn = Txn {
        compare: Vec::new(),
        success: vec![TxnOp::Put(put.clone()), TxnOp::DeleteRange(delete.clone())],
        failure: vec![TxnOp::Txn(inner)],
    };
    let by = Identity {
        user: "root".into(),
        revision: 3,
    };
    let asked = Asked {
        by,
        op: Op::Put(put.clone()),
    };
    let publish = Op::PublishMember {
        member: MemberId(3),
        incarnation: 9,
        attributes: MemberAttributes {
            name: "m3".into(),
            client_urls: vec!["http://127.0.0.1:2379".into()],
            apply_version: 2,
        },
    };
    let mut deep = Txn::default();
    for _ in 0..60 {
        deep = Txn {
            success: vec![TxnOp::Txn(deep)],
            ..Txn::default()
        };
    }
    let grant = LeaseGrant {
        id: LeaseId(7),
        ttl_seconds: 60,
    };
    let ops: [Vec<Op>; 6] = [
        vec![Op::Put(put), Op::DeleteRange(delete)],
        vec![Op::Txn(txn)],
        vec![
            Op::Compact(Compact { revision: 5 }),
            Op::LeaseGrant(grant),
            Op::LeaseRevoke(LeaseId(7)),
        ],
        vec![
            Op::Alarm(Alarm::Activate(MemberId(1), AlarmType::NoSpace)),
            publish,
        ],
        vec![
            Op::By(Box::new(asked)),
            Op::SetClusterVersion("3.7.0".into()),
        ],
        vec![Op::Txn(deep)],
    ];
    let header = BatchHeader {
        proposer: MemberId(1),
        sequence: 2,
        wall_ms: 3,
    };
    ops.iter()
        .map(|ops| encode_batch(&header, ops).to_vec())
        .collect()
}
