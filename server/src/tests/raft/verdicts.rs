//! What only a leader decides, by one that was away while another led.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, Member, PATIENCE, batch, eventually, propose};
use crate::home::Homes;
use crate::node::verdict;
use crate::propose::{ProposeError, Proposer, Quota};
use crate::raft::fixture::ProposeRefused;
use crate::types::request::{Compact, Op};

fn value() -> Bytes {
    Bytes::from_static(b"value")
}

fn keys(member: &Member) -> u64 {
    member.store.read().mvcc.keys_total()
}

/// Cuts the leader off until another one leads, and lets it come back: who led, and in which term.
async fn another_leads(cluster: &Cluster) -> (&Member, u64) {
    let old = cluster.leader().await;
    let term = old.consensus.leadership().own_term.expect("it leads");
    cluster.partition.isolate(old.id);
    let next = cluster.leader_without(old.id).await;
    propose(next, batch(1, &value())).await.expect("it leads");
    cluster.partition.heal();
    cluster.converge().await;
    (old, term)
}

#[tokio::test]
async fn a_verdict_is_void_in_every_other_term_even_of_the_same_leader() {
    let cluster = Cluster::start(3).await;
    let (old, term) = another_leads(&cluster).await;
    assert!(old.consensus.confirm_lead().await.is_err());
    let late = old.consensus.propose_in(term, batch(2, &value())).await;
    assert_eq!(late, Err(ProposeRefused::NotLeader));

    let leader = cluster.leader().await;
    let handed = leader.consensus.hand_over(old.id).await;
    handed.expect("it runs");
    eventually("it leads again", || {
        old.consensus.leadership().leader == Some(old.id)
    })
    .await;
    let late = old.consensus.propose_in(term, batch(2, &value())).await;
    assert_eq!(late, Err(ProposeRefused::NotLeader));
    let confirmed = old.consensus.confirm_lead().await.expect("a quorum");
    assert!(confirmed.term > term);
    let now = old.consensus.propose_in(confirmed.term, batch(3, &value()));
    assert_eq!(now.await, Ok(()));
    cluster.converge().await;
    assert_eq!(
        keys(old),
        2,
        "one of each leader, and none of the void ones"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn what_a_leader_decides_without_a_quorum_never_happens_where_another_leads() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    let term = old.consensus.leadership().own_term.expect("it leads");
    propose(old, batch(0, &value())).await.expect("it leads");
    cluster.partition.isolate(old.id);
    // As a process does that was paused just then: it does not know yet.
    let consensus = old.consensus.clone();
    let late = tokio::spawn(async move { consensus.propose_in(term, batch(2, &value())).await });
    let next = cluster.leader_without(old.id).await;
    propose(next, batch(1, &value())).await.expect("it leads");
    cluster.partition.heal();
    let late = tokio::time::timeout(PATIENCE, late).await;
    let late = late.expect("it hears of it").expect("no panic");
    assert!(late.is_err(), "{late:?}");
    cluster.converge().await;
    assert_eq!(keys(old), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn nothing_is_decided_unless_a_quorum_confirms_the_term() {
    let cluster = Cluster::start(3).await;
    let (old, term) = another_leads(&cluster).await;
    let leader = cluster.leader().await;
    let now = leader.consensus.leadership().own_term.expect("it leads");
    let decide = async |member: &Member, term| {
        let quota = Quota::new(None, false);
        let homes = Homes::new(1).0;
        let proposer = Proposer::new(
            member.id,
            Duration::from_secs(1),
            quota,
            homes,
            Arc::default(),
        );
        let proposer = Arc::new(proposer);
        let sweeper = proposer.clone();
        // Nobody tells the proposer of outcomes here: it gives up.
        let sweeping = tokio::spawn(async move {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                sweeper.sweep(|_| crate::propose::Late::Unknown);
            }
        });
        let ops = vec![Op::Compact(Compact { revision: 1 })];
        let decided = verdict::decide(&member.consensus, &proposer, term, ops).await;
        sweeping.await.expect("no panic");
        decided.map(drop)
    };
    let void = Err(ProposeError::NotLeader);
    assert_eq!(decide(old, term).await, void);
    assert_eq!(decide(leader, now + 1).await, void);
    let applied = leader.store.applied_index();
    assert_eq!(decide(leader, now).await, Err(ProposeError::Timeout));
    assert_eq!(leader.store.applied_index(), applied + 1, "it was applied");
    cluster.stop().await;
}
