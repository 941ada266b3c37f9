//! A log that is only looked at: no lock, no change, every byte checked. It may be in use.

use std::io;
use std::path::{Path, PathBuf};

use super::record::Borrowed;
use super::recovery::load;
use super::scan::{Step, walk};
use super::segment::Name;
use crate::fs::{DataFile, file_names};

/// What a log says, record by record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// An entry.
    Entry {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// As it was appended.
        payload: &'a [u8],
    },
    /// A vote.
    Vote(&'a [u8]),
    /// The entries from this index on count no more.
    Truncate {
        /// The first of them.
        from: u64,
    },
    /// The entries up to this index are applied for good.
    Purge {
        /// The last of them.
        index: u64,
    },
}

/// Why a log cannot be looked at to its end.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A segment is damaged.
    #[error("{}: {why}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Shows every record of the log in `dir` to `seen`, oldest first. A torn frame at the end was never
/// acknowledged, and is left out.
///
/// # Errors
/// The log is damaged, or cannot be read.
pub fn look(dir: &Path, seen: &mut dyn FnMut(Seen<'_>)) -> Result<(), LookError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| LookError::Io { path, source }
    };
    // Ascending, and so are the segments: their names have one length.
    for name in file_names(dir).map_err(io(dir))? {
        let Some(Name::Segment(number)) = Name::parse(&name) else {
            continue;
        };
        let path = Name::Segment(number).path(dir);
        let file = DataFile::open_to_read(&path).map_err(io(&path))?;
        segment(&file, seen).map_err(|why| LookError::Damaged { file: path, why })?;
    }
    Ok(())
}

fn segment(file: &DataFile, seen: &mut dyn FnMut(Seen<'_>)) -> Result<(), String> {
    let mut loaded = load(file).map_err(|error| error.to_string())?;
    let mut visit = |step: Step<'_>| {
        if let Step::Record(at) = step
            && let Some(record) = shown(at.record)
        {
            seen(record);
        }
        Ok(())
    };
    walk(&loaded.header, &mut loaded.data, &mut visit)
        .map(drop)
        .map_err(|at| at.to_string())
}

fn shown(record: Borrowed<'_>) -> Option<Seen<'_>> {
    Some(match record {
        Borrowed::Entry {
            index,
            term,
            payload,
        } => Seen::Entry {
            index,
            term,
            payload,
        },
        Borrowed::Vote(payload) => Seen::Vote(payload),
        Borrowed::Truncate { from } => Seen::Truncate { from },
        Borrowed::Purge { index, .. } => Seen::Purge { index },
        Borrowed::Committed(_) => return None,
    })
}
