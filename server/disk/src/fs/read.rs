//! Reads of whole small files.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What tells one state of a file from another without reading it. A file that is replaced has
/// another inode, one that is written in place another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// When the file was last written or renamed over, seconds since 1970.
    pub fn changed_seconds(&self) -> i64 {
        self.changed.0.max(self.modified.0)
    }
}

/// The state of a file, with symbolic links followed: a link that is switched is a change.
///
/// # Errors
/// There is no such file, or it may not be looked at.
pub fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// The bytes of a file that has at most `bytes_max` of them.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let reason = format!("the file has more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// The file's bytes; none where there is no such file.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_if_exists(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A text file of /proc or the control group, where there is one.
pub fn read_text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The ids of this process's threads, where /proc tells.
pub fn thread_ids() -> Vec<u32> {
    let listed = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable();
    ids
}

/// How many files this process has open, where /proc tells.
pub fn open_file_count() -> Option<u64> {
    // The listing itself holds one open.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(open.saturating_sub(1)).ok()
}

/// How many bytes of address space this process may use; none where there is no limit.
pub fn address_space_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// How many files this process may open.
pub fn file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The first bytes of a file, at most `bytes_max` of them, and whether there are more.
///
/// # Errors
/// It cannot be read.
pub fn read_first(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    let more = bytes.len() as u64 > bytes_max;
    bytes.truncate(usize::try_from(bytes_max).unwrap_or(usize::MAX));
    Ok((bytes, more))
}
