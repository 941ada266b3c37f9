//! What a log's configurations say of each other: of two the first is committed.

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use super::beginning;
use super::cluster::{Cluster, Member, batch, eventually, open_log, write};
use super::mean::{append, blank, id, vote, with_members};
use crate::peer::message::AppendRequest;
use crate::raft::fixture::{Entry, TypeConfig, entry};
use bytes::Bytes;
use engram_proto::raft::Entry as Sent;
use openraft::EntryPayload;

/// A follower whose cluster is gone but for the test, which leads it in terms of its own.
async fn follower() -> (Member, u64) {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.consensus.leadership().term;
    write(leader, 0..3, &Bytes::from_static(b"a value")).await;
    cluster.converge().await;
    let first = cluster.members.iter().position(|member| member.id.0 == 1);
    let member = cluster.members.swap_remove(first.unwrap());
    cluster.stop().await;
    (member, term + 10)
}

/// What the second member, as the leader of `term`, sends behind `prev`, without a commit mark.
fn unmarked(term: u64, prev: (u64, u64), entries: Vec<Sent>) -> AppendRequest {
    AppendRequest {
        vote: vote(term, 2, true),
        prev: id(prev.0, prev.1),
        committed: None,
        entries,
    }
}

fn members(term: u64, index: u64) -> Sent {
    with_members(term, index, &[&[1, 2, 3]], &[1, 2, 3])
}

/// Everybody's power was cut, and the new leader's log holds two configurations that it cannot say are
/// committed. Without its followers they never are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_configurations_the_first_is_committed() {
    let (member, term) = follower().await;
    let known = member.log.view().known();
    let last = known.last.unwrap();
    let (old, last) = (last.committed_leader_id().term, last.index());
    let sent = vec![
        members(old, last + 1),
        blank(old, last + 2),
        members(old, last + 3),
        members(old, last + 4),
    ];
    let answer = append(&member, unmarked(term, (old, last), sent)).await;
    assert!(answer.is_some(), "an honest leader may send that");
    assert_eq!(member.log.last_index(), last + 4);
    let applied = || member.store.applied_index() == last + 3;
    eventually("what comes before the newest is committed", applied).await;

    // The newest may go, with another leader's entry in its place; nothing before it.
    let other = unmarked(term + 1, (old, last + 2), vec![blank(term + 1, last + 3)]);
    assert!(append(&member, other).await.is_none());
    let other = unmarked(term + 1, (old, last + 3), vec![blank(term + 1, last + 4)]);
    assert!(append(&member, other).await.is_some());
    assert_eq!(member.consensus.failure(), None);

    // One that comes on the next stream says the same of the last one that is there.
    let next = unmarked(
        term + 1,
        (term + 1, last + 4),
        vec![members(term + 1, last + 5)],
    );
    assert!(append(&member, next).await.is_some());
    let next = unmarked(
        term + 1,
        (term + 1, last + 5),
        vec![members(term + 1, last + 6)],
    );
    assert!(append(&member, next).await.is_some());
    let applied = || member.store.applied_index() == last + 5;
    eventually("so is the one of the request before", applied).await;

    let again = member.restart().await;
    assert_eq!(again.store.applied_index(), last + 5);
    assert_eq!(again.consensus.failure(), None);
    again.stop().await;
}

/// The commit mark is written along with later entries: a power cut may leave the entries that it was of
/// without it.
#[tokio::test]
async fn a_log_without_its_mark_still_says_that_its_first_configuration_is_committed() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut log = open_log(dir.path());
    assert_eq!(log.read_committed().await.unwrap(), None);
    let configuration = &beginning()[0].payload;
    let payload = |index: u64| match index {
        0 | 4 | 7 => configuration.clone(),
        _ => EntryPayload::Normal(batch(index, &Bytes::from_static(b"value"))),
    };
    let entries = (0..=9).map(|index| Entry {
        log_id: entry::log_id(1, index),
        payload: payload(index),
    });
    let entries: Vec<Entry> = entries.collect();
    let (told, flushed) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(told)).await.unwrap();
    flushed.await.expect("told").expect("flushed");
    let of = async |log: &mut crate::raft::fixture::LogStore| {
        let committed = log.read_committed().await.unwrap();
        let known = log.view().known();
        assert_eq!(known.committed, committed);
        (
            committed.map(|id| id.index()),
            known.membership.map(|id| id.index()),
        )
    };
    drop(log);
    log = open_log(dir.path());
    assert_eq!(of(&mut log).await, (Some(4), Some(7)));

    // One that is there says more.
    log.save_committed(Some(entry::log_id(1, 6))).await.unwrap();
    log.sync().await.unwrap();
    drop(log);
    log = open_log(dir.path());
    assert_eq!(of(&mut log).await, (Some(6), Some(7)));
}
