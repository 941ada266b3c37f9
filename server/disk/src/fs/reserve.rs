//! Free space, and a file that holds some back.

use std::io;
use std::path::{Path, PathBuf};

use super::data_file::DataFile;
use super::durable::{parent_of, remove_durably, sync_dir};

/// Space of the filesystem that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that an unprivileged process may still use.
    pub free_bytes: u64,
    /// Bytes of the filesystem.
    pub total_bytes: u64,
}

/// Asks the filesystem of `path`.
pub fn space(path: &Path) -> io::Result<DiskSpace> {
    let stat = rustix::fs::statvfs(path)?;
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    #[cfg(any(test, feature = "fixtures"))]
    let free_bytes = super::faults::left(path).unwrap_or(free_bytes);
    Ok(DiskSpace {
        free_bytes,
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Whether two paths, which must exist, lie on one filesystem.
pub fn is_same_filesystem(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(rustix::fs::stat(one)?.st_dev == rustix::fs::stat(other)?.st_dev)
}

/// Whether an error says that the disk or the quota is full: worth waiting, not the disk's failure.
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A file whose only use is to be removed when the disk is full, so that deletes and compaction,
/// which write a little before they free a lot, have room.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// A reserve of `bytes` in the file `path`. It is made now if there is room; on a full disk it
    /// is not held and `restore` may be called later.
    pub fn ensure(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut reserve = Self {
            path: path.to_path_buf(),
            bytes,
            held: false,
        };
        match reserve.restore() {
            Err(error) if !is_out_of_space(&error) => Err(error),
            _ => Ok(reserve),
        }
    }

    /// Whether the space is held back at the moment.
    pub fn held(&self) -> bool {
        self.held
    }

    /// Gives the space to whoever writes next. Nothing happens when it is not held.
    pub fn release(&mut self) -> io::Result<()> {
        if !self.held {
            return Ok(());
        }
        remove_durably(&self.path)?;
        self.held = false;
        Ok(())
    }

    /// Takes the space back, if there is as much free. On an error nothing is left behind.
    pub fn restore(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        let file = match DataFile::create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                DataFile::open(&self.path)?
            }
            created => created?,
        };
        if let Err(error) = file.allocate(self.bytes).and_then(|()| file.sync_data()) {
            remove_durably(&self.path)?;
            return Err(error);
        }
        sync_dir(parent_of(&self.path))?;
        self.held = true;
        Ok(())
    }
}
