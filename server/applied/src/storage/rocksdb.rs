//! Rows in RocksDB: the only file that names it, with those below it.
//!
//! Settings follow from the shape of the load. Revisions arrive in key order and are never
//! overwritten, so every level has one compression (a file can be moved down untouched), no bloom
//! filters (a point read meets one file by its key range), and flushes are atomic over both column
//! families (the applied position never runs ahead of the data it stands for).

mod manifest;
mod reclaim;
mod sorted;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint as Maker;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, ColumnFamilyRef, DB, DBCompressionType,
    DBPinnableSlice, DBRawIterator, FlushOptions, Options, ReadOptions, ReadTier, Snapshot,
    WriteBatch, WriteOptions,
};

pub use reclaim::Part;
pub(super) use sorted::SortedFiles;

use super::engine::EngineOptions;
use super::rows::{Amount, Batch, EngineError, Family, Read, Rows};
use super::schema;

/// RocksDB flushes before a checkpoint where its own log has grown beyond this. That log is off, so
/// a number above 0 means never: what is persisted is taken as it is, which costs no write.
const NEVER_FLUSH: u64 = u64::MAX;

impl From<rocksdb::Error> for EngineError {
    fn from(error: rocksdb::Error) -> EngineError {
        EngineError(error.to_string())
    }
}

/// Whether the engine can be shown what lies in a directory. It would read some manifests for ever, and
/// those from elsewhere are taken only where they are whole.
pub(super) fn may_be_opened(path: &Path, is_foreign: bool) -> bool {
    match is_foreign {
        true => manifest::are_whole(path).unwrap_or(false),
        // A directory that is not there has none.
        false => !manifest::would_not_end(path).unwrap_or(false),
    }
}

/// An open database.
pub(super) struct RocksDb(DB);

impl RocksDb {
    pub(super) fn open(path: &Path, options: EngineOptions) -> Result<RocksDb, EngineError> {
        let families = column_families(options);
        let db = DB::open_cf_descriptors(&db_options(options), path, families)?;
        Ok(RocksDb(db))
    }

    pub(super) fn open_to_read(
        path: &Path,
        options: EngineOptions,
    ) -> Result<RocksDb, EngineError> {
        let families = column_families(options);
        let db = DB::open_cf_descriptors_read_only(&db_options(options), path, families, false)?;
        Ok(RocksDb(db))
    }

    fn family(&self, family: Family) -> ColumnFamilyRef<'_> {
        let name = match family {
            Family::Revisions => schema::REVISIONS,
            Family::Tables => schema::TABLES,
        };
        self.0.cf_handle(name).expect("opened with it")
    }

    /// The sum of a property's numbers over both families.
    fn sum(&self, property: &str) -> Result<u64, EngineError> {
        Ok(
            self.property(Family::Revisions, property)?
                + self.property(Family::Tables, property)?,
        )
    }

    fn property(&self, family: Family, name: &str) -> Result<u64, EngineError> {
        let value = self.0.property_int_value_cf(&self.family(family), name);
        let unreadable = |error| EngineError(format!("{name} cannot be read: {error}"));
        Ok(value.map_err(unreadable)?.unwrap_or(0))
    }
}

impl Read for RocksDb {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.get_cf(self.family(family), key)?.map(Bytes::from))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        amount: Amount,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let options = read_options(amount);
        let entries = self.0.raw_iterator_cf_opt(self.family(family), options);
        scan(entries, from, visit)
    }
}

impl Rows for RocksDb {
    type Batch<'a> = Changes<'a>;
    type View<'a> = View<'a>;

    fn batch(&self, room: usize) -> Changes<'_> {
        Changes {
            batch: WriteBatch::with_capacity_bytes(room),
            revisions: self.family(Family::Revisions),
            tables: self.family(Family::Tables),
        }
    }

    fn write(&self, batch: Changes<'_>) -> Result<(), EngineError> {
        Ok(self.0.write_opt(batch.batch, &unlogged())?)
    }

    fn view(&self) -> View<'_> {
        View {
            db: self,
            snapshot: self.0.snapshot(),
        }
    }

    fn get_many(
        &self,
        keys: &[[u8; 12]],
    ) -> impl Iterator<Item = Result<Option<Bytes>, EngineError>> {
        let family = self.family(Family::Revisions);
        let values = self.0.batched_multi_get_cf(&family, keys, keys.is_sorted());
        let read = |value: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>| {
            Ok(value?.map(|value| Bytes::copy_from_slice(&value)))
        };
        values.into_iter().map(read)
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let row = self
            .0
            .get_cf_opt(self.family(Family::Tables), key, &options)?;
        Ok(row.map(Bytes::from))
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = [self.family(Family::Revisions), self.family(Family::Tables)];
        Ok(self
            .0
            .flush_cfs_opt(&[&families[0], &families[1]], &options)?)
    }

    #[cfg(any(test, feature = "fixtures"))]
    fn flush_by_itself(&self) {
        // It counts by itself what fails.
        drop(self.flush());
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        let maker = Maker::new(&self.0)?;
        Ok(maker.create_checkpoint_with_log_size(dir, NEVER_FLUSH)?)
    }

    fn file_bytes(&self) -> Result<u64, EngineError> {
        self.sum("rocksdb.live-sst-files-size")
    }

    fn memory_bytes(&self) -> Result<u64, EngineError> {
        self.sum("rocksdb.cur-size-all-mem-tables")
    }

    fn background_errors(&self) -> Result<u64, EngineError> {
        // It is counted for the first column family, whichever was flushed or compacted.
        let count = self.0.property_int_value("rocksdb.background-errors");
        Ok(count?.unwrap_or(0))
    }

    fn take_in(&self, files: &[PathBuf]) -> Result<(), EngineError> {
        sorted::take_in(&self.0, &self.family(Family::Revisions), files)
    }

    fn reclaim_parts(&self) -> Result<Vec<Part>, EngineError> {
        reclaim::of(&self.0)
    }

    fn reclaim_part(&self, part: &Part) {
        reclaim::rewrite(&self.0, &self.family(Family::Revisions), part);
    }

    fn compact_by_itself(&self, may: bool) -> Result<(), EngineError> {
        let off = if may { "false" } else { "true" };
        let set = [("disable_auto_compactions", off)];
        let set = |family| self.0.set_options_cf(&self.family(family), &set);
        // Where one cannot be set the other is all the same.
        let both = [set(Family::Revisions), set(Family::Tables)];
        both.into_iter().try_for_each(|set| Ok(set?))
    }

    fn compression(&self) -> Result<f64, EngineError> {
        reclaim::compression_of(&self.0, &self.family(Family::Revisions))
    }
}

/// A batch.
pub(super) struct Changes<'a> {
    batch: WriteBatch,
    revisions: ColumnFamilyRef<'a>,
    tables: ColumnFamilyRef<'a>,
}

impl Batch for Changes<'_> {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        match family {
            Family::Revisions => self.batch.put_cf(self.revisions, key, value),
            Family::Tables => self.batch.put_cf(self.tables, key, value),
        }
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        match family {
            Family::Revisions => self.batch.delete_cf(self.revisions, key),
            Family::Tables => self.batch.delete_cf(self.tables, key),
        }
    }

    fn bytes(&self) -> u64 {
        self.batch.size_in_bytes() as u64
    }
}

/// The rows of one moment.
pub(super) struct View<'a> {
    db: &'a RocksDb,
    snapshot: Snapshot<'a>,
}

impl Read for View<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let row = self.snapshot.get_cf(self.db.family(family), key)?;
        Ok(row.map(Bytes::from))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        amount: Amount,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let options = read_options(amount);
        let family = self.db.family(family);
        let entries = self.snapshot.raw_iterator_cf_opt(family, options);
        scan(entries, from, visit)
    }
}

/// Rows are shown where they lie: they are copied by whoever keeps them.
fn scan(
    mut entries: DBRawIterator<'_>,
    from: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), EngineError> {
    entries.seek(from);
    while let Some((key, value)) = entries.item() {
        if !visit(key, value) {
            return Ok(());
        }
        entries.next();
    }
    // It ends where it fails, too.
    Ok(entries.status()?)
}

fn read_options(amount: Amount) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(amount == Amount::Some);
    if amount == Amount::All {
        options.set_readahead_size(1 << 20);
    }
    options
}

fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

fn db_options(asked: EngineOptions) -> Options {
    let mut options = Options::default();
    options.set_use_direct_reads(asked.past_page_cache);
    options.set_use_direct_io_for_flush_and_compaction(asked.past_page_cache);
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
    let cache = cache(options);
    let family = |name: &str, write_buffer_bytes: usize| {
        let family = family_options(&cache, write_buffer_bytes, options);
        ColumnFamilyDescriptor::new(name, family)
    };
    vec![
        family("default", 1 << 20),
        family(schema::REVISIONS, options.write_buffer_bytes),
        family(schema::TABLES, options.write_buffer_bytes),
    ]
}

fn cache(options: EngineOptions) -> Cache {
    Cache::new_lru_cache(options.block_cache_bytes)
}

fn family_options(cache: &Cache, write_buffer_bytes: usize, asked: EngineOptions) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    blocks.set_format_version(6);
    let mut family = Options::default();
    family.set_block_based_table_factory(&blocks);
    family.set_write_buffer_size(write_buffer_bytes);
    family.set_max_write_buffer_number(3);
    family.set_compression_type(match asked.compresses {
        true => DBCompressionType::Lz4,
        false => DBCompressionType::None,
    });
    family.set_target_file_size_base(64 << 20);
    family
}
