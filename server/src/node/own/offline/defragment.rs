//! The store of a member that does not run, rewritten without what it no longer needs.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fs::{DirLock, LockError};
use crate::storage::{
    Engine, EngineOptions, Identity, IdentityError, OpenError, Place, PlaceError,
};

/// How often it is asked whether the directory is free.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Why a directory was not defragmented. Nothing in it was changed then.
#[derive(Debug, thiserror::Error)]
pub enum DefragmentError {
    /// It is nobody's.
    #[error("{0} is no data directory of engram's")]
    NoMember(String),
    /// Whose it is cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A member uses it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Which store is in force cannot be read.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The engine does not open it.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Rewrites the store of a data directory. Waits for the directory's lock as long as `limit`, for ever
/// where that is zero. An engine that fails ends the process.
///
/// # Errors
/// See [`DefragmentError`].
pub fn defragment(data_dir: &Path, limit: Duration) -> Result<(), DefragmentError> {
    if Identity::load(data_dir)?.is_none() {
        let shown = data_dir.display().to_string();
        return Err(DefragmentError::NoMember(shown));
    }
    let _lock = lock(data_dir, limit)?;
    let (place, _) = Place::find(data_dir)?;
    let engine = Engine::open(&place.dir(), EngineOptions::default())?;
    for part in engine.reclaim_parts() {
        engine.reclaim_part(&part);
    }
    engine.flush();
    Ok(())
}

fn lock(data_dir: &Path, limit: Duration) -> Result<DirLock, LockError> {
    let begun = Instant::now();
    loop {
        match DirLock::acquire(data_dir) {
            Err(LockError::Held { .. }) if limit.is_zero() || begun.elapsed() < limit => {
                std::thread::sleep(LOCK_PAUSE);
            }
            done => return done,
        }
    }
}
