//! What the store needs of an engine, in rows of bytes: two families, each sorted by key; batches that are
//! all or nothing; durable once flushed, and then all that was written before.
//!
//! RocksDB is the product's (`rocksdb`). The one in memory (`memory`) is a simulator's, and is not compiled
//! into the product; where it is, every call first looks which of the two it is for.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::engine::EngineOptions;
#[cfg(any(test, feature = "fixtures"))]
use super::memory::{self, Memory};
use super::rocksdb::{self, Part, RocksDb};

/// What an engine says went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub(super) String);

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// What every revision changed.
    Revisions,
    /// All that is overwritten.
    Tables,
}

/// How much of a family is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Some of it, which is worth keeping in memory.
    Some,
    /// Some of it, once: what others read stays in memory instead.
    Once,
    /// All of it, once.
    All,
}

/// Rows to read: as they are, or as they were at one moment.
pub(super) trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// It cannot be read.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Calls `visit` with keys and values from a key on, ascending, until it returns false.
    ///
    /// # Errors
    /// One cannot be read.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        amount: Amount,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError>;
}

/// Changes that are made together.
pub(super) trait Batch {
    /// Puts a row.
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]);

    /// Deletes a row.
    fn delete(&mut self, family: Family, key: &[u8]);

    /// Bytes of the changes, about.
    fn bytes(&self) -> u64;
}

/// An open engine.
pub(super) trait Rows: Read {
    /// Its batches.
    type Batch<'a>: Batch
    where
        Self: 'a;
    /// Its views.
    type View<'a>: Read
    where
        Self: 'a;

    /// An empty batch, with room for so many bytes.
    fn batch(&self, room: usize) -> Self::Batch<'_>;

    /// Writes a batch: all or nothing. Not durable before a flush.
    ///
    /// # Errors
    /// It is refused: what is written from then on may be lost.
    fn write(&self, batch: Self::Batch<'_>) -> Result<(), EngineError>;

    /// The rows of this moment.
    fn view(&self) -> Self::View<'_>;

    /// The values of revisions' keys.
    fn get_many(
        &self,
        keys: &[[u8; 12]],
    ) -> impl Iterator<Item = Result<Option<Bytes>, EngineError>>;

    /// A row of the tables as it is on disk for good.
    ///
    /// # Errors
    /// It cannot be read.
    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Makes everything written so far durable. Blocks until it is.
    ///
    /// # Errors
    /// The disk refuses: what is durable is unknown.
    fn flush(&self) -> Result<(), EngineError>;

    /// Flushes as the engine does by itself now and then: nobody is told that it failed.
    #[cfg(any(test, feature = "fixtures"))]
    fn flush_by_itself(&self);

    /// Makes a directory with what is persisted, which opens as a store of its own.
    ///
    /// # Errors
    /// The disk refuses.
    fn checkpoint(&self, dir: &Path) -> Result<(), EngineError>;

    /// Bytes on disk, without what is in memory alone.
    ///
    /// # Errors
    /// It is not known.
    fn file_bytes(&self) -> Result<u64, EngineError>;

    /// Bytes that are not on disk yet.
    ///
    /// # Errors
    /// It is not known.
    fn memory_bytes(&self) -> Result<u64, EngineError>;

    /// How often a flush or compaction has failed since the store was opened.
    ///
    /// # Errors
    /// It is not known.
    fn background_errors(&self) -> Result<u64, EngineError>;

    /// Takes in files of records, sorted, whose keys are no others' (none where it has no files).
    ///
    /// # Errors
    /// The disk refuses, or one is no such file.
    fn take_in(&self, files: &[PathBuf]) -> Result<(), EngineError>;

    /// The parts in which all is reclaimed, in the order of keys; at least one.
    ///
    /// # Errors
    /// Its files are not known.
    fn reclaim_parts(&self) -> Result<Vec<Part>, EngineError>;

    /// Rewrites one part where it holds garbage. Blocks the caller until done.
    fn reclaim_part(&self, part: &Part);

    /// Whether it compacts by itself.
    ///
    /// # Errors
    /// Part of it may do as before.
    fn compact_by_itself(&self, may: bool) -> Result<(), EngineError>;

    /// Bytes on disk for each byte that was written: 1 where nothing is on disk.
    ///
    /// # Errors
    /// It is not known.
    fn compression(&self) -> Result<f64, EngineError>;
}

/// The engine of an open store.
pub(super) enum Engines {
    /// On disk.
    Disk(RocksDb),
    /// In memory.
    #[cfg(any(test, feature = "fixtures"))]
    Memory(Memory),
}

/// The rows of one moment.
pub(super) enum View<'a> {
    /// On disk.
    Disk(rocksdb::View<'a>),
    /// In memory.
    #[cfg(any(test, feature = "fixtures"))]
    Memory(memory::View),
}

/// `$call` of whichever engine it is.
macro_rules! ask {
    ($engines:expr, $rows:ident => $call:expr) => {
        match $engines {
            $crate::storage::rows::Engines::Disk($rows) => $call,
            #[cfg(any(test, feature = "fixtures"))]
            $crate::storage::rows::Engines::Memory($rows) => $call,
        }
    };
}
pub(super) use ask;

impl Engines {
    /// Opens what lies in a directory, or makes an empty one there.
    ///
    /// # Errors
    /// It is damaged, or the file system refuses.
    pub(super) fn open(path: &Path, options: EngineOptions) -> Result<Engines, EngineError> {
        #[cfg(any(test, feature = "fixtures"))]
        if memory::is_chosen() {
            return Memory::open(path).map(Engines::Memory);
        }
        RocksDb::open(path, options).map(Engines::Disk)
    }

    /// Opens what lies in a directory to read it; nothing is changed.
    ///
    /// # Errors
    /// There is nothing, or it is damaged.
    pub(super) fn open_to_read(
        path: &Path,
        options: EngineOptions,
    ) -> Result<Engines, EngineError> {
        #[cfg(any(test, feature = "fixtures"))]
        if memory::is_chosen() {
            return Memory::open_to_read(path).map(Engines::Memory);
        }
        RocksDb::open_to_read(path, options).map(Engines::Disk)
    }

    /// Whether what lies in a directory can be shown to the engine at all; `is_foreign` where it came from
    /// elsewhere, and the least doubt is enough.
    pub(super) fn may_be_opened(path: &Path, is_foreign: bool) -> bool {
        #[cfg(any(test, feature = "fixtures"))]
        if memory::is_chosen() {
            return true;
        }
        rocksdb::may_be_opened(path, is_foreign)
    }

    /// The rows of this moment.
    pub(super) fn view(&self) -> View<'_> {
        match self {
            Engines::Disk(rows) => View::Disk(rows.view()),
            #[cfg(any(test, feature = "fixtures"))]
            Engines::Memory(rows) => View::Memory(rows.view()),
        }
    }
}

impl Read for View<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self {
            View::Disk(rows) => rows.get(family, key),
            #[cfg(any(test, feature = "fixtures"))]
            View::Memory(rows) => rows.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        amount: Amount,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        match self {
            View::Disk(rows) => rows.scan(family, from, amount, visit),
            #[cfg(any(test, feature = "fixtures"))]
            View::Memory(rows) => rows.scan(family, from, amount, visit),
        }
    }
}
