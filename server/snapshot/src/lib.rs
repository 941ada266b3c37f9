//! Snapshots: what `Maintenance.Snapshot` streams, a real bbolt file in etcd's schema, and what a
//! member that lags too far gets from the leader, the store's own files (`transfer`, `install`).
//! Whoever takes a backup gets the records as they are (`records`).
//! Offline: reading such a bbolt file back (`file`), and making a data directory (`restore`).
//!
//! The bbolt file takes two passes over one view of the engine: the first plans the file (its length is known before the
//! first byte), the second writes it. Memory is flat whatever the size: the receiver's channel is
//! bounded and the writer waits for it.

#![forbid(unsafe_code)]

pub mod bbolt;
pub mod etcd_schema;
pub mod file;
pub mod install;
pub mod records;
pub mod restore;
#[cfg(test)]
mod tests;
pub mod transfer;

use engram_applied::{storage, store};
use engram_disk::fs;
use engram_process::{log, mutants, threads};
use engram_state as state;
use engram_types as types;

use std::ops::ControlFlow;

use bytes::Bytes;

use engram_proto::backup as pb;

use crate::state::auth::FIRST_REVISION;
use crate::state::{Auth, Tables};
use crate::storage::{Applied, Engine, OpenError, Scanner};
use crate::types::request::AlarmType;
use crate::types::{MemberId, version};
use bbolt::{Blob, BlobWriter, BucketSource, Closed, MemoryBucket, PairVisitor, SourceError};

/// Why a snapshot failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The file cannot be planned.
    #[error(transparent)]
    Plan(#[from] bbolt::ReadError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] bbolt::WriteError),
}

/// What a snapshot tells beside the data.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The voters' ids, ascending.
    pub voters: Vec<MemberId>,
    /// The learners' ids, ascending.
    pub learners: Vec<MemberId>,
}

/// Writes a snapshot of the engine as it is now. `begin` is told the file's length; `send` gets the
/// pieces and then the digest, and may block; when it returns false, nobody listens any more and
/// the rest is left out. Blocks until done.
///
/// # Errors
/// See [`SnapshotError`]. What was sent by then has no digest, so nobody takes it for whole.
pub fn write(
    engine: &Engine,
    description: &Description,
    begin: impl FnOnce(u64),
    mut send: impl FnMut(Bytes) -> bool,
) -> Result<(), SnapshotError> {
    engine.with_view(|scanner| {
        let tables = scanner.tables()?;
        let mut small = small_buckets(&tables, &scanner.applied()?, description);
        let mut keys = Keys { scanner };
        let mut buckets: Vec<&mut dyn BucketSource> = small
            .iter_mut()
            .map(|bucket| bucket as &mut dyn BucketSource)
            .collect();
        buckets.push(&mut keys);
        buckets.sort_by(|a, b| a.name().cmp(b.name()));
        let layout = bbolt::plan(&mut buckets)?;
        begin(layout.file_bytes());
        let deliver = |blob: Blob| {
            if send(blob.bytes) {
                Ok(())
            } else {
                Err(Closed)
            }
        };
        let mut out = BlobWriter::new(layout.file_bytes(), deliver);
        match bbolt::write(&layout, &mut buckets, &mut out) {
            Ok(()) => {
                // A receiver that left before the digest does not want it.
                let _ = out.finish();
                Ok(())
            }
            Err(bbolt::WriteError::Output(error))
                if error.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// The revisions, as etcd's `key` bucket.
struct Keys<'a> {
    scanner: &'a Scanner<'a>,
}

impl BucketSource for Keys<'_> {
    fn name(&self) -> &[u8] {
        etcd_schema::KEY
    }

    fn pairs(&mut self, visitor: &mut PairVisitor<'_>) -> Result<(), SourceError> {
        self.scanner.records(&mut |record| {
            let flow = match record.tombstone {
                true => visitor(&etcd_schema::tombstone_key(record.pair), record.encoded),
                false => visitor(&etcd_schema::revision_key(record.pair), record.encoded),
            };
            flow == ControlFlow::Continue(())
        });
        Ok(())
    }
}

/// Users, roles and the switch, as the rows of etcd's buckets.
pub fn auth_rows(auth: &Auth) -> Vec<pb::AuthRow> {
    auth_rows_of(&Tables {
        auth: auth.tables(),
        ..Tables::default()
    })
}

fn auth_rows_of(tables: &Tables) -> Vec<pb::AuthRow> {
    let (applied, about) = (Applied::default(), Description::default());
    let buckets = small_buckets(tables, &applied, &about).into_iter();
    let is_of_users = |bucket: &MemoryBucket| {
        let names = [
            etcd_schema::AUTH,
            etcd_schema::AUTH_USERS,
            etcd_schema::AUTH_ROLES,
        ];
        names.contains(&bucket.name.as_slice())
    };
    let rows = |bucket: MemoryBucket| {
        let name = String::from_utf8_lossy(&bucket.name).into_owned();
        bucket
            .pairs
            .into_iter()
            .map(move |(key, value)| pb::AuthRow {
                bucket: name.clone(),
                key: key.into(),
                value: value.into(),
            })
    };
    buckets.filter(is_of_users).flat_map(rows).collect()
}

/// Every bucket of etcd's schema but `key`.
fn small_buckets(tables: &Tables, applied: &Applied, about: &Description) -> Vec<MemoryBucket> {
    let mut buckets: Vec<MemoryBucket> = etcd_schema::BUCKETS
        .iter()
        .filter(|name| **name != etcd_schema::KEY)
        .map(|name| MemoryBucket::new(name))
        .collect();
    for bucket in &mut buckets {
        fill(bucket, tables, applied, about);
    }
    buckets
}

/// The version that a downgrade under way is to.
fn downgraded(tables: &Tables) -> Option<&str> {
    let held = tables.cluster_version.as_deref();
    held.and_then(version::downgrade_target)
}

fn fill(bucket: &mut MemoryBucket, tables: &Tables, applied: &Applied, about: &Description) {
    match bucket.name.clone().as_slice() {
        etcd_schema::META => {
            let position = applied.log_position.unwrap_or_default();
            let meta = etcd_schema::Meta {
                consistent_index: position.index,
                term: position.term,
                voters: about.voters.clone(),
                learners: about.learners.clone(),
                scheduled_compaction: tables.compact_scheduled,
                finished_compaction: tables.compact_finished,
                downgraded: downgraded(tables).map(str::to_owned),
            };
            for (key, value) in meta.pairs() {
                bucket.put(key, value);
            }
        }
        etcd_schema::LEASE => {
            for (id, ttl) in &tables.leases {
                bucket.put(
                    etcd_schema::lease_key(*id),
                    etcd_schema::lease_value(*id, *ttl, 0),
                );
            }
        }
        etcd_schema::ALARM => {
            for alarm in &tables.alarms {
                bucket.put(
                    etcd_schema::alarm_key(alarm.member, kind(alarm.alarm)),
                    Vec::new(),
                );
            }
        }
        etcd_schema::CLUSTER => {
            if let Some(held) = &tables.cluster_version {
                bucket.put(etcd_schema::CLUSTER_VERSION_KEY, version::plain(held));
                if let Some(target) = version::downgrade_target(held) {
                    let value = etcd_schema::downgrade_value(Some(target));
                    bucket.put(etcd_schema::DOWNGRADE_KEY, value);
                }
            }
        }
        etcd_schema::MEMBERS => {
            for member in &tables.members {
                let record = etcd_schema::MemberRecord {
                    id: member.id,
                    peer_urls: &member.peer_urls,
                    is_learner: member.learner,
                    name: &member.attributes.name,
                    client_urls: &member.attributes.client_urls,
                };
                bucket.put(etcd_schema::member_key(member.id), record.value());
            }
        }
        etcd_schema::MEMBERS_REMOVED => {
            for id in &tables.removed {
                bucket.put(
                    etcd_schema::member_key(*id),
                    etcd_schema::MEMBER_REMOVED_VALUE,
                );
            }
        }
        etcd_schema::AUTH => {
            let (enabled, revision) = tables.auth.switch.unwrap_or((false, FIRST_REVISION));
            // etcd writes the switch once it was first thrown.
            if tables.auth.switch.is_some() {
                let enabled = etcd_schema::auth_enabled_value(enabled);
                bucket.put(etcd_schema::AUTH_ENABLED_KEY, enabled);
            }
            let revision = etcd_schema::u64_value(revision);
            bucket.put(etcd_schema::AUTH_REVISION_KEY, revision);
        }
        etcd_schema::AUTH_USERS => {
            for user in &tables.auth.users {
                let roles: Vec<&str> = user.roles.iter().map(String::as_str).collect();
                let record = etcd_schema::UserRecord {
                    name: user.name.as_bytes(),
                    password_hash: &user.password_hash.0,
                    roles: &roles,
                    has_no_password: user.no_password,
                };
                bucket.put(user.name.as_bytes(), record.value());
            }
        }
        etcd_schema::AUTH_ROLES => {
            for role in &tables.auth.roles {
                let record = |permission| etcd_schema::PermissionRecord::of(permission);
                let permissions: Vec<_> = role.permissions.iter().map(record).collect();
                let value = etcd_schema::role_value(role.name.as_bytes(), &permissions);
                bucket.put(role.name.as_bytes(), value);
            }
        }
        _ => {}
    }
}

/// etcd's number of an alarm.
fn kind(alarm: AlarmType) -> u32 {
    match alarm {
        AlarmType::NoSpace => 1,
        AlarmType::Corrupt => 2,
    }
}
