//! Sending a snapshot: read on a blocking thread, a few pieces ahead of the connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, StreamExt};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::pace::Pace;
use super::{SnapshotData, TypeConfig, Vote, sane, wire};
use crate::peer::message::{SnapshotDone, SnapshotPart, SnapshotPiece, snapshot_part::Part};
use crate::peer::{CallError, Client};
use crate::snapshot::transfer::{Outgoing, Piece};
use crate::storage::Checkpoint;
use crate::threads::steps::{self, Step, Steps};

/// Pieces read ahead of the connection.
const PIECES_AHEAD: usize = 4;
/// How long the connection may take no piece.
const PIECE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long the receiver may take to install what it has received whole: it rebuilds its index. Beside
/// it, what reading the store takes it at [`INDEXED_PER_SECOND`].
const INSTALL_MAX: Duration = Duration::from_secs(600);
/// Bytes of a store whose index is rebuilt in a second, at least.
const INDEXED_PER_SECOND: u64 = 32 << 20;
/// How often the two are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// No checkpoint could be made, or not yet (the log says why), so there is nothing to send.
    #[error("there is no checkpoint to be sent yet")]
    Nothing,
    /// The receiver did not take or install it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing moved for too long.
    #[error("the receiver took nothing for {0:?}")]
    Stalled(Duration),
    /// The receiver's answer makes no sense.
    #[error(transparent)]
    Wire(#[from] wire::WireError),
}

/// Sends a snapshot of `member`'s; the receiver's vote, once it has installed it.
pub(super) async fn send(
    client: &Client,
    member: u64,
    vote: &Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
    pace: Pace,
) -> Result<Vote, SendError> {
    let SnapshotData::Sending(checkpoint) = snapshot.snapshot else {
        return Err(SendError::Nothing);
    };
    let begin = wire::snapshot_begin(vote, &snapshot.meta, checkpoint.bytes());
    let progress = Arc::new(Mutex::new(Progress {
        at: Instant::now(),
        limit: PIECE_STALL_MAX,
    }));
    let parts = parts(Part::Begin(begin), checkpoint, pace, progress.clone());
    let answer = tokio::select! {
        answer = client.install_snapshot(parts) => answer?,
        limit = stalled(&progress) => return Err(SendError::Stalled(limit)),
    };
    let (asked, peer) = (vote.leader_id.term, client.target().0);
    let answered = sane::answered_vote(wire::read_vote(answer.vote)?, member, asked, peer);
    sane::check_answered_vote(&answered, member, vote.leader_id.term)?;
    Ok(answered)
}

/// When the connection last took something, and how long it may take nothing.
struct Progress {
    at: Instant,
    limit: Duration,
}

async fn stalled(progress: &Mutex<Progress>) -> Duration {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let progress = progress.lock();
        if progress.at.elapsed() > progress.limit {
            return progress.limit;
        }
    }
}

fn parts(
    begin: Part,
    checkpoint: Arc<Checkpoint>,
    pace: Pace,
    progress: Arc<Mutex<Progress>>,
) -> BoxStream<'static, SnapshotPart> {
    let (sender, mut receiver) = mpsc::channel(PIECES_AHEAD);
    let install_max = INSTALL_MAX + Duration::from_secs(checkpoint.bytes() / INDEXED_PER_SECOND);
    let reading = Reading {
        checkpoint,
        outgoing: None,
        pace,
        sender,
        read: None,
    };
    steps::start_blocking("snapshot", reading);
    let read = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let all = stream::iter([begin]).chain(read);
    all.map(move |part| {
        let limit = match part {
            Part::Done(_) => install_max,
            Part::Begin(_) | Part::Piece(_) => PIECE_STALL_MAX,
        };
        *progress.lock() = Progress {
            at: Instant::now(),
            limit,
        };
        SnapshotPart { part: Some(part) }
    })
    .boxed()
}

/// Reads until the end, or until nobody listens any more.
struct Reading {
    checkpoint: Arc<Checkpoint>,
    outgoing: Option<Outgoing>,
    pace: Pace,
    sender: mpsc::Sender<Part>,
    /// What the connection has not taken yet.
    read: Option<Part>,
}

impl Steps for Reading {
    fn step(&mut self, may_wait: bool) -> Step {
        let part = match self.read.take().map_or_else(|| self.next(may_wait), Ok) {
            Ok(part) => part,
            // Without the last part the receiver throws away what it has.
            Err(error) => {
                crate::log!(error, "a snapshot to be sent cannot be read", error = %error);
                return Step::Ended;
            }
        };
        let is_last = matches!(part, Part::Done(_));
        let sent = match may_wait {
            true => self.sender.blocking_send(part).map_err(|_| None),
            false => self.sender.try_send(part).map_err(|error| match error {
                TrySendError::Full(part) => Some(part),
                TrySendError::Closed(_) => None,
            }),
        };
        match sent {
            Ok(()) if !is_last => Step::Worked,
            Err(Some(part)) => {
                self.read = Some(part);
                Step::Nothing
            }
            // Where nobody listens the call has failed and says why.
            _ => Step::Ended,
        }
    }
}

impl Reading {
    fn next(&mut self, may_wait: bool) -> io::Result<Part> {
        if self.outgoing.is_none() {
            self.outgoing = Some(Outgoing::open(&self.checkpoint)?);
        }
        let outgoing = self.outgoing.as_mut().expect("opened above");
        let Some(piece) = outgoing.next_piece()? else {
            return Ok(Part::Done(SnapshotDone {}));
        };
        if may_wait {
            self.pace.wait_for(piece.data.len() as u64);
        }
        Ok(Part::Piece(message(piece)))
    }
}

fn message(piece: Piece) -> SnapshotPiece {
    SnapshotPiece {
        file: piece.file,
        offset: piece.offset,
        data: piece.data,
        crc32c: piece.crc32c,
        end_of_file: piece.end_of_file,
    }
}
