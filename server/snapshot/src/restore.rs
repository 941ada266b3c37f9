//! A new member's data directory out of a backup, made offline.
//!
//! What comes out is what a member has that has just installed a leader's snapshot: a store, the
//! switch record that puts it in force, and no log yet, which then begins after the store. Members
//! restored from one backup with the same flags hold the same first position and the same
//! membership, and form a cluster when they start.
//!
//! The store is built in [`UNFINISHED`], inside the data directory. As long as that is there, the
//! directory is nobody's: a member refuses to start in it, and the next restore begins anew.
//!
//! Must never write into a directory that holds something else.

mod counted;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::file::{FileError, check_record};
use crate::fs::{self, DirError, DirLock, LockError};
use crate::state::auth::AuthTables;
use crate::state::{Change, KeyValueHash, LoadError, MemberRecord, NUMBER_MAX, RevisionRecord};
use crate::storage::{
    Applied, EngineError, Filling, Identity, IdentityError, LogPosition, OpenError, Place,
    PlaceError, place,
};
use crate::types::result::Alarm;
use crate::types::{LeaseId, MemberId, Revision, RevisionPair};
use counted::Names;

/// Where a restore works; a restore that did not finish leaves it.
pub const UNFINISHED: &str = "restore.unfinished";
/// What a finished restore leaves beside the data: where it came from.
pub const ORIGIN: &str = "RESTORED";
/// The directory of the store that is being built.
const STORE: &str = "store";
/// What is known of the records' keys, beside the store that is being built.
const NAMES: &str = "names";
/// Bytes of records written to the store at a time: what a processor's cache holds.
const BATCH_BYTES: usize = 256 << 10;
/// Where every restored member's log begins: before every term a leader may have.
pub const FIRST: LogPosition = LogPosition { term: 0, index: 1 };

/// Why no data directory was made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory holds something.
    #[error("data-dir \"{}\" not empty or could not be read (found {found})", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// A name in it.
        found: String,
    },
    /// The file system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirError),
    /// Another process uses it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// It cannot be put in force.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its identity cannot be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A record is none.
    #[error(transparent)]
    Record(#[from] FileError),
    /// Records do not ascend.
    #[error("the backup is damaged: revision {}.{} is out of order", .0.main, .0.sub)]
    OutOfOrder(RevisionPair),
    /// A revision is beyond what can be counted.
    #[error("revision {revision} cannot be bumped by {bump}")]
    Bump {
        /// The backup's revision.
        revision: Revision,
        /// What was to be added.
        bump: u64,
    },
    /// The disk, or the engine on it, refuses.
    #[error(
        "the store that is being made cannot be written: {0}: give its disk more room, or take another one, and begin again; nothing is lost"
    )]
    Unwritten(#[from] EngineError),
    /// What was written does not make a state.
    #[error("the restored store: {0}")]
    State(#[from] LoadError),
}

/// What makes a data directory, by the marks that it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    /// Where it works. As long as that is there, the directory is nobody's.
    pub unfinished: &'static str,
    /// The file that says where the finished directory came from.
    pub origin: &'static str,
    /// Whether other files may lie in the directory. They are left alone.
    pub among_others: bool,
}

/// A backup that is restored.
const RESTORE: Making = Making {
    unfinished: UNFINISHED,
    origin: ORIGIN,
    among_others: false,
};

/// Whose directory it shall be.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// The directory's identity.
    pub identity: Identity,
    /// All first members.
    pub members: Vec<MemberRecord>,
    /// The same as Raft's membership, encoded.
    pub membership: Bytes,
    /// The last entry that the store holds; its log begins behind it.
    pub position: LogPosition,
}

/// What a backup says beside its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Its revision.
    pub revision: Revision,
    /// The compaction last asked for.
    pub compact_scheduled: Option<Revision>,
    /// The compaction last finished.
    pub compact_finished: Option<Revision>,
    /// Leases and their time to live in seconds.
    pub leases: Vec<(LeaseId, i64)>,
    /// Users, roles, and whether authentication is on.
    pub auth: AuthTables,
    /// What goes on from the cluster it was taken from.
    pub cluster: ClusterTotals,
}

impl Totals {
    /// The compact revision: of the compaction last asked for, be it finished or not.
    fn compacted(&self) -> Option<Revision> {
        self.compact_scheduled.max(self.compact_finished)
    }
}

/// What the same cluster goes on with, and a new one does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTotals {
    /// Raised alarms.
    pub alarms: Vec<Alarm>,
    /// Ids that were members once.
    pub removed: Vec<MemberId>,
    /// The version that every member can speak.
    pub version: Option<String>,
}

/// How much the revision is raised, everything older being compacted: clients that have seen later
/// revisions than the backup's must list anew rather than miss events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bump(pub u64);

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whose directory it is.
    pub identity: Identity,
    /// The store's revision, bumped if so asked.
    pub revision: Revision,
    /// How many records were written.
    pub records: u64,
}

/// A restore under way. Dropped unfinished, it leaves a directory that no member starts in.
pub struct Restore {
    data_dir: PathBuf,
    making: Making,
    filling: Filling,
    member: NewMember,
    batch: Vec<RevisionRecord>,
    batch_bytes: usize,
    last: RevisionPair,
    records: u64,
    names: Names,
    _lock: DirLock,
}

/// Whether a finished restore made this data directory, and from what; none for one that was made
/// otherwise or not at all.
///
/// # Errors
/// The file system refuses.
pub fn origin(data_dir: &Path) -> io::Result<Option<String>> {
    if fs::is_dir(&data_dir.join(UNFINISHED)) {
        return Ok(None);
    }
    let bytes = fs::read_if_exists(&data_dir.join(ORIGIN))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

impl Restore {
    /// Begins in a directory that is not there, or empty, or left behind by an unfinished restore.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn begin(data_dir: &Path, member: NewMember) -> Result<Restore, RestoreError> {
        Restore::begin_as(data_dir, member, RESTORE)
    }

    /// The same of records that do not become shorter by compression: none is tried.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn begin_uncompressed(data_dir: &Path, member: NewMember) -> Result<Restore, RestoreError> {
        Restore::begin_with(data_dir, member, RESTORE, false)
    }

    /// The same, with the marks of whoever makes the directory.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn begin_as(
        data_dir: &Path,
        member: NewMember,
        making: Making,
    ) -> Result<Restore, RestoreError> {
        Restore::begin_with(data_dir, member, making, true)
    }

    fn begin_with(
        data_dir: &Path,
        member: NewMember,
        making: Making,
        compresses: bool,
    ) -> Result<Restore, RestoreError> {
        making.refuse_full(data_dir)?;
        fs::create_private_dir(data_dir)?;
        let lock = DirLock::acquire(data_dir)?;
        making.clear(data_dir)?;
        let unfinished = data_dir.join(making.unfinished);
        fs::create_private_dir(&unfinished)?;
        let filling = Filling::begin(&unfinished.join(STORE), compresses)?;
        let names = Names::create(&unfinished.join(NAMES))?;
        Ok(Restore {
            data_dir: data_dir.to_path_buf(),
            making,
            filling,
            member,
            batch: Vec::new(),
            batch_bytes: 0,
            last: RevisionPair::default(),
            records: 0,
            names,
            _lock: lock,
        })
    }

    /// Takes the next record, ascending.
    ///
    /// # Errors
    /// It makes no sense where it stands, or cannot be written.
    pub fn record(&mut self, record: RevisionRecord) -> Result<(), RestoreError> {
        let kv = check_record(record.pair, record.tombstone, &record.encoded)?;
        if record.pair <= self.last {
            return Err(RestoreError::OutOfOrder(record.pair));
        }
        self.names.add(&record, &kv)?;
        self.last = record.pair;
        self.records += 1;
        self.batch_bytes += record.encoded.len();
        self.batch.push(record);
        match self.batch_bytes >= BATCH_BYTES {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), RestoreError> {
        self.batch_bytes = 0;
        Ok(self.filling.records(std::mem::take(&mut self.batch))?)
    }

    /// HashKV of what came, at its revision and before any bump: what a member that starts with it answers. Which
    /// records count is told by the order they came in, in the same memory for any number of keys.
    ///
    /// What was written is not read back: the engine's checksums are over it, and the member reads all of it when it
    /// starts, before it serves.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn hash_kv(&mut self, totals: &Totals) -> Result<KeyValueHash, RestoreError> {
        let revision = self.revision(totals)?.max(Revision::EMPTY_STORE);
        let compacted = totals.compacted().unwrap_or(Revision(-1)).max(Revision(-1));
        Ok(KeyValueHash {
            hash: self.names.hash(compacted)?,
            compact_revision: compacted,
            hash_revision: revision,
        })
    }

    /// The store's revision: nothing may be beyond it.
    fn revision(&self, totals: &Totals) -> Result<Revision, RestoreError> {
        let revision = totals.revision.max(self.last.main);
        let last = revision.max(Revision::EMPTY_STORE);
        if let Some(found) = totals.compacted().filter(|found| *found > last) {
            return Err(LoadError::BeyondRevision { found, revision }.into());
        }
        match revision.0 > NUMBER_MAX {
            true => Err(LoadError::OutOfReach { revision }.into()),
            false => Ok(revision),
        }
    }

    /// Writes the rest and makes the directory a member's, durably. `origin` is kept in it.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn finish(
        mut self,
        totals: &Totals,
        bump: Bump,
        origin: impl AsRef<[u8]>,
    ) -> Result<Restored, RestoreError> {
        self.write()?;
        let revision = bumped(totals.revision.max(self.last.main), bump)?;
        let changes = self.rows(totals, revision, bump);
        let position = self.member.position;
        let applied = Applied {
            log_position: Some(position),
            membership_position: Some(position),
            membership: self.member.membership.clone(),
        };
        let Restore {
            data_dir,
            making,
            filling,
            member,
            records,
            _lock: lock,
            ..
        } = self;
        // Closed by then: a directory is never renamed under an open engine.
        filling.finish(&changes, &applied)?;
        let unfinished = data_dir.join(making.unfinished);
        let (first, _) = Place::find(&data_dir)?;
        first.receive(&unfinished.join(STORE))?.switch(position)?;
        member.identity.store(&data_dir)?;
        fs::write_durably(&data_dir.join(making.origin), origin.as_ref())?;
        // The one step that decides: from here on it is a member's.
        fs::remove_tree(&unfinished)?;
        fs::sync_dir(&data_dir)?;
        drop(lock);
        Ok(Restored {
            identity: member.identity,
            revision,
            records,
        })
    }

    fn rows(&self, totals: &Totals, revision: Revision, bump: Bump) -> Vec<Change> {
        let mut rows = vec![Change::SetRevision(revision)];
        let scheduled = match bump {
            Bump(0) => totals.compact_scheduled,
            Bump(_) => Some(revision),
        };
        rows.extend(scheduled.map(Change::SetCompactScheduled));
        rows.extend(totals.compact_finished.map(Change::SetCompactFinished));
        let leases = totals.leases.iter();
        rows.extend(leases.map(|(id, ttl)| Change::PutLease(*id, *ttl)));
        rows.extend(totals.auth.clone().into_changes());
        let members = self.member.members.iter();
        rows.extend(members.map(|member| Change::PutMember(member.clone())));
        let cluster = &totals.cluster;
        rows.extend(cluster.removed.iter().copied().map(Change::RemoveMember));
        let alarms = cluster.alarms.iter();
        rows.extend(alarms.map(|alarm| Change::PutAlarm(alarm.member, alarm.alarm)));
        rows.extend(cluster.version.clone().map(Change::SetClusterVersion));
        rows
    }
}

/// HashKV of a store at its revision, as a member that starts with it makes it, of its index.
#[cfg(test)]
pub(super) fn hash_of(engine: &crate::storage::Engine) -> KeyValueHash {
    let limits = crate::state::Limits {
        value_cache_bytes: 0,
    };
    let state = crate::store::load(limits, engine.tables().unwrap(), engine).unwrap();
    let mut plan = state.mvcc.hash_keep(Revision(0)).unwrap();
    engine.with_view(|scanner| scanner.records(&mut |record| plan.feed(record)));
    plan.finish()
}

fn bumped(revision: Revision, bump: Bump) -> Result<Revision, RestoreError> {
    let sum = revision.0.checked_add_unsigned(bump.0);
    // Room for a member to write in.
    let sum = sum.filter(|sum| *sum < i64::MAX / 2);
    sum.map(Revision).ok_or(RestoreError::Bump {
        revision,
        bump: bump.0,
    })
}

impl Making {
    /// Refuses a directory that holds something else than what it left unfinished.
    fn refuse_full(&self, data_dir: &Path) -> Result<(), RestoreError> {
        let names = match fs::file_names(data_dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_unfinished = names.iter().any(|name| name == self.unfinished);
        let is_harmless = |name: &String| {
            name == "lost+found"
                || name.starts_with("LOCK")
                || (self.among_others && !self.makes(name))
                || (is_unfinished && self.makes(name))
        };
        match names.into_iter().find(|name| !is_harmless(name)) {
            None => Ok(()),
            Some(found) => Err(RestoreError::NotEmpty {
                path: data_dir.to_path_buf(),
                found,
            }),
        }
    }

    /// Whether it makes such a name.
    fn makes(&self, name: &str) -> bool {
        let made = [self.unfinished, self.origin, crate::storage::IDENTITY_FILE];
        place::is_ours(name) || made.iter().any(|made| name.starts_with(made))
    }

    /// Removes what it left unfinished, the mark that it is unfinished last.
    fn clear(&self, data_dir: &Path) -> io::Result<()> {
        let mut names = fs::file_names(data_dir)?;
        names.retain(|name| self.makes(name));
        names.sort_by_key(|name| name == self.unfinished);
        for name in names {
            let path = data_dir.join(name);
            match fs::is_dir(&path) {
                true => fs::remove_tree(&path)?,
                false => fs::remove_durably(&path)?,
            }
        }
        Ok(())
    }
}
