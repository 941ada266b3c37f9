//! A log in words, for people who look into one.

use std::io;
use std::path::{Path, PathBuf};

use super::record::Borrowed;
use super::recovery::{Loaded, RecoverError, load};
use super::scan::{Damage, RecordAt, Step, walk};
use super::segment::Name;
use crate::fs::{DataFile, file_names};

/// Bytes of a payload that a line shows.
const SHOWN_BYTES: usize = 16;

/// Why a log could not be shown to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The directory cannot be listed.
    #[error("listing of {} failed: {source}", dir.display())]
    List {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("open of {} failed: {source}", file.display())]
    Open {
        /// The segment.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Segments were skipped or shown in part; the lines say which and why.
    #[error("{segments} segments could not be read to their end")]
    Incomplete {
        /// How many.
        segments: usize,
    },
}

/// Gives `line` one line for every segment, frame and record of the log in `dir`, oldest first. It
/// only reads, takes no lock, and goes on behind a damaged segment; the log may be in use, and is
/// then shown as of the moment.
pub fn dump(dir: &Path, line: &mut dyn FnMut(String)) -> Result<(), DumpError> {
    let names = file_names(dir).map_err(|source| DumpError::List {
        dir: dir.to_path_buf(),
        source,
    })?;
    let mut segments = 0;
    for name in names {
        let Some(Name::Segment(number)) = Name::parse(&name) else {
            continue;
        };
        let path = Name::Segment(number).path(dir);
        let file = DataFile::open_to_read(&path).map_err(|source| DumpError::Open {
            file: path.clone(),
            source,
        })?;
        if let Err(why) = dump_segment(&name, &file, line) {
            line(format!("{name}: {why}"));
            segments += 1;
        }
    }
    if segments == 0 {
        Ok(())
    } else {
        Err(DumpError::Incomplete { segments })
    }
}

fn dump_segment(name: &str, file: &DataFile, line: &mut dyn FnMut(String)) -> Result<(), String> {
    let Loaded {
        mut data,
        header,
        bytes: found,
    } = load(file).map_err(|error| match error {
        // The advice belongs to a member that does not start.
        RecoverError::Damaged { damage, .. } => damage.to_string(),
        other => other.to_string(),
    })?;
    line(format!(
        "{name}: segment {} bytes={} nonce={:016x} sequence={} next_index={} chain_before={:08x}{}",
        header.id.number,
        header.segment_bytes,
        header.id.nonce,
        header.sequence,
        header.next_index,
        header.chain_before,
        header
            .owner
            .map_or(String::new(), |owner| format!(" of {owner}"))
    ));
    if found != header.segment_bytes {
        return Err(Damage::Length {
            found,
            stated: header.segment_bytes,
        }
        .to_string());
    }
    let mut visit = |step: Step<'_>| {
        line(match step {
            Step::Frame { offset, header } => format!(
                "{offset:>10} frame {} bytes={} records={} mask={:08x} chain={:08x}",
                header.sequence,
                header.frame_bytes(),
                header.records,
                header.mask,
                header.chain
            ),
            Step::Record(record) => format!("{:>10}   {}", record.offset, describe(&record)),
        });
        Ok(())
    };
    let end = walk(&header, &mut data, &mut visit).map_err(|at| at.to_string())?;
    line(match end.torn_bytes {
        0 => format!("{:>10} end", end.offset),
        torn => format!(
            "{:>10} end; {torn} bytes of a torn frame follow",
            end.offset
        ),
    });
    Ok(())
}

fn describe(record: &RecordAt<'_>) -> String {
    match record.record {
        Borrowed::Entry {
            index,
            term,
            payload,
        } => {
            format!("entry index={index} term={term} {}", shown(payload))
        }
        Borrowed::Vote(payload) => format!("vote {}", shown(payload)),
        Borrowed::Committed(payload) => format!("committed {}", shown(payload)),
        Borrowed::Truncate { from } => format!("truncate from={from}"),
        Borrowed::Purge { index, payload } => format!("purge index={index} {}", shown(payload)),
    }
}

fn shown(payload: &[u8]) -> String {
    let hex: String = payload
        .iter()
        .take(SHOWN_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if payload.len() > SHOWN_BYTES {
        "…"
    } else {
        ""
    };
    format!("bytes={} payload={hex}{more}", payload.len())
}
