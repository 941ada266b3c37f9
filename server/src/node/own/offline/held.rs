//! What a data directory holds, looked at from outside: how far its log goes, and what was applied. It
//! may be mounted read-only, and its member may run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use engram_proto::raft as pb;
use prost::Message as _;

use crate::codec::entry::decode_batch;
use crate::raft;
use crate::state::MemberRecord;
use crate::storage::{
    Engine, EngineOptions, Identity, IdentityError, LogPosition, OpenError, Place, PlaceError,
};
use crate::types::{MemberId, Revision};
use crate::wal::{self, LookError as LogError, Seen};

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose it is.
    pub identity: Identity,
    /// The latest term that this member voted in, or has an entry of.
    pub term: u64,
    /// The last entry of its log.
    pub last: LogPosition,
    /// The last entry that its store on disk has.
    pub applied: LogPosition,
    /// The revision of that store.
    pub revision: Revision,
    /// How many requests the log holds behind that: each may be a revision.
    pub requests_behind: u64,
    /// The members, by the last configuration in the log, or else by that store.
    pub members: Vec<HeldMember>,
}

/// A member, as a directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMember {
    /// Its id.
    pub id: MemberId,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// Whether it does not vote.
    pub learner: bool,
    /// Which directory the others know it by, as far as this store has heard; 0: it has not.
    pub incarnation: u64,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// Nobody's.
    #[error("{} holds no member's data", .0.display())]
    Nobodys(PathBuf),
    /// Its identity is damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Which store counts cannot be told.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its store is damaged.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Its log is damaged.
    #[error("the log cannot be read to its end: {0}")]
    Log(#[from] LogError),
}

/// Whose directory it is.
///
/// # Errors
/// Nobody's, or its identity is damaged.
pub(super) fn identity(data_dir: &Path) -> Result<Identity, HeldError> {
    let nobodys = || HeldError::Nobodys(data_dir.to_path_buf());
    Identity::load(data_dir)?.ok_or_else(nobodys)
}

/// Looks at `data_dir`, whose log is in `wal_dir`, or where it is without such a flag.
///
/// # Errors
/// See [`HeldError`].
pub fn look(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Held, HeldError> {
    let identity = identity(data_dir)?;
    let (place, _) = Place::find(data_dir)?;
    let engine = Engine::open_to_read(&place.dir(), EngineOptions::default())?;
    let applied = engine.applied()?.log_position.unwrap_or_default();
    let wal_dir = wal_dir.map_or_else(
        || data_dir.join(crate::node::boot::WAL_DIR),
        Path::to_path_buf,
    );
    let mut log = Log {
        applied: applied.index,
        ..Log::default()
    };
    wal::look(&wal_dir, &mut |seen| log.add(seen))?;
    let last = log.last().filter(|last| last.index > applied.index);
    let last = last.unwrap_or(applied);
    let stored = engine.tables()?.members;
    let told: BTreeMap<MemberId, u64> = stored
        .iter()
        .map(|member| (member.id, member.incarnation))
        .collect();
    let mut members = match log.configurations.pop_last() {
        // Where nothing was applied yet the first one is at the store's end.
        Some((index, members)) if index >= applied.index => members,
        _ => stored.into_iter().map(of_store).collect(),
    };
    for member in &mut members {
        // A configuration does not say it.
        member.incarnation = told.get(&member.id).copied().unwrap_or_default();
    }
    Ok(Held {
        identity,
        term: log.term.max(last.term),
        last,
        applied,
        revision: engine.revision()?.unwrap_or_default(),
        requests_behind: log.requests_behind(),
        members,
    })
}

fn of_store(member: MemberRecord) -> HeldMember {
    HeldMember {
        id: member.id,
        peer_urls: member.peer_urls,
        learner: member.learner,
        incarnation: member.incarnation,
    }
}

/// What was read of a log.
#[derive(Default)]
struct Log {
    /// How far the store has it: what comes behind is counted.
    applied: u64,
    /// The latest term that was voted in.
    term: u64,
    /// Each entry's term, and behind what is applied how many requests it has.
    entries: BTreeMap<u64, (u64, u64)>,
    /// Each configuration's members.
    configurations: BTreeMap<u64, Vec<HeldMember>>,
}

impl Log {
    fn add(&mut self, seen: Seen<'_>) {
        match seen {
            Seen::Entry {
                index,
                term,
                payload,
            } => {
                let requests = self.read(index, payload);
                self.entries.insert(index, (term, requests));
            }
            Seen::Vote(payload) => {
                let vote = raft::voted_term(Bytes::copy_from_slice(payload));
                self.term = self.term.max(vote.unwrap_or_default());
            }
            Seen::Truncate { from } => {
                self.entries.split_off(&from);
                self.configurations.split_off(&from);
            }
            Seen::Purge { index } => self.entries = self.entries.split_off(&(index + 1)),
        }
    }

    /// How many requests of an entry are counted; the members that it sets are noted.
    fn read(&mut self, index: u64, payload: &[u8]) -> u64 {
        let entry = pb::Entry::decode(payload).ok();
        match entry.and_then(|entry| entry.payload) {
            Some(pb::entry::Payload::Membership(set)) => {
                self.configurations.insert(index, members(set));
                0
            }
            Some(pb::entry::Payload::Batch(batch)) if index > self.applied => {
                decode_batch(batch).map_or(0, |(_, ops)| ops.len() as u64)
            }
            _ => 0,
        }
    }

    fn last(&self) -> Option<LogPosition> {
        let (index, (term, _)) = self.entries.last_key_value()?;
        Some(LogPosition {
            term: *term,
            index: *index,
        })
    }

    fn requests_behind(&self) -> u64 {
        self.entries.values().map(|(_, requests)| requests).sum()
    }
}

fn members(set: pb::Membership) -> Vec<HeldMember> {
    let member = |node: pb::Node| HeldMember {
        id: MemberId(node.id),
        peer_urls: node.peer_urls,
        learner: node.learner,
        incarnation: 0,
    };
    set.nodes.into_iter().map(member).collect()
}
