//! A snapshot from one member to another, up to where it can be installed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use openraft::type_config::alias::SnapshotMetaOf;
use tempfile::TempDir;

use crate::peer::CallError;
use crate::peer::message::{
    SnapshotBegin, SnapshotDone, SnapshotPart, SnapshotPiece, snapshot_part::Part,
};
use crate::raft::incoming::{self, Parts, ReceiveError};
use crate::raft::{Membership, Peer, StoredMembership, TypeConfig, Vote, entry, wire};
use crate::snapshot::transfer::Received;

fn meta() -> SnapshotMetaOf<TypeConfig> {
    let nodes: BTreeMap<_, _> = [1, 2, 3]
        .into_iter()
        .map(|id| {
            let peer_urls = vec![format!("http://127.0.0.1:{id}")];
            (id, Peer { peer_urls })
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
    wire::snapshot_begin(&Vote::new_committed(3, 1), &meta())
}

fn piece(data: Bytes) -> Part {
    Part::Piece(SnapshotPiece {
        file: "000001.sst".into(),
        offset: 0,
        crc32c: crc32c::crc32c(&data),
        data,
        end_of_file: true,
    })
}

async fn receive(parts: Vec<Part>) -> (TempDir, Result<Received, ReceiveError>) {
    let dir = TempDir::new().expect("a temporary directory");
    let parts = parts
        .into_iter()
        .map(|part| Ok::<_, CallError>(SnapshotPart { part: Some(part) }));
    let mut parts: Parts = stream::iter(parts.collect::<Vec<_>>()).boxed();
    let target: PathBuf = dir.path().join("incoming");
    let received = match incoming::beginning(&mut parts).await {
        Ok((vote, received_meta)) => {
            assert_eq!((vote, received_meta), (Vote::new_committed(3, 1), meta()));
            incoming::receive(&mut parts, &target).await
        }
        Err(error) => Err(error),
    };
    (dir, received)
}

#[tokio::test]
async fn pieces_become_files() {
    let data = Bytes::from(vec![7; 1000]);
    let parts = vec![
        Part::Begin(begin()),
        piece(data.clone()),
        Part::Done(SnapshotDone {}),
    ];
    let (_dir, received) = receive(parts).await;
    let received = received.expect("it is whole");
    let _ = (received, data);
}

#[tokio::test]
async fn what_is_not_whole_is_not_received() {
    let data = || piece(Bytes::from_static(b"data"));
    let (_dir, early) = receive(vec![Part::Begin(begin()), data()]).await;
    assert!(matches!(early, Err(ReceiveError::EndedEarly)), "{early:?}");
    let (_dir, headless) = receive(vec![data(), Part::Done(SnapshotDone {})]).await;
    assert!(
        matches!(headless, Err(ReceiveError::OutOfOrder)),
        "{headless:?}"
    );
    let twice = vec![Part::Begin(begin()), data(), Part::Begin(begin())];
    let (_dir, twice) = receive(twice).await;
    assert!(matches!(twice, Err(ReceiveError::OutOfOrder)), "{twice:?}");
}

#[tokio::test]
async fn damaged_and_oversized_pieces_are_refused() {
    let Part::Piece(mut damaged) = piece(Bytes::from_static(b"data")) else {
        unreachable!("it is a piece");
    };
    damaged.crc32c ^= 1;
    let (_dir, refused) = receive(vec![Part::Begin(begin()), Part::Piece(damaged)]).await;
    assert!(matches!(refused, Err(ReceiveError::Io(_))), "{refused:?}");
    let large = piece(Bytes::from(vec![0; (512 << 10) + 1]));
    let (_dir, refused) = receive(vec![Part::Begin(begin()), large]).await;
    assert!(matches!(refused, Err(ReceiveError::Io(_))), "{refused:?}");
}
