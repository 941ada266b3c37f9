//! What is sent is what is installed, and what follows goes on from there.

use super::*;
use crate::storage::place::incoming_dir;

#[tokio::test]
async fn a_store_of_100_000_keys_is_sent_and_installed_byte_for_byte() {
    let (leader, follower) = (Member::new(), Member::new());
    let mut entries = beginning();
    for index in 2..102 {
        let keys = (0..1000).map(|n| put(&format!("registry/{index:03}/{n:04}"), &"v".repeat(100)));
        entries.push(batch(index, keys.collect()));
    }
    leader.apply(&entries).await;
    follower.apply(&entries[..50]).await;
    follower.install_from(&leader).await;
    assert_eq!(follower.store.read().mvcc.keys_total(), 100_000);
    assert_eq!(follower.hash(), leader.hash());
    let (ours, theirs) = (follower.store.engine(), leader.store.engine());
    assert_eq!(ours.applied().unwrap(), theirs.applied().unwrap());
    assert_eq!(follower.place().dir(), follower.dir.path().join("store.1"));
}

/// Property: installing at any point and applying the rest is applying everything.
#[tokio::test]
async fn what_follows_a_snapshot_makes_the_store_that_applying_everything_makes() {
    const ENTRIES: u64 = 120;
    for seed in 0..6 {
        let entries = history(seed, ENTRIES);
        let mut numbers = Numbers(seed ^ 77);
        let (whole, leader, follower) = (Member::new(), Member::new(), Member::new());
        whole.apply(&entries).await;
        let mut behind = 0;
        for _ in 0..3 {
            let left = ENTRIES - behind;
            let cut = behind + 1 + numbers.below(left / 2);
            let (from, to) = (
                usize::try_from(behind).unwrap(),
                usize::try_from(cut).unwrap(),
            );
            leader.apply(&entries[from..to]).await;
            follower.install_from(&leader).await;
            assert_eq!(follower.everything(), leader.everything(), "seed {seed}");
            behind = cut;
        }
        let rest = usize::try_from(behind).unwrap();
        follower.apply(&entries[rest..]).await;
        assert_eq!(follower.everything(), whole.everything(), "seed {seed}");
        assert_eq!(follower.hash(), whole.hash(), "seed {seed}");
        // And what it has written is what a start reads.
        follower.flush().await;
        let reopened = Member::open(copy_dir(follower.dir.path()));
        assert_eq!(reopened.everything(), whole.everything(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_checkpoint_is_what_is_persisted_and_says_so_itself() {
    let leader = Member::new();
    let entries = history(1, 60);
    leader.apply(&entries[..30]).await;
    leader.flush().await;
    leader.apply(&entries[30..]).await;
    let (meta, checkpoint) = leader.current().await;
    assert_eq!(meta.last_log_id, Some(entry::log_id(1, 29)));
    assert_eq!(checkpoint.position().index, 29);
    let before = Member::new();
    before.apply(&entries[..30]).await;
    assert_eq!(checkpoint.contents().revision, before.store.revision());
    let follower = Member::new();
    follower.install(&meta, follower.receive(&checkpoint)).await;
    assert_eq!(follower.everything(), before.everything());
    follower.apply(&entries[30..]).await;
    assert_eq!(follower.everything(), leader.everything());
}

#[tokio::test]
async fn a_store_that_has_persisted_nothing_is_flushed_for_its_first_checkpoint() {
    let leader = Member::new();
    leader.apply(&history(2, 20)).await;
    let (meta, checkpoint) = leader.current().await;
    assert_eq!(meta.last_log_id, Some(entry::log_id(1, 19)));
    assert_eq!(checkpoint.position().index, 19);
}

#[tokio::test]
async fn a_snapshot_that_is_not_what_it_is_said_to_be_changes_nothing() {
    let (leader, follower) = (Member::new(), Member::new());
    leader.apply(&history(3, 30)).await;
    follower.apply(&history(3, 10)).await;
    let before = follower.everything();
    let (mut meta, checkpoint) = leader.snapshot().await;
    meta.last_log_id = Some(entry::log_id(1, 28));
    let received = SnapshotData::Received(follower.receive(&checkpoint));
    let error = follower
        .snapshots()
        .install(&meta, received)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    let nothing = follower
        .snapshots()
        .install(&meta, SnapshotData::Described)
        .await;
    assert!(nothing.is_err());
    assert_eq!(follower.everything(), before);
    assert_eq!(follower.place().dir(), follower.dir.path().join("store"));
    let left = crate::fs::file_names(&incoming_dir(follower.dir.path())).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn leases_alarms_and_the_quota_follow_the_snapshot() {
    use crate::types::request::{Alarm, AlarmType};
    let (leader, follower) = (Member::new(), Member::new());
    let mut entries = beginning();
    let grant = LeaseGrant {
        id: LeaseId(7),
        ttl_seconds: 60,
    };
    entries.push(batch(2, vec![put("a", "1"), Op::LeaseGrant(grant)]));
    let raise = Alarm::Activate(MemberId(1), AlarmType::NoSpace);
    entries.push(batch(3, vec![Op::Alarm(raise)]));
    leader.apply(&entries).await;
    // As if it had led before.
    follower.lessor.promote(1, &follower.store.read().leases, 0);
    follower.install_from(&leader).await;
    assert!(matches!(
        follower.lessor.remaining(1, LeaseId(7)),
        Some(Some(_))
    ));
    let state = follower.store.read();
    assert!(state.alarms.is_raised(AlarmType::NoSpace, &state.members));
    drop(state);
    assert!(
        follower.proposer.quota().is_alarm_decided(),
        "the alarm is known to be raised"
    );
}

#[tokio::test]
async fn the_log_is_not_cut_while_a_checkpoint_is_sent_and_checkpoints_are_shared() {
    let leader = Member::new();
    let entries = history(4, 40);
    leader.apply(&entries[..20]).await;
    assert!(!leader.snapshots().sending().is_lately());
    let (_, first) = leader.snapshot().await;
    leader.apply(&entries[20..]).await;
    let (meta, second) = leader.snapshot().await;
    assert!(
        Arc::ptr_eq(&first, &second),
        "one serves all who ask while it lives"
    );
    assert_eq!(
        meta.last_log_id,
        Some(entry::log_id(1, 19)),
        "and says what it is"
    );
    assert!(leader.snapshots().sending().is_lately());
    let dir = first.dir().to_path_buf();
    assert!(dir.exists());
    drop((first, second));
    assert!(!leader.snapshots().sending().is_lately());
    let (meta, third) = leader.snapshot().await;
    assert_eq!(meta.last_log_id, Some(entry::log_id(1, 39)));
    assert_ne!(third.dir(), dir);
}

#[tokio::test]
async fn snapshots_follow_each_other_and_old_stores_go() {
    let (leader, follower) = (Member::new(), Member::new());
    let entries = history(5, 60);
    for (number, cut) in [(1, 20), (2, 40), (3, 60)] {
        leader.apply(&entries[cut - 20..cut]).await;
        follower.install_from(&leader).await;
        let name = format!("store.{number}");
        assert_eq!(follower.place().dir(), follower.dir.path().join(name));
    }
    assert_eq!(follower.everything(), leader.everything());
    // The engines that nobody reads any more are closed and removed on a thread of their own.
    wait_until("old stores are gone", || {
        let names = crate::fs::file_names(follower.dir.path()).unwrap();
        names == ["SWITCH", "store.3", "store.incoming", "wal"]
    });
}
