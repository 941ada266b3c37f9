//! A member that is the whole cluster: openraft hears of its requests before they are durable, nobody else does, and
//! they are applied and answered after that.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::cluster::{Cluster, Member, PATIENCE, batch, eventually, propose, write};
use super::slow_log::starts_again;
use crate::fs::faults::{self, Operation};
use crate::types::MemberId;

/// Long enough for whatever waits for no disk.
const AWHILE: Duration = Duration::from_millis(300);

fn value() -> Bytes {
    Bytes::from_static(b"a value")
}

async fn alone() -> Cluster {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader().await;
    let leads = leader.consensus.lead(PATIENCE).await;
    leads.expect("it leads itself");
    write(leader, 0..10, &value()).await;
    cluster
}

fn committed(member: &Member) -> u64 {
    member.consensus.leadership().committed_index
}

#[tokio::test]
async fn it_commits_ahead_of_its_disk_and_applies_what_a_crash_leaves() {
    let cluster = alone().await;
    let leader = cluster.leader().await;
    let before = leader.store.applied_index();
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    let mut proposed = Box::pin(propose(leader, batch(10, &value())));
    let answered = timeout(AWHILE, &mut proposed).await;
    assert!(answered.is_err(), "it is not durable");
    eventually("openraft hears at once", || committed(leader) == before + 1).await;
    assert_eq!(leader.store.applied_index(), before);
    starts_again(leader);
    drop(stall);
    proposed.await.unwrap();
    assert_eq!(leader.store.applied_index(), before + 1);
    cluster.stop().await;
}

#[tokio::test]
async fn nobody_is_added_before_what_was_told_early_is_durable() {
    let cluster = alone().await;
    let leader = cluster.leader().await;
    let before = leader.log.last_index();
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    let mut proposed = Box::pin(propose(leader, batch(10, &value())));
    assert!(timeout(AWHILE, &mut proposed).await.is_err());
    let on = leader.consensus.configuration().expect("it leads");
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let given_up = leader
        .consensus
        .add_learner(&on, MemberId(9), urls.clone(), true);
    assert!(timeout(AWHILE, given_up).await.is_err());
    let added = leader.consensus.add_learner(&on, MemberId(9), urls, true);
    let mut added = Box::pin(added);
    assert!(timeout(AWHILE, &mut added).await.is_err());
    assert_eq!(leader.log.last_index(), before + 1, "the put, and no more");
    drop(stall);
    proposed.await.unwrap();
    added.await.unwrap();
    assert!(leader.consensus.is_sole_voter());
    assert!(!leader.consensus.is_alone(), "a learner may apply sooner");

    let before = committed(leader);
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    let mut proposed = Box::pin(propose(leader, batch(11, &value())));
    assert!(timeout(AWHILE, &mut proposed).await.is_err());
    assert_eq!(committed(leader), before, "a learner would hear of it");
    drop(stall);
    proposed.await.unwrap();

    let on = leader.consensus.configuration().expect("it leads");
    leader.consensus.remove(&on, MemberId(9)).await.unwrap();
    assert!(leader.consensus.is_alone());
    let before = committed(leader);
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    let mut proposed = Box::pin(propose(leader, batch(12, &value())));
    assert!(timeout(AWHILE, &mut proposed).await.is_err());
    eventually("it is alone again", || committed(leader) == before + 1).await;
    drop(stall);
    proposed.await.unwrap();
    cluster.stop().await;
}
