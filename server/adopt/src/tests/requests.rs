//! Entries, translated: every kind of request, changes of the members, and what alarms refuse.

use bytes::Bytes;
use engram_proto::etcd::authpb::UserAddOptions;
use engram_proto::etcdserverpb as pb;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::super::AdoptError;
use super::super::log::LogEntry;
use super::super::translate::{Rules, Translation};
use crate::raft::Payload;
use crate::state::MemberRecord;
use crate::storage::LogPosition;
use crate::types::LeaseId;
use crate::types::MemberId;
use crate::types::auth::{Allows, AuthOp, Identity, Permission, Secret};
use crate::types::request::{Alarm, AlarmType, LeaseGrant, MemberAttributes, Op};

const RULES: Rules = Rules {
    lease_ttl_min: 2,
    learners_max: 1,
};

fn entry_of(kind: i32, data: Vec<u8>) -> LogEntry {
    LogEntry {
        position: LogPosition { term: 3, index: 8 },
        kind,
        data: data.into(),
    }
}

/// An `InternalRaftRequest` with its header, and one field.
fn request(field: u32, body: &[u8]) -> LogEntry {
    let mut data = Vec::new();
    put_field(&mut data, 100, &[8, 77]);
    put_field(&mut data, field, body);
    entry_of(0, data)
}

fn put_field(out: &mut Vec<u8>, field: u32, body: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

fn translated(entry: &LogEntry) -> Result<Payload, AdoptError> {
    let carried = Translation::default().entry(entry, RULES)?;
    assert_eq!(carried.position, entry.position);
    Ok(carried.payload)
}

fn operation(entry: &LogEntry) -> Op {
    match translated(entry).unwrap() {
        Payload::Operation(op) => op,
        other => panic!("{other:?}"),
    }
}

fn put() -> Vec<u8> {
    let put = pb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 5,
        ..pb::PutRequest::default()
    };
    put.encode_to_vec()
}

#[test]
fn every_request_that_changes_the_store_becomes_its_operation() {
    let Op::Put(made) = operation(&request(4, &put())) else {
        panic!("no put");
    };
    assert_eq!(
        (&made.key[..], &made.value[..], made.lease),
        (&b"k"[..], &b"v"[..], LeaseId(5))
    );
    let delete = pb::DeleteRangeRequest {
        key: Bytes::from_static(b"k"),
        ..pb::DeleteRangeRequest::default()
    };
    let made = operation(&request(5, &delete.encode_to_vec()));
    assert!(matches!(made, Op::DeleteRange(_)));
    assert!(matches!(operation(&request(6, b"")), Op::Txn(_)));
    // Whoever asked for it: etcd asks before it proposes one.
    let made = operation(&request(7, &[8, 9]));
    assert_eq!(made.by(), Some(&Identity::member()));
    assert!(matches!(made.bare(), Op::Compact(compact) if compact.revision == 9));
    let grant = |ttl: i64| {
        let grant = pb::LeaseGrantRequest { ttl, id: 3 };
        request(8, &grant.encode_to_vec())
    };
    let granted = |ttl_seconds| {
        Op::LeaseGrant(LeaseGrant {
            id: LeaseId(3),
            ttl_seconds,
        })
    };
    assert_eq!(operation(&grant(60)), granted(60));
    assert_eq!(operation(&grant(1)), granted(2), "etcd's least");
    assert_eq!(translated(&grant(9_000_000_001)).unwrap(), Payload::Nothing);
    assert_eq!(operation(&request(9, &[8, 3])), Op::LeaseRevoke(LeaseId(3)));
    let raise = Alarm::Activate(MemberId(4), AlarmType::NoSpace);
    assert_eq!(
        operation(&request(10, &[8, 1, 16, 4, 24, 1])),
        Op::Alarm(raise)
    );
    assert_eq!(
        operation(&request(1300, b"\n\x053.7.0")),
        Op::SetClusterVersion("3.7.0".into())
    );
    let published = Op::PublishMember {
        member: MemberId(4),
        incarnation: 0,
        attributes: MemberAttributes {
            name: "m".into(),
            client_urls: vec!["u".into()],
            ..MemberAttributes::default()
        },
    };
    assert_eq!(
        operation(&request(1301, b"\x08\x04\x12\x06\n\x01m\x12\x01u")),
        published
    );
}

#[test]
fn what_changes_nothing_is_nothing() {
    assert_eq!(
        translated(&entry_of(0, Vec::new())).unwrap(),
        Payload::Nothing
    );
    // Reads, what is left of a lease, alarms listed, tokens given out, downgrades.
    for field in [3, 11, 10, 1012, 1013, 1102, 1106, 1107, 1202, 1302, 9900] {
        let made = translated(&request(field, b""));
        assert_eq!(made.unwrap(), Payload::Nothing, "field {field}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_its_index() {
    let error = translated(&request(777, b"news")).unwrap_err();
    assert!(matches!(error, AdoptError::UnknownEntry(8)), "{error}");
    let error = translated(&entry_of(2, Vec::new())).unwrap_err();
    assert!(matches!(error, AdoptError::UnknownEntry(8)), "{error}");
    let error = translated(&entry_of(0, vec![0xff])).unwrap_err();
    assert!(
        matches!(error, AdoptError::DamagedEntry { index: 8, .. }),
        "{error}"
    );
    let error = translated(&request(4, b"")).unwrap_err();
    assert!(
        matches!(error, AdoptError::DamagedEntry { index: 8, .. }),
        "{error}"
    );
    // A password where only its hash may stand: etcd before 3.5.
    for field in [1100, 1103] {
        let error = translated(&request(field, b"\n\x01a\x12\x01x")).unwrap_err();
        assert!(matches!(error, AdoptError::UnknownEntry(8)), "{error}");
    }
}

fn user_add(hashed_password: &str, no_password: bool) -> LogEntry {
    let add = pb::AuthUserAddRequest {
        name: "a".into(),
        hashed_password: hashed_password.into(),
        options: Some(UserAddOptions { no_password }),
        ..pb::AuthUserAddRequest::default()
    };
    request(1100, &add.encode_to_vec())
}

#[test]
fn every_change_of_users_and_roles_becomes_its_operation() {
    let auth = |entry: &LogEntry| match operation(entry) {
        Op::Auth(op) => op,
        other => panic!("{other:?}"),
    };
    let added = |hash: &[u8], no_password| AuthOp::UserAdd {
        name: "a".into(),
        password_hash: Secret(hash.to_vec()),
        no_password,
    };
    // etcd keeps the hash in base64 ("$2a$" here).
    assert_eq!(auth(&user_add("JDJhJA==", false)), added(b"$2a$", false));
    assert_eq!(auth(&user_add("JDJhJA==", true)), added(b"", true));
    assert_eq!(
        translated(&user_add("no base64!", false)).unwrap(),
        Payload::Nothing,
        "etcd refuses it"
    );
    let changed = AuthOp::UserChangePassword {
        name: "a".into(),
        password_hash: Secret(b"$2a$".to_vec()),
    };
    let of = |field, body: &[u8]| auth(&request(field, body));
    assert_eq!(of(1103, b"\n\x01a\x1a\x08JDJhJA=="), changed);
    assert_eq!(of(1000, b""), AuthOp::Enable);
    assert_eq!(of(1011, b""), AuthOp::Disable);
    assert_eq!(of(1101, b"\n\x01a"), AuthOp::UserDelete("a".into()));
    assert_eq!(of(1200, b"\n\x01r"), AuthOp::RoleAdd("r".into()));
    assert_eq!(of(1201, b"\n\x01r"), AuthOp::RoleDelete("r".into()));
    let (user, role) = ("a".to_owned(), "r".to_owned());
    let granted = AuthOp::UserGrantRole {
        user: user.clone(),
        role: role.clone(),
    };
    let revoked = AuthOp::UserRevokeRole {
        user,
        role: role.clone(),
    };
    assert_eq!(of(1104, b"\n\x01a\x12\x01r"), granted);
    assert_eq!(of(1105, b"\n\x01a\x12\x01r"), revoked);
    let permitted = AuthOp::RoleGrantPermission {
        role: role.clone(),
        permission: Permission {
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"l"),
            allows: Allows::ReadWrite,
        },
    };
    let grant = b"\n\x01r\x12\x08\x08\x02\x12\x01k\x1a\x01l";
    assert_eq!(of(1203, grant), permitted);
    assert_eq!(
        translated(&request(1203, b"\n\x01r")).unwrap(),
        Payload::Nothing,
        "of no permission"
    );
    let withdrawn = AuthOp::RoleRevokePermission {
        role,
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
    };
    assert_eq!(of(1204, b"\n\x01r\x12\x01k\x1a\x01l"), withdrawn);
}

/// Who asked stands in the header; a request of before there were users names nobody.
#[test]
fn what_etcd_holds_against_the_users_names_who_asked() {
    let by = |field, body: &[u8]| {
        let mut data = Vec::new();
        put_field(&mut data, 100, b"\x08\x4d\x12\x05alice\x18\x07");
        put_field(&mut data, field, body);
        operation(&entry_of(0, data)).by().cloned()
    };
    let alice = Identity {
        user: "alice".into(),
        revision: 7,
    };
    for (field, body) in [
        (4, &put()[..]),
        (5, b"\n\x01k"),
        (6, b""),
        (9, &[8, 3]),
        (1101, b"\n\x01a"),
    ] {
        assert_eq!(by(field, body), Some(alice.clone()), "field {field}");
        let nobody = operation(&request(field, body));
        assert_eq!(nobody.by(), None, "field {field}");
    }
    // It holds no lease that is granted, no alarm and no member against them.
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 3 };
    for (field, body) in [
        (8, &grant.encode_to_vec()[..]),
        (10, &[8, 1, 16, 4, 24, 1]),
        (1300, b"\n\x053.7.0"),
    ] {
        assert_eq!(by(field, body), None, "field {field}");
    }
}

/// What etcd 3.5 wrote to its old store stands in the entry as it is.
#[test]
fn requests_to_the_old_store_tell_of_members_and_the_version() {
    let v2 = |method: &[u8], path: &[u8], value: &[u8]| {
        let mut data = vec![8, 77];
        put_field(&mut data, 2, method);
        put_field(&mut data, 3, path);
        put_field(&mut data, 4, value);
        // Dir, PrevValue, PrevIndex and the rest, which etcd writes whatever they are.
        data.extend_from_slice(&[40, 0, 50, 0, 56, 0, 72, 0, 80, 0]);
        data
    };
    let published = Op::PublishMember {
        member: MemberId(0xab),
        incarnation: 0,
        attributes: MemberAttributes {
            name: "m".into(),
            client_urls: vec!["http://u".into()],
            ..MemberAttributes::default()
        },
    };
    let told = br#"{"name":"m","clientURLs":["http://u"]}"#;
    let whole = v2(b"PUT", b"/0/members/ab/attributes", told);
    assert_eq!(operation(&entry_of(0, whole.clone())), published);
    assert_eq!(operation(&request(2, &whole)), published, "wrapped");
    let version = v2(b"PUT", b"/0/version", b"3.5.0");
    assert_eq!(
        operation(&entry_of(0, version)),
        Op::SetClusterVersion("3.5.0".into())
    );
    for other in [
        v2(b"SYNC", b"", b""),
        v2(b"PUT", b"/1/of/a/client", b"x"),
        v2(b"QGET", b"/1", b""),
    ] {
        assert_eq!(translated(&entry_of(0, other)).unwrap(), Payload::Nothing);
    }
}

/// A `raftpb.ConfChange`.
fn change(kind: u8, member: u8, context: &str) -> LogEntry {
    let mut data = vec![16, kind, 24, member];
    put_field(&mut data, 4, context.as_bytes());
    entry_of(1, data)
}

fn named(member: u8, url: &str, learner: bool) -> String {
    format!(r#"{{"id":{member},"peerURLs":["{url}"],"isLearner":{learner},"isPromote":false}}"#)
}

fn record(id: u64, url: &str) -> MemberRecord {
    MemberRecord {
        id: MemberId(id),
        peer_urls: vec![url.to_owned()],
        ..MemberRecord::default()
    }
}

/// The members after a change, with an `L` for a learner; none where etcd refuses it.
fn members(translation: &mut Translation, entry: &LogEntry) -> Option<String> {
    match translation.entry(entry, RULES).unwrap().payload {
        Payload::Nothing => None,
        Payload::Members(nodes) => Some(
            nodes
                .iter()
                .map(|node| {
                    let learner = if node.learner { "L" } else { "" };
                    format!("{}{learner}@{} ", node.id.0, node.peer_urls.join(","))
                })
                .collect(),
        ),
        other @ Payload::Operation(_) => panic!("{other:?}"),
    }
}

#[test]
fn changes_of_the_members_follow_etcds_rules() {
    let known = [record(1, "a"), record(2, "b")];
    let mut translation = Translation::of(&known, &[MemberId(9)], &[]);
    let mut made = |entry: LogEntry| members(&mut translation, &entry);
    assert_eq!(
        made(change(3, 3, &named(3, "c", true))).as_deref(),
        Some("1@a 2@b 3L@c ")
    );
    assert_eq!(
        made(change(3, 4, &named(4, "d", true))),
        None,
        "too many learners"
    );
    assert_eq!(
        made(change(0, 5, &named(5, "b", false))),
        None,
        "a URL that another has"
    );
    assert_eq!(
        made(change(0, 2, &named(2, "e", false))),
        None,
        "it is there"
    );
    assert_eq!(
        made(change(0, 9, &named(9, "e", false))),
        None,
        "it was removed once"
    );
    let promote = r#"{"id":3,"peerURLs":null,"isPromote":true}"#;
    let promote = promote.replace("null", "[]");
    assert_eq!(
        made(change(0, 3, &promote)).as_deref(),
        Some("1@a 2@b 3@c ")
    );
    assert_eq!(made(change(0, 3, &promote)), None, "it votes already");
    assert_eq!(
        made(change(2, 2, &named(2, "f", false))).as_deref(),
        Some("1@a 2@f 3@c ")
    );
    assert_eq!(
        made(change(2, 2, &named(2, "a", false))),
        None,
        "a URL that another has"
    );
    assert_eq!(made(change(1, 1, "")).as_deref(), Some("2@f 3@c "));
    assert_eq!(made(change(1, 1, "")), None, "it is gone");
    assert_eq!(made(change(0, 1, &named(1, "a", false))), None, "for good");
}

#[test]
fn the_first_members_are_those_that_a_log_begins_with() {
    let first = |index, member: u8, url: &str| LogEntry {
        position: LogPosition { term: 1, index },
        ..change(0, member, &named(member, url, false))
    };
    let later = LogEntry {
        position: LogPosition { term: 2, index: 3 },
        ..entry_of(0, Vec::new())
    };
    let entries = [first(1, 1, "a"), first(2, 2, "b"), later];
    let mut translation = Translation::default();
    assert_eq!(translation.take_first(&entries).unwrap(), 2);
    let ids: Vec<u64> = translation.members().map(|member| member.id.0).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn what_etcds_alarms_refuse_is_nothing() {
    let alarm = |action: u8, kind: u8| request(10, &[8, action, 16, 1, 24, kind]);
    let revoke = request(9, &[8, 3]);
    let mut translation = Translation::of(&[record(1, "a")], &[], &[]);
    let mut is_made = |entry: &LogEntry| {
        let payload = translation.entry(entry, RULES).unwrap().payload;
        payload != Payload::Nothing
    };
    assert!(is_made(&request(4, &put())));
    assert!(is_made(&alarm(1, 1)));
    assert!(!is_made(&request(4, &put())), "NOSPACE");
    assert!(is_made(&revoke), "it gives space back");
    assert!(is_made(&alarm(1, 2)));
    assert!(!is_made(&revoke), "CORRUPT, of one member");
    assert!(is_made(&alarm(2, 2)) && is_made(&alarm(2, 1)));
    assert!(is_made(&request(4, &put())) && is_made(&revoke));
}
