//! Entries on their way to followers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::cluster::{Cluster, PATIENCE, batch, propose};
use super::proxy::{self, Scissors};

/// Proposals that wait for each other's commit at once.
const AT_ONCE: usize = 64;

async fn write(cluster: &Cluster, count: u64, value: &Bytes) {
    let leader = cluster.leader().await;
    let proposals = stream::iter(0..count).map(|n| propose(leader, batch(n, value)));
    let mut proposals = proposals.buffered(AT_ONCE);
    while let Some(proposed) = proposals.next().await {
        proposed.expect("it leads all the while");
    }
}

#[tokio::test]
async fn ten_thousand_batches_reach_every_member() {
    let cluster = Cluster::start(3).await;
    write(&cluster, 10_000, &Bytes::from(vec![b'v'; 256])).await;
    cluster.converge().await;
    assert_eq!(cluster.members[0].store.read().mvcc.keys_total(), 1000);
    cluster.stop().await;
}

#[tokio::test]
async fn a_follower_whose_connections_are_cut_catches_up() {
    let scissors = Arc::new(Scissors::default());
    let behind = scissors.clone();
    let cluster = Cluster::start_behind(3, |id, url| {
        let scissors = behind.clone();
        async move {
            match id.0 {
                3 => proxy::start(url, 200 << 10, scissors).await,
                _ => url,
            }
        }
    })
    .await;
    // A leader behind the proxy would hold up the writes that this test counts on.
    let leader = cluster.leader().await;
    if leader.id.0 == 3 {
        let trigger = leader.consensus.raft.trigger();
        trigger.transfer_leader(1).await.expect("it runs");
        super::cluster::eventually("another member leads", || {
            cluster.members[0]
                .consensus
                .leadership()
                .leader
                .map(|id| id.0)
                == Some(1)
        })
        .await;
    }
    write(&cluster, 2000, &Bytes::from(vec![b'v'; 2048])).await;
    let cuts = scissors.cuts.load(Ordering::Relaxed);
    assert!(cuts >= 3, "only {cuts} connections were cut");
    scissors.blunt.store(true, Ordering::Relaxed);
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test]
async fn large_batches_delay_no_heartbeat() {
    let cluster = Cluster::start(3).await;
    let before = cluster.leader().await.consensus.leadership().term;
    write(&cluster, 48, &Bytes::from(vec![b'v'; 1 << 20])).await;
    cluster.converge().await;
    assert_eq!(cluster.leader().await.consensus.leadership().term, before);
    cluster.stop().await;
}

#[tokio::test]
async fn an_entry_larger_than_an_append_goes_alone() {
    let cluster = Cluster::start(3).await;
    // What `--max-request-bytes` of 4 MiB would allow; the default limits still carry it.
    let value = Bytes::from(vec![b'v'; (4 << 20) + (100 << 10)]);
    let leader = cluster.leader().await;
    let proposed = tokio::time::timeout(PATIENCE, propose(leader, batch(0, &value))).await;
    proposed.expect("in time").expect("it leads");
    cluster.converge().await;
    cluster.stop().await;
}
