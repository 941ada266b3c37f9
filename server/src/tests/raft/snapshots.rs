//! A snapshot from one member to another, up to where it can be installed.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use openraft::type_config::alias::SnapshotMetaOf;
use tempfile::TempDir;

use super::Member;
use super::cluster::{Cluster, write};
use crate::peer::message::{
    SnapshotBegin, SnapshotDone, SnapshotPart, SnapshotPiece, snapshot_part::Part,
};
use crate::peer::{CallError, Declined};
use crate::raft::fixture::incoming::{self, Parts, ReceiveError};
use crate::raft::fixture::{
    Membership, Peer, SnapshotData, StoredMembership, TypeConfig, Vote, entry, wire,
};
use crate::snapshot::transfer::{PIECE_BYTES_MAX, Piece, Received};
use crate::storage::place::incoming_dir;

fn meta() -> SnapshotMetaOf<TypeConfig> {
    let nodes: BTreeMap<_, _> = [1, 2, 3]
        .into_iter()
        .map(|id| {
            let peer_urls = vec![format!("http://127.0.0.1:{id}")];
            (
                id,
                Peer {
                    peer_urls,
                    pending_voter: false,
                },
            )
        })
        .collect();
    let voters = vec![[1, 2].into()];
    let membership = Membership::new(voters, nodes).expect("known voters");
    SnapshotMetaOf::<TypeConfig> {
        last_log_id: Some(entry::log_id(3, 500)),
        last_membership: StoredMembership::new(Some(entry::log_id(2, 40)), membership),
    }
}

fn begin() -> SnapshotBegin {
    wire::snapshot_begin(&Vote::new_committed(3, 1), &meta(), 0)
}

fn part(piece: Piece) -> Part {
    Part::Piece(SnapshotPiece {
        file: piece.file,
        offset: piece.offset,
        data: piece.data,
        crc32c: piece.crc32c,
        end_of_file: piece.end_of_file,
    })
}

fn any_piece() -> Piece {
    Piece::new("000001.sst", 0, Bytes::from_static(b"data"), true)
}

async fn receive(parts: Vec<Part>) -> (TempDir, Result<Received, ReceiveError>) {
    let dir = TempDir::new().expect("a temporary directory");
    let parts = parts
        .into_iter()
        .map(|part| Ok::<_, CallError>(SnapshotPart { part: Some(part) }));
    let mut parts: Parts = stream::iter(parts.collect::<Vec<_>>()).boxed();
    let received = match incoming::beginning(&mut parts).await {
        Ok(beginning) => {
            let vote = Vote::new_committed(3, 1);
            assert_eq!((beginning.vote, beginning.meta), (vote, meta()));
            incoming::receive(&mut parts, &incoming_dir(dir.path()), beginning.bytes).await
        }
        Err(error) => Err(error),
    };
    (dir, received)
}

#[tokio::test]
async fn the_pieces_of_a_store_become_one() {
    let sender = Member::new();
    sender.apply(&super::history(7, 20)).await;
    let (_, checkpoint) = sender.snapshot().await;
    let pieces = super::pieces(&checkpoint).into_iter().map(part);
    let mut parts = vec![Part::Begin(begin())];
    parts.extend(pieces);
    parts.push(Part::Done(SnapshotDone {}));
    let (_dir, received) = receive(parts).await;
    let received = received.expect("it is whole");
    let applied = received.contents().applied.log_position;
    assert_eq!(applied.map(|position| position.index), Some(19));
}

#[tokio::test]
async fn what_is_not_whole_is_not_received() {
    let piece = || part(any_piece());
    let (_dir, early) = receive(vec![Part::Begin(begin()), piece()]).await;
    assert!(matches!(early, Err(ReceiveError::EndedEarly)), "{early:?}");
    for parts in [
        vec![piece(), Part::Done(SnapshotDone {})],
        vec![Part::Begin(begin()), piece(), Part::Begin(begin())],
    ] {
        let (_dir, refused) = receive(parts).await;
        assert!(
            matches!(refused, Err(ReceiveError::OutOfOrder)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn damaged_and_oversized_pieces_are_refused() {
    let mut damaged = any_piece();
    damaged.crc32c ^= 1;
    let data = Bytes::from(vec![0; PIECE_BYTES_MAX + 1]);
    let large = Piece::new("000001.sst", 0, data, true);
    for piece in [damaged, large] {
        let (_dir, refused) = receive(vec![Part::Begin(begin()), part(piece)]).await;
        assert!(matches!(refused, Err(ReceiveError::Io(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_snapshot_without_room_for_it_is_refused_before_anything_is_written() {
    let begin = SnapshotBegin {
        bytes: u64::MAX / 2,
        ..begin()
    };
    let (dir, received) = receive(vec![Part::Begin(begin), part(any_piece())]).await;
    let error = received.unwrap_err();
    assert!(error.is_out_of_space(), "{error}");
    let left = crate::fs::file_names(&incoming_dir(dir.path())).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// What came whole is opened where the next one's store would lie, and goes with whoever opened it.
#[tokio::test]
async fn what_a_lost_sender_has_begun_is_over_before_another_one_is_let_in() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    write(leader, 0..20, &Bytes::from_static(b"a value")).await;
    cluster.converge().await;
    let follower = cluster.follower_of(leader);
    let (meta, checkpoint) = loop {
        let current = leader.consensus.openraft().get_snapshot().await;
        let current = current.expect("it runs").expect("it has one");
        // Where the disk takes long it is made for who asks next.
        if let SnapshotData::Sending(checkpoint) = current.snapshot {
            break (current.meta, checkpoint);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let vote = Vote::new_committed(leader.consensus.leadership().term, leader.id.0);
    let parts = || {
        let begin = wire::snapshot_begin(&vote, &meta, checkpoint.bytes());
        let mut parts = vec![Part::Begin(begin)];
        parts.extend(super::pieces(&checkpoint).into_iter().map(part));
        parts.push(Part::Done(SnapshotDone {}));
        let parts = parts.into_iter();
        let parts = parts.map(|part| Ok::<_, CallError>(SnapshotPart { part: Some(part) }));
        stream::iter(parts).boxed()
    };
    let dir = incoming_dir(follower.data_dir());
    let serve = || follower.consensus.serve_snapshot(parts(), &dir);
    // It cannot be opened as long as the state is held; meanwhile its sender goes.
    let (release, released) = mpsc::channel::<()>();
    let (hold, held) = mpsc::channel();
    let store = follower.store.clone();
    let holder = std::thread::spawn(move || {
        let _state = store.write();
        hold.send(()).expect("it is waited for");
        let _ = released.recv();
    });
    held.recv().expect("it is held");
    let lost = tokio::time::timeout(Duration::from_secs(1), serve()).await;
    assert!(lost.is_err(), "it is being opened: {lost:?}");
    assert_eq!(serve().await, Err(Declined::Busy));
    drop(release);
    holder.join().expect("no panic");
    let answered = loop {
        match serve().await {
            Err(Declined::Busy) => tokio::time::sleep(Duration::from_millis(20)).await,
            answered => break answered,
        }
    };
    assert!(answered.is_ok(), "{answered:?}");
    cluster.stop().await;
}
