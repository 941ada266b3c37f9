//! Keys and values as bytes (`docs/storage-schema.md`).
//!
//! Two column families. `revisions`: key = main revision (8 bytes, big endian) ++ sub revision (4
//! bytes, big endian), value = one byte (0 put, 1 tombstone) ++ the encoded `mvccpb.KeyValue`.
//! Append-ordered: flushed files never overlap, so the engine moves them down without rewriting.
//! `tables`: everything that is overwritten, key = one byte for the table ++ the row's key.

use bytes::Bytes;
use engram_proto::authpb;
use engram_proto::store as pb;
use prost::Message;

use super::{Applied, LogPosition};
use crate::state::{MemberRecord, RecordRef, RevisionRecord};
use crate::types::auth::{Allows, Permission, Role, Secret, User};
use crate::types::request::{AlarmType, MemberAttributes};
use crate::types::{LeaseId, MemberId, Revision, RevisionPair};

/// The column family of revisions.
pub const REVISIONS: &str = "revisions";
/// The column family of tables.
pub const TABLES: &str = "tables";
/// The format of this store; another number refuses to open.
pub const FORMAT: u32 = 1;

/// The tables, by the first byte of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// One row: format number.
    Format = 0,
    /// One row: applied position and membership.
    Applied = 1,
    /// One row: the store's revision.
    Revision = 2,
    /// One row: the last compaction asked for.
    CompactScheduled = 3,
    /// One row: the last compaction finished.
    CompactFinished = 4,
    /// One row: the cluster version.
    ClusterVersion = 5,
    /// One row: whether authentication is on, and the auth revision.
    Auth = 6,
    /// One row, where that is before the last compaction: after where nothing is reclaimed.
    WholeAfter = 7,
    /// Leases by id.
    Lease = 16,
    /// Alarms by member and kind.
    Alarm = 17,
    /// Members by id.
    Member = 18,
    /// Ids of members removed for good.
    RemovedMember = 19,
    /// Users by name, as etcd's `authpb.User`.
    User = 20,
    /// Roles by name, as etcd's `authpb.Role`.
    Role = 21,
}

/// Bytes in the store that no version of Engram has written: the store is damaged.
#[derive(Debug, thiserror::Error)]
#[error("damaged store: {0} cannot be decoded")]
pub struct SchemaError(pub &'static str);

/// The key of a table's row.
pub fn row(table: Table, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(table as u8);
    out.extend_from_slice(key);
    out
}

/// The key of a revision.
pub fn revision_key(pair: RevisionPair) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&pair.main.0.to_be_bytes());
    key[8..].copy_from_slice(&pair.sub.to_be_bytes());
    key
}

/// Reads a revision's key.
pub fn parse_revision_key(key: &[u8]) -> Result<RevisionPair, SchemaError> {
    let damaged = || SchemaError("a revision's key");
    let (main, sub) = key.split_at_checked(8).ok_or_else(damaged)?;
    Ok(RevisionPair {
        main: Revision(i64::from_be_bytes(main.try_into().map_err(|_| damaged())?)),
        sub: u32::from_be_bytes(sub.try_into().map_err(|_| damaged())?),
    })
}

/// The two parts of a revision's value, to be written one after the other.
pub fn revision_flag(record: &RevisionRecord) -> u8 {
    u8::from(record.tombstone)
}

/// Reads a revision.
pub fn parse_revision(pair: RevisionPair, value: Bytes) -> Result<RevisionRecord, SchemaError> {
    let tombstone = parse_record(pair, &value)?.tombstone;
    Ok(RevisionRecord {
        pair,
        tombstone,
        encoded: value.slice(1..),
    })
}

/// Reads a revision where it lies.
pub fn parse_record(pair: RevisionPair, value: &[u8]) -> Result<RecordRef<'_>, SchemaError> {
    let (tombstone, encoded) = match value.split_first() {
        Some((0, encoded)) => (false, encoded),
        Some((1, encoded)) => (true, encoded),
        _ => return Err(SchemaError("a revision's value")),
    };
    Ok(RecordRef {
        pair,
        tombstone,
        encoded,
    })
}

/// A place in the log, as messages hold it.
pub(super) fn position_to_pb(position: LogPosition) -> engram_proto::raft::LogId {
    engram_proto::raft::LogId {
        term: position.term,
        index: position.index,
    }
}

/// A place in the log, out of a message.
pub(super) fn position_from_pb(log_id: &engram_proto::raft::LogId) -> LogPosition {
    LogPosition {
        term: log_id.term,
        index: log_id.index,
    }
}

/// Encodes the applied row.
pub fn encode_applied(applied: &Applied) -> Vec<u8> {
    pb::Applied {
        log_id: applied.log_position.map(position_to_pb),
        membership_log_id: applied.membership_position.map(position_to_pb),
        membership: applied.membership.clone(),
    }
    .encode_to_vec()
}

/// Reads the applied row.
pub fn parse_applied(bytes: &[u8]) -> Result<Applied, SchemaError> {
    let applied = pb::Applied::decode(bytes).map_err(|_| SchemaError("the applied position"))?;
    Ok(Applied {
        log_position: applied.log_id.as_ref().map(position_from_pb),
        membership_position: applied.membership_log_id.as_ref().map(position_from_pb),
        membership: applied.membership,
    })
}

/// Reads an `i64` row.
pub fn parse_i64(bytes: &[u8]) -> Result<i64, SchemaError> {
    bytes
        .try_into()
        .map(i64::from_be_bytes)
        .map_err(|_| SchemaError("a number"))
}

/// Encodes a lease's row.
pub fn encode_lease(ttl_seconds: i64) -> Vec<u8> {
    pb::Lease { ttl_seconds }.encode_to_vec()
}

/// Reads a lease's row.
pub fn parse_lease(key: &[u8], value: &[u8]) -> Result<(LeaseId, i64), SchemaError> {
    let lease = pb::Lease::decode(value).map_err(|_| SchemaError("a lease"))?;
    Ok((LeaseId(parse_i64(key)?), lease.ttl_seconds))
}

/// The key of an alarm's row.
pub fn alarm_key(member: MemberId, alarm: AlarmType) -> [u8; 9] {
    let mut key = [0; 9];
    key[..8].copy_from_slice(&member.0.to_be_bytes());
    key[8] = match alarm {
        AlarmType::NoSpace => 1,
        AlarmType::Corrupt => 2,
    };
    key
}

/// Reads an alarm's key.
pub fn parse_alarm(key: &[u8]) -> Result<crate::types::result::Alarm, SchemaError> {
    let damaged = || SchemaError("an alarm");
    let (member, kind) = key.split_at_checked(8).ok_or_else(damaged)?;
    let alarm = match kind {
        [1] => AlarmType::NoSpace,
        [2] => AlarmType::Corrupt,
        _ => return Err(damaged()),
    };
    Ok(crate::types::result::Alarm {
        member: parse_member_id(member)?,
        alarm,
    })
}

/// Reads a member's id.
pub fn parse_member_id(key: &[u8]) -> Result<MemberId, SchemaError> {
    let id = key.try_into().map_err(|_| SchemaError("a member's id"))?;
    Ok(MemberId(u64::from_be_bytes(id)))
}

/// Encodes a member's row.
pub fn encode_member(member: &MemberRecord) -> Vec<u8> {
    pb::Member {
        incarnation: member.incarnation,
        name: member.attributes.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.attributes.client_urls.clone(),
        learner: member.learner,
        apply_version: member.attributes.apply_version,
    }
    .encode_to_vec()
}

/// Reads a member's row.
pub fn parse_member(key: &[u8], value: &[u8]) -> Result<MemberRecord, SchemaError> {
    let member = pb::Member::decode(value).map_err(|_| SchemaError("a member"))?;
    Ok(MemberRecord {
        id: parse_member_id(key)?,
        incarnation: member.incarnation,
        peer_urls: member.peer_urls,
        learner: member.learner,
        attributes: MemberAttributes {
            name: member.name,
            client_urls: member.client_urls,
            apply_version: member.apply_version,
        },
    })
}

/// Encodes whether authentication is on, and the auth revision.
pub fn encode_auth(enabled: bool, revision: u64) -> [u8; 9] {
    let mut row = [0; 9];
    row[0] = u8::from(enabled);
    row[1..].copy_from_slice(&revision.to_be_bytes());
    row
}

/// Reads whether authentication is on, and the auth revision.
pub fn parse_auth(value: &[u8]) -> Result<(bool, u64), SchemaError> {
    let damaged = || SchemaError("the switch of authentication");
    let (enabled, revision) = value.split_first().ok_or_else(damaged)?;
    let revision = revision.try_into().map_err(|_| damaged())?;
    match enabled {
        0 | 1 => Ok((*enabled == 1, u64::from_be_bytes(revision))),
        _ => Err(damaged()),
    }
}

/// Encodes a user, as etcd does.
pub fn encode_user(user: &User) -> Vec<u8> {
    authpb::User {
        name: user.name.clone().into_bytes().into(),
        password: user.password_hash.0.clone().into(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions {
            no_password: user.no_password,
        }),
    }
    .encode_to_vec()
}

/// Reads a user.
pub fn parse_user(value: &[u8]) -> Result<User, SchemaError> {
    let damaged = || SchemaError("a user");
    let user = authpb::User::decode(value).map_err(|_| damaged())?;
    let mut roles = user.roles;
    roles.sort();
    Ok(User {
        name: String::from_utf8(user.name.to_vec()).map_err(|_| damaged())?,
        password_hash: Secret(user.password.to_vec()),
        roles,
        no_password: user.options.is_some_and(|options| options.no_password),
    })
}

/// Encodes a role, as etcd does.
pub fn encode_role(role: &Role) -> Vec<u8> {
    let permission = |permission: &Permission| authpb::Permission {
        perm_type: permission_number(permission.allows),
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    };
    authpb::Role {
        name: role.name.clone().into_bytes().into(),
        key_permission: role.permissions.iter().map(permission).collect(),
    }
    .encode_to_vec()
}

/// Reads a role.
pub fn parse_role(value: &[u8]) -> Result<Role, SchemaError> {
    let damaged = || SchemaError("a role");
    let role = authpb::Role::decode(value).map_err(|_| damaged())?;
    let permission = |permission: authpb::Permission| {
        Ok(Permission {
            key: permission.key,
            range_end: permission.range_end,
            allows: allows(permission.perm_type).ok_or_else(damaged)?,
        })
    };
    let permissions = role.key_permission.into_iter().map(permission);
    Ok(Role {
        name: String::from_utf8(role.name.to_vec()).map_err(|_| damaged())?,
        permissions: permissions.collect::<Result<_, _>>()?,
    })
}

/// The number of what a permission allows in etcd's protocol.
pub fn permission_number(allows: Allows) -> i32 {
    match allows {
        Allows::Read => 0,
        Allows::Write => 1,
        Allows::ReadWrite => 2,
    }
}

/// What a number allows.
pub fn allows(number: i32) -> Option<Allows> {
    match number {
        0 => Some(Allows::Read),
        1 => Some(Allows::Write),
        2 => Some(Allows::ReadWrite),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_keys_sort_as_revisions_do() {
        let pairs = [
            (1, 0),
            (1, 1),
            (1, 256),
            (2, 0),
            (255, 0),
            (256, 3),
            (i64::MAX, u32::MAX),
        ];
        let keys: Vec<_> = pairs
            .iter()
            .map(|(main, sub)| revision_key(RevisionPair::new(*main, *sub)))
            .collect();
        assert!(keys.is_sorted());
        for (key, (main, sub)) in keys.iter().zip(pairs) {
            assert_eq!(
                parse_revision_key(key).ok(),
                Some(RevisionPair::new(main, sub))
            );
        }
    }

    #[test]
    fn rows_are_read_back() {
        let applied = Applied {
            log_position: Some(LogPosition { term: 3, index: 77 }),
            membership_position: Some(LogPosition { term: 1, index: 1 }),
            membership: Bytes::from_static(b"m"),
        };
        assert_eq!(parse_applied(&encode_applied(&applied)).ok(), Some(applied));
        let member = MemberRecord {
            id: MemberId(7),
            incarnation: 5,
            peer_urls: vec!["http://a:2380".into()],
            learner: true,
            attributes: MemberAttributes {
                name: "a".into(),
                client_urls: vec!["http://a".into()],
                apply_version: 2,
            },
        };
        let key = 7u64.to_be_bytes();
        assert_eq!(
            parse_member(&key, &encode_member(&member)).ok(),
            Some(member)
        );
        let alarm = parse_alarm(&alarm_key(MemberId(7), AlarmType::Corrupt)).expect("just encoded");
        assert_eq!(
            (alarm.member, alarm.alarm),
            (MemberId(7), AlarmType::Corrupt)
        );
        assert_eq!(
            parse_lease(&(-9i64).to_be_bytes(), &encode_lease(60)).ok(),
            Some((LeaseId(-9), 60))
        );
    }

    #[test]
    fn damaged_rows_are_errors() {
        assert!(parse_revision_key(b"short").is_err());
        assert!(parse_revision(RevisionPair::new(1, 0), Bytes::from_static(b"\x07x")).is_err());
        assert!(parse_alarm(b"").is_err() && parse_member(b"12345678", b"\xff").is_err());
    }
}
