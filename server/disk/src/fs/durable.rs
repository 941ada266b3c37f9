//! Names that survive a crash: write, rename and remove, each with the directory synced after it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::data_file::DataFile;
use super::directory::parent_of;

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces the file `path` by `bytes`, mode 0600. After a crash there is the old content or the
/// new, never a mixture. A temporary file `<name>.tmp` beside it is used and overwritten.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // One that a crash left behind, or none.
        _ => {}
    }
    let file = DataFile::create(&temporary)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    rename_durably(&temporary, path)
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

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file",
        ));
    };
    let mut temporary = name.to_os_string();
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}
