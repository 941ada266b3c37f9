//! A small file put in another one's place, whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::data_file::DataFile;
use super::durable::rename_durably;

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
