//! Entries on their way to followers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use rustix::time::{ClockId, clock_gettime};

use super::cluster::{Cluster, HEARTBEAT, PATIENCE, batch, eventually, propose, write};
use super::proxy::{self, Scissors};
use crate::wal::Keep;

#[tokio::test]
async fn ten_thousand_batches_reach_every_member() {
    let cluster = Cluster::start(3).await;
    write(
        cluster.leader().await,
        0..10_000,
        &Bytes::from(vec![b'v'; 256]),
    )
    .await;
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
        let trigger = leader.consensus.openraft().trigger();
        trigger.transfer_leader(1).await.expect("it runs");
        eventually("another member leads", || {
            cluster.members[0]
                .consensus
                .leadership()
                .leader
                .map(|id| id.0)
                == Some(1)
        })
        .await;
    }
    write(
        cluster.leader().await,
        0..2000,
        &Bytes::from(vec![b'v'; 2048]),
    )
    .await;
    // A majority has the writes; the follower may not have been sent much of them yet.
    eventually("three connections are cut", || {
        scissors.cuts.load(Ordering::Relaxed) >= 3
    })
    .await;
    scissors.blunt.store(true, Ordering::Relaxed);
    cluster.converge().await;
    cluster.stop().await;
}

/// The CPU time of the calling thread: what else the machine does is not in it.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("it counts up");
    Duration::new(seconds, u32::try_from(now.tv_nsec).expect("below a second"))
}

/// The longest time that a task which is always ready has had to wait for its turn on the calling
/// thread during `work`, in what the thread worked meanwhile.
async fn longest_turn(work: impl Future<Output = ()>) -> Duration {
    let longest = Arc::new(AtomicU64::new(0));
    let turns = tokio::spawn({
        let longest = longest.clone();
        async move {
            loop {
                let before = cpu_time();
                tokio::task::yield_now().await;
                let turn = (cpu_time() - before).as_micros();
                longest.fetch_max(u64::try_from(turn).expect("short"), Ordering::Relaxed);
            }
        }
    });
    work.await;
    turns.abort();
    Duration::from_micros(longest.load(Ordering::Relaxed))
}

/// However large the batches, no heartbeat waits a heartbeat's time for its turn: for all three
/// members together, on the one thread of this test.
#[tokio::test]
async fn large_batches_delay_no_heartbeat() {
    let cluster = Cluster::start_patient(3).await;
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    let writing = stream::iter(0..48).for_each_concurrent(16, |n| {
        let (cluster, value) = (&cluster, &value);
        async move {
            // A machine that is busy elsewhere may cost a leader its leadership.
            while propose(cluster.leader().await, batch(n, value))
                .await
                .is_err()
            {}
        }
    });
    let longest = longest_turn(writing).await;
    assert!(longest < HEARTBEAT, "a turn took {longest:?}");
    cluster.converge().await;
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

#[tokio::test]
async fn a_member_that_was_away_for_longer_than_the_log_takes_a_snapshot() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let away = cluster.follower_of(leader);
    cluster.partition.isolate(away.id);
    let seen = away.log.last_index();
    write(leader, 0..300, &Bytes::from(vec![b'v'; 2048])).await;
    leader.consensus.snapshot().await.expect("it runs");
    let cut = async {
        while leader.log.purged_index() <= seen {
            let purged = leader.consensus.purge(&leader.log, Keep::default(), 0);
            purged.await.expect("it runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cut)
        .await
        .expect("the log is cut");
    cluster.partition.heal();
    cluster.converge().await;
    // A snapshot is in force before the log that it replaces is purged.
    eventually("it took a snapshot, not the log", || {
        away.log.purged_index() > seen
    })
    .await;
    write(cluster.leader().await, 300..310, &Bytes::new()).await;
    cluster.converge().await;
    cluster.stop().await;
}
