//! An etcd's data directory made this member's, in place: its store read, its log taken over.
//!
//! What etcd left is a member of a Raft cluster that stands still: a store that holds the log up to
//! some entry (`consistent_index`), the entries after it, and a term that was promised. All of it is
//! carried over as it is: the store becomes ours at that very entry, the entries after it are
//! translated one by one into entries of ours of the same term and index, the promised term is
//! promised here. So nothing is decided here about what was committed: etcd itself does not know (it
//! syncs entries, but not how far they are committed), and what it had acknowledged may lie beyond
//! what it had noted. A sole voter's whole log is committed; several elect as Raft elects, and whoever
//! wins has every entry that a majority had. That holds whenever each of them stopped, and in
//! whatever order they start.
//!
//! Owns reading etcd's log (`segment`, `log`), what its entries mean (`request`, `users`, `translate`), and the
//! record of an adoption (`record`). Must never change a file of etcd's ([`finish`] alone removes
//! them, when it is told to), decide what was committed, or guess at damage.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod log;
mod record;
mod request;
mod segment;
#[cfg(test)]
mod tests;
mod translate;
mod users;

use engram_applied::storage;
use engram_codec as codec;
use engram_consensus::raft;
use engram_disk::fs;
use engram_snapshot as snapshot;
use engram_state as state;
use engram_types as types;

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::FileLock;
use crate::raft::LogStore;
use crate::snapshot::file::{DigestCheck, FileError, SnapshotFile, Tables, auth_tables};
use crate::snapshot::restore::{
    Bump, ClusterTotals, Making, NewMember, Restore, RestoreError, Totals,
};
use crate::state::{AuthTables, MemberRecord};
use crate::storage::{Identity, IdentityError, LogPosition};
use crate::types::request::MemberAttributes;
use crate::types::{MemberId, Revision};
use log::Log;
pub use log::LogError;
pub use record::{Adoption, FILE, RecordError};
pub use translate::Rules;
use translate::Translation;

/// Where an adoption works; one that did not finish leaves it.
pub const UNFINISHED: &str = "adopt.unfinished";
/// The directory that etcd keeps its data in.
pub const ETCD_DIR: &str = "member";
/// Where [`finish`] moves it before it removes it.
const REMOVED_DIR: &str = "member.adopted";
/// The newest etcd whose files are read: 3.7.
const NEWEST: (u64, u64) = (3, 7);

const ADOPTION: Making = Making {
    unfinished: UNFINISHED,
    origin: record::FILE,
    among_others: true,
};

/// Why a directory of etcd's is not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// An etcd has it open.
    #[error("{} is used by a running etcd: stop it, then start engram", .0.display())]
    Running(PathBuf),
    /// An adoption did not finish, and what it began with is gone.
    #[error("an adoption of etcd's data in {} did not finish, and etcd's files are gone: put {ETCD_DIR} back and start again, or begin with an empty --data-dir", .0.display())]
    Vanished(PathBuf),
    /// The store is not there.
    #[error("{} is missing, and there is a log of etcd's: the store was lost; restore a snapshot of etcd's", .0.display())]
    NoStore(PathBuf),
    /// The log is not there.
    #[error("there is a store of etcd's, and no log in {}: give engram the --wal-dir that etcd had; if the log is lost, restore a snapshot of etcd's", .0.display())]
    NoLog(PathBuf),
    /// The store cannot be read.
    #[error("etcd's store {}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store is behind what the log says of it.
    #[error("etcd's store {} ends with entry {applied}, and its log has a snapshot at entry {snapshot}: the store is an older one", path.display())]
    StoreBehind {
        /// The file.
        path: PathBuf,
        /// The last entry in it.
        applied: u64,
        /// The snapshot's.
        snapshot: u64,
    },
    /// A newer etcd wrote it.
    #[error(
        "etcd {0} wrote this directory, and this engram reads those of 3.5 to 3.7: downgrade the cluster with `etcdctl downgrade` first, or start a newer engram"
    )]
    Newer(String),
    /// The member is none any more.
    #[error(
        "member {0} was removed from its cluster: what it holds is old; remove the directory and add the member anew"
    )]
    Removed(MemberId),
    /// An entry of the log cannot be decoded.
    #[error("etcd's log is damaged: entry {index} holds {what} that cannot be decoded")]
    DamagedEntry {
        /// Which.
        index: u64,
        /// What.
        what: &'static str,
    },
    /// An entry that no etcd up to 3.7 writes.
    #[error(
        "entry {0} of etcd's log is of a kind that no etcd up to 3.7 writes: start a newer engram"
    )]
    UnknownEntry(u64),
    /// There is no room for a second store.
    #[error(
        "the data directory's disk has {free} bytes free, and etcd's store has {needed}: make room, or grow the disk; etcd's files stay until `engramctl adopt --finish`"
    )]
    NoRoom {
        /// Free bytes.
        free: u64,
        /// Bytes of etcd's store.
        needed: u64,
    },
    /// Our store cannot be made.
    #[error(transparent)]
    Making(#[from] RestoreError),
    /// Our identity cannot be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The record of the adoption.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A directory of etcd's.
#[derive(Clone, Debug)]
pub struct Source {
    data_dir: PathBuf,
    log_dir: PathBuf,
}

/// etcd's store and log, read as far as they follow each other.
struct Found {
    path: PathBuf,
    file: SnapshotFile,
    tables: Tables,
    users: AuthTables,
    log: Log,
    position: LogPosition,
}

impl Source {
    /// The directory `data_dir`, and etcd's log in `wal_dir` (its `--wal-dir`) or where it lies
    /// without that flag.
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Source {
        let inside = || data_dir.join(ETCD_DIR).join("wal");
        Source {
            data_dir: data_dir.to_path_buf(),
            log_dir: wal_dir.map_or_else(inside, Path::to_path_buf),
        }
    }

    fn store_path(&self) -> PathBuf {
        self.data_dir.join(ETCD_DIR).join("snap").join("db")
    }

    /// Keeps every etcd out of the directory, as long as the lock is held; none where it has no store.
    ///
    /// # Errors
    /// An etcd is running in it.
    pub fn lock(&self) -> Result<Option<FileLock>, AdoptError> {
        let path = self.store_path();
        match FileLock::acquire(&path) {
            Ok(Some(lock)) => Ok(Some(lock)),
            Ok(None) => Err(AdoptError::Running(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the directory, and changes nothing: what can be refused is refused here.
    ///
    /// # Errors
    /// See [`AdoptError`].
    pub fn plan(&self, rules: Rules) -> Result<Plan, AdoptError> {
        let found = self.read()?;
        self.refuse_without_room(&found.path)?;
        let (first, translation) = found.begin()?;
        let rest = found.log.entries.get(first..).unwrap_or_default();
        let mut ahead = translation.clone();
        for entry in rest {
            ahead.entry(entry, rules)?;
        }
        let position = match first {
            0 => found.position,
            first => found.log.entries[first - 1].position,
        };
        Ok(Plan {
            data_dir: self.data_dir.clone(),
            log_dir: self.log_dir.clone(),
            members: translation.members().cloned().collect(),
            entries: rest.len(),
            position,
            found,
        })
    }

    fn read(&self) -> Result<Found, AdoptError> {
        let path = self.store_path();
        let has_log = log::is_in(&self.log_dir);
        let opened = match open(&path)? {
            Some(opened) if has_log => opened,
            Some(_) => return Err(AdoptError::NoLog(self.log_dir.clone())),
            None => return Err(AdoptError::NoStore(path)),
        };
        let (file, tables) = opened;
        let applied = tables.position.index;
        let log = log::read(&self.log_dir, applied)?;
        match log.snapshot {
            // One that was received, and not put in the store's place before the end.
            Some(snapshot) if snapshot.index > applied => self.read_snapshot(snapshot, log),
            _ => Found::checked(path, file, tables, log),
        }
    }

    /// The store that a snapshot at this entry is.
    fn read_snapshot(&self, snapshot: LogPosition, log: Log) -> Result<Found, AdoptError> {
        let name = format!("{:016x}.snap.db", snapshot.index);
        let path = self.data_dir.join(ETCD_DIR).join("snap").join(name);
        let Some((file, tables)) = open(&path)? else {
            return Err(AdoptError::NoStore(path));
        };
        if tables.position.index < snapshot.index {
            return Err(AdoptError::StoreBehind {
                path,
                applied: tables.position.index,
                snapshot: snapshot.index,
            });
        }
        Found::checked(path, file, tables, log)
    }

    fn refuse_without_room(&self, store: &Path) -> Result<(), AdoptError> {
        let needed = fs::DataFile::open_to_read(store)?.bytes()?;
        let free = fs::space(&self.data_dir)?.free_bytes;
        match free < needed {
            true => Err(AdoptError::NoRoom { free, needed }),
            false => Ok(()),
        }
    }
}

/// A directory that can be adopted.
pub struct Plan {
    data_dir: PathBuf,
    log_dir: PathBuf,
    found: Found,
    members: Vec<MemberRecord>,
    entries: usize,
    position: LogPosition,
}

impl Plan {
    /// Whose directory it is.
    pub fn member(&self) -> MemberId {
        self.found.log.member
    }

    /// The members, as the store names them.
    pub fn members(&self) -> &[MemberRecord] {
        &self.members
    }

    /// The last entry in the store; index 0 in an empty one.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Entries of the log beyond it.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Makes the data directory this member's, with etcd's files left as they are beside it. What an
    /// adoption that did not finish left is removed first. The log follows at the start
    /// ([`carry_log`]).
    ///
    /// # Errors
    /// See [`AdoptError`].
    pub fn adopt(self, incarnation: u64) -> Result<(), AdoptError> {
        let identity = Identity {
            cluster: self.found.log.cluster,
            member: self.found.log.member,
            incarnation,
        };
        let adoption = Adoption {
            log_dir: self.log_dir.clone(),
            end: self.found.log.end.clone(),
            applied: self.position.index,
            finished: false,
        };
        if self.position.index == 0 {
            // A member that joined and heard nothing yet. The identity decides, so it comes last.
            adoption.store(&self.data_dir)?;
            identity.store(&self.data_dir)?;
            return Ok(());
        }
        let nodes: Vec<_> = self.members.iter().map(translate::node).collect();
        let member = NewMember {
            identity,
            membership: raft::membership_of(&nodes),
            members: self.members,
            position: self.position,
        };
        let found = self.found;
        let mut restore = Restore::begin_as(&self.data_dir, member, ADOPTION)?;
        let last = found.file.records(&mut |record| {
            let taken = restore.record(record);
            taken.map_err(|error| FileError::Taker(error.into()))
        });
        let last = last.map_err(damaged(&found.path))?;
        restore.finish(&found.totals(last.last), Bump(0), adoption.encode())?;
        Ok(())
    }
}

/// Opens a store; none where there is no such file.
fn open(path: &Path) -> Result<Option<(SnapshotFile, Tables)>, AdoptError> {
    let is_missing = |source: &io::Error| source.kind() == io::ErrorKind::NotFound;
    if fs::stamp(path).is_err_and(|error| is_missing(&error)) {
        return Ok(None);
    }
    let opened = SnapshotFile::open(path, DigestCheck::Skipped);
    let read = opened.and_then(|file| file.tables().map(|tables| (file, tables)));
    read.map(Some).map_err(damaged(path))
}

fn damaged(path: &Path) -> impl Fn(FileError) -> AdoptError {
    let path = path.to_path_buf();
    move |source| AdoptError::Store {
        path: path.clone(),
        source,
    }
}

impl Found {
    /// Checks that store and log follow each other, and that both are of an etcd that is known.
    fn checked(
        path: PathBuf,
        file: SnapshotFile,
        tables: Tables,
        mut log: Log,
    ) -> Result<Found, AdoptError> {
        refuse_newer(&tables.version)?;
        refuse_newer(&tables.cluster_version)?;
        if tables.removed.contains(&log.member) {
            return Err(AdoptError::Removed(log.member));
        }
        let mut position = tables.position;
        // The log's word counts: the others' logs say the same of this entry.
        position.term = log.follow(position.index)?;
        let users = auth_tables(&tables.auth).map_err(damaged(&path))?;
        Ok(Found {
            path,
            file,
            tables,
            users,
            log,
            position,
        })
    }

    /// How many entries the log begins with that make the first members, in a store that holds
    /// nothing yet, and what the others are translated from.
    fn begin(&self) -> Result<(usize, Translation), AdoptError> {
        if self.position.index == 0 {
            let mut translation = Translation::default();
            let first = translation.take_first(&self.log.entries)?;
            return Ok((first, translation));
        }
        let members: Vec<MemberRecord> = self.tables.members.iter().map(member).collect();
        let tables = &self.tables;
        Ok((
            0,
            Translation::of(&members, &tables.removed, &tables.alarms),
        ))
    }

    /// What the store holds beside its records, of which the last one is of revision `last`. Where the
    /// last ones were compacted, the compaction tells how far it had come.
    fn totals(&self, last: Revision) -> Totals {
        let tables = &self.tables;
        let leases = tables.leases.iter();
        let version = &tables.cluster_version;
        Totals {
            revision: last.max(tables.compacted().unwrap_or_default()),
            compact_scheduled: tables.compact_scheduled,
            compact_finished: tables.compact_finished,
            leases: leases.map(|lease| (lease.id, lease.ttl_seconds)).collect(),
            auth: self.users.clone(),
            cluster: ClusterTotals {
                alarms: tables.alarms.clone(),
                removed: tables.removed.clone(),
                version: (!version.is_empty()).then(|| version.clone()),
            },
        }
    }
}

fn member(member: &crate::snapshot::file::Member) -> MemberRecord {
    MemberRecord {
        id: MemberId(member.id),
        incarnation: 0,
        peer_urls: member.peer_urls.clone(),
        learner: member.learner,
        attributes: MemberAttributes {
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
            ..MemberAttributes::default()
        },
    }
}

/// Refuses the version of an etcd that is not known yet. An empty one is of one before 3.6.
fn refuse_newer(version: &str) -> Result<(), AdoptError> {
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u64>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match found > NEWEST {
        true => Err(AdoptError::Newer(version.to_owned())),
        false => Ok(()),
    }
}

/// Takes over the log of the directory that was adopted, behind our store. For the start, before
/// anything is promised in our log; what an attempt before wrote is gone on with.
///
/// # Errors
/// See [`AdoptError`].
pub fn carry_log(data_dir: &Path, log: &LogStore, rules: Rules) -> Result<(), AdoptError> {
    let Some(adoption) = Adoption::load(data_dir)? else {
        return Ok(());
    };
    let inside = data_dir.join(ETCD_DIR).join("wal");
    let wal_dir = (adoption.log_dir != inside).then_some(adoption.log_dir.as_path());
    let found = Source::new(data_dir, wal_dir).read()?;
    let (first, mut translation) = found.begin()?;
    let rest = found.log.entries.get(first..).unwrap_or_default();
    let carried = rest.iter().map(|entry| translation.entry(entry, rules));
    let carried: Vec<raft::Carried> = carried.collect::<Result<_, _>>()?;
    let of_entries = found
        .log
        .entries
        .last()
        .map_or(0, |entry| entry.position.term);
    let term = found
        .log
        .state
        .term
        .max(of_entries)
        .max(found.position.term);
    Ok(log.carry(found.log.member, term, carried)?)
}

/// Whether etcd's log still ends as it did when the directory was adopted.
///
/// # Errors
/// It cannot be read.
pub fn is_unchanged(adoption: &Adoption) -> Result<bool, AdoptError> {
    // Where it is gone, no etcd went on with it.
    Ok(!log::is_in(&adoption.log_dir) || log::end(&adoption.log_dir)? == adoption.end)
}

/// Removes etcd's files from an adopted directory: `member`, and its log where `--wal-dir` had it.
/// An attempt that was interrupted is gone on with. Whether there was anything to remove.
///
/// # Errors
/// The file system refuses, or etcd's log is another one than was adopted.
pub fn finish(data_dir: &Path) -> Result<bool, FinishError> {
    let adoption = Adoption::load(data_dir).map_err(AdoptError::from)?;
    let adoption = adoption.ok_or_else(|| FinishError::NotAdopted(data_dir.to_path_buf()))?;
    if !Identity::log_is_begun(data_dir).map_err(AdoptError::from)? {
        return Err(FinishError::NeverStarted);
    }
    let member = data_dir.join(ETCD_DIR);
    // Once it is finished, a directory of that name is somebody else's.
    let is_there = fs::is_dir(&member) && !adoption.finished;
    if is_there && !is_unchanged(&adoption)? {
        return Err(FinishError::Changed(member));
    }
    remove(data_dir, &adoption, is_there).map_err(AdoptError::from)?;
    Ok(is_there)
}

/// Each step may be done again; the store moves out of etcd's sight first, in one.
fn remove(data_dir: &Path, adoption: &Adoption, is_there: bool) -> io::Result<()> {
    let (member, removed) = (data_dir.join(ETCD_DIR), data_dir.join(REMOVED_DIR));
    if is_there {
        fs::rename_durably(&member, &removed)?;
    }
    let is_outside = !adoption.log_dir.starts_with(&member);
    if is_outside && fs::is_dir(&adoption.log_dir) && !adoption.finished {
        for name in log::names(&adoption.log_dir)? {
            fs::remove_durably(&adoption.log_dir.join(name))?;
        }
    }
    let finished = Adoption {
        finished: true,
        ..adoption.clone()
    };
    finished.store(data_dir)?;
    fs::remove_tree(&removed)
}

/// Why etcd's files are not removed.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Nothing was adopted there.
    #[error("{}: engram adopted no directory of etcd's here", .0.display())]
    NotAdopted(PathBuf),
    /// The log was not taken over yet.
    #[error(
        "engram has not been started on this directory since it was adopted: start it, and see that it serves, before etcd's files go"
    )]
    NeverStarted,
    /// An etcd was started there again.
    #[error("an etcd was started again on {} after engram had adopted it: what it wrote is in no engram; look at it, and move it away by hand", .0.display())]
    Changed(PathBuf),
    /// See there.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
}
