//! Log files that are set aside when they reach a size, as `--enable-log-rotation` asks: in the same way, and under
//! the same names, as etcd's.
//!
//! A full file `engram.log` is renamed to `engram-2026-11-23T05-42-00.123.log` and a new one is
//! begun, with its mode and its owner. At the start and with each rotation, on a thread of its own, old files, compressed
//! or not, are deleted by count and by the age in their names, and compressed
//! (`engram-2026-11-23T05-42-00.123.log.gz`) where that is asked for.

mod backups;
mod mill;

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use self::backups::Backups;
use self::mill::Mill;
use super::output::open_for_appending;
use super::timestamp::since_epoch;

const BYTES_PER_MEGABYTE: u64 = 1024 * 1024;
/// Of a file that is not there yet: a log can name users and keys.
const MODE: u32 = 0o600;
/// Of directories that are not there yet.
const DIRECTORY_MODE: u32 = 0o755;

/// When a log file is set aside and how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Megabytes that a file may reach. Default 100, also for 0.
    pub size_megabytes_max: u64,
    /// Days that an old file is kept; 0 means for ever.
    pub age_days_max: u64,
    /// Old files that are kept; 0 means all.
    pub backups_max: usize,
    /// Whether old files are compressed.
    pub compressed: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            size_megabytes_max: 100,
            age_days_max: 0,
            backups_max: 0,
            compressed: false,
        }
    }
}

impl Rotation {
    fn bytes_max(self) -> u64 {
        let megabytes = match self.size_megabytes_max {
            0 => Self::default().size_megabytes_max,
            megabytes => megabytes,
        };
        megabytes.saturating_mul(BYTES_PER_MEGABYTE)
    }
}

/// A file that replaces itself by an empty one when it is full.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    bytes: u64,
    mill: Mill,
}

impl RotatingFile {
    /// Opens the file, in directories that are made where they are not there.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            let mut make = DirBuilder::new();
            make.recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory)?;
        }
        let file = open_for_appending(path, MODE)?;
        let bytes = file.metadata()?.len();
        let mut opened = Self {
            path: path.to_path_buf(),
            rotation,
            file,
            bytes,
            mill: Mill::new(Backups::of(path), rotation),
        };
        opened.mill.look();
        Ok(opened)
    }

    /// Writes the line, into a new file when the present one would grow beyond its limit. A
    /// rotation that fails keeps the present file: a long log is better than none.
    pub(super) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.rotation.bytes_max() {
            let _ = self.rotate();
        }
        self.file.write_all(line)?;
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let before = self.file.metadata()?;
        fs::rename(&self.path, self.mill.path_at(since_epoch()))?;
        self.file = open_for_appending(&self.path, before.mode() & 0o777)?;
        self.bytes = self.file.metadata()?.len();
        self.mill.look();
        self.keep_access(&before)
    }

    /// Whoever reads the log reads on: the new file is the old one's owner's, with its mode.
    fn keep_access(&self, before: &Metadata) -> io::Result<()> {
        let now = self.file.metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            // Another's file can be written to without being allowed to give files away.
            let _ = std::os::unix::fs::fchown(&self.file, Some(before.uid()), Some(before.gid()));
        }
        match now.mode() == before.mode() {
            true => Ok(()),
            false => self
                .file
                .set_permissions(fs::Permissions::from_mode(before.mode())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_backups_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engram.log");
        fs::write(
            directory.path().join("engram-2020-01-02T03-04-05.678.log"),
            "old",
        )
        .unwrap();
        fs::write(directory.path().join("engram-notes.log"), "not a backup").unwrap();
        let rotation = Rotation {
            size_megabytes_max: 1,
            backups_max: 1,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open(&path, rotation).unwrap();

        let line = vec![b'x'; 700 * 1024];
        file.write_line(&line).unwrap();
        file.mill.settle();
        assert_eq!(
            names(directory.path()).len(),
            3,
            "nothing rotates below the limit"
        );
        file.write_line(&line).unwrap();

        file.mill.settle();
        let after = names(directory.path());
        assert_eq!(
            after.len(),
            3,
            "one new backup, the older one is gone: {after:?}"
        );
        assert!(after.contains(&"engram-notes.log".to_owned()));
        assert!(!after.contains(&"engram-2020-01-02T03-04-05.678.log".to_owned()));
        assert_eq!(fs::metadata(&path).unwrap().len(), 700 * 1024);
    }

    #[test]
    fn a_file_that_was_full_before_the_start_rotates_with_the_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, vec![b'x'; 1024 * 1024]).unwrap();
        let rotation = Rotation {
            size_megabytes_max: 1,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open(&path, rotation).unwrap();
        file.write_line(b"first\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first\n");
        assert_eq!(names(directory.path()).len(), 2);
    }

    #[test]
    fn the_new_file_has_the_old_ones_mode_and_the_old_one_is_compressed() {
        use std::io::Read as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not/yet/engram.log");
        let rotation = Rotation {
            size_megabytes_max: 1,
            compressed: true,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open(&path, rotation).unwrap();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        let line = vec![b'x'; 700 * 1024];
        file.write_line(&line).unwrap();
        file.write_line(&line).unwrap();

        assert_eq!(mode(), 0o644);
        file.mill.settle();
        let left = names(path.parent().unwrap());
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[0].ends_with(".log.gz"), "{left:?}");
        let old = File::open(path.with_file_name(&left[0])).unwrap();
        assert_eq!(old.metadata().unwrap().mode() & 0o777, 0o644);
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(old)
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!(text, line);
    }

    #[test]
    fn a_file_that_is_set_aside_while_others_are_compressed_is_compressed_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engram.log");
        // What the start finds, and is long at.
        let large: Vec<u8> = (0..2u32 << 20).flat_map(u32::to_le_bytes).collect();
        fs::write(
            directory.path().join("engram-2020-01-02T03-04-05.678.log"),
            large,
        )
        .unwrap();
        fs::write(&path, vec![b'x'; 1024 * 1024]).unwrap();
        let rotation = Rotation {
            size_megabytes_max: 1,
            compressed: true,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open(&path, rotation).unwrap();
        file.write_line(b"first\n").unwrap();

        file.mill.settle();
        let left = names(directory.path());
        let compressed = left.iter().filter(|name| name.ends_with(".log.gz"));
        assert_eq!((left.len(), compressed.count()), (3, 2), "{left:?}");
    }

    #[test]
    fn a_file_that_cannot_be_deleted_keeps_no_other_from_being_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engram.log");
        // A directory by the name of an old file.
        fs::create_dir(directory.path().join("engram-2020-01-02T03-04-05.678.log")).unwrap();
        fs::write(
            directory.path().join("engram-2099-01-02T03-04-05.678.log"),
            "old",
        )
        .unwrap();
        let rotation = Rotation {
            age_days_max: 1,
            compressed: true,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open(&path, rotation).unwrap();
        file.mill.settle();
        let left = names(directory.path());
        assert!(
            left.contains(&"engram-2099-01-02T03-04-05.678.log.gz".to_owned()),
            "{left:?}"
        );
    }
}
