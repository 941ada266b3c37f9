//! What etcd 3.7 keeps in its bbolt file: the buckets' names, their keys and their values, byte for
//! byte.
//!
//! Owns encodings only, as pure functions. Independent of the generated protobuf code, so that a
//! change there cannot alter a snapshot's bytes; the goldens in the tests are from a file that etcd
//! 3.7.3 wrote. Must never read the store or decide what goes into a snapshot.
//!
//! | bucket | key → value |
//! |---|---|
//! | `alarm` | `etcdserverpb.AlarmMember` → nothing |
//! | `auth` | `authEnabled` → one byte, 0 or 1; `authRevision` → u64 |
//! | `authRoles` | role name → `authpb.Role` |
//! | `authUsers` | user name → `authpb.User` |
//! | `cluster` | `clusterVersion` → `3.7.0`; `downgrade` → JSON, only once there has been one |
//! | `key` | revision → `mvccpb.KeyValue` |
//! | `lease` | lease id, 8 bytes → `leasepb.Lease` |
//! | `members` | member id in hexadecimal → JSON |
//! | `members_removed` | member id in hexadecimal → `removed` |
//! | `meta` | see [`Meta`] |
//!
//! Integers are big endian. bbolt's order is that of the keys' bytes, which is not the order of the
//! ids: a negative lease id comes behind the positive ones, and `member_key` has no leading zeros.
//! `bbolt::MemoryBucket` sorts.

use crate::types::auth::{Allows, Permission};
use crate::types::{LeaseId, MemberId, Revision, RevisionPair};

/// Active alarms.
pub const ALARM: &[u8] = b"alarm";
/// Whether authentication is on, and its revision.
pub const AUTH: &[u8] = b"auth";
/// Roles.
pub const AUTH_ROLES: &[u8] = b"authRoles";
/// Users.
pub const AUTH_USERS: &[u8] = b"authUsers";
/// Cluster version and downgrade.
pub const CLUSTER: &[u8] = b"cluster";
/// Every readable revision of every key.
pub const KEY: &[u8] = b"key";
/// Leases.
pub const LEASE: &[u8] = b"lease";
/// Members.
pub const MEMBERS: &[u8] = b"members";
/// Ids that may not come back.
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
/// Raft position, storage version, compaction.
pub const META: &[u8] = b"meta";

/// All buckets in the file's order. etcd creates every one of them at its start, and its tools
/// expect them (`etcdutl snapshot status` reads `meta` without asking whether it is there).
pub const BUCKETS: [&[u8]; 10] = [
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    KEY,
    LEASE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
];

/// etcd 3.7's storage version, in `meta` and in `SnapshotResponse.version`.
pub const STORAGE_VERSION: &str = "3.7.0";

/// `auth`: key of the switch. Its value is [`auth_enabled_value`].
pub const AUTH_ENABLED_KEY: &[u8] = b"authEnabled";
/// `auth`: key of the revision of users and roles. Its value is [`u64_value`].
pub const AUTH_REVISION_KEY: &[u8] = b"authRevision";
/// `cluster`: key of the version all members can speak, e.g. `3.7.0`.
pub const CLUSTER_VERSION_KEY: &[u8] = b"clusterVersion";
/// `cluster`: key of the downgrade in progress. Its value is [`downgrade_value`].
pub const DOWNGRADE_KEY: &[u8] = b"downgrade";
/// `members_removed`: the value of every key.
pub const MEMBER_REMOVED_VALUE: &[u8] = b"removed";

/// Bytes of a revision in `key` and `meta`, without the tombstone's mark.
pub const REVISION_BYTES: usize = 17;

/// `key`: the key of a put. Panics on a negative revision, which etcd panics on too.
pub fn revision_key(revision: RevisionPair) -> [u8; REVISION_BYTES] {
    let main = u64::try_from(revision.main.0).expect("a stored revision is not negative");
    let mut key = [b'_'; REVISION_BYTES];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[9..].copy_from_slice(&u64::from(revision.sub).to_be_bytes());
    key
}

/// `key`: the key of a delete. Its value is a `KeyValue` with nothing but the key.
pub fn tombstone_key(revision: RevisionPair) -> [u8; REVISION_BYTES + 1] {
    let mut key = [b't'; REVISION_BYTES + 1];
    key[..REVISION_BYTES].copy_from_slice(&revision_key(revision));
    key
}

/// Reads a key of `key`, or a compaction's revision: the revision, and whether it is a delete. None
/// for bytes that are neither.
pub fn parse_revision_key(key: &[u8]) -> Option<(RevisionPair, bool)> {
    let (revision, mark) = key.split_first_chunk::<REVISION_BYTES>()?;
    let main = i64::from_be_bytes(*revision.first_chunk()?);
    let sub = u64::from_be_bytes(*revision.last_chunk()?);
    let is_sound = main >= 0 && revision[8] == b'_' && (mark.is_empty() || mark == b"t");
    let pair = RevisionPair {
        main: Revision(main),
        sub: u32::try_from(sub).ok()?,
    };
    is_sound.then_some((pair, !mark.is_empty()))
}

/// The bucket `meta`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The applied entry's index. `etcdutl snapshot restore` overwrites it.
    pub consistent_index: u64,
    /// The applied entry's term.
    pub term: u64,
    /// Voting members.
    pub voters: Vec<MemberId>,
    /// Members that do not vote.
    pub learners: Vec<MemberId>,
    /// The revision last asked to be compacted.
    pub scheduled_compaction: Option<Revision>,
    /// The revision up to which compaction is done.
    pub finished_compaction: Option<Revision>,
    /// The version that a downgrade under way is to: whose schema this is then. It has the same buckets.
    pub downgraded: Option<String>,
}

impl Meta {
    /// The bucket's pairs. Index and term are left out while they are 0, as etcd does.
    pub fn pairs(&self) -> Vec<(&'static [u8], Vec<u8>)> {
        let conf_state = conf_state_value(&self.voters, &self.learners);
        let mut pairs: Vec<(&'static [u8], Vec<u8>)> = vec![(b"confState", conf_state.into())];
        if self.consistent_index > 0 {
            pairs.push((b"consistent_index", u64_value(self.consistent_index).into()));
        }
        if let Some(revision) = self.finished_compaction {
            pairs.push((b"finishedCompactRev", compaction_value(revision).into()));
        }
        if let Some(revision) = self.scheduled_compaction {
            pairs.push((b"scheduledCompactRev", compaction_value(revision).into()));
        }
        let version = self.downgraded.as_deref().unwrap_or(STORAGE_VERSION);
        pairs.push((b"storageVersion", version.into()));
        if self.term > 0 {
            pairs.push((b"term", u64_value(self.term).into()));
        }
        pairs
    }
}

/// `meta`: a compaction's revision, written like a key of `key`.
fn compaction_value(revision: Revision) -> [u8; REVISION_BYTES] {
    revision_key(RevisionPair {
        main: revision,
        sub: 0,
    })
}

/// `meta`: `raftpb.ConfState` as Go's JSON, outside joint consensus.
fn conf_state_value(voters: &[MemberId], learners: &[MemberId]) -> String {
    let list = |name: &str, ids: &[MemberId]| {
        if ids.is_empty() {
            return String::new();
        }
        let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
        format!("\"{name}\":[{}],", ids.join(","))
    };
    let [voters, learners] = [list("voters", voters), list("learners", learners)];
    format!("{{{voters}{learners}\"auto_leave\":false}}")
}

/// `auth`, `meta`: an integer.
pub fn u64_value(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// `auth`: the switch.
pub fn auth_enabled_value(is_enabled: bool) -> [u8; 1] {
    [u8::from(is_enabled)]
}

/// `lease`: the key of a lease.
pub fn lease_key(id: LeaseId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// `lease`: `leasepb.Lease`. Times are in seconds; `remaining_ttl` is 0 unless a checkpoint has
/// set it.
pub fn lease_value(id: LeaseId, granted_ttl: i64, remaining_ttl: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, 1, id.0.cast_unsigned());
    put_int(&mut out, 2, granted_ttl.cast_unsigned());
    put_int(&mut out, 3, remaining_ttl.cast_unsigned());
    out
}

/// `alarm`: the key of an alarm, `etcdserverpb.AlarmMember`. `alarm` is its number in the protocol:
/// 1 NOSPACE, 2 CORRUPT. The value is empty.
pub fn alarm_key(member: MemberId, alarm: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, 1, member.0);
    put_int(&mut out, 2, alarm.into());
    out
}

/// A user as etcd stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRecord<'r> {
    /// The user's name, which is the key in `authUsers` as well.
    pub name: &'r [u8],
    /// The bcrypt hash; empty if the user has no password.
    pub password_hash: &'r [u8],
    /// The user's roles in ascending order.
    pub roles: &'r [&'r str],
    /// Whether the user was made without a password.
    pub has_no_password: bool,
}

impl UserRecord<'_> {
    /// `authUsers`: `authpb.User`. The options are present even if they say nothing.
    pub fn value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, self.name);
        put_bytes(&mut out, 2, self.password_hash);
        for role in self.roles {
            put_message(&mut out, 3, role.as_bytes());
        }
        let mut options = Vec::new();
        put_int(&mut options, 1, self.has_no_password.into());
        put_message(&mut out, 4, &options);
        out
    }
}

/// A permission as etcd stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermissionRecord<'r> {
    /// Its number in the protocol: 0 READ, 1 WRITE, 2 READWRITE.
    pub kind: u32,
    /// The first key.
    pub key: &'r [u8],
    /// The end of the range; empty: the key alone; one zero byte: no end.
    pub range_end: &'r [u8],
}

impl PermissionRecord<'_> {
    /// A permission's.
    pub fn of(permission: &Permission) -> PermissionRecord<'_> {
        PermissionRecord {
            kind: match permission.allows {
                Allows::Read => 0,
                Allows::Write => 1,
                Allows::ReadWrite => 2,
            },
            key: &permission.key,
            range_end: &permission.range_end,
        }
    }
}

/// `authRoles`: `authpb.Role`. etcd keeps the permissions in ascending order of their keys.
pub fn role_value(name: &[u8], permissions: &[PermissionRecord<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name);
    for permission in permissions {
        let mut message = Vec::new();
        put_int(&mut message, 1, permission.kind.into());
        put_bytes(&mut message, 2, permission.key);
        put_bytes(&mut message, 3, permission.range_end);
        put_message(&mut out, 2, &message);
    }
    out
}

/// A member as etcd stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRecord<'r> {
    /// The member's id.
    pub id: MemberId,
    /// Where its peers reach it.
    pub peer_urls: &'r [String],
    /// Whether it does not vote.
    pub is_learner: bool,
    /// Its name; empty until it has started.
    pub name: &'r str,
    /// Where clients reach it; empty until it has started.
    pub client_urls: &'r [String],
}

impl MemberRecord<'_> {
    /// `members`: Go's JSON, which leaves out what is empty but not the peer URLs.
    pub fn value(&self) -> String {
        let mut out = format!("{{\"id\":{},\"peerURLs\":", self.id.0);
        put_json_strings(&mut out, self.peer_urls);
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        if !self.name.is_empty() {
            out.push_str(",\"name\":");
            put_json_string(&mut out, self.name);
        }
        if !self.client_urls.is_empty() {
            out.push_str(",\"clientURLs\":");
            put_json_strings(&mut out, self.client_urls);
        }
        out.push('}');
        out
    }
}

/// `members`, `members_removed`: the key of a member, without leading zeros.
pub fn member_key(id: MemberId) -> String {
    format!("{:x}", id.0)
}

/// `cluster`: the downgrade to `target` (`3.6.0`), or that there is none any more.
pub fn downgrade_value(target: Option<&str>) -> String {
    let mut out = String::from("{\"target-version\":");
    put_json_string(&mut out, target.unwrap_or_default());
    out.push_str(if target.is_some() {
        ",\"enabled\":true}"
    } else {
        ",\"enabled\":false}"
    });
    out
}

fn put_json_strings(out: &mut String, texts: &[String]) {
    out.push('[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put_json_string(out, text);
    }
    out.push(']');
}

/// A JSON string as Go's encoder writes it, which keeps HTML's and JavaScript's special characters
/// out as well.
fn put_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// A protobuf varint field; proto3 leaves out a zero.
fn put_int(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        put_varint(out, value);
    }
}

/// A protobuf bytes or string field; proto3 leaves out an empty one.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

/// A protobuf submessage or element of a repeated field, which is there even if it is empty.
fn put_message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(
        out,
        u64::try_from(bytes.len()).expect("a length in memory fits u64"),
    );
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_bbolts_order() {
        assert!(BUCKETS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn revisions_are_etcds() {
        assert_eq!(
            revision_key(RevisionPair::new(16, 0)),
            *b"\0\0\0\0\0\0\0\x10_\0\0\0\0\0\0\0\0"
        );
        assert_eq!(
            tombstone_key(RevisionPair::new(5, 258)),
            *b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\x01\x02t"
        );
    }

    #[test]
    fn revisions_are_read_back() {
        for pair in [
            RevisionPair::new(0, 0),
            RevisionPair::new(i64::MAX, u32::MAX),
        ] {
            assert_eq!(parse_revision_key(&revision_key(pair)), Some((pair, false)));
            assert_eq!(parse_revision_key(&tombstone_key(pair)), Some((pair, true)));
        }
        let key = revision_key(RevisionPair::new(5, 1));
        assert_eq!(parse_revision_key(&key[..16]), None);
        assert_eq!(parse_revision_key(&[0xff; 17]), None);
        assert_eq!(parse_revision_key(&[key.as_slice(), b"x"].concat()), None);
    }

    #[test]
    fn meta_is_etcds() {
        let meta = Meta {
            consistent_index: 0x23,
            term: 2,
            voters: vec![MemberId(5138483852803829615)],
            learners: vec![],
            scheduled_compaction: Some(Revision(3)),
            finished_compaction: Some(Revision(3)),
            downgraded: None,
        };
        let three = b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0";
        let golden: [(&[u8], &[u8]); 6] = [
            (
                b"confState",
                br#"{"voters":[5138483852803829615],"auto_leave":false}"#,
            ),
            (b"consistent_index", b"\0\0\0\0\0\0\0#"),
            (b"finishedCompactRev", three),
            (b"scheduledCompactRev", three),
            (b"storageVersion", b"3.7.0"),
            (b"term", b"\0\0\0\0\0\0\0\x02"),
        ];
        let pairs = meta.pairs();
        assert!(
            pairs
                .iter()
                .map(|(key, value)| (*key, value.as_slice()))
                .eq(golden)
        );
    }

    #[test]
    fn a_fresh_meta_has_no_index_and_no_compaction() {
        let keys: Vec<_> = Meta::default()
            .pairs()
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, [b"confState".as_slice(), b"storageVersion"]);
    }

    #[test]
    fn a_conf_state_lists_learners_behind_voters() {
        let value = conf_state_value(&[MemberId(1), MemberId(2)], &[MemberId(3)]);
        assert_eq!(
            value,
            r#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#
        );
    }

    #[test]
    fn leases_are_etcds() {
        let id = LeaseId(0x6f6f_a206_fce7_c807);
        assert_eq!(lease_key(id), *b"oo\xa2\x06\xfc\xe7\xc8\x07");
        assert_eq!(
            lease_value(id, 100, 0),
            b"\x08\x87\x90\x9f\xe7\xef\xc0\xe8\xb7o\x10d"
        );
        let negative = lease_value(LeaseId(-1), 5, 3);
        assert_eq!(
            negative,
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x05\x18\x03"
        );
    }

    #[test]
    fn alarms_are_etcds() {
        let key = alarm_key(MemberId(0x474f_8fd6_da73_ef6f), 1);
        assert_eq!(key, b"\x08\xef\xde\xcf\xd3\xed\xfa\xe3\xa7G\x10\x01");
    }

    #[test]
    fn auth_records_are_etcds() {
        let u2 = UserRecord {
            name: b"u2",
            password_hash: b"",
            roles: &[],
            has_no_password: true,
        };
        assert_eq!(u2.value(), b"\n\x02u2\"\x02\x08\x01");
        let u1 = UserRecord {
            name: b"u1",
            password_hash: b"$2a",
            roles: &["r1"],
            has_no_password: false,
        };
        assert_eq!(u1.value(), b"\n\x02u1\x12\x03$2a\x1a\x02r1\"\0");
        let permission = PermissionRecord {
            kind: 2,
            key: b"foo",
            range_end: b"foz",
        };
        assert_eq!(
            role_value(b"r1", &[permission]),
            b"\n\x02r1\x12\x0c\x08\x02\x12\x03foo\x1a\x03foz"
        );
        assert_eq!(
            [auth_enabled_value(true), auth_enabled_value(false)],
            [[1], [0]]
        );
    }

    #[test]
    fn members_are_etcds() {
        let member = MemberRecord {
            id: MemberId(5138483852803829615),
            peer_urls: &["http://127.0.0.1:28380".to_owned()],
            is_learner: false,
            name: "m1",
            client_urls: &["http://127.0.0.1:28379".to_owned()],
        };
        assert_eq!(member_key(member.id), "474f8fd6da73ef6f");
        assert_eq!(
            member.value(),
            r#"{"id":5138483852803829615,"peerURLs":["http://127.0.0.1:28380"],"name":"m1","clientURLs":["http://127.0.0.1:28379"]}"#
        );
        let learner = MemberRecord {
            id: MemberId(7),
            is_learner: true,
            name: "",
            client_urls: &[],
            ..member
        };
        assert_eq!(
            learner.value(),
            r#"{"id":7,"peerURLs":["http://127.0.0.1:28380"],"isLearner":true}"#
        );
        assert_eq!(member_key(learner.id), "7");
    }

    #[test]
    fn names_are_escaped_as_go_escapes_them() {
        let mut out = String::new();
        put_json_string(&mut out, "a\"\\<&>\u{2028}\n\r\t\u{8}\u{c}\u{1}\u{7f}é");
        assert_eq!(
            out,
            "\"a\\\"\\\\\\u003c\\u0026\\u003e\\u2028\\n\\r\\t\\b\\f\\u0001\u{7f}é\""
        );
    }

    #[test]
    fn downgrades_are_etcds() {
        assert_eq!(
            downgrade_value(Some("3.6.0")),
            r#"{"target-version":"3.6.0","enabled":true}"#
        );
        assert_eq!(
            downgrade_value(None),
            r#"{"target-version":"","enabled":false}"#
        );
    }
}
