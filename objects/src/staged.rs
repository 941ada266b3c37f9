//! What writes that were cut short leave in a directory: a file beside the object's, which no list shows. In a
//! store of objects there is none: what is not whole there is not there.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// How deep a store's directories go: cluster, archives, archive, run.
const DEPTH_MAX: usize = 8;

/// Removes what was left below a directory before a moment of objects with such names, with the directories that are
/// empty then and were not touched since; how many files there were.
///
/// # Errors
/// The file system refuses.
pub(crate) fn remove(
    directory: &Path,
    before: SystemTime,
    is_ours: fn(&str) -> bool,
) -> io::Result<u64> {
    remove_below(directory, before, is_ours, DEPTH_MAX)
}

fn remove_below(
    directory: &Path,
    before: SystemTime,
    is_ours: fn(&str) -> bool,
    depth: usize,
) -> io::Result<u64> {
    let mut removed = 0;
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Whoever writes at this moment renames it, or removes it.
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        let is_old = metadata.modified().is_ok_and(|at| at < before);
        let path = entry.path();
        if metadata.is_dir() && depth > 0 {
            removed += match remove_below(&path, before, is_ours, depth - 1) {
                // Somebody else's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                below => below?,
            };
            if is_old {
                // One that is not empty stays.
                drop(fs::remove_dir(&path));
            }
        } else if metadata.is_file() && is_old && is_staged(&entry.file_name(), is_ours) {
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                // Two prune at the same time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// Whether a file is what a write of one of these objects goes to before it has the object's name: that, `#` and a number.
fn is_staged(name: &OsStr, is_ours: fn(&str) -> bool) -> bool {
    let Some((object, number)) = name.to_str().and_then(|name| name.rsplit_once('#')) else {
        return false;
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && is_ours(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn is_ours(name: &str) -> bool {
        name.ends_with(".chunk") || name == "MANIFEST"
    }

    #[test]
    fn what_was_left_long_ago_goes_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        let names = [
            "a/one/00000000.chunk#1",
            "a/one/00000000.chunk",
            "a/two/00000000.chunk#12",
            "a/two/notes#1",
            "a/gone/MANIFEST#3",
        ];
        for name in names {
            let path = at(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "half").expect("written");
        }
        let soon = SystemTime::now() + Duration::from_secs(60);
        let earlier = SystemTime::now() - Duration::from_secs(60);
        assert_eq!(remove(root.path(), earlier, is_ours).expect("read"), 0);
        assert_eq!(remove(root.path(), soon, is_ours).expect("read"), 3);
        let left = ["a/one/00000000.chunk", "a/two/notes#1"];
        assert!(left.iter().all(|name| at(name).exists()));
        assert!(!at("a/gone").exists() && !at("a/one/00000000.chunk#1").exists());
        assert_eq!(
            remove(&at("nowhere"), soon, is_ours).expect("nothing is there"),
            0
        );
    }
}
