//! The sending side: a checkpoint's files, one after the other.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{PIECE_BYTES_MAX, Piece};
use crate::fs::DataFile;
use crate::storage::Checkpoint;

/// The pieces of a checkpoint, which lives as long as this does. One piece is in memory at a time.
#[derive(Debug)]
pub struct Outgoing {
    checkpoint: Arc<Checkpoint>,
    /// Which of its files is next or being read.
    file: usize,
    open: Option<DataFile>,
    offset: u64,
}

impl Outgoing {
    /// The pieces of `checkpoint`, from the first. Several may read one checkpoint.
    ///
    /// # Errors
    /// None today: files are opened as they come. Kept for what a transport must expect anyway.
    pub fn open(checkpoint: &Arc<Checkpoint>) -> io::Result<Outgoing> {
        Ok(Outgoing {
            checkpoint: checkpoint.clone(),
            file: 0,
            open: None,
            offset: 0,
        })
    }

    /// The next piece; none after the last. Blocks for a read of the disk.
    ///
    /// # Errors
    /// The disk refuses. The transfer is over then.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let Some(file) = self.checkpoint.files().get(self.file) else {
            return Ok(None);
        };
        let open = match self.open.take() {
            Some(open) => open,
            None => DataFile::open_to_read(&self.checkpoint.dir().join(&file.name))?,
        };
        let left = file.bytes - self.offset;
        let bytes = usize::try_from(left).map_or(PIECE_BYTES_MAX, |left| left.min(PIECE_BYTES_MAX));
        let mut data = vec![0; bytes];
        open.read_exact_at(&mut data, self.offset)?;
        let next = self.offset + u64::try_from(bytes).expect("at most PIECE_BYTES_MAX");
        let end = next == file.bytes;
        let piece = Piece::new(&file.name, self.offset, Bytes::from(data), end);
        if end {
            (self.file, self.offset) = (self.file + 1, 0);
        } else {
            (self.open, self.offset) = (Some(open), next);
        }
        Ok(Some(piece))
    }
}
