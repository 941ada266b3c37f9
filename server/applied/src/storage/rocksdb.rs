//! RocksDB behind the store's own words: the only file that names it.
//!
//! Settings follow from the shape of the load. Revisions arrive in key order and are never
//! overwritten, so every level has one compression (a file can be moved down untouched), no bloom
//! filters (a point read meets one file by its key range), and flushes are atomic over both column
//! families (the applied position never runs ahead of the data it stands for).

mod checkpoint;
mod handle;
mod manifest;
mod reclaim;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, ColumnFamilyRef, DB, DBCompressionType,
    FlushOptions, IteratorMode, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions,
};

use handle::Handle;
pub use reclaim::Part;

use super::Applied;
use super::schema::{self, SchemaError, Table};
use crate::fatal::end_process;
use crate::state::{Change, LoadError, RevisionRecord, Tables, Values};
use crate::types::{Revision, RevisionPair};

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
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            write_buffer_bytes: 16 << 20,
            block_cache_bytes: 32 << 20,
        }
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine refuses.
    #[error("the store does not open: {0}; restore this member from the others or from a backup")]
    Engine(#[from] rocksdb::Error),
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
    db: Arc<Handle>,
}

impl Engine {
    /// Opens the store at `path`, making an empty one where there is none.
    ///
    /// # Errors
    /// The store is damaged, was written by another format, or the file system refuses.
    pub fn open(path: &Path, options: EngineOptions) -> Result<Engine, OpenError> {
        // A directory that is not there has none.
        if manifest::would_not_end(path).unwrap_or(false) {
            return Err(SchemaError("the engine's manifest").into());
        }
        let families = column_families(options);
        let db = DB::open_cf_descriptors(&db_options(), path, families)?;
        let engine = Engine {
            db: Arc::new(Handle::new(db, path, options)),
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
        let key = schema::row(Table::Format, b"");
        if engine.db.get_cf(engine.tables_family(), key)?.is_some() {
            engine.require_format()?;
        }
        Ok(engine)
    }

    fn read_only(path: &Path, options: EngineOptions) -> Result<Engine, OpenError> {
        let families = column_families(options);
        let db = DB::open_cf_descriptors_read_only(&db_options(), path, families, false)?;
        Ok(Engine {
            db: Arc::new(Handle::new(db, path, options)),
        })
    }

    /// The directory it was opened in.
    pub fn dir(&self) -> &Path {
        self.db.dir()
    }

    /// How it was opened.
    pub fn options(&self) -> EngineOptions {
        self.db.options()
    }

    /// Has the directory removed when the last clone is dropped: another store is in force. Closing
    /// and removing happen on a thread of their own.
    pub fn condemn(&self) {
        self.db.condemn();
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let key = schema::row(Table::Format, b"");
        match self.db.get_cf(self.tables_family(), &key)? {
            None => {
                let format = i64::from(schema::FORMAT).to_be_bytes();
                self.db
                    .put_cf_opt(self.tables_family(), key, format, &unlogged())?;
                Ok(())
            }
            Some(_) => self.require_format(),
        }
    }

    fn require_format(&self) -> Result<(), OpenError> {
        let key = schema::row(Table::Format, b"");
        let row = self.db.get_cf(self.tables_family(), key)?;
        let found = row.map_or(Ok(0), |row| schema::parse_i64(&row))?;
        match found == i64::from(schema::FORMAT) {
            true => Ok(()),
            false => Err(OpenError::Format { found }),
        }
    }

    fn revisions_family(&self) -> ColumnFamilyRef<'_> {
        self.db
            .cf_handle(schema::REVISIONS)
            .expect("opened with it")
    }

    fn tables_family(&self) -> ColumnFamilyRef<'_> {
        self.db.cf_handle(schema::TABLES).expect("opened with it")
    }

    /// Writes a batch of changes and how far the log is applied by it: all or nothing.
    /// Not durable before a flush. An error of the engine ends the process. Returns the bytes written.
    pub fn write(&self, changes: &[Change], applied: &Applied) -> u64 {
        let mut batch = WriteBatch::default();
        for change in changes {
            self.add(&mut batch, change);
        }
        let row = schema::row(Table::Applied, b"");
        batch.put_cf(self.tables_family(), row, schema::encode_applied(applied));
        self.commit(batch)
    }

    /// Writes changes that follow from no log entry (reclaiming what compaction superseded). Returns
    /// the bytes written.
    pub fn write_unlogged(&self, changes: &[Change]) -> u64 {
        let mut batch = WriteBatch::default();
        for change in changes {
            self.add(&mut batch, change);
        }
        self.commit(batch)
    }

    /// Has every write wait, as a slow disk would, while the guard lives.
    #[cfg(any(test, feature = "fixtures"))]
    pub fn stall(&self) -> Stall<'_> {
        Stall(self.db.gate.write())
    }

    fn commit(&self, batch: WriteBatch) -> u64 {
        #[cfg(any(test, feature = "fixtures"))]
        let _open = self.db.gate.read();
        let bytes = batch.size_in_bytes() as u64;
        if let Err(error) = self.db.write_opt(batch, &unlogged()) {
            end_process(format_args!("the store refused a write: {error}"), ADVICE);
        }
        bytes
    }

    fn add(&self, batch: &mut WriteBatch, change: &Change) {
        let tables = self.tables_family();
        let mut put = |table, key: &[u8], value: &[u8]| {
            batch.put_cf(tables, schema::row(table, key), value);
        };
        match change {
            Change::PutRevision(record) => {
                let mut value = Vec::with_capacity(1 + record.encoded.len());
                value.push(schema::revision_flag(record));
                value.extend_from_slice(&record.encoded);
                batch.put_cf(
                    self.revisions_family(),
                    schema::revision_key(record.pair),
                    value,
                );
            }
            Change::DeleteRevision(pair) => {
                batch.delete_cf(self.revisions_family(), schema::revision_key(*pair));
            }
            Change::SetRevision(revision) => {
                put(Table::Revision, b"", &revision.0.to_be_bytes());
            }
            Change::SetCompactScheduled(revision) => {
                put(Table::CompactScheduled, b"", &revision.0.to_be_bytes());
            }
            Change::SetCompactFinished(revision) => {
                put(Table::CompactFinished, b"", &revision.0.to_be_bytes());
            }
            Change::PutLease(id, ttl) => {
                put(
                    Table::Lease,
                    &id.0.to_be_bytes(),
                    &schema::encode_lease(*ttl),
                );
            }
            Change::DeleteLease(id) => {
                batch.delete_cf(tables, schema::row(Table::Lease, &id.0.to_be_bytes()));
            }
            Change::PutAlarm(member, alarm) => {
                put(Table::Alarm, &schema::alarm_key(*member, *alarm), b"");
            }
            Change::DeleteAlarm(member, alarm) => {
                let key = schema::alarm_key(*member, *alarm);
                batch.delete_cf(tables, schema::row(Table::Alarm, &key));
            }
            Change::PutMember(member) => {
                put(
                    Table::Member,
                    &member.id.0.to_be_bytes(),
                    &schema::encode_member(member),
                );
            }
            Change::RemoveMember(id) => {
                let key = id.0.to_be_bytes();
                batch.delete_cf(tables, schema::row(Table::Member, &key));
                batch.put_cf(tables, schema::row(Table::RemovedMember, &key), b"");
            }
            Change::SetAuth { enabled, revision } => {
                put(Table::Auth, b"", &schema::encode_auth(*enabled, *revision));
            }
            Change::PutUser(user) => {
                put(
                    Table::User,
                    user.name.as_bytes(),
                    &schema::encode_user(user),
                );
            }
            Change::DeleteUser(name) => {
                batch.delete_cf(tables, schema::row(Table::User, name.as_bytes()));
            }
            Change::PutRole(role) => {
                put(
                    Table::Role,
                    role.name.as_bytes(),
                    &schema::encode_role(role),
                );
            }
            Change::DeleteRole(name) => {
                batch.delete_cf(tables, schema::row(Table::Role, name.as_bytes()));
            }
            Change::SetClusterVersion(version) => {
                put(Table::ClusterVersion, b"", version.as_bytes());
            }
        }
    }

    /// How far the log is applied in what this process has written.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn applied(&self) -> Result<Applied, OpenError> {
        self.read_applied(&ReadOptions::default())
    }

    /// How far the log is applied in what is on disk for good: the log may be purged up to here.
    pub fn persisted(&self) -> Applied {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        match self.read_applied(&options) {
            Ok(applied) => applied,
            Err(error) => end_process(error, ADVICE),
        }
    }

    fn read_applied(&self, options: &ReadOptions) -> Result<Applied, OpenError> {
        let key = schema::row(Table::Applied, b"");
        match self.db.get_cf_opt(self.tables_family(), key, options)? {
            Some(row) => Ok(schema::parse_applied(&row)?),
            None => Ok(Applied::default()),
        }
    }

    /// The store's revision in what this process has written; none in an empty store.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn revision(&self) -> Result<Option<Revision>, OpenError> {
        let key = schema::row(Table::Revision, b"");
        let row = self.db.get_cf(self.tables_family(), key)?;
        let revision = row.map(|row| schema::parse_i64(&row)).transpose()?;
        Ok(revision.map(Revision))
    }

    /// Reads every table.
    ///
    /// # Errors
    /// A row is damaged or cannot be read.
    pub fn tables(&self) -> Result<Tables, OpenError> {
        let mut tables = Tables::default();
        for entry in self
            .db
            .iterator_cf(self.tables_family(), IteratorMode::Start)
        {
            let (key, value) = entry?;
            add_row(&mut tables, &key, &value)?;
        }
        Ok(tables)
    }

    /// Calls `visit` with every record, ascending.
    ///
    /// # Errors
    /// A record is damaged or cannot be read, or `visit` failed.
    pub fn records(
        &self,
        visit: &mut dyn FnMut(RevisionRecord) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut options = ReadOptions::default();
        options.set_readahead_size(1 << 20);
        options.fill_cache(false);
        let family = self.revisions_family();
        let entries = self
            .db
            .iterator_cf_opt(family, options, IteratorMode::Start);
        for entry in entries {
            let (key, value) = entry.map_err(|error| LoadError::Storage(error.into()))?;
            let pair =
                schema::parse_revision_key(&key).map_err(|e| LoadError::Storage(e.into()))?;
            let record = schema::parse_revision(pair, Bytes::from(value))
                .map_err(|error| LoadError::Storage(error.into()))?;
            visit(record)?;
        }
        Ok(())
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

    fn try_flush(&self) -> Result<(), rocksdb::Error> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = [self.revisions_family(), self.tables_family()];
        self.db
            .flush_cfs_opt(&[&families[0], &families[1]], &options)
    }

    /// Runs `read` over one snapshot of the store, taken before `read` is called: reads through it
    /// do not see later writes, and see the same records each time.
    pub fn with_view<R>(&self, read: impl FnOnce(&Scanner<'_>) -> R) -> R {
        read(&Scanner {
            engine: self,
            snapshot: self.db.snapshot(),
        })
    }

    /// Bytes of live files and memtables.
    pub fn size_bytes(&self) -> u64 {
        self.sum(&[
            "rocksdb.live-sst-files-size",
            "rocksdb.cur-size-all-mem-tables",
        ])
    }

    /// Bytes of memtables that are not on disk yet.
    pub fn memtable_bytes(&self) -> u64 {
        self.sum(&["rocksdb.cur-size-all-mem-tables"])
    }

    fn sum(&self, properties: &[&str]) -> u64 {
        let families = [self.revisions_family(), self.tables_family()];
        let mut sum = 0;
        for family in &families {
            for property in properties {
                sum += self.property(family, property);
            }
        }
        sum
    }

    fn property(&self, family: &ColumnFamilyRef<'_>, name: &str) -> u64 {
        match self.db.property_int_value_cf(family, name) {
            Ok(value) => value.unwrap_or(0),
            Err(error) => end_process(format_args!("{name} cannot be read: {error}"), ADVICE),
        }
    }

    /// Ends the process if a flush or compaction failed in the background: RocksDB would refuse
    /// writes from then on, and must not be trusted to resume by itself.
    pub fn check_background_errors(&self) {
        let errors = self.property(&self.tables_family(), "rocksdb.background-errors");
        if errors > 0 {
            end_process(
                format_args!("{errors} background errors of the store"),
                ADVICE,
            );
        }
    }
}

fn add_row(tables: &mut Tables, key: &[u8], value: &[u8]) -> Result<(), SchemaError> {
    let (table, key) = key.split_first().ok_or(SchemaError("a row's key"))?;
    const FORMAT: u8 = Table::Format as u8;
    const APPLIED: u8 = Table::Applied as u8;
    const REVISION: u8 = Table::Revision as u8;
    const SCHEDULED: u8 = Table::CompactScheduled as u8;
    const FINISHED: u8 = Table::CompactFinished as u8;
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

fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

fn db_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_background_jobs(2);
    // Reads of old files in the background cost nothing at open; statistics would.
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_open_files(512);
    options.set_paranoid_checks(true);
    options
}

fn column_families(options: EngineOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let family = |name: &str, write_buffer_bytes: usize| {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        blocks.set_block_size(16 << 10);
        blocks.set_format_version(6);
        let mut family = Options::default();
        family.set_block_based_table_factory(&blocks);
        family.set_write_buffer_size(write_buffer_bytes);
        family.set_max_write_buffer_number(3);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_target_file_size_base(64 << 20);
        ColumnFamilyDescriptor::new(name, family)
    };
    vec![
        family("default", 1 << 20),
        family(schema::REVISIONS, options.write_buffer_bytes),
        family(schema::TABLES, options.write_buffer_bytes),
    ]
}

fn record_or_end(pair: RevisionPair, value: Bytes) -> RevisionRecord {
    match schema::parse_revision(pair, value) {
        Ok(record) => record,
        Err(error) => end_process(error, ADVICE),
    }
}

impl Values for Engine {
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord> {
        match self
            .db
            .get_cf(self.revisions_family(), schema::revision_key(pair))
        {
            Ok(value) => value.map(|value| record_or_end(pair, Bytes::from(value))),
            Err(error) => end_process(format_args!("the store refused a read: {error}"), ADVICE),
        }
    }

    fn get_many(&self, pairs: &[RevisionPair]) -> Vec<Option<RevisionRecord>> {
        let keys: Vec<_> = pairs
            .iter()
            .map(|pair| schema::revision_key(*pair))
            .collect();
        let sorted = pairs.is_sorted();
        let family = self.revisions_family();
        let values = self.db.batched_multi_get_cf(&family, &keys, sorted);
        let read = |(pair, value): (
            &RevisionPair,
            Result<Option<rocksdb::DBPinnableSlice<'_>>, _>,
        )| {
            match value {
                Ok(value) => {
                    value.map(|value| record_or_end(*pair, Bytes::copy_from_slice(&value)))
                }
                Err(error) => {
                    end_process(format_args!("the store refused a read: {error}"), ADVICE)
                }
            }
        };
        pairs.iter().zip(values).map(read).collect()
    }

    fn scan(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        let start = schema::revision_key(from);
        let mode = IteratorMode::From(&start, rocksdb::Direction::Forward);
        scan(self.db.iterator_cf(self.revisions_family(), mode), visit);
    }
}

fn scan(
    entries: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
    visit: &mut dyn FnMut(RevisionRecord) -> bool,
) {
    for entry in entries {
        let (key, value) = match entry {
            Ok(entry) => entry,
            Err(error) => end_process(format_args!("the store refused a read: {error}"), ADVICE),
        };
        let pair = match schema::parse_revision_key(&key) {
            Ok(pair) => pair,
            Err(error) => end_process(error, ADVICE),
        };
        if !visit(record_or_end(pair, Bytes::from(value))) {
            return;
        }
    }
}

/// See [`Engine::stall`]. Held over awaits on purpose: nothing but writes of the engine wait for it.
#[cfg(any(test, feature = "fixtures"))]
#[must_use]
pub struct Stall<'a>(#[expect(dead_code, reason = "held")] parking_lot::RwLockWriteGuard<'a, ()>);

/// Reads of one snapshot.
pub struct Scanner<'a> {
    engine: &'a Engine,
    snapshot: rocksdb::Snapshot<'a>,
}

impl Scanner<'_> {
    /// Calls `visit` with every record, ascending, until it returns false.
    pub fn records(&self, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        let mut options = ReadOptions::default();
        options.set_readahead_size(1 << 20);
        options.fill_cache(false);
        let family = self.engine.revisions_family();
        scan(
            self.snapshot
                .iterator_cf_opt(family, options, IteratorMode::Start),
            visit,
        );
    }

    /// The tables in the view.
    ///
    /// # Errors
    /// A row is damaged or cannot be read.
    pub fn tables(&self) -> Result<Tables, OpenError> {
        let mut tables = Tables::default();
        let family = self.engine.tables_family();
        for entry in self.snapshot.iterator_cf(family, IteratorMode::Start) {
            let (key, value) = entry?;
            add_row(&mut tables, &key, &value)?;
        }
        Ok(tables)
    }

    /// How far the log is applied in the view.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn applied(&self) -> Result<Applied, OpenError> {
        let key = schema::row(Table::Applied, b"");
        match self.snapshot.get_cf(self.engine.tables_family(), key)? {
            Some(row) => Ok(schema::parse_applied(&row)?),
            None => Ok(Applied::default()),
        }
    }
}
