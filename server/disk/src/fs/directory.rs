//! Directories that only their owner may enter.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::durable::{parent_of, sync_dir};

const PRIVATE: u32 = 0o700;
const GROUP_AND_WORLD: u32 = 0o077;
const WORLD_WRITE: u32 = 0o002;
const PERMISSION_BITS: u32 = 0o777;
/// Directory entries that are looked at; a data directory holds a few hundred.
const NAMES_MAX: usize = 100_000;

/// How a directory was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirMode {
    /// It did not exist and was made with mode 0700.
    Created,
    /// It existed with mode 0700 or narrower.
    Private,
    /// It existed with the wider mode `from` and was narrowed to 0700: log it.
    Tightened {
        /// The mode before.
        from: u32,
    },
    /// It belongs to another user, who lets group or others enter: the root of a mounted volume
    /// often does. Warn; what is made inside is private all the same.
    Shared {
        /// Its mode.
        mode: u32,
    },
}

/// Why a directory cannot hold data.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another user's, and everybody may replace its files.
    #[error(
        "directory {} has mode {mode:o} and belongs to user {owner}: everybody may replace files in \
         it; run `chmod 700 {}` as that user, or choose another data directory",
        path.display(), path.display()
    )]
    WorldWritable {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The owner's user id.
        owner: u32,
    },
    /// Something else has the name.
    #[error("{} is not a directory; choose another path or move it away", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("directory {}: {operation} failed: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes sure that `path` is a directory for this process's user alone, with its parents; durable
/// on return. An existing one that is wider is narrowed if it belongs to this user.
pub fn create_private_dir(path: &Path) -> Result<DirMode, DirError> {
    let failed = |operation| {
        move |source| DirError::Io {
            operation,
            path: path.to_path_buf(),
            source,
        }
    };
    match fs::metadata(path) {
        Ok(metadata) => return tighten(path, &metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("stat")(error)),
    }
    let first_missing = first_missing_ancestor(path);
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(path)
        .map_err(failed("create"))?;
    #[cfg(any(test, feature = "fixtures"))]
    super::power::made(first_missing);
    // Every directory that was made is an entry of its parent: sync from the bottom up.
    for made in path.ancestors() {
        sync_dir(parent_of(made)).map_err(failed("sync of the parent"))?;
        if made == first_missing {
            break;
        }
    }
    Ok(DirMode::Created)
}

/// Names of the entries of a directory, ascending. Names that are not UTF-8 are left out: nothing
/// that Engram makes has one.
pub fn file_names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)?.take(NAMES_MAX) {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Names and lengths of the files of a directory, directories in it left out. Names that are not
/// UTF-8 are left out as well.
pub fn file_sizes(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut sizes = Vec::new();
    for name in file_names(dir)? {
        let metadata = fs::symlink_metadata(dir.join(&name))?;
        if metadata.is_file() {
            sizes.push((name, metadata.len()));
        }
    }
    Ok(sizes)
}

/// Removes a directory with all that is in it; nothing to remove is no error. Not durable before its
/// parent is synced: what a crash leaves is to be removed again.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory (mode 0700) that must not exist yet: of several that try, one succeeds. Its
/// parent must exist. Not durable before the parent is synced.
pub fn claim_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE).create(path)?;
    #[cfg(any(test, feature = "fixtures"))]
    super::power::made(path);
    Ok(())
}

/// Whether there is a directory at `path`.
pub fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

fn first_missing_ancestor(path: &Path) -> &Path {
    path.ancestors()
        .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
        .last()
        .unwrap_or(path)
}

fn tighten(path: &Path, metadata: &Metadata) -> Result<DirMode, DirError> {
    if !metadata.is_dir() {
        return Err(DirError::NotADirectory {
            path: path.to_path_buf(),
        });
    }
    let mode = metadata.permissions().mode() & PERMISSION_BITS;
    if mode & GROUP_AND_WORLD == 0 {
        return Ok(DirMode::Private);
    }
    let owner = metadata.uid();
    if owner == rustix::process::geteuid().as_raw() {
        let narrowed = fs::set_permissions(path, Permissions::from_mode(PRIVATE));
        return match narrowed {
            Ok(()) => Ok(DirMode::Tightened { from: mode }),
            Err(source) => Err(DirError::Io {
                operation: "chmod 700",
                path: path.to_path_buf(),
                source,
            }),
        };
    }
    if mode & WORLD_WRITE != 0 {
        return Err(DirError::WorldWritable {
            path: path.to_path_buf(),
            mode,
            owner,
        });
    }
    Ok(DirMode::Shared { mode })
}
