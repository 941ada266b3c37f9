//! The store's own words, and the rows that they are: what is written and read, and how far it is durable.

mod fill;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::handle::Handle;
use super::rocksdb::Part;
use super::rows::{Amount, Batch, EngineError, Engines, Family, Read, Rows, View, ask};
use super::schema::{self, SchemaError, Table};
use super::{Applied, Contents};
use crate::fatal::end_process;
use crate::state::{Change, LoadError, RecordRef, RevisionRecord, Tables, Values};
use crate::types::{Revision, RevisionPair};

pub use fill::Filling;

/// Memory for a look into a store that is not this member's. Bytes.
const LOOK: EngineOptions = EngineOptions {
    write_buffer_bytes: 1 << 20,
    block_cache_bytes: 1 << 20,
    past_page_cache: false,
    compresses: true,
};
/// Bytes of a row in a batch beside its value, about.
const ROW_ROOM: usize = 64;
const ADVICE: &str = "the log still holds what was acknowledged: free disk space or replace the \
    disk and start again; if the store itself is damaged, restore this member from the others or \
    from a backup";

/// How much memory the engine may use.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// A memtable's size; a full one is flushed. Bounds replay at start. Bytes.
    pub write_buffer_bytes: usize,
    /// The cache of blocks read from disk. Bytes.
    pub block_cache_bytes: usize,
    /// Whether files are written and read past the system's page cache, whose pages cost more than the
    /// writing where nobody reads them again, and are others' who serve beside it. The file system has to
    /// take it ([`crate::fs::takes_direct_io`]).
    pub past_page_cache: bool,
    /// Whether what is written is compressed. Blocks that do not become shorter are stored as they are anyhow.
    pub compresses: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            write_buffer_bytes: 16 << 20,
            block_cache_bytes: 32 << 20,
            past_page_cache: false,
            compresses: true,
        }
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine refuses.
    #[error("the store does not open: {0}; restore this member from the others or from a backup")]
    Engine(#[from] EngineError),
    /// A row cannot be read.
    #[error("{0}; restore this member from the others or from a backup")]
    Schema(#[from] SchemaError),
    /// Another version wrote it.
    #[error(
        "the store has format {found}, this engram reads {}: start the engram that wrote it",
        schema::FORMAT
    )]
    Format {
        /// The number found.
        found: i64,
    },
}

/// The store. Cheap to clone; one process opens a directory at a time.
#[derive(Clone)]
pub struct Engine {
    rows: Arc<Handle>,
}

impl Engine {
    /// Opens the store at `path`, making an empty one where there is none.
    ///
    /// # Errors
    /// The store is damaged, was written by another format, or the file system refuses.
    pub fn open(path: &Path, options: EngineOptions) -> Result<Engine, OpenError> {
        if !Engines::may_be_opened(path, false) {
            return Err(SchemaError("the engine's manifest").into());
        }
        let engine = Engine {
            rows: Arc::new(Handle::new(Engines::open(path, options)?, path, options)),
        };
        engine.check_format()?;
        Ok(engine)
    }

    /// Opens the store at `path` to read what is on disk for good. Nothing is changed, and another process
    /// may have it open.
    ///
    /// # Errors
    /// There is none, it is damaged, or was written by another format.
    pub fn open_to_read(path: &Path, options: EngineOptions) -> Result<Engine, OpenError> {
        let engine = Engine::read_only(path, options)?;
        // Nothing is on disk for good yet where it was never flushed: all is in the log.
        if engine.row(Table::Format)?.is_some() {
            engine.require_format()?;
        }
        Ok(engine)
    }

    fn read_only(path: &Path, options: EngineOptions) -> Result<Engine, OpenError> {
        let engines = Engines::open_to_read(path, options)?;
        Ok(Engine {
            rows: Arc::new(Handle::new(engines, path, options)),
        })
    }

    /// What the store in `dir` holds, without changing it: whether it is whole (every file that it
    /// names is there, in its size), how far the log is applied in it, and its revision.
    ///
    /// # Errors
    /// It is damaged, or another format's.
    pub fn inspect(dir: &Path) -> Result<Contents, OpenError> {
        // Bytes from elsewhere: what the engine would never come back from is not shown to it.
        if !Engines::may_be_opened(dir, true) {
            return Err(SchemaError("the engine's manifest").into());
        }
        let engine = Engine::read_only(dir, LOOK)?;
        engine.require_format()?;
        Ok(Contents {
            applied: engine.applied()?,
            revision: engine.revision()?.unwrap_or_default(),
        })
    }

    /// Copies what is persisted, without what is in memory alone, to `dir`, which must not exist and whose
    /// parent must.
    pub(super) fn copy_persisted(&self, dir: &Path) -> Result<(), EngineError> {
        #[cfg(any(test, feature = "fixtures"))]
        let _open = self.rows.syncs.read();
        ask!(&**self.rows, rows => rows.checkpoint(dir))
    }

    /// A table's one row.
    fn row(&self, table: Table) -> Result<Option<Bytes>, EngineError> {
        self.get(Family::Tables, &schema::row(table, b""))
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        ask!(&**self.rows, rows => rows.get(family, key))
    }

    /// The directory it was opened in.
    pub fn dir(&self) -> &Path {
        self.rows.dir()
    }

    /// How it was opened.
    pub fn options(&self) -> EngineOptions {
        self.rows.options()
    }

    /// Has the directory removed when the last clone is dropped: another store is in force. Closing
    /// and removing happen on a thread of their own.
    pub fn condemn(&self) {
        self.rows.condemn();
    }

    fn check_format(&self) -> Result<(), OpenError> {
        if self.row(Table::Format)?.is_some() {
            return self.require_format();
        }
        let format = i64::from(schema::FORMAT).to_be_bytes();
        ask!(&**self.rows, rows => {
            let mut batch = rows.batch(ROW_ROOM);
            put_row(&mut batch, Table::Format, b"", &format);
            rows.write(batch)?;
        });
        Ok(())
    }

    fn require_format(&self) -> Result<(), OpenError> {
        let row = self.row(Table::Format)?;
        let found = row.map_or(Ok(0), |row| schema::parse_i64(&row))?;
        match found == i64::from(schema::FORMAT) {
            true => Ok(()),
            false => Err(OpenError::Format { found }),
        }
    }

    /// Writes a batch of changes and how far the log is applied by it: all or nothing.
    /// Not durable before a flush. An error of the engine ends the process. Returns the bytes written.
    pub fn write(&self, changes: &[Change], applied: &Applied) -> u64 {
        let applied = schema::encode_applied(applied);
        self.commit(changes, Some(&applied))
    }

    /// Writes changes that follow from no log entry (reclaiming what compaction superseded). Returns
    /// the bytes written.
    pub fn write_unlogged(&self, changes: &[Change]) -> u64 {
        self.commit(changes, None)
    }

    /// Has every write wait, as a slow disk would, while the guard lives.
    #[cfg(any(test, feature = "fixtures"))]
    pub fn stall(&self) -> Stall<'_> {
        Stall(self.rows.gate.write())
    }

    /// Has every flush and checkpoint wait while the guard lives, as for a disk that stands still: writes, which
    /// go to memory, go on for long.
    #[cfg(any(test, feature = "fixtures"))]
    pub fn stall_syncs(&self) -> Stall<'_> {
        Stall(self.rows.syncs.write())
    }

    /// Where a flush or compaction failed since the last call: whether the engine has got over it, which a flush
    /// tells. It tries again by itself where it takes the failure for something that passes, and refuses writes
    /// from then on where not. Returns how many there were.
    fn get_over_failures(&self) -> Result<u64, EngineError> {
        let failures = ask!(&**self.rows, rows => rows.background_errors())?;
        let new = failures.saturating_sub(self.rows.got_over.load(Ordering::Relaxed));
        if new > 0 {
            self.try_flush()?;
            self.rows.got_over.store(failures, Ordering::Relaxed);
        }
        Ok(new)
    }

    fn commit(&self, changes: &[Change], applied: Option<&[u8]>) -> u64 {
        self.try_commit(changes, applied).unwrap_or_else(|error| {
            end_process(format_args!("the store refused a write: {error}"), ADVICE)
        })
    }

    fn try_commit(&self, changes: &[Change], applied: Option<&[u8]>) -> Result<u64, EngineError> {
        ask!(&**self.rows, rows => {
            let mut batch = rows.batch(room(changes));
            changes.iter().for_each(|change| add(&mut batch, change));
            if let Some(applied) = applied {
                put_row(&mut batch, Table::Applied, b"", applied);
            }
            let bytes = batch.bytes();
            #[cfg(any(test, feature = "fixtures"))]
            let _open = self.rows.gate.read();
            rows.write(batch)?;
            Ok(bytes)
        })
    }

    /// How far the log is applied in what this process has written.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn applied(&self) -> Result<Applied, OpenError> {
        parse_applied(self.row(Table::Applied)?)
    }

    /// How far the log is applied in what is on disk for good: the log may be purged up to here.
    pub fn persisted(&self) -> Applied {
        let key = schema::row(Table::Applied, b"");
        let row = ask!(&**self.rows, rows => rows.get_persisted(&key));
        match row.map_err(OpenError::from).and_then(parse_applied) {
            Ok(applied) => applied,
            Err(error) => end_process(error, ADVICE),
        }
    }

    /// The store's revision in what this process has written; none in an empty store.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn revision(&self) -> Result<Option<Revision>, OpenError> {
        let row = self.row(Table::Revision)?;
        let revision = row.map(|row| schema::parse_i64(&row)).transpose()?;
        Ok(revision.map(Revision))
    }

    /// Reads every table.
    ///
    /// # Errors
    /// A row is damaged or cannot be read.
    pub fn tables(&self) -> Result<Tables, OpenError> {
        ask!(&**self.rows, rows => tables_of(rows))
    }

    /// Calls `visit` with every record, ascending.
    ///
    /// # Errors
    /// A record is damaged or cannot be read, or `visit` failed.
    pub fn records(
        &self,
        visit: &mut dyn FnMut(RecordRef<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut came = Ok(());
        let mut take = |key: &[u8], value: &[u8]| {
            let record = record_of(key, value).map_err(unreadable);
            came = record.and_then(&mut *visit);
            came.is_ok()
        };
        let read = ask!(&**self.rows, rows => {
            rows.scan(Family::Revisions, b"", Amount::All, &mut take)
        });
        read.map_err(unreadable)?;
        came
    }

    /// As [`Values::scan`], for who reads each record once: the cache keeps what others read.
    pub fn scan_once(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        self.scan_amount(from, Amount::Once, visit);
    }

    fn scan_amount(
        &self,
        from: RevisionPair,
        amount: Amount,
        visit: &mut dyn FnMut(RevisionRecord) -> bool,
    ) {
        let from = schema::revision_key(from);
        let mut visit = |record: RecordRef<'_>| visit(record.kept());
        ask!(&**self.rows, rows => scan(rows, &from, amount, &mut visit));
    }

    /// Flushes as the engine does by itself, in the background: that it failed is seen by
    /// [`Engine::check_background_errors`] alone.
    #[cfg(any(test, feature = "fixtures"))]
    pub fn flush_by_itself(&self) {
        ask!(&**self.rows, rows => rows.flush_by_itself());
    }

    /// How often that failed.
    #[cfg(any(test, feature = "fixtures"))]
    pub fn background_errors(&self) -> u64 {
        or_end(ask!(&**self.rows, rows => rows.background_errors()))
    }

    /// Makes everything written so far durable. Blocks until it is.
    pub fn flush(&self) {
        if let Err(error) = self.try_flush() {
            end_process(
                format_args!("the store could not be flushed: {error}"),
                ADVICE,
            );
        }
    }

    /// Makes everything written so far durable before the process stops, so that the next start has
    /// nothing to replay. Where that fails the log still holds it.
    pub fn flush_for_stop(&self) {
        if let Err(error) = self.try_flush() {
            crate::log!(warn, "the store could not be flushed: the next start replays the log",
                error = %error);
        }
    }

    fn try_flush(&self) -> Result<(), EngineError> {
        #[cfg(any(test, feature = "fixtures"))]
        let _open = self.rows.syncs.read();
        ask!(&**self.rows, rows => rows.flush())
    }

    /// Runs `read` over one snapshot of the store, taken before `read` is called: reads through it
    /// do not see later writes, and see the same records each time.
    pub fn with_view<R>(&self, read: impl FnOnce(&Scanner<'_>) -> R) -> R {
        read(&Scanner(self.rows.view()))
    }

    /// Bytes of live files and memtables.
    pub fn size_bytes(&self) -> u64 {
        let bytes = ask!(&**self.rows, rows => {
            rows.file_bytes().and_then(|files| Ok(files + rows.memory_bytes()?))
        });
        or_end(bytes)
    }

    /// Bytes of memtables that are not on disk yet.
    pub fn memtable_bytes(&self) -> u64 {
        or_end(ask!(&**self.rows, rows => rows.memory_bytes()))
    }

    /// Ends the process if a flush or compaction failed in the background and the engine does not get over it: it
    /// would refuse the next write. Blocks for a flush where one failed.
    pub fn check_background_errors(&self) {
        match self.get_over_failures() {
            Ok(0) => {}
            Ok(failures) => crate::log!(
                warn,
                "flushes or compactions of the store failed, and were made up for",
                failures = failures
            ),
            Err(error) => end_process(
                format_args!("the store cannot be written in the background: {error}"),
                ADVICE,
            ),
        }
    }

    /// Rewrites everything that holds garbage, in the background's way: readers and writers go on.
    /// Blocks the caller until done.
    pub fn reclaim(&self) {
        self.reclaim_part(&Part::default());
    }

    /// The parts in which all is reclaimed, in the order of keys; at least one.
    pub fn reclaim_parts(&self) -> Vec<Part> {
        or_end(ask!(&**self.rows, rows => rows.reclaim_parts()))
    }

    /// Rewrites one part where it holds garbage. Blocks the caller until done.
    pub fn reclaim_part(&self, part: &Part) {
        ask!(&**self.rows, rows => rows.reclaim_part(part));
    }

    /// Whether the engine compacts by itself, as it does when it is opened. It writes before it frees:
    /// on a disk without room for that, it must not.
    pub fn compact_by_itself(&self, may: bool) {
        let set = ask!(&**self.rows, rows => rows.compact_by_itself(may));
        if let Err(error) = set {
            crate::log!(warn, "the engine's compactions could not be switched", error = %error);
        }
    }

    /// Bytes on disk for each byte that was written, as compression made it: 1 where nothing is on
    /// disk. Reads the properties of every file; blocks.
    pub fn compression(&self) -> f64 {
        or_end(ask!(&**self.rows, rows => rows.compression()))
    }
}

/// What cannot be read of a store that is loaded, with what to do.
fn unreadable(error: impl Into<OpenError>) -> LoadError {
    LoadError::Storage(error.into().into())
}

fn or_end<T>(asked: Result<T, EngineError>) -> T {
    asked.unwrap_or_else(|error| end_process(format_args!("the store: {error}"), ADVICE))
}

fn parse_applied(row: Option<Bytes>) -> Result<Applied, OpenError> {
    match row {
        Some(row) => Ok(schema::parse_applied(&row)?),
        None => Ok(Applied::default()),
    }
}

fn tables_of(rows: &impl Read) -> Result<Tables, OpenError> {
    let mut tables = Tables::default();
    let mut came = Ok(());
    rows.scan(Family::Tables, b"", Amount::Some, |key, value| {
        came = add_row(&mut tables, key, value);
        came.is_ok()
    })?;
    came?;
    Ok(tables)
}

fn record_of<'v>(key: &[u8], value: &'v [u8]) -> Result<RecordRef<'v>, SchemaError> {
    schema::parse_record(schema::parse_revision_key(key)?, value)
}

/// Bytes that changes take in a batch, about: one that has them from the start does not copy what it holds as it grows.
fn room(changes: &[Change]) -> usize {
    let record = |change: &Change| match change {
        Change::PutRevision(record) => record.encoded.len(),
        _ => 0,
    };
    let records: usize = changes.iter().map(record).sum();
    records + (changes.len() + 1) * ROW_ROOM
}

/// Adds the rows of a change.
fn add(batch: &mut impl Batch, change: &Change) {
    match change {
        Change::PutRevision(record) => {
            let mut value = Vec::with_capacity(1 + record.encoded.len());
            value.push(schema::revision_flag(record));
            value.extend_from_slice(&record.encoded);
            batch.put(
                Family::Revisions,
                &schema::revision_key(record.pair),
                &value,
            );
        }
        Change::DeleteRevision(pair) => {
            batch.delete(Family::Revisions, &schema::revision_key(*pair));
        }
        Change::SetRevision(revision) => {
            put_row(batch, Table::Revision, b"", &revision.0.to_be_bytes());
        }
        Change::SetCompactScheduled(revision) => {
            put_row(
                batch,
                Table::CompactScheduled,
                b"",
                &revision.0.to_be_bytes(),
            );
        }
        Change::SetCompactFinished(revision) => {
            put_row(
                batch,
                Table::CompactFinished,
                b"",
                &revision.0.to_be_bytes(),
            );
        }
        Change::SetWholeAfter(Some(revision)) => {
            put_row(batch, Table::WholeAfter, b"", &revision.0.to_be_bytes());
        }
        Change::SetWholeAfter(None) => delete_row(batch, Table::WholeAfter, b""),
        Change::PutLease(id, ttl) => {
            put_row(
                batch,
                Table::Lease,
                &id.0.to_be_bytes(),
                &schema::encode_lease(*ttl),
            );
        }
        Change::DeleteLease(id) => {
            delete_row(batch, Table::Lease, &id.0.to_be_bytes());
        }
        Change::PutAlarm(member, alarm) => {
            put_row(
                batch,
                Table::Alarm,
                &schema::alarm_key(*member, *alarm),
                b"",
            );
        }
        Change::DeleteAlarm(member, alarm) => {
            let key = schema::alarm_key(*member, *alarm);
            delete_row(batch, Table::Alarm, &key);
        }
        Change::PutMember(member) => {
            put_row(
                batch,
                Table::Member,
                &member.id.0.to_be_bytes(),
                &schema::encode_member(member),
            );
        }
        Change::RemoveMember(id) => {
            let key = id.0.to_be_bytes();
            delete_row(batch, Table::Member, &key);
            put_row(batch, Table::RemovedMember, &key, b"");
        }
        Change::SetAuth { enabled, revision } => {
            put_row(
                batch,
                Table::Auth,
                b"",
                &schema::encode_auth(*enabled, *revision),
            );
        }
        Change::PutUser(user) => {
            put_row(
                batch,
                Table::User,
                user.name.as_bytes(),
                &schema::encode_user(user),
            );
        }
        Change::DeleteUser(name) => {
            delete_row(batch, Table::User, name.as_bytes());
        }
        Change::PutRole(role) => {
            put_row(
                batch,
                Table::Role,
                role.name.as_bytes(),
                &schema::encode_role(role),
            );
        }
        Change::DeleteRole(name) => {
            delete_row(batch, Table::Role, name.as_bytes());
        }
        Change::SetClusterVersion(version) => {
            put_row(batch, Table::ClusterVersion, b"", version.as_bytes());
        }
    }
}

fn put_row(batch: &mut impl Batch, table: Table, key: &[u8], value: &[u8]) {
    batch.put(Family::Tables, &schema::row(table, key), value);
}

fn delete_row(batch: &mut impl Batch, table: Table, key: &[u8]) {
    batch.delete(Family::Tables, &schema::row(table, key));
}

fn add_row(tables: &mut Tables, key: &[u8], value: &[u8]) -> Result<(), SchemaError> {
    let (table, key) = key.split_first().ok_or(SchemaError("a row's key"))?;
    const FORMAT: u8 = Table::Format as u8;
    const APPLIED: u8 = Table::Applied as u8;
    const REVISION: u8 = Table::Revision as u8;
    const SCHEDULED: u8 = Table::CompactScheduled as u8;
    const FINISHED: u8 = Table::CompactFinished as u8;
    const WHOLE_AFTER: u8 = Table::WholeAfter as u8;
    const CLUSTER_VERSION: u8 = Table::ClusterVersion as u8;
    const LEASE: u8 = Table::Lease as u8;
    const ALARM: u8 = Table::Alarm as u8;
    const MEMBER: u8 = Table::Member as u8;
    const REMOVED: u8 = Table::RemovedMember as u8;
    const AUTH: u8 = Table::Auth as u8;
    const USER: u8 = Table::User as u8;
    const ROLE: u8 = Table::Role as u8;
    match *table {
        FORMAT | APPLIED => {}
        REVISION => tables.revision = Some(Revision(schema::parse_i64(value)?)),
        SCHEDULED => tables.compact_scheduled = Some(Revision(schema::parse_i64(value)?)),
        FINISHED => tables.compact_finished = Some(Revision(schema::parse_i64(value)?)),
        WHOLE_AFTER => tables.whole_after = Some(Revision(schema::parse_i64(value)?)),
        CLUSTER_VERSION => {
            let version = String::from_utf8(value.to_vec());
            tables.cluster_version = Some(version.map_err(|_| SchemaError("the cluster version"))?);
        }
        LEASE => tables.leases.push(schema::parse_lease(key, value)?),
        ALARM => tables.alarms.push(schema::parse_alarm(key)?),
        MEMBER => tables.members.push(schema::parse_member(key, value)?),
        REMOVED => tables.removed.push(schema::parse_member_id(key)?),
        AUTH => tables.auth.switch = Some(schema::parse_auth(value)?),
        USER => tables.auth.users.push(schema::parse_user(value)?),
        ROLE => tables.auth.roles.push(schema::parse_role(value)?),
        _ => return Err(SchemaError("a row of an unknown table")),
    }
    Ok(())
}

fn record_or_end(pair: RevisionPair, value: Bytes) -> RevisionRecord {
    match schema::parse_revision(pair, value) {
        Ok(record) => record,
        Err(error) => end_process(error, ADVICE),
    }
}

impl Values for Engine {
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord> {
        let value = Engine::get(self, Family::Revisions, &schema::revision_key(pair));
        readable(value).map(|value| record_or_end(pair, value))
    }

    fn get_many(&self, pairs: &[RevisionPair]) -> Vec<Option<RevisionRecord>> {
        let keys: Vec<_> = pairs
            .iter()
            .map(|pair| schema::revision_key(*pair))
            .collect();
        let read = |(pair, value): (&RevisionPair, Result<Option<Bytes>, EngineError>)| {
            readable(value).map(|value| record_or_end(*pair, value))
        };
        ask!(&**self.rows, rows => {
            let values = rows.get_many(&keys);
            pairs.iter().zip(values).map(read).collect()
        })
    }

    fn scan(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        self.scan_amount(from, Amount::Some, visit);
    }
}

fn readable<T>(read: Result<T, EngineError>) -> T {
    read.unwrap_or_else(|error| {
        end_process(format_args!("the store refused a read: {error}"), ADVICE)
    })
}

fn scan(
    rows: &impl Read,
    from: &[u8],
    amount: Amount,
    visit: &mut dyn FnMut(RecordRef<'_>) -> bool,
) {
    let take = |key: &[u8], value: &[u8]| match record_of(key, value) {
        Ok(record) => visit(record),
        Err(error) => end_process(error, ADVICE),
    };
    readable(rows.scan(Family::Revisions, from, amount, take));
}

/// See [`Engine::stall`]. Held over awaits on purpose: nothing but work of the engine waits for it.
#[cfg(any(test, feature = "fixtures"))]
#[must_use]
pub struct Stall<'a>(#[expect(dead_code, reason = "held")] parking_lot::RwLockWriteGuard<'a, ()>);

/// Reads of one snapshot.
pub struct Scanner<'a>(View<'a>);

impl Scanner<'_> {
    /// Calls `visit` with every record, ascending, until it returns false.
    pub fn records(&self, visit: &mut dyn FnMut(RecordRef<'_>) -> bool) {
        scan(&self.0, b"", Amount::All, visit);
    }

    /// The tables in the view.
    ///
    /// # Errors
    /// A row is damaged or cannot be read.
    pub fn tables(&self) -> Result<Tables, OpenError> {
        tables_of(&self.0)
    }

    /// How far the log is applied in the view.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn applied(&self) -> Result<Applied, OpenError> {
        let key = schema::row(Table::Applied, b"");
        parse_applied(self.0.get(Family::Tables, &key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simulator found it: a block that is damaged was told, and not what to do.
    #[test]
    fn a_store_with_a_damaged_block_says_what_to_do() {
        let scratch = crate::store::fixture::Scratch::empty();
        for _ in 0..50 {
            scratch.put("key", &[b'x'; 1_000]);
        }
        let engine = scratch.store.engine();
        engine.flush();
        let names = crate::fs::file_names(engine.dir()).unwrap();
        let copies = tempfile::tempdir().unwrap();
        for name in names.iter().filter(|name| *name != "LOCK") {
            let mut bytes = std::fs::read(engine.dir().join(name)).unwrap();
            if name.ends_with(".sst") {
                bytes[40] ^= 1;
            }
            std::fs::write(copies.path().join(name), bytes).unwrap();
        }
        let damaged = Engine::open_to_read(copies.path(), EngineOptions::default());
        let said = match damaged {
            Err(error) => error.to_string(),
            Ok(damaged) => match (damaged.tables(), damaged.records(&mut |_| Ok(()))) {
                (Err(error), _) => error.to_string(),
                (_, loaded) => loaded.unwrap_err().to_string(),
            },
        };
        assert!(said.contains("Corruption"), "{said}");
        assert!(
            said.contains("restore this member from the others"),
            "{said}"
        );
    }

    /// A store whose memtables are full after a few writes, and its directory's parent.
    fn small_store() -> (tempfile::TempDir, Engine) {
        let dir = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            write_buffer_bytes: 64 << 10,
            ..EngineOptions::default()
        };
        let engine = Engine::open(&dir.path().join("store"), options).unwrap();
        (dir, engine)
    }

    /// Writes until a flush has begun and ended, or a write is refused.
    fn write_until_a_flush_failed(engine: &Engine) {
        let change = [Change::SetClusterVersion("3.7.0".repeat(1_000))];
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let failures = || ask!(&**engine.rows, rows => rows.background_errors()).unwrap();
        while failures() == 0 && engine.try_commit(&change, None).is_ok() {
            assert!(std::time::Instant::now() < deadline, "no flush failed");
        }
    }

    #[test]
    fn a_flush_that_fails_in_the_background_is_noticed() {
        let (dir, engine) = small_store();
        assert_eq!(engine.get_over_failures().unwrap(), 0);
        std::fs::rename(engine.dir(), dir.path().join("elsewhere")).unwrap();
        write_until_a_flush_failed(&engine);
        let said = engine.get_over_failures().unwrap_err().to_string();
        assert!(said.contains("No such file"), "{said}");
        assert!(
            engine.get_over_failures().is_err(),
            "what was told once is told again"
        );
    }
}
