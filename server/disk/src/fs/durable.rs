//! Names that survive a crash: renamed and removed, each with the directory synced after it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Renames within one directory (or from one to another), replacing what has the name.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let (source, target) = (parent_of(from), parent_of(to));
    sync_dir(target)?;
    if source != target {
        sync_dir(source)?;
    }
    Ok(())
}

/// Removes a file. One that is not there is an error.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_dir(parent_of(path))
}

/// The directory that holds `path`'s name; the working directory for a bare name.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
