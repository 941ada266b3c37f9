//! Names that survive a crash: renamed and removed, each with the directory synced after it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

#[cfg(any(test, feature = "fixtures"))]
use super::{
    faults::{self, Operation},
    power,
};
use crate::mutants::is_planted;

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    if is_planted("names-unsynced") {
        return Ok(());
    }
    #[cfg(any(test, feature = "fixtures"))]
    {
        power::passing(dir);
        faults::check(dir, Operation::Name)?;
    }
    File::open(dir)?.sync_all()?;
    #[cfg(any(test, feature = "fixtures"))]
    power::names_synced(dir);
    Ok(())
}

/// Renames within one directory (or from one to another), replacing what has the name.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "fixtures"))]
    let before = power::content(to);
    fs::rename(from, to)?;
    #[cfg(any(test, feature = "fixtures"))]
    power::moved(from, to, before);
    let (source, target) = (parent_of(from), parent_of(to));
    sync_dir(target)?;
    if source != target {
        sync_dir(source)?;
    }
    Ok(())
}

/// Removes a file. One that is not there is an error.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "fixtures"))]
    let content = power::content(path);
    fs::remove_file(path)?;
    #[cfg(any(test, feature = "fixtures"))]
    power::removed(path, content);
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
