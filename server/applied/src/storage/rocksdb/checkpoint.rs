//! Checkpoints: a second directory with the files of this moment, which costs links and no copies.

use std::path::Path;

use rocksdb::checkpoint::Checkpoint as Maker;

use super::{Engine, EngineOptions, OpenError, manifest};
use crate::fs;
use crate::storage::Contents;
use crate::storage::checkpoint::{Checkpoint, CheckpointError, StoreFile};
use crate::storage::schema::SchemaError;

/// RocksDB flushes before a checkpoint where its own log has grown beyond this. That log is off, so
/// a number above 0 means never: what is persisted is taken as it is, which costs no write.
const NEVER_FLUSH: u64 = u64::MAX;
/// Memory for a look into a store that is not this member's. Bytes.
const LOOK: EngineOptions = EngineOptions {
    write_buffer_bytes: 1 << 20,
    block_cache_bytes: 1 << 20,
};

impl Engine {
    /// Makes a checkpoint of what is persisted in `dir`, which must not exist and whose parent must.
    /// What lies in memtables is left out: the log still has it. An engine that has persisted
    /// nothing yet is flushed first.
    ///
    /// Costs a link for each file and a few syncs. The directory goes with the checkpoint.
    ///
    /// # Errors
    /// The file system refuses, or nothing was applied yet.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, CheckpointError> {
        if self.persisted().log_position.is_none() {
            self.flush();
        }
        let made = Maker::new(&self.db)
            .and_then(|maker| maker.create_checkpoint_with_log_size(dir, NEVER_FLUSH));
        let described = made
            .map_err(|error| CheckpointError::Engine(error.to_string()))
            .and_then(|()| describe(dir));
        if described.is_err() {
            // What is left of it is removed at the next start, if not now.
            drop(fs::remove_tree(dir));
        }
        described
    }

    /// What the store in `dir` holds, without changing it: whether it is whole (every file that it
    /// names is there, in its size), how far the log is applied in it, and its revision.
    ///
    /// # Errors
    /// It is damaged, or another format's.
    pub fn inspect(dir: &Path) -> Result<Contents, OpenError> {
        // Bytes from elsewhere: what the engine would never come back from is not shown to it.
        if !manifest::are_whole(dir).unwrap_or(false) {
            return Err(SchemaError("the engine's manifest").into());
        }
        let engine = Engine::read_only(dir, LOOK)?;
        engine.require_format()?;
        Ok(Contents {
            applied: engine.applied()?,
            revision: engine.revision()?.unwrap_or_default(),
        })
    }
}

fn describe(dir: &Path) -> Result<Checkpoint, CheckpointError> {
    let contents = Engine::inspect(dir)?;
    let Some(position) = contents.applied.log_position else {
        return Err(CheckpointError::Empty);
    };
    let mut files = Vec::new();
    for (name, bytes) in fs::file_sizes(dir)? {
        if let Some(kind) = StoreFile::kind_of(&name) {
            files.push(StoreFile { kind, name, bytes });
        }
    }
    files.sort_unstable();
    Ok(Checkpoint::new(dir, files, contents, position))
}
