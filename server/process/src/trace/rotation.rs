//! Log files that are set aside when they reach a size, as `--enable-log-rotation` asks.
//!
//! A full file `engram.log` is renamed to `engram-2026-11-23T05-42-00.123.log` and a new one is
//! begun. Old files are deleted by count and by age, with each rotation. Nothing is compressed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::output::append_to;
use super::timestamp::{Calendar, calendar, since_epoch};

const BYTES_PER_MEGABYTE: u64 = 1024 * 1024;
const SECONDS_PER_DAY: u64 = 86_400;
/// Entries of the log's directory that are looked at for old files.
const DIRECTORY_ENTRIES_MAX: usize = 100_000;

/// When a log file is set aside and how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Megabytes that a file may reach. Default 100, also for 0.
    pub size_megabytes_max: u64,
    /// Days that an old file is kept; 0 means for ever.
    pub age_days_max: u64,
    /// Old files that are kept; 0 means all.
    pub backups_max: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            size_megabytes_max: 100,
            age_days_max: 0,
            backups_max: 0,
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
}

impl RotatingFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_path_buf(),
            rotation,
            file,
            bytes,
        })
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
        let moment = calendar(since_epoch());
        fs::rename(&self.path, self.backup_path(moment))?;
        self.file = append_to(&self.path)?;
        self.bytes = self.file.metadata()?.len();
        self.delete_old_backups()
    }

    fn backup_path(&self, moment: Calendar) -> PathBuf {
        let Calendar {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
        } = moment;
        let (prefix, suffix) = self.backup_name_parts();
        let millis = micros / 1_000;
        let name = format!(
            "{prefix}{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{millis:03}{suffix}"
        );
        self.path.with_file_name(name)
    }

    /// What a backup's name begins and ends with, around its time.
    fn backup_name_parts(&self) -> (String, String) {
        let lossy = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let extension = match self.path.extension() {
            Some(extension) => format!(".{}", extension.to_string_lossy()),
            None => String::new(),
        };
        (format!("{}-", lossy(self.path.file_stem())), extension)
    }

    fn delete_old_backups(&self) -> io::Result<()> {
        let Rotation {
            age_days_max,
            backups_max,
            ..
        } = self.rotation;
        if age_days_max == 0 && backups_max == 0 {
            return Ok(());
        }
        let backups = self.backups_newest_first()?;
        let age_max = Duration::from_secs(age_days_max.saturating_mul(SECONDS_PER_DAY));
        for (position, (_, path)) in backups.iter().enumerate() {
            let too_many = backups_max > 0 && position >= backups_max;
            if too_many || (age_days_max > 0 && is_older_than(path, age_max)) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// A backup's name holds its time with the largest unit first: names sort as times do.
    fn backups_newest_first(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (prefix, suffix) = self.backup_name_parts();
        let mut backups = Vec::new();
        for entry in fs::read_dir(directory)?.take(DIRECTORY_ENTRIES_MAX) {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamp = name
                .strip_prefix(&prefix)
                .and_then(|rest| rest.strip_suffix(&suffix));
            if stamp.is_some_and(is_backup_stamp) {
                backups.push((name, entry.path()));
            }
        }
        backups.sort();
        backups.reverse();
        Ok(backups)
    }
}

fn is_older_than(path: &Path, age_max: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.map(|moment| SystemTime::now().duration_since(moment).unwrap_or_default());
    age.is_ok_and(|age| age > age_max)
}

/// Whether the text has the shape `2026-11-23T05-42-00.123`. Only such files are ever deleted.
fn is_backup_stamp(text: &str) -> bool {
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
            age_days_max: 0,
            backups_max: 1,
        };
        let mut file = RotatingFile::open(&path, rotation).unwrap();

        let line = vec![b'x'; 700 * 1024];
        file.write_line(&line).unwrap();
        assert_eq!(
            names(directory.path()).len(),
            3,
            "nothing rotates below the limit"
        );
        file.write_line(&line).unwrap();

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
    fn only_names_with_a_time_are_backups() {
        assert!(is_backup_stamp("2026-11-23T05-42-00.123"));
        for other in [
            "",
            "2026-11-23",
            "2026-11-23T05-42-00.12x",
            "2026-11-23T05:42:00.123",
        ] {
            assert!(!is_backup_stamp(other), "{other}");
        }
    }
}
