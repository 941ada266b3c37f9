//! One process a directory, and files that another program locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const LOCK_NAME: &str = "LOCK";

/// Exclusive use of a directory, until it is dropped or the process ends in whatever way (the
/// kernel lets go of it; the file stays and means nothing).
#[derive(Debug)]
pub struct DirLock {
    /// Held, never read: the lock belongs to the open file.
    _file: File,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "directory {} is used by another process; stop that process, or choose another directory",
        dir.display()
    )]
    Held {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("directory {}: its lock file cannot be used: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DirLock {
    /// Takes the lock of an existing directory (its file `LOCK`), without waiting.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            dir: dir.to_path_buf(),
            source,
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(dir.join(LOCK_NAME)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held {
                dir: dir.to_path_buf(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Exclusive use of a file of another program's, as that program asks for it (`flock`), until it is
/// dropped. Nothing is written.
#[derive(Debug)]
pub struct FileLock {
    /// Held, never read: the lock belongs to the open file.
    _file: File,
}

impl FileLock {
    /// Takes the lock of an existing file without waiting; none where somebody has it.
    ///
    /// # Errors
    /// It cannot be opened, or the file system has no locks.
    pub fn acquire(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(source),
        }
    }
}
