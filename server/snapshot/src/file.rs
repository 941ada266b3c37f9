//! A snapshot file on disk, as `etcdctl snapshot save` leaves it: etcd's schema read back.
//!
//! Owns the check of the digest, `etcdutl snapshot status`, and the way from etcd's buckets to the
//! domain's words. Streams: what is in memory is the small buckets and a page a level. Must never
//! write, or guess at what it cannot read.

mod hash;

use std::collections::HashSet;
use std::io;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use engram_proto::etcdserverpb;
use prost::Message as _;

use super::bbolt::{Bucket, DIGEST_BYTES, Database, DatabaseError};
use super::etcd_schema as schema;
use crate::fs::DataFile;
use crate::state::auth::FIRST_REVISION;
use crate::state::{AuthTables, RecordRef, RevisionRecord, is_sound};
use crate::storage::{self, LogPosition};
use crate::types::request::AlarmType;
use crate::types::result::{Alarm, ApplyError};
use crate::types::{KeyValue, LeaseId, MemberId, Revision, RevisionPair};

/// A digest is there where the file's length says so: etcd's `hasChecksum`.
const SECTOR_BYTES: u64 = 512;
/// Bytes hashed at a time.
const READ_BYTES: usize = 1 << 20;
/// Rows of a small bucket that are read.
const ROWS_MAX: usize = 10_000_000;

/// Why a snapshot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It carries no digest.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoDigest,
    /// The digest is another one.
    #[error("expected sha256 {expected}, got {found}: the snapshot is damaged, take another one")]
    Digest {
        /// What the file says, hexadecimal.
        expected: String,
        /// What it has, hexadecimal.
        found: String,
    },
    /// It is no bbolt file, or a damaged one.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A bucket holds what no etcd writes.
    #[error("the snapshot is damaged: {0} cannot be read")]
    Row(&'static str),
    /// Nothing is hashed at that revision.
    #[error("etcdserver: mvcc: {0}")]
    Hash(ApplyError),
    /// Whoever takes the records wants no more of them.
    #[error("{0}")]
    Taker(Box<dyn std::error::Error + Send + Sync>),
}

/// Whether the file's digest must be there and right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestCheck {
    /// As for a file that `snapshot save` wrote.
    Required,
    /// As for a file copied out of a data directory.
    Skipped,
}

/// An open snapshot.
#[derive(Debug)]
pub struct SnapshotFile {
    database: Database,
    buckets: Vec<Bucket>,
}

/// What `snapshot status` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over every bucket's name, keys and values.
    pub hash: u32,
    /// The last revision.
    pub revision: Revision,
    /// Keys that exist.
    pub total_keys: u64,
    /// Bytes of all pages.
    pub total_bytes: u64,
    /// The storage version; empty in files from before etcd 3.6.
    pub version: String,
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The time to live it was granted, in seconds.
    pub ttl_seconds: i64,
    /// What a checkpoint left of it, in seconds; 0 if none did.
    pub remaining_seconds: i64,
}

/// A member, as far as a backup tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub learner: bool,
}

/// A row of `auth`, `authUsers` or `authRoles`, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRow {
    /// The bucket's name.
    pub bucket: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Everything in a snapshot but the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The compaction last asked for.
    pub compact_scheduled: Option<Revision>,
    /// The compaction last finished.
    pub compact_finished: Option<Revision>,
    /// Leases.
    pub leases: Vec<Lease>,
    /// Users, roles, and whether authentication is on.
    pub auth: Vec<AuthRow>,
    /// The members of the cluster it was taken from.
    pub members: Vec<Member>,
    /// Ids that were members of it once.
    pub removed: Vec<MemberId>,
    /// Its raised alarms.
    pub alarms: Vec<Alarm>,
    /// The version that all its members can speak; empty where it was not agreed on.
    pub cluster_version: String,
    /// The last entry of its log that is in it; index 0 in a file that never held one, term 0 in one
    /// from before etcd 3.5.
    pub position: LogPosition,
    /// The storage version.
    pub version: String,
}

/// What was read of a file's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The last revision, be it a record's or a bump's.
    pub last: Revision,
    /// Revision bumps. etcd hashes each as a key without name, which no store of ours has.
    pub bumps: u64,
}

impl Tables {
    /// Whether authentication is on.
    pub fn auth_enabled(&self) -> bool {
        let is_switch = |row: &&AuthRow| {
            row.bucket.as_bytes() == schema::AUTH && row.key == schema::AUTH_ENABLED_KEY
        };
        let switch = self.auth.iter().find(is_switch);
        switch.is_some_and(|row| row.value == schema::auth_enabled_value(true))
    }

    /// The compact revision: of the compaction last asked for, be it finished or not.
    pub fn compacted(&self) -> Option<Revision> {
        self.compact_scheduled.max(self.compact_finished)
    }
}

impl SnapshotFile {
    /// Opens a snapshot, and reads it whole where its digest is to be checked.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(path: &Path, check: DigestCheck) -> Result<SnapshotFile, FileError> {
        if check == DigestCheck::Required {
            check_digest(path)?;
        }
        SnapshotFile::open_unchecked(path)
    }

    fn open_unchecked(path: &Path) -> Result<SnapshotFile, FileError> {
        let database = Database::open(path)?;
        let buckets = database.buckets()?;
        Ok(SnapshotFile { database, buckets })
    }

    /// Everything but the records.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn tables(&self) -> Result<Tables, FileError> {
        let mut tables = Tables::default();
        let mut rows = 0;
        for bucket in self.buckets.iter().filter(|b| b.name != schema::KEY) {
            self.database.pairs(bucket, &mut |key, value| {
                rows += 1;
                match rows > ROWS_MAX {
                    true => Err(FileError::Row("a bucket with so many rows")),
                    false => read_row(&mut tables, &bucket.name, key, value),
                }
            })?;
        }
        Ok(tables)
    }

    /// Calls `take` with every record, ascending, and returns what there was. That of a revision bump
    /// (an empty value, which `etcdutl snapshot restore --bump-revision` leaves) is no record.
    ///
    /// # Errors
    /// The file is damaged or cannot be read, or `take` failed.
    pub fn records(
        &self,
        take: &mut dyn FnMut(RevisionRecord) -> Result<(), FileError>,
    ) -> Result<Read, FileError> {
        let mut read = Read {
            last: Revision::EMPTY_STORE,
            bumps: 0,
        };
        let Some(bucket) = self.bucket(schema::KEY) else {
            return Ok(read);
        };
        self.database.pairs(bucket, &mut |key, value| {
            let (pair, tombstone) =
                schema::parse_revision_key(key).ok_or(FileError::Row("a revision's key"))?;
            read.last = read.last.max(pair.main);
            if value.is_empty() && !tombstone {
                read.bumps += 1;
                return Ok(());
            }
            take(record(pair, tombstone, value)?)
        })?;
        Ok(read)
    }

    /// What `etcdutl snapshot status` prints of it. Memory: 16 bytes and some a key.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn status(&self) -> Result<Status, FileError> {
        let mut hash = crc32c::crc32c(b"");
        let mut revision = Revision(0);
        let mut keys = HashSet::new();
        for bucket in &self.buckets {
            hash = crc32c::crc32c_append(hash, &bucket.name);
            let is_key = bucket.name == schema::KEY;
            self.database.pairs(bucket, &mut |key, value| {
                hash = crc32c::crc32c_append(hash, key);
                hash = crc32c::crc32c_append(hash, value);
                if is_key {
                    revision = count(&mut keys, key, value)?;
                }
                Ok::<_, FileError>(())
            })?;
        }
        Ok(Status {
            hash,
            revision,
            total_keys: u64::try_from(keys.len()).expect("a count fits"),
            total_bytes: self.database.total_bytes(),
            version: self.tables()?.version,
        })
    }

    fn bucket(&self, name: &[u8]) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| bucket.name == name)
    }
}

/// Keeps the book of keys that exist, by 16 bytes of their SHA-256; returns the record's revision.
fn count(keys: &mut HashSet<hash::Name>, key: &[u8], value: &[u8]) -> Result<Revision, FileError> {
    let parsed = schema::parse_revision_key(key);
    let (pair, tombstone) = parsed.ok_or(FileError::Row("a revision's key"))?;
    let name = hash::name(value)?;
    match tombstone {
        true => keys.remove(&name),
        false => keys.insert(name),
    };
    Ok(pair.main)
}

fn record(pair: RevisionPair, tombstone: bool, value: &[u8]) -> Result<RevisionRecord, FileError> {
    let encoded = Bytes::copy_from_slice(value);
    check_record(pair, tombstone, &encoded)?;
    Ok(RevisionRecord {
        pair,
        tombstone,
        encoded,
    })
}

/// Whether a stored key-value can be one of this revision: with a key, encoded as etcd encodes it
/// (HashKV is over these bytes), and a put of exactly this revision. Returns what it says.
///
/// # Errors
/// It cannot.
pub fn check_record(
    pair: RevisionPair,
    tombstone: bool,
    encoded: &Bytes,
) -> Result<KeyValue, FileError> {
    let kv = KeyValue::decode_exact(encoded).map_err(|_| FileError::Row("a key-value"))?;
    let record = RecordRef {
        pair,
        tombstone,
        encoded,
    };
    match is_sound(record, &kv) {
        true => Ok(kv),
        false => Err(FileError::Row("a key-value")),
    }
}

fn read_row(tables: &mut Tables, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), FileError> {
    match bucket {
        schema::META => read_meta(tables, key, value)?,
        schema::LEASE => tables.leases.push(read_lease(value)?),
        schema::MEMBERS => tables.members.push(read_member(value)?),
        schema::AUTH | schema::AUTH_USERS | schema::AUTH_ROLES => {
            tables.auth.push(AuthRow {
                bucket: String::from_utf8_lossy(bucket).into_owned(),
                key: key.to_vec(),
                value: value.to_vec(),
            });
        }
        schema::MEMBERS_REMOVED => tables.removed.push(read_removed(key)?),
        schema::ALARM => tables.alarms.extend(read_alarm(key)?),
        schema::CLUSTER if key == schema::CLUSTER_VERSION_KEY => {
            tables.cluster_version = String::from_utf8_lossy(value).into_owned();
        }
        _ => {}
    }
    Ok(())
}

fn read_meta(tables: &mut Tables, key: &[u8], value: &[u8]) -> Result<(), FileError> {
    let compaction = || {
        let parsed = schema::parse_revision_key(value);
        let (pair, _) = parsed.ok_or(FileError::Row("a compaction's revision"))?;
        Ok::<_, FileError>(Some(pair.main))
    };
    match key {
        b"scheduledCompactRev" => tables.compact_scheduled = compaction()?,
        b"finishedCompactRev" => tables.compact_finished = compaction()?,
        b"consistent_index" => tables.position.index = read_number(value)?,
        b"term" => tables.position.term = read_number(value)?,
        b"storageVersion" => tables.version = String::from_utf8_lossy(value).into_owned(),
        _ => {}
    }
    Ok(())
}

fn read_number(value: &[u8]) -> Result<u64, FileError> {
    let bytes = value.try_into();
    bytes
        .map(u64::from_be_bytes)
        .map_err(|_| FileError::Row("a place in the log"))
}

fn read_removed(key: &[u8]) -> Result<MemberId, FileError> {
    let text = std::str::from_utf8(key).unwrap_or_default();
    let id = u64::from_str_radix(text, 16);
    id.map(MemberId)
        .map_err(|_| FileError::Row("a removed member"))
}

/// An alarm; none for one of no kind, which etcd keeps and nobody heeds.
fn read_alarm(key: &[u8]) -> Result<Option<Alarm>, FileError> {
    let damaged = FileError::Row("an alarm");
    let Ok(alarm) = etcdserverpb::AlarmMember::decode(key) else {
        return Err(damaged);
    };
    let member = MemberId(alarm.member_id);
    let kind = match alarm.alarm {
        0 => return Ok(None),
        1 => AlarmType::NoSpace,
        2 => AlarmType::Corrupt,
        _ => return Err(damaged),
    };
    Ok(Some(Alarm {
        member,
        alarm: kind,
    }))
}

/// `leasepb.Lease`, whose fields are three integers.
#[derive(Clone, PartialEq, prost::Message)]
struct LeaseMessage {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

fn read_lease(value: &[u8]) -> Result<Lease, FileError> {
    let lease = LeaseMessage::decode(value).map_err(|_| FileError::Row("a lease"))?;
    Ok(Lease {
        id: LeaseId(lease.id),
        ttl_seconds: lease.ttl,
        remaining_seconds: lease.remaining_ttl,
    })
}

/// The JSON that etcd keeps of a member.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson {
    id: u64,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
}

fn read_member(value: &[u8]) -> Result<Member, FileError> {
    let member: MemberJson =
        serde_json::from_slice(value).map_err(|_| FileError::Row("a member"))?;
    Ok(Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        learner: member.is_learner,
    })
}

/// Reads rows of etcd's buckets of users and roles.
///
/// # Errors
/// One of them is none that etcd writes.
pub fn auth_tables(rows: &[AuthRow]) -> Result<AuthTables, FileError> {
    let mut tables = AuthTables::default();
    let (mut enabled, mut revision) = (None, FIRST_REVISION);
    for row in rows {
        match (row.bucket.as_bytes(), &row.key[..]) {
            (schema::AUTH_USERS, _) => {
                let user = storage::schema::parse_user(&row.value);
                tables
                    .users
                    .push(user.map_err(|_| FileError::Row("a user"))?);
            }
            (schema::AUTH_ROLES, _) => {
                let role = storage::schema::parse_role(&row.value);
                tables
                    .roles
                    .push(role.map_err(|_| FileError::Row("a role"))?);
            }
            (_, schema::AUTH_ENABLED_KEY) => {
                enabled = Some(row.value == schema::auth_enabled_value(true));
            }
            (_, schema::AUTH_REVISION_KEY) => {
                let value = row.value[..].try_into();
                let value = value.map_err(|_| FileError::Row("the revision of users"))?;
                revision = u64::from_be_bytes(value);
            }
            _ => {}
        }
    }
    // A store whose users nobody has ever touched keeps nothing of them.
    if enabled.is_some() || revision > FIRST_REVISION {
        tables.switch = Some((enabled.unwrap_or(false), revision));
    }
    Ok(tables)
}

/// Reads the file whole and compares its last 32 bytes with the SHA-256 of all before them.
fn check_digest(path: &Path) -> Result<(), FileError> {
    let file = DataFile::open_to_read(path)?;
    let bytes = file.bytes()?;
    let digest_bytes = u64::try_from(DIGEST_BYTES).expect("32 fits");
    if bytes % SECTOR_BYTES != digest_bytes {
        return Err(FileError::NoDigest);
    }
    let end = bytes - digest_bytes;
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < end {
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let piece = &mut buffer[..left.min(READ_BYTES)];
        file.read_exact_at(piece, offset)?;
        digest.update(piece);
        offset += u64::try_from(piece.len()).expect("a length fits");
    }
    let mut expected = [0; DIGEST_BYTES];
    file.read_exact_at(&mut expected, end)?;
    let found = digest.finish();
    let found = found.as_ref();
    if found == expected {
        return Ok(());
    }
    Err(FileError::Digest {
        expected: hexadecimal(&expected),
        found: hexadecimal(found),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
