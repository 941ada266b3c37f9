//! Members that lag: by the log, by a snapshot under writes, and for want of room.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, ELECTION_TIMEOUT, Member, PATIENCE, write};
use crate::store::Level;
use crate::store::fixture::noise;
use crate::wal::Keep;

/// What a member keeps of its log in these tests.
const KEEP: Keep = Keep {
    bytes: 1 << 20,
    entries_least: 10,
    bytes_most: 2 << 20,
    entries_most: 10_000,
};
/// What it holds for others.
const HELD_BYTES: u64 = 1 << 30;

/// Flushes and purges as a member's duties do, until everything up to `index` is gone.
async fn purge_beyond(member: &Member, index: u64) {
    member.consensus.snapshot().await.expect("it runs");
    let purged = async {
        while member.log.purged_index() <= index {
            let purge = member.consensus.purge(&member.log, KEEP, 0);
            purge.await.expect("it runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let purged = tokio::time::timeout(PATIENCE, purged).await;
    purged.expect("the log is purged");
}

fn snapshots_taken(member: &Member) -> usize {
    let text = member.log.metrics().render(Vec::new());
    let lines = text.lines();
    let taken = lines.filter(|line| line.starts_with("etcd_network_snapshot_receive_success{"));
    taken
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_catches_up_by_a_snapshot_under_writes() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.consensus.leadership().term;
    let away = cluster.follower_of(leader);
    cluster.partition.isolate(away.id);
    let seen = away.log.last_index();
    let value = Bytes::from(noise(3));
    write(leader, 0..400, &value).await;
    purge_beyond(leader, seen).await;
    cluster.partition.heal();
    // Writes and cuts of the log go on until it has caught up: by one snapshot and the log after it.
    let mut next = 400;
    let catching_up = async {
        while away.store.applied_index() + 60 < leader.store.applied_index()
            || away.log.purged_index() <= seen
        {
            write(leader, next..next + 20, &value).await;
            next += 20;
            leader.consensus.snapshot().await.expect("it runs");
            let purge = leader.consensus.purge(&leader.log, KEEP, HELD_BYTES);
            purge.await.expect("it runs");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let caught_up = tokio::time::timeout(PATIENCE * 3, catching_up).await;
    caught_up.expect("it catches up");
    assert_eq!(snapshots_taken(away), 1);
    assert_eq!(leader.consensus.leadership().term, term, "nobody elected");
    cluster.converge().await;
    cluster.stop().await;
}

/// The disk of the leader's store stands still: flushes that cut the log, and the checkpoint for a member that
/// needs one, wait. What is applied goes to memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_and_checkpoints_that_are_long_in_coming_hold_up_neither_writes_nor_the_leader() {
    const AT_ONCE: Duration = Duration::from_secs(3);
    let cluster = Cluster::start_patient(3).await;
    let leader = cluster.leader().await;
    let away = cluster.follower_of(leader);
    cluster.partition.isolate(away.id);
    let seen = away.log.last_index();
    let value = Bytes::from(noise(3));
    write(leader, 0..400, &value).await;
    purge_beyond(leader, seen).await;
    let engine = leader.store.engine();
    let still = engine.stall_syncs();
    // A checkpoint that was made by then goes with the try to send it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.partition.heal();
    // It is asked for again and again.
    for from in (400..500).step_by(20) {
        let written = tokio::time::timeout(AT_ONCE, write(leader, from..from + 20, &value));
        written.await.expect("what is written waits for nothing");
        let (consensus, log) = (leader.consensus.clone(), leader.log.clone());
        let duty = tokio::spawn(async move {
            consensus.snapshot().await?;
            consensus.purge(&log, KEEP, HELD_BYTES).await
        });
        let done = tokio::time::timeout(AT_ONCE, duty).await;
        let done = done.expect("nor do the Raft thread's duties");
        done.expect("no panic").expect("it runs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(snapshots_taken(away), 0);
    drop(still);
    cluster.converge().await;
    assert_eq!(snapshots_taken(away), 1, "what was made late was taken");
    cluster.stop().await;
}

#[tokio::test]
async fn a_full_member_takes_no_entries_and_goes_on_hearing_its_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let before = leader.consensus.leadership();
    let full = cluster.follower_of(leader);
    write(leader, 0..10, &Bytes::new()).await;
    cluster.converge().await;
    full.store.headroom().found(Level::Full, 0);
    let taken = full.log.last_index();
    write(leader, 10..60, &Bytes::from(vec![b'v'; 1024])).await;
    tokio::time::sleep(ELECTION_TIMEOUT * 4).await;
    assert!(full.log.last_index() <= taken + 1, "it took entries");
    assert_eq!(full.consensus.leadership().leader, Some(leader.id));
    assert_eq!(leader.consensus.leadership().term, before.term);
    assert_eq!(leader.consensus.short_members(), [full.id]);
    full.store.headroom().found(Level::Short, 1 << 20);
    cluster.converge().await;
    assert_eq!(leader.consensus.short_members(), [full.id]);
    assert_eq!(snapshots_taken(full), 0);
    cluster.stop().await;
}
