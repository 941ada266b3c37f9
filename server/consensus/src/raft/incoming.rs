//! Receiving a snapshot into a directory, up to where it can be installed.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use openraft::type_config::alias::SnapshotMetaOf;

use super::wire::{self, WireError};
use super::{TypeConfig, Vote};
use crate::peer::CallError;
use crate::peer::message::{SnapshotPart, SnapshotPiece, snapshot_part::Part};
use crate::snapshot::transfer::{Incoming, Piece, Received};

/// How long the sender may send nothing.
const PART_STALL_MAX: Duration = Duration::from_secs(30);

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection broke.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It ended before the sender said that all was sent.
    #[error("the snapshot ended early")]
    EndedEarly,
    /// Nothing came for too long.
    #[error("the sender sent nothing for {PART_STALL_MAX:?}")]
    Stalled,
    /// The first part is not the beginning, a later one is.
    #[error("the snapshot's parts are out of order")]
    OutOfOrder,
    /// A part makes no sense.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It could not be written, or a piece is damaged, too large or not one that may come now.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ReceiveError {
    /// Whether the disk has no room for it.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, ReceiveError::Io(error) if crate::fs::is_out_of_space(error))
    }
}

/// What a sender says, in order.
pub type Parts = BoxStream<'static, Result<SnapshotPart, CallError>>;

/// What is said of a snapshot before it is sent.
#[derive(Debug, PartialEq)]
pub struct Beginning {
    /// Its sender's.
    pub vote: Vote,
    /// What it holds.
    pub meta: SnapshotMetaOf<TypeConfig>,
    /// Bytes of its files; 0 where an older member does not say.
    pub bytes: u64,
}

/// Reads the first part.
pub async fn beginning(parts: &mut Parts) -> Result<Beginning, ReceiveError> {
    match next(parts).await? {
        Part::Begin(begin) => {
            let bytes = begin.bytes;
            let (vote, meta) = wire::read_snapshot_begin(begin)?;
            Ok(Beginning { vote, meta, bytes })
        }
        Part::Piece(_) | Part::Done(_) => Err(ReceiveError::OutOfOrder),
    }
}

/// Writes the pieces, `bytes` in all, into `dir`, one at a time, on blocking threads. Without room for
/// them nothing is written.
pub async fn receive(parts: &mut Parts, dir: &Path, bytes: u64) -> Result<Received, ReceiveError> {
    let dir = dir.to_owned();
    let mut incoming = blocking(move || {
        let incoming = Incoming::begin(&dir)?;
        incoming.require_room(bytes)?;
        Ok(incoming)
    })
    .await?;
    loop {
        let part = match next(parts).await {
            Ok(Part::Begin(_)) => Err(ReceiveError::OutOfOrder),
            part => part,
        };
        match part {
            Ok(Part::Piece(piece)) => {
                let piece = read_piece(piece);
                incoming = blocking(move || {
                    incoming.accept(&piece)?;
                    Ok(incoming)
                })
                .await?;
            }
            Ok(_) => return Ok(blocking(move || incoming.finish()).await?),
            Err(error) => {
                // What was received goes with it: as long as that takes, nobody else is let in.
                let gone = blocking(move || {
                    drop(incoming);
                    Ok(())
                });
                gone.await?;
                return Err(error);
            }
        }
    }
}

async fn next(parts: &mut Parts) -> Result<Part, ReceiveError> {
    let next = tokio::time::timeout(PART_STALL_MAX, parts.next()).await;
    let part = next.map_err(|_| ReceiveError::Stalled)?;
    let part = part.ok_or(ReceiveError::EndedEarly)??;
    Ok(part.part.ok_or(WireError::Missing("part"))?)
}

fn read_piece(piece: SnapshotPiece) -> Piece {
    Piece {
        file: piece.file,
        offset: piece.offset,
        data: piece.data,
        crc32c: piece.crc32c,
        end_of_file: piece.end_of_file,
    }
}

/// Runs what blocks where it may. A panic in it goes on here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match crate::threads::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(io::Error::other(error)),
    }
}
