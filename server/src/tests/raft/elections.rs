//! Leaders: found, lost, handed over; and terms that nobody raises in vain.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cluster::{Cluster, ELECTION_TIMEOUT, PATIENCE, batch, eventually, propose};
use crate::peer::{CallError, Declined};
use crate::raft::fixture::ProposeRefused;

#[tokio::test]
async fn three_members_agree_on_a_leader_and_on_data() {
    let cluster = Cluster::start(3).await;
    let value = Bytes::from_static(b"value");
    for n in 0..50 {
        propose(cluster.leader().await, batch(n, &value))
            .await
            .expect("it leads");
    }
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test]
async fn five_members_survive_the_loss_of_two_leaders() {
    let mut cluster = Cluster::start(5).await;
    let value = Bytes::from_static(b"value");
    for round in 0..2 {
        let leader = cluster.leader().await;
        propose(leader, batch(round, &value))
            .await
            .expect("it leads");
        let (lost, term) = (leader.id, leader.consensus.leadership().term);
        let at = cluster.members.iter().position(|member| member.id == lost);
        cluster
            .members
            .remove(at.expect("it was there"))
            .stop()
            .await;
        let next = cluster.leader_without(lost).await;
        assert!(next.consensus.leadership().term > term);
    }
    propose(cluster.leader().await, batch(2, &value))
        .await
        .expect("it leads");
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test]
async fn an_isolated_member_that_returns_raises_no_term() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.consensus.leadership().term;
    let follower = cluster.follower_of(leader);
    cluster.partition.isolate(follower.id);
    let begun = Instant::now();
    eventually("it says that it has lost the leader", || {
        follower.consensus.leadership().leader.is_none()
    })
    .await;
    let told = begun.elapsed();
    assert!(told < ELECTION_TIMEOUT * 3 / 2, "after {told:?}");
    // Several election timeouts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        follower.consensus.leadership().term,
        term,
        "it was granted a vote by nobody"
    );
    let value = Bytes::from_static(b"while it was away");
    propose(leader, batch(0, &value))
        .await
        .expect("two are a quorum");
    cluster.partition.heal();
    cluster.converge().await;
    let after = cluster.leader().await;
    assert_eq!(
        (after.id, after.consensus.leadership().term),
        (leader.id, term)
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_is_to_hand_over_to_itself_goes_on() {
    for size in [1, 3] {
        let cluster = Cluster::start(size).await;
        let leader = cluster.leader().await;
        let term = leader.consensus.leadership().term;
        let handed = leader.consensus.hand_over(leader.id).await;
        handed.expect("it leads already");
        let value = Bytes::from_static(b"of the same leader");
        let proposed = propose(leader, batch(0, &value)).await;
        proposed.expect("it leads");
        assert_eq!(leader.consensus.leadership().term, term);
        cluster.stop().await;
    }
}

#[tokio::test]
async fn an_isolated_leader_is_replaced_and_follows_when_it_returns() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    cluster.partition.isolate(old.id);
    eventually("it says that it has lost its quorum", || {
        old.consensus.leadership().leader.is_none()
    })
    .await;
    let next = cluster.leader_without(old.id).await;
    let value = Bytes::from_static(b"of the new leader");
    propose(next, batch(0, &value)).await.expect("it leads");
    assert!(
        old.consensus.read_index().await.is_err(),
        "no quorum confirms the old one"
    );
    cluster.partition.heal();
    cluster.converge().await;
    assert_eq!(cluster.leader().await.id, next.id);
    cluster.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_over_without_an_election_timeout() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let heir = cluster.follower_of(leader).id;
    let trigger = leader.consensus.openraft().trigger();
    let begun = Instant::now();
    trigger.transfer_leader(heir.0).await.expect("it runs");
    eventually("the heir leads", || {
        cluster.member(heir).consensus.leadership().leader == Some(heir)
    })
    .await;
    assert!(
        begun.elapsed() < ELECTION_TIMEOUT * 5 / 4,
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(cluster.leader().await.id, heir);
    let value = Bytes::from_static(b"of the heir");
    propose(cluster.member(heir), batch(0, &value))
        .await
        .expect("it leads");
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test]
async fn followers_reach_the_leader_for_proposals_and_read_indexes() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut followers = cluster
        .members
        .iter()
        .filter(|member| member.id != leader.id);
    let (first, second) = (followers.next(), followers.next());
    let (first, second) = (first.expect("one"), second.expect("two"));
    let to_leader = first
        .clients
        .member(leader.id, std::slice::from_ref(&leader.url));
    let value = Bytes::from_static(b"forwarded");
    propose(leader, batch(0, &value)).await.expect("it leads");
    let encoded = batch(0, &value).encoded().clone();
    to_leader
        .propose(encoded.clone(), PATIENCE)
        .await
        .expect("it is committed");
    let index = to_leader
        .read_index(PATIENCE)
        .await
        .expect("it is confirmed");
    eventually("the follower has applied it", || {
        first.store.applied_index() >= index
    })
    .await;
    assert!(first.store.read().mvcc.keys_total() == 1);
    let elsewhere = first
        .clients
        .member(second.id, std::slice::from_ref(&second.url));
    let refused = Err(CallError::Declined(Declined::NotLeader));
    assert_eq!(elsewhere.propose(encoded, PATIENCE).await, refused);
    assert_eq!(elsewhere.read_index(PATIENCE).await.map(drop), refused);
    let nonsense = to_leader
        .propose(Bytes::from_static(b"\xff"), PATIENCE)
        .await;
    assert_eq!(nonsense, Err(CallError::Declined(Declined::Invalid)));
    let at_follower = second.consensus.propose(batch(1, &value)).await;
    assert_eq!(at_follower, Err(ProposeRefused::NotLeader));
    cluster.stop().await;
}

#[tokio::test]
async fn a_member_that_cannot_be_reached_is_tried_with_pauses() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let lost = cluster.follower_of(leader).id;
    cluster.partition.isolate(lost);
    let failures = || {
        let failed = format!("etcd_network_peer_sent_failures_total{{To=\"{lost}\"}} ");
        let text = leader.log.metrics().render(Vec::new());
        let line = text.lines().find_map(|line| line.strip_prefix(&failed));
        line.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };
    let value = Bytes::from_static(b"value");
    propose(leader, batch(1, &value)).await.expect("it leads");
    eventually("an attempt fails", || failures() > 0).await;
    let before = failures();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tried = failures() - before;
    // Twenty heartbeats, and entries after 50, 100, 200, 400 ms; it was two thousand without pauses.
    assert!((1..60).contains(&tried), "{tried} attempts in a second");
    cluster.partition.heal();
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_member_that_is_alone_knows_it_as_soon_as_it_has_started() {
    let mut cluster = Cluster::start(1).await;
    let value = Bytes::from_static(b"value");
    let leader = cluster.leader().await;
    propose(leader, batch(1, &value)).await.expect("it leads");
    let alone = cluster.members.pop().expect("the one member");
    let again = alone.restart().await;
    // Nothing is awaited in between: what is served depends on it from the first moment on.
    assert!(again.consensus.is_sole_voter());
    again.stop().await;
}
