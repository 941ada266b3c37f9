//! A member whose log disk stands still, while the others commit without it: it applies nothing that
//! its own log does not hold, and so starts again whenever it is killed.

use bytes::Bytes;

use super::cluster::{Cluster, Member, batch, eventually, open_log, propose, write};
use super::{copy_dir, open_store};
use crate::fs::faults::{self, Operation};

fn value() -> Bytes {
    Bytes::from_static(b"a value")
}

/// What a kill at this moment leaves, with everything flushed that was applied: its log reaches as
/// far as its store.
fn starts_again(member: &Member) {
    member.store.engine().flush();
    let left = copy_dir(member.data_dir());
    let (log, store) = (open_log(left.path()), open_store(left.path()));
    let (applied, last) = (store.applied_index(), log.last_index());
    assert!(
        applied <= last,
        "applied {applied}, and the log ends at {last}"
    );
}

#[tokio::test]
async fn a_follower_applies_only_what_its_own_log_holds() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    write(leader, 0..10, &value()).await;
    cluster.converge().await;
    let follower = cluster.follower_of(leader);
    let before = follower.store.applied_index();
    let stall = faults::stall(&follower.wal_dir(), Operation::Write);
    write(leader, 10..60, &value()).await;
    let committed = leader.store.applied_index();
    let is_told = || follower.log.last_index() >= committed;
    eventually("the follower has been sent everything", is_told).await;
    let is_heard = || follower.consensus.leadership().committed_index >= committed;
    eventually("and knows that it is committed", is_heard).await;
    assert_eq!(follower.store.applied_index(), before);
    starts_again(follower);
    drop(stall);
    cluster.converge().await;
    assert!(follower.store.applied_index() >= committed);
    starts_again(follower);
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_whose_followers_commit_without_it_applies_only_what_its_own_log_holds() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    write(leader, 0..10, &value()).await;
    cluster.converge().await;
    let before = leader.store.applied_index();
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    let proposals = (10..20).map(|n| propose(leader, batch(n, &value())));
    let mut proposed = Box::pin(futures_util::future::join_all(proposals));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(700), &mut proposed);
    assert!(
        waited.await.is_err(),
        "nothing is answered that is not durable here"
    );
    let followers = cluster
        .members
        .iter()
        .filter(|member| member.id != leader.id);
    let applied = followers.map(|member| member.store.applied_index());
    assert!(applied.max().unwrap() > before, "the others go on");
    assert!(leader.consensus.leadership().committed_index > before);
    assert_eq!(leader.store.applied_index(), before);
    starts_again(leader);
    drop(stall);
    for outcome in proposed.await {
        outcome.unwrap();
    }
    cluster.converge().await;
    starts_again(leader);
    cluster.stop().await;
}

/// One voter's commits are its own flushes: it waits for nothing more than before.
#[tokio::test]
async fn a_sole_voter_applies_what_it_has_flushed() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader().await;
    write(leader, 0..200, &value()).await;
    assert_eq!(leader.store.applied_index(), leader.log.last_index());
    starts_again(leader);
    cluster.stop().await;
}
