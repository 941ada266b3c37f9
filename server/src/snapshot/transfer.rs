//! A snapshot between members: a directory of files, sent in pieces and received into another one.
//!
//! Minimal: what the transport needs to be built and tested.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::fs::{self, DataFile};

/// Bytes of one piece.
const PIECE_BYTES: u64 = 512 << 10;

/// A directory whose files do not change.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Where it is; none: there is nothing to send.
    dir: Option<PathBuf>,
}

impl Checkpoint {
    /// The checkpoint in a directory.
    pub fn of_dir(dir: &Path) -> Checkpoint {
        Checkpoint {
            dir: Some(dir.to_owned()),
        }
    }
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file's name.
    pub file: String,
    /// Where the data begins in it.
    pub offset: u64,
    /// The data, at most 512 KiB.
    pub data: Bytes,
    /// The data's checksum.
    pub crc32c: u32,
    /// Whether the file ends here.
    pub end_of_file: bool,
}

/// A checkpoint being sent. Its methods block.
pub struct Outgoing {
    dir: PathBuf,
    names: std::vec::IntoIter<String>,
    current: Option<(String, DataFile, u64)>,
}

impl Outgoing {
    /// Begins at the first file.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(checkpoint: &Checkpoint) -> io::Result<Outgoing> {
        let dir = checkpoint.dir.clone().unwrap_or_default();
        let mut names = match &checkpoint.dir {
            Some(dir) => fs::file_names(dir)?,
            None => Vec::new(),
        };
        names.sort();
        Ok(Outgoing {
            dir,
            names: names.into_iter(),
            current: None,
        })
    }

    /// The next piece; none after the last.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let (name, file, offset) = match self.current.take() {
            Some(current) => current,
            None => match self.names.next() {
                Some(name) => {
                    let file = DataFile::open_to_read(&self.dir.join(&name))?;
                    (name, file, 0)
                }
                None => return Ok(None),
            },
        };
        let left = file.bytes()?.saturating_sub(offset);
        let length = left.min(PIECE_BYTES);
        let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut data, offset)?;
        let piece = Piece {
            file: name.clone(),
            offset,
            crc32c: crc32c::crc32c(&data),
            data: data.into(),
            end_of_file: length == left,
        };
        if !piece.end_of_file {
            self.current = Some((name, file, offset + length));
        }
        Ok(Some(piece))
    }
}

/// A snapshot being received. Its methods block.
pub struct Incoming {
    dir: PathBuf,
    current: Option<(String, DataFile, u64)>,
}

/// A snapshot that was received.
#[derive(Debug)]
pub struct Received {
    /// Where its files are.
    pub dir: PathBuf,
}

impl Incoming {
    /// Begins in a directory, which is made.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(dir: &Path) -> io::Result<Incoming> {
        fs::create_private_dir(dir).map_err(io::Error::other)?;
        Ok(Incoming {
            dir: dir.to_owned(),
            current: None,
        })
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// It is damaged, does not follow the one before, or cannot be written.
    pub fn accept(&mut self, piece: &Piece) -> io::Result<()> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        if crc32c::crc32c(&piece.data) != piece.crc32c {
            return Err(invalid("a piece is damaged"));
        }
        if piece.file.contains('/') || piece.file.starts_with('.') {
            return Err(invalid("a piece's file has a name that leads elsewhere"));
        }
        let (name, file, offset) = match self.current.take() {
            Some(current) => current,
            None => {
                let file = DataFile::create(&self.dir.join(&piece.file))?;
                (piece.file.clone(), file, 0)
            }
        };
        if name != piece.file || offset != piece.offset {
            return Err(invalid("a piece does not follow the one before"));
        }
        file.write_all_at(&piece.data, offset)?;
        if piece.end_of_file {
            return file.sync_data();
        }
        self.current = Some((name, file, offset + piece.data.len() as u64));
        Ok(())
    }

    /// Ends the transfer.
    ///
    /// # Errors
    /// The last file is not whole, or the directory cannot be synced.
    pub fn finish(self) -> io::Result<Received> {
        if self.current.is_some() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fs::sync_dir(&self.dir)?;
        Ok(Received { dir: self.dir })
    }
}
