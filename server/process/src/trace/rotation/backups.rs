//! The files that a log was before: how they are called, which of them go, how they are compressed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::trace::timestamp::{Calendar, calendar};

/// Entries of the log's directory that are looked at for old files.
const DIRECTORY_ENTRIES_MAX: usize = 100_000;
/// What the name of a compressed file ends with.
const COMPRESSED: &str = ".gz";

/// Where the old files of a log lie, and what their names begin and end with, around their time.
#[derive(Clone, Debug)]
pub(super) struct Backups {
    directory: PathBuf,
    prefix: String,
    suffix: String,
}

/// An old file.
struct Backup {
    /// Its time, as it stands in the name. The largest unit comes first: these sort as times do.
    stamp: String,
    is_compressed: bool,
    path: PathBuf,
}

impl Backups {
    /// The old files of the log of this name.
    pub(super) fn of(log: &Path) -> Backups {
        let lossy = |part: Option<&OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let extension = match log.extension() {
            Some(extension) => format!(".{}", extension.to_string_lossy()),
            None => String::new(),
        };
        let directory = log.parent().filter(|parent| !parent.as_os_str().is_empty());
        Backups {
            directory: directory.unwrap_or(Path::new(".")).to_path_buf(),
            prefix: format!("{}-", lossy(log.file_stem())),
            suffix: extension,
        }
    }

    /// What the log is called that is set aside at this moment.
    pub(super) fn path_at(&self, since_epoch: Duration) -> PathBuf {
        let (prefix, suffix) = (&self.prefix, &self.suffix);
        self.directory
            .join(format!("{prefix}{}{suffix}", stamp(since_epoch)))
    }

    /// Deletes those that are more than `kept` (0: as many as there are), and those that are older than `oldest`. One
    /// that cannot be deleted keeps no other from it.
    ///
    /// # Errors
    /// The directory cannot be listed, or the first of the files that could not be deleted.
    pub(super) fn delete(&self, kept: usize, oldest: Option<Duration>) -> io::Result<()> {
        if kept == 0 && oldest.is_none() {
            return Ok(());
        }
        let oldest = oldest.map(stamp).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut done = Ok(());
        for backup in self.newest_first()? {
            let is_old = backup.stamp < oldest;
            // A file and what it is compressed to are one.
            seen.insert(backup.stamp);
            if is_old || (kept > 0 && seen.len() > kept) {
                done = done.and(fs::remove_file(backup.path));
            }
        }
        done
    }

    /// Compresses those that are not. One that cannot be keeps no other from it.
    ///
    /// # Errors
    /// The directory cannot be listed, or the first of the files that could not be compressed.
    pub(super) fn compress(&self) -> io::Result<()> {
        let mut done = Ok(());
        for backup in self.newest_first()? {
            if !backup.is_compressed {
                done = done.and(compress(&backup.path));
            }
        }
        done
    }

    fn newest_first(&self) -> io::Result<Vec<Backup>> {
        let mut backups = Vec::new();
        for entry in fs::read_dir(&self.directory)?.take(DIRECTORY_ENTRIES_MAX) {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (bare, is_compressed) = match name.strip_suffix(COMPRESSED) {
                Some(bare) => (bare, true),
                None => (name.as_str(), false),
            };
            let stamp = bare
                .strip_prefix(&self.prefix)
                .and_then(|rest| rest.strip_suffix(&self.suffix));
            if let Some(stamp) = stamp.filter(|stamp| is_stamp(stamp)) {
                backups.push(Backup {
                    stamp: stamp.to_owned(),
                    is_compressed,
                    path: entry.path(),
                });
            }
        }
        backups.sort_by(|one, other| other.stamp.cmp(&one.stamp));
        Ok(backups)
    }
}

/// Replaces a file by itself compressed, with its mode. What a crash leaves is done again, since the file is there
/// until all of it is on the disk.
fn compress(path: &Path) -> io::Result<()> {
    let mut from = File::open(path)?;
    let mut compressed = path.as_os_str().to_owned();
    compressed.push(COMPRESSED);
    let compressed = PathBuf::from(compressed);
    let mode = from.metadata()?.mode() & 0o777;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options.open(&compressed).and_then(|to| {
        let mut to = GzEncoder::new(to, Compression::default());
        io::copy(&mut from, &mut to)?;
        let mut to = to.finish()?;
        to.flush()?;
        to.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&compressed);
    }
    written?;
    fs::remove_file(path)
}

fn stamp(since_epoch: Duration) -> String {
    let Calendar {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micros,
    } = calendar(since_epoch);
    let millis = micros / 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{millis:03}")
}

/// Whether the text has the shape `2026-11-23T05-42-00.123`. Only such files are ever touched.
fn is_stamp(text: &str) -> bool {
    let shape = b"0000-00-00T00-00-00.000";
    text.len() == shape.len()
        && text
            .bytes()
            .zip(shape)
            .all(|(byte, &expected)| match expected {
                b'0' => byte.is_ascii_digit(),
                expected => byte == expected,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_time_are_backups() {
        assert!(is_stamp("2026-11-23T05-42-00.123"));
        assert!(is_stamp(&stamp(Duration::from_millis(1_796_062_252_007))));
        for other in [
            "",
            "2026-11-23",
            "2026-11-23T05-42-00.12x",
            "2026-11-23T05:42:00.123",
        ] {
            assert!(!is_stamp(other), "{other}");
        }
    }

    #[test]
    fn a_file_and_what_it_is_compressed_to_count_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "a-2026-01-01T00-00-00.000.log",
            "a-2026-01-02T00-00-00.000.log.gz",
            "a-2026-01-03T00-00-00.000.log",
            "a-2026-01-03T00-00-00.000.log.gz",
            "a-2026-01-04T00-00-00.000",
            "b-2026-01-01T00-00-00.000.log",
        ] {
            fs::write(directory.path().join(name), "old").unwrap();
        }
        let backups = Backups::of(&directory.path().join("a.log"));
        let left = || backups.newest_first().unwrap().len();
        assert_eq!(left(), 4);
        backups.delete(2, None).unwrap();
        assert_eq!(left(), 3, "the oldest went");
        // The second of January, an hour later.
        let oldest = Duration::from_secs(1_767_315_600);
        backups.delete(0, Some(oldest)).unwrap();
        assert_eq!(left(), 2);
        backups.delete(1, None).unwrap();
        assert_eq!(left(), 2);
        backups.compress().unwrap();
        assert_eq!(left(), 1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }
}
