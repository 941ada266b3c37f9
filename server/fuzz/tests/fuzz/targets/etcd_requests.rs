//! What entries of an etcd's log ask for: whatever is taken over can be written into our log and read back.

use bytes::Bytes;
use engram_adopt::fixture;
use engram_codec::entry::{BatchHeader, decode_batch, encode_batch};
use engram_proto::etcdserverpb as pb;
use engram_types::request::Op;

use super::Target;

pub const TARGET: Target = Target {
    name: "etcd_requests",
    run,
    seeds,
    cases: 40_000,
};

fn run(bytes: &[u8]) {
    let Some(op) = fixture::operation(&Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let ops = vec![op];
    let batch = encode_batch(&BatchHeader::default(), &ops);
    let (_, read) = decode_batch(batch).expect("what was taken over can be applied");
    let bare = |ops: &[Op]| ops.iter().map(|op| format!("{op:?}")).collect::<Vec<_>>();
    assert_eq!(bare(&read), bare(&ops));
}

/// `InternalRaftRequest`: its header, and one request under its number.
fn entry(number: u32, request: &impl prost::Message) -> Vec<u8> {
    use prost::encoding::{WireType, encode_key, encode_varint};
    // `RequestHeader` with an id.
    let mut bytes = vec![0xa2, 0x06, 2, 8, 7];
    encode_key(number, WireType::LengthDelimited, &mut bytes);
    let request = request.encode_to_vec();
    encode_varint(request.len() as u64, &mut bytes);
    bytes.extend(request);
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let put = pb::PutRequest {
        key: "key".into(),
        value: "value".into(),
        lease: 7,
        ..pb::PutRequest::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        prev_kv: true,
    };
    let op = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put.clone())),
    };
    let txn = pb::TxnRequest {
        success: vec![op.clone()],
        failure: vec![op],
        compare: vec![pb::Compare {
            key: "key".into(),
            ..pb::Compare::default()
        }],
    };
    let compact = pb::CompactionRequest {
        revision: 9,
        physical: true,
    };
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    let alarm = pb::AlarmRequest {
        action: 1,
        member_id: 7,
        alarm: 1,
    };
    let user = pb::AuthUserAddRequest {
        name: "u".into(),
        hashed_password: "$2a$04$abc".into(),
        ..pb::AuthUserAddRequest::default()
    };
    vec![
        entry(4, &put),
        entry(5, &delete),
        entry(6, &txn),
        entry(7, &compact),
        entry(8, &grant),
        entry(9, &pb::LeaseRevokeRequest { id: 7 }),
        entry(10, &alarm),
        entry(1100, &user),
        entry(1000, &pb::AuthEnableRequest {}),
        entry(1200, &pb::AuthRoleAddRequest { name: "r".into() }),
        // `V2Request`: what a member publishes of itself.
        [
            &[0x12u8, 0x10, 0x0a, 3][..],
            b"PUT",
            &[0x12, 2],
            b"/x",
            &[0x1a, 3],
            b"abc",
        ]
        .concat(),
    ]
}
