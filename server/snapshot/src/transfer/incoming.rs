//! The receiving side: pieces into files, checked one by one, and the whole at the end.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{PIECE_BYTES_MAX, Piece, TransferError};
use crate::fs::{self, DataFile};
use crate::storage::{Contents, Engine, Place, StoreFile};

/// The most transfers that are received at a time: an old leader's and a new one's, and one that
/// nobody has given up yet.
const TRANSFERS_MAX: u64 = 4;
/// The most files of a store: 64 MiB each, so that this is 6 TiB.
const FILES_MAX: usize = 100_000;
/// What is written is made durable in portions: a file system may have the log's next sync wait for
/// all that is not. A portion follows what the disk takes in [`SYNC_WANTED`]; it begins with this.
const PORTION_BYTES: u64 = 8 << 20;
/// The least portion and the most.
const PORTIONS: std::ops::RangeInclusive<u64> = (2 << 20)..=(64 << 20);
/// How long the log's next sync may wait for a portion, about.
const SYNC_WANTED: Duration = Duration::from_millis(50);
/// What must be free beside the snapshot: for the log, and for what opening the store writes.
const ROOM_BESIDE_BYTES: u64 = 32 << 20;
/// The most bytes of a store. The design is for 64 GiB.
const STORE_BYTES_MAX: u64 = 1 << 40;

/// A store that is being received, in a directory of its own that goes with it.
#[derive(Debug)]
pub struct Incoming {
    dir: OwnedDir,
    complete: BTreeSet<String>,
    current: Option<Current>,
    bytes: u64,
    /// Bytes written since something was made durable.
    unsynced: u64,
    /// Bytes after which something is.
    portion: u64,
}

#[derive(Debug)]
struct Current {
    name: String,
    file: DataFile,
    /// Its length so far.
    bytes: u64,
}

impl Incoming {
    /// Begins to receive in a new directory below `dir` ([`incoming_dir`]), which is made where it
    /// is not there. Blocks.
    ///
    /// [`incoming_dir`]: crate::storage::place::incoming_dir
    ///
    /// # Errors
    /// The file system refuses, or too many snapshots are being received.
    pub fn begin(dir: &Path) -> io::Result<Incoming> {
        fs::create_private_dir(dir).map_err(io::Error::other)?;
        Ok(Incoming {
            dir: OwnedDir::claim(dir)?,
            complete: BTreeSet::new(),
            current: None,
            bytes: 0,
            unsynced: 0,
            portion: PORTION_BYTES,
        })
    }

    /// Looks whether there is room for `bytes` in all.
    ///
    /// # Errors
    /// `StorageFull`: there is not.
    pub fn require_room(&self, bytes: u64) -> io::Result<()> {
        let free = fs::space(&self.dir.path)?.free_bytes;
        if bytes == 0 || free >= bytes.saturating_add(ROOM_BESIDE_BYTES) {
            return Ok(());
        }
        let text = format!("the snapshot has {bytes} bytes, the disk has {free} free");
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    /// Takes the next piece. Blocks for its write, and for a sync where a file ends.
    ///
    /// # Errors
    /// `InvalidData`, a [`TransferError`]: the piece is damaged, or not one that may come now.
    /// Others: the disk refuses. The transfer is over in both cases.
    pub fn accept(&mut self, piece: &Piece) -> io::Result<()> {
        if piece.crc32c != piece.checksum() {
            return Err(TransferError::Damaged(shown(&piece.file)).into());
        }
        if StoreFile::kind_of(&piece.file).is_none() {
            return Err(TransferError::Name(shown(&piece.file)).into());
        }
        let bytes = self.admit(piece)?;
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.create(&piece.file)?,
        };
        current.file.write_all_at(&piece.data, piece.offset)?;
        current.bytes += bytes;
        self.bytes += bytes;
        self.unsynced += bytes;
        if self.unsynced >= self.portion {
            let started = Instant::now();
            current.file.sync_data()?;
            self.portion = next_portion(self.portion, started.elapsed());
            self.unsynced = 0;
        }
        if !piece.end_of_file {
            self.current = Some(current);
            return Ok(());
        }
        current.file.sync_data()?;
        self.complete.insert(current.name);
        Ok(())
    }

    /// Checks that a piece may come now, and returns its length.
    fn admit(&self, piece: &Piece) -> Result<u64, TransferError> {
        let (file, expected) = match &self.current {
            Some(current) => (Some(current.name.as_str()), current.bytes),
            None => (None, 0),
        };
        let is_next = match file {
            Some(file) => file == piece.file,
            None => !self.complete.contains(&piece.file),
        };
        if !is_next || piece.offset != expected {
            return Err(TransferError::Order {
                file: piece.file.clone(),
                offset: piece.offset,
                expected: format!("{} at {expected}", file.unwrap_or("another file")),
            });
        }
        if piece.data.len() > PIECE_BYTES_MAX {
            return Err(TransferError::TooLarge("a piece"));
        }
        if piece.data.is_empty() && !piece.end_of_file {
            // It would cost nothing to send for ever.
            return Err(TransferError::TooLarge("pieces without data"));
        }
        if file.is_none() && self.complete.len() >= FILES_MAX {
            return Err(TransferError::TooLarge("files"));
        }
        let bytes = u64::try_from(piece.data.len()).expect("at most PIECE_BYTES_MAX");
        if self.bytes + bytes > STORE_BYTES_MAX {
            return Err(TransferError::TooLarge("bytes"));
        }
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<Current> {
        Ok(Current {
            name: name.to_owned(),
            file: DataFile::create(&self.dir.path.join(name))?,
            bytes: 0,
        })
    }

    /// Makes what was received durable and looks whether it is a store. Blocks.
    ///
    /// # Errors
    /// `InvalidData`, a [`TransferError`]: something is missing. Others: the disk refuses.
    pub fn finish(self) -> io::Result<Received> {
        if let Some(current) = self.current {
            return Err(TransferError::Unfinished(current.name).into());
        }
        fs::sync_dir(&self.dir.path)?;
        let contents = Engine::inspect(&self.dir.path)
            .map_err(|error| TransferError::NoStore(error.to_string()))?;
        Ok(Received {
            dir: self.dir,
            contents,
            bytes: self.bytes,
        })
    }
}

/// A store that was received whole and is durable in its directory, which goes with it unless it is
/// installed.
#[derive(Debug)]
pub struct Received {
    dir: OwnedDir,
    contents: Contents,
    bytes: u64,
}

impl Received {
    /// What it holds, read from itself.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves it, durably, to where `current`'s successor lies. Blocks.
    ///
    /// # Errors
    /// The file system refuses; the store is gone then.
    pub fn move_beside(mut self, current: &Place) -> io::Result<Place> {
        let next = current.receive(&self.dir.path)?;
        // The name is free for the next transfer from here on.
        self.dir.is_owned = false;
        Ok(next)
    }
}

/// A directory that nobody else uses and that is removed in the end.
#[derive(Debug)]
struct OwnedDir {
    path: PathBuf,
    is_owned: bool,
}

impl OwnedDir {
    fn claim(parent: &Path) -> io::Result<OwnedDir> {
        for number in 1..=TRANSFERS_MAX {
            let path = parent.join(number.to_string());
            match fs::claim_dir(&path) {
                Ok(()) => {
                    let is_owned = true;
                    return Ok(OwnedDir { path, is_owned });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{TRANSFERS_MAX} snapshots are being received already"),
        ))
    }
}

impl Drop for OwnedDir {
    fn drop(&mut self) {
        if !self.is_owned {
            return;
        }
        // What cannot be removed is, at the next start.
        if let Err(error) = fs::remove_tree(&self.path) {
            crate::log!(warn, "a received snapshot could not be removed",
                dir = %self.path.display(), error = %error);
        }
    }
}

/// The portion after one whose sync took so long.
fn next_portion(portion: u64, took: Duration) -> u64 {
    let next = match took {
        _ if took > SYNC_WANTED * 2 => portion / 2,
        _ if took < SYNC_WANTED / 2 => portion * 2,
        _ => portion,
    };
    next.clamp(*PORTIONS.start(), *PORTIONS.end())
}

/// A name from outside, short enough for a message.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_follow_the_disk_within_bounds() {
        let (fast, slow) = (Duration::from_millis(1), Duration::from_secs(1));
        let grown = (0..10).fold(PORTION_BYTES, |portion, _| next_portion(portion, fast));
        let shrunk = (0..10).fold(PORTION_BYTES, |portion, _| next_portion(portion, slow));
        assert_eq!((shrunk, grown), (*PORTIONS.start(), *PORTIONS.end()));
        assert_eq!(next_portion(PORTION_BYTES, SYNC_WANTED), PORTION_BYTES);
    }
}
