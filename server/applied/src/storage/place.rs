//! Where the store lies in its data directory, and the record that says so.
//!
//! A member begins in `store`. An installed snapshot is a directory of its own, `store.<n>`, and
//! comes into force by one atomic rename: that of the switch record, `SWITCH`. Directories are never
//! renamed under an open engine, which opens its files by name. Whatever a crash leaves, the record
//! names the store; every other one is removed at the next start.

use std::io;
use std::path::{Path, PathBuf};

use engram_proto::store as pb;
use prost::Message;

use super::LogPosition;
use super::schema::{self, FORMAT};
use crate::fs;

/// The switch record's file in the data directory.
const SWITCH: &str = "SWITCH";
/// The directory of a store that was never replaced.
const FIRST: &str = "store";
/// What names of later stores begin with; a number follows.
const LATER: &str = "store.";
/// Where snapshots are received.
const INCOMING: &str = "store.incoming";
/// Where checkpoints lie while they are sent.
const CHECKPOINTS: &str = "store.checkpoint";

/// Which store of which data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    data_dir: PathBuf,
    /// How many snapshots were installed before it.
    generation: u64,
}

/// Why the store's place cannot be told or changed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The file system refuses.
    #[error("{SWITCH} of the data directory: {0}")]
    Io(#[from] io::Error),
    /// The record is none.
    #[error(
        "{SWITCH} of the data directory is damaged: restore this member from the others or from a backup"
    )]
    Damaged,
    /// Another version wrote it.
    #[error(
        "the data directory's {SWITCH} has format {0}, this engram reads {FORMAT}: start the engram that wrote it"
    )]
    Format(u32),
    /// The store that the record names is gone.
    #[error(
        "{}, which holds the store, is missing: restore this member from the others or from a backup",
        .0.display()
    )]
    Missing(PathBuf),
}

/// Where a member with this data directory receives snapshots.
pub fn incoming_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(INCOMING)
}

/// Whether a name in the data directory is one of a store's, or of what belongs to it.
pub fn is_ours(name: &str) -> bool {
    name == FIRST || name.starts_with(LATER) || name.starts_with(SWITCH)
}

impl Place {
    /// The store in force, and the last entry of the snapshot it began as (none for a first store).
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn find(data_dir: &Path) -> Result<(Place, Option<LogPosition>), PlaceError> {
        let data_dir = data_dir.to_path_buf();
        let Some(bytes) = fs::read_if_exists(&data_dir.join(SWITCH))? else {
            let generation = 0;
            return Ok((
                Place {
                    data_dir,
                    generation,
                },
                None,
            ));
        };
        let (generation, installed) = decode(&bytes)?;
        let place = Place {
            data_dir,
            generation,
        };
        match fs::is_dir(&place.dir()) {
            true => Ok((place, Some(installed))),
            false => Err(PlaceError::Missing(place.dir())),
        }
    }

    /// The place whose directory is `dir`; none for a directory that no store is kept in.
    pub fn of(dir: &Path) -> Option<Place> {
        let name = dir.file_name()?.to_str()?;
        Some(Place {
            data_dir: dir.parent()?.to_path_buf(),
            generation: generation(name)?,
        })
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        match self.generation {
            0 => self.data_dir.join(FIRST),
            later => self.data_dir.join(format!("{LATER}{later}")),
        }
    }

    /// Where this member's checkpoints are made.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.data_dir.join(CHECKPOINTS)
    }

    /// Moves a received store to where the next one goes, which comes into force by
    /// [`Place::switch`]. What an installation that came to nothing left there is removed.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn receive(&self, from: &Path) -> io::Result<Place> {
        let next = Place {
            data_dir: self.data_dir.clone(),
            generation: self.generation + 1,
        };
        fs::remove_tree(&next.dir())?;
        fs::rename_durably(from, &next.dir())?;
        Ok(next)
    }

    /// Puts this store in force, durably: a snapshot whose last entry is `installed`.
    ///
    /// # Errors
    /// The file system refuses; which store is in force is then told by the next start.
    pub fn switch(&self, installed: LogPosition) -> Result<(), PlaceError> {
        let bytes = encode(self.generation, installed);
        Ok(fs::write_durably(&self.data_dir.join(SWITCH), &bytes)?)
    }

    /// Removes every other store, and what was being received or sent when the process ended. For
    /// the start, before the store is opened.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn clean(&self) -> io::Result<()> {
        let current = self.dir();
        for name in fs::file_names(&self.data_dir)? {
            let path = self.data_dir.join(&name);
            let is_left = generation(&name).is_some() || name == INCOMING || name == CHECKPOINTS;
            if is_left && path != current {
                crate::log!(info, "removing what a snapshot left behind", path = %path.display());
                fs::remove_tree(&path)?;
            }
        }
        fs::sync_dir(&self.data_dir)
    }
}

/// The generation of the store in a directory of this name.
fn generation(name: &str) -> Option<u64> {
    if name == FIRST {
        return Some(0);
    }
    let number: u64 = name.strip_prefix(LATER)?.parse().ok()?;
    // The one way of writing it, so that no foreign name is taken for a store.
    (number > 0 && name == format!("{LATER}{number}")).then_some(number)
}

/// Protobuf, then its CRC32C (big endian).
fn encode(generation: u64, installed: LogPosition) -> Vec<u8> {
    let record = pb::Switch {
        format: FORMAT,
        generation,
        installed: Some(schema::position_to_pb(installed)),
    };
    let mut bytes = record.encode_to_vec();
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u64, LogPosition), PlaceError> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(PlaceError::Damaged)?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
        return Err(PlaceError::Damaged);
    }
    let record = pb::Switch::decode(body).map_err(|_| PlaceError::Damaged)?;
    if record.format != FORMAT {
        return Err(PlaceError::Format(record.format));
    }
    let installed = record.installed.ok_or(PlaceError::Damaged)?;
    Ok((record.generation, schema::position_from_pb(&installed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: LogPosition = LogPosition { term: 3, index: 70 };

    #[test]
    fn the_record_names_the_store_and_every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (first, installed) = Place::find(dir.path()).unwrap();
        assert_eq!((first.dir(), installed), (dir.path().join("store"), None));
        std::fs::create_dir(dir.path().join("got")).unwrap();
        let next = first.receive(&dir.path().join("got")).unwrap();
        assert_eq!(Place::find(dir.path()).unwrap().0, first);
        next.switch(AT).unwrap();
        assert_eq!(Place::find(dir.path()).unwrap(), (next.clone(), Some(AT)));
        assert_eq!(Place::of(&next.dir()), Some(next));
        let whole = std::fs::read(dir.path().join(SWITCH)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            std::fs::write(dir.path().join(SWITCH), bytes).unwrap();
            assert!(Place::find(dir.path()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_store_that_is_missing_is_an_error_and_never_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = Place::find(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("got")).unwrap();
        let next = first.receive(&dir.path().join("got")).unwrap();
        next.switch(AT).unwrap();
        std::fs::remove_dir(next.dir()).unwrap();
        let error = Place::find(dir.path()).unwrap_err();
        assert!(matches!(error, PlaceError::Missing(_)), "{error}");
    }

    #[test]
    fn cleaning_removes_other_stores_and_leaves_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "store",
            "store.1",
            "store.2",
            "store.02",
            "store.bak",
            "wal",
            INCOMING,
            CHECKPOINTS,
        ];
        for name in names {
            std::fs::create_dir_all(dir.path().join(name).join("inner")).unwrap();
        }
        let current = Place::of(&dir.path().join("store.2")).unwrap();
        current.switch(AT).unwrap();
        current.clean().unwrap();
        let left = fs::file_names(dir.path()).unwrap();
        assert_eq!(left, ["SWITCH", "store.02", "store.2", "store.bak", "wal"]);
    }
}
