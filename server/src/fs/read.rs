//! Reads of whole small files.

use std::io;
use std::path::Path;

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

/// How many files this process has open, where /proc tells.
pub fn open_file_count() -> Option<u64> {
    // The listing itself holds one open.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(open.saturating_sub(1)).ok()
}

/// How many files this process may open.
pub fn file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}
