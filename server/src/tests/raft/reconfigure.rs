//! Configurations: changed on top of what was looked at, and never left half made.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use openraft::ChangeMembers;

use super::cluster::{Cluster, Member, batch, eventually, propose};
use crate::raft::fixture::{Configuration, ReconfigureError};
use crate::types::MemberId;

fn configuration(member: &Member) -> Configuration {
    member.consensus.configuration().expect("it leads")
}

fn voters(member: &Member) -> Vec<u64> {
    member.consensus.openraft().voter_ids().collect()
}

/// Waits for a first entry of the leader's term.
async fn settle(cluster: &Cluster) -> &Member {
    let leader = cluster.leader().await;
    let value = Bytes::from_static(b"value");
    propose(leader, batch(0, &value)).await.expect("it leads");
    leader
}

#[tokio::test]
async fn a_change_that_was_left_joint_is_finished() {
    let cluster = Cluster::start(3).await;
    let leader = settle(&cluster).await;
    let others: Vec<MemberId> = {
        let others = cluster.members.iter().map(|member| member.id);
        others.filter(|id| *id != leader.id).collect()
    };
    let goes = others[1];
    // As a release before this one removed a member, by two entries, whose caller went away between
    // the first and the second.
    others.iter().for_each(|id| cluster.partition.isolate(*id));
    let change = ChangeMembers::RemoveVoters(BTreeSet::from([goes.0]));
    let changing = leader.consensus.openraft().change_membership(change, false);
    let changed = tokio::time::timeout(Duration::from_millis(100), changing).await;
    assert!(changed.is_err(), "there is no quorum: {changed:?}");
    cluster.partition.heal();
    cluster.partition.isolate(goes);
    eventually("a leader has the joint configuration committed", || {
        let joint = |member: &&Member| {
            let on = member.consensus.configuration();
            on.is_some_and(|on| on.is_joint() && member.store.applied_index() >= on.index())
        };
        cluster.members.iter().any(|member| joint(&member))
    })
    .await;
    let leader = cluster.leader_without(goes).await;
    let on = configuration(leader);
    assert!(on.is_joint());
    loop {
        match leader.consensus.finish(&on).await {
            Ok(()) => break,
            Err(ReconfigureError::InProgress) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!configuration(leader).is_joint());
    let mut expected: Vec<u64> = cluster.members.iter().map(|member| member.id.0).collect();
    expected.retain(|id| *id != goes.0);
    assert_eq!(voters(leader), expected);
    cluster.stop().await;
}

#[tokio::test]
async fn a_change_is_made_on_top_of_what_was_looked_at_or_not_at_all() {
    let cluster = Cluster::start(3).await;
    let leader = settle(&cluster).await;
    let on = configuration(leader);
    let url = |n: u64| vec![format!("http://127.0.0.1:{n}")];
    let added = leader
        .consensus
        .add_learner(&on, MemberId(7), url(1), false)
        .await;
    assert_eq!(added, Ok(()));
    let follower = cluster.follower_of(leader).id;
    let stale = [
        leader.consensus.remove(&on, follower).await,
        leader.consensus.promote(&on, follower).await,
        leader.consensus.relocate(&on, follower, url(2)).await,
        leader.consensus.finish(&on).await,
    ];
    assert!(
        stale
            .iter()
            .all(|made| *made == Err(ReconfigureError::Changed)),
        "{stale:?}"
    );
    let on = configuration(leader);
    assert_eq!(
        leader.consensus.relocate(&on, MemberId(7), url(3)).await,
        Ok(())
    );
    let on = configuration(leader);
    assert_eq!(leader.consensus.remove(&on, MemberId(7)).await, Ok(()));
    assert_eq!(voters(leader), [1, 2, 3]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_removal_is_one_entry_and_needs_nobody_to_wait_for_it() {
    let cluster = Cluster::start(3).await;
    let leader = settle(&cluster).await;
    let goes = cluster.follower_of(leader).id;
    for member in &cluster.members {
        if member.id != leader.id {
            cluster.partition.isolate(member.id);
        }
    }
    let on = configuration(leader);
    let removing = leader.consensus.remove(&on, goes);
    let removed = tokio::time::timeout(Duration::from_millis(100), removing).await;
    assert!(removed.is_err(), "there is no quorum: {removed:?}");
    cluster.partition.heal();
    cluster.partition.isolate(goes);
    let led = cluster.leader_without(goes).await;
    let value = Bytes::from_static(b"value");
    propose(led, batch(1, &value))
        .await
        .expect("a quorum is there");
    eventually("one set of voters is left", || {
        let on = led.consensus.configuration();
        on.is_some_and(|on| !on.is_joint()) && voters(led).len() == 2
    })
    .await;
    cluster.stop().await;
}
