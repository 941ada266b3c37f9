//! Sending a snapshot: read on a blocking thread, a few pieces ahead of the connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, StreamExt};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{SnapshotData, TypeConfig, Vote, entry, wire};
use crate::peer::message::{SnapshotDone, SnapshotPart, SnapshotPiece, snapshot_part::Part};
use crate::peer::{CallError, Client};
use crate::snapshot::transfer::{Outgoing, Piece};
use crate::storage::Checkpoint;

/// Pieces read ahead of the connection.
const PIECES_AHEAD: usize = 4;
/// Bytes of a snapshot sent a second at most: what is left of the disks and the network is for the
/// writes of the members that are well (measured: a learner that joined 1 GiB at full speed made
/// the 99th percentile of puts 2.2 times slower). 10 GB take two and a half minutes.
const BYTES_PER_SECOND_MAX: u64 = 64 << 20;
/// How long the connection may take no piece.
const PIECE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long the receiver may take to install what it has received whole: it rebuilds its index.
const INSTALL_MAX: Duration = Duration::from_secs(600);
/// How often the two are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// No checkpoint could be made (the log says why), so there is nothing to send.
    #[error("there is no checkpoint to be sent")]
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

/// Sends a snapshot; the receiver's vote, once it has installed it.
pub(super) async fn send(
    client: &Client,
    vote: &Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
) -> Result<Vote, SendError> {
    let SnapshotData::Sending(checkpoint) = snapshot.snapshot else {
        return Err(SendError::Nothing);
    };
    let begin = wire::snapshot_begin(vote, &snapshot.meta);
    let progress = Arc::new(Mutex::new(Progress {
        at: Instant::now(),
        limit: PIECE_STALL_MAX,
    }));
    let parts = parts(Part::Begin(begin), checkpoint, progress.clone());
    let answer = tokio::select! {
        answer = client.install_snapshot(parts) => answer?,
        limit = stalled(&progress) => return Err(SendError::Stalled(limit)),
    };
    let vote = answer.vote.ok_or(wire::WireError::Missing("vote"))?;
    Ok(entry::read_vote(&vote))
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
    progress: Arc<Mutex<Progress>>,
) -> BoxStream<'static, SnapshotPart> {
    let (sender, mut receiver) = mpsc::channel(PIECES_AHEAD);
    crate::threads::spawn_blocking(move || {
        // Without the last part the receiver throws away what it has.
        if let Err(error) = read_all(&checkpoint, &sender) {
            crate::log!(error, "a snapshot to be sent cannot be read", error = %error);
        }
    });
    let read = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let all = stream::iter([begin]).chain(read);
    all.map(move |part| {
        let limit = match part {
            Part::Done(_) => INSTALL_MAX,
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
fn read_all(checkpoint: &Arc<Checkpoint>, sender: &mpsc::Sender<Part>) -> io::Result<()> {
    let mut outgoing = Outgoing::open(checkpoint)?;
    let (started, mut sent) = (Instant::now(), 0);
    while let Some(piece) = outgoing.next_piece()? {
        sent += piece.data.len() as u64;
        pause_until(started, sent);
        if sender.blocking_send(Part::Piece(message(piece))).is_err() {
            return Ok(());
        }
    }
    // Nobody listens: the call has failed and says why.
    let _ = sender.blocking_send(Part::Done(SnapshotDone {}));
    Ok(())
}

/// Waits until `sent` bytes since `started` are within [`BYTES_PER_SECOND_MAX`].
fn pause_until(started: Instant, sent: u64) {
    let due = Duration::from_secs_f64(sent as f64 / BYTES_PER_SECOND_MAX as f64);
    let early = due.saturating_sub(started.elapsed());
    // Short ones cost more than they are worth: the next piece makes up for them.
    if early > Duration::from_millis(5) {
        std::thread::sleep(early);
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
