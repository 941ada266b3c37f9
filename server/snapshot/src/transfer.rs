//! The store's files from one member to another, in pieces.
//!
//! [`Outgoing`] reads the files of a checkpoint, [`Incoming`] writes them into a directory of its
//! own, and what is complete is [`Received`]: a store that opens, of which `install` makes this
//! member's. Both block and hold one piece in memory. A transfer that is interrupted or damaged is
//! begun anew; dropping either side removes what it had.
//!
//! Must never: trust a name, a length or an order that comes from outside; leave a directory that
//! could be taken for a store before it is whole.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

pub use incoming::{Incoming, Received};
pub use outgoing::Outgoing;

use bytes::Bytes;

/// The most bytes of a file in one piece.
pub const PIECE_BYTES_MAX: usize = 512 << 10;

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file's name, without any directory.
    pub file: String,
    /// Where in the file the data begins. The pieces of a file come in order, without gaps.
    pub offset: u64,
    /// The data, at most [`PIECE_BYTES_MAX`]; empty only in an empty file.
    pub data: Bytes,
    /// [`Piece::checksum`] of the others.
    pub crc32c: u32,
    /// Whether the file ends with it.
    pub end_of_file: bool,
}

impl Piece {
    /// A piece with its checksum.
    pub fn new(file: &str, offset: u64, data: Bytes, end_of_file: bool) -> Piece {
        let mut piece = Piece {
            file: file.to_owned(),
            offset,
            data,
            crc32c: 0,
            end_of_file,
        };
        piece.crc32c = piece.checksum();
        piece
    }

    /// CRC-32C over the data, then the name, the offset (8 bytes, big endian) and the end mark (one
    /// byte): a piece that is put elsewhere is as damaged as one whose data changed.
    pub fn checksum(&self) -> u32 {
        let mut crc = crc32c::crc32c(&self.data);
        crc = crc32c::crc32c_append(crc, self.file.as_bytes());
        crc = crc32c::crc32c_append(crc, &self.offset.to_be_bytes());
        crc32c::crc32c_append(crc, &[u8::from(self.end_of_file)])
    }
}

/// Why a transfer is refused. Reaches the transport as an `io::Error` of the kind `InvalidData`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Its checksum is another.
    #[error("a piece of {0:?} was damaged on its way")]
    Damaged(String),
    /// No store has a file of that name.
    #[error("{0:?} is no file of a store")]
    Name(String),
    /// It does not follow the piece before it.
    #[error("a piece of {file:?} at {offset} does not follow {expected}")]
    Order {
        /// Its file.
        file: String,
        /// Its offset.
        offset: u64,
        /// What should have come.
        expected: String,
    },
    /// More than any store.
    #[error("the snapshot is too large: {0}")]
    TooLarge(&'static str),
    /// It ended within a file.
    #[error("the snapshot ends within {0:?}")]
    Unfinished(String),
    /// The files make up no store.
    #[error("what was received is no store: {0}")]
    NoStore(String),
}

impl From<TransferError> for std::io::Error {
    fn from(error: TransferError) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}
