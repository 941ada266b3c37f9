//! A directory in memory, one for each thread, for what is read from files alone.

use std::path::PathBuf;

use tempfile::TempDir;

/// Memory that is a disk, where there is one.
const DISK: &str = "/dev/shm";

thread_local! {
    static SCRATCH: TempDir = match std::path::Path::new(DISK).is_dir() {
        true => tempfile::tempdir_in(DISK),
        false => tempfile::tempdir(),
    }
    .expect("a directory");
}

/// The path of a name in this thread's directory; nothing is made there.
pub fn path(name: &str) -> PathBuf {
    SCRATCH.with(|scratch| scratch.path().join(name))
}

/// A file of these bytes.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    std::fs::write(&path, bytes).expect("memory can be written");
    path
}

/// A directory of that name with nothing in it.
pub fn empty_dir(name: &str) -> PathBuf {
    let path = path(name);
    drop(std::fs::remove_dir_all(&path));
    std::fs::create_dir(&path).expect("memory can be written");
    path
}
