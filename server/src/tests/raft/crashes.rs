//! A crash after each step of an installation: the next start finds the old store or the new one,
//! with a log that fits it, and goes on.

use ::openraft::storage::{RaftLogStorage, RaftLogStorageExt};

use super::openraft::Follower;
use super::*;
use crate::snapshot::install::Prepared;
use crate::storage::LogPosition;
use crate::storage::place::incoming_dir;

/// Entries that the follower has when the snapshot comes, and how many of them are flushed.
const BEHIND: usize = 40;
const FLUSHED: usize = 20;
/// Entries that the snapshot covers.
const COVERED: usize = 90;
const ENTRIES: u64 = 100;

/// A step, and the data directory that a crash after it would leave.
type Image = (&'static str, TempDir);

/// Installs step by step: images with the old store in force, then images with the new one.
async fn images(entries: &[Entry]) -> (Vec<Image>, Vec<Image>) {
    let (leader, mut follower) = (Member::new(), Member::new());
    leader.apply(&entries[..COVERED]).await;
    let behind = entries[..BEHIND].to_vec();
    follower.log.blocking_append(behind).await.unwrap();
    follower.apply(&entries[..FLUSHED]).await;
    follower.flush().await;
    follower.apply(&entries[FLUSHED..BEHIND]).await;
    let dir = follower.dir.path().to_path_buf();
    let image = |step: &'static str| (step, copy_dir(&dir));
    let mut old = vec![image("before")];

    let (_, checkpoint) = leader.snapshot().await;
    let all = pieces(&checkpoint);
    let mut incoming = Incoming::begin(&incoming_dir(follower.dir.path())).unwrap();
    for (number, piece) in all.iter().enumerate() {
        incoming.accept(piece).unwrap();
        if number == all.len() / 2 {
            old.push(image("half received"));
        }
    }
    old.push(image("received"));
    let received = incoming.finish().unwrap();
    old.push(image("checked"));
    let prepared = Prepared::new(&follower.store, received).unwrap();
    let position = prepared.position();
    old.push(image("opened in its place"));
    let (_, torn) = image("record begun");
    std::fs::write(torn.path().join("SWITCH.tmp"), b"half").unwrap();
    old.push(("record begun", torn));

    let mut new = Vec::new();
    let (_, recorded) = image("record written");
    let place = Place::of(&recorded.path().join("store.1")).unwrap();
    place.switch(position).unwrap();
    new.push(("record written", recorded));
    drop(prepared.install(&follower.store).unwrap());
    new.push(image("in force"));
    let log_id = entry::log_id(position.term, position.index);
    follower.log.purge(log_id).await.unwrap();
    new.push(image("log purged"));
    follower.log.sync().await.unwrap();
    new.push(image("purge durable"));
    let next = vec![entries[COVERED].clone()];
    follower.log.blocking_append(next).await.unwrap();
    new.push(image("log goes on"));
    (old, new)
}

async fn finishes(image: TempDir, entries: &[Entry], step: &str) {
    let whole = Member::new();
    whole.apply(entries).await;
    let follower = Follower::boot(image.path()).await;
    let from = usize::try_from(follower.log.last_index()).unwrap() + 1;
    follower.append(1, &entries[from..], true).await;
    follower.store.engine().flush();
    // I3: what the log has dropped, the engine has.
    let persisted = follower.store.engine().persisted().log_position.unwrap();
    assert!(follower.log.purged_index() <= persisted.index, "{step}");
    follower.stop().await;
    let member = Member::open(image);
    assert_eq!(member.everything(), whole.everything(), "{step}");
    assert_eq!(member.hash(), whole.hash(), "{step}");
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_the_old_store_or_the_new_one() {
    let entries = history(20, ENTRIES);
    let (old, new) = images(&entries).await;
    assert_eq!((old.len(), new.len()), (6, 5));
    for (step, image) in old {
        let member = Member::open(copy_dir(image.path()));
        assert_eq!(member.store.applied_index(), 19, "{step}: what was flushed");
        assert_eq!(member.log.last_index(), 39, "{step}: the log has the rest");
        assert_eq!(member.place().dir(), member.dir.path().join("store"));
        let left = crate::fs::file_names(member.dir.path()).unwrap();
        let extra = |name: &&String| name.starts_with("store.");
        assert_eq!(left.iter().find(extra), None, "{step}: the rest is removed");
        drop(member);
        finishes(image, &entries, step).await;
    }
    for (step, image) in new {
        let member = Member::open(copy_dir(image.path()));
        assert_eq!(member.store.applied_index(), 89, "{step}");
        assert_eq!(member.place().dir(), member.dir.path().join("store.1"));
        assert!(!member.dir.path().join("store").exists(), "{step}");
        drop(member);
        finishes(image, &entries, step).await;
    }
}

#[tokio::test]
async fn a_log_that_lost_its_end_after_an_installation_is_still_refused() {
    let entries = history(21, ENTRIES);
    let (_, mut new) = images(&entries).await;
    let (_, image) = new.remove(0);
    let store = open_store(image.path());
    // One entry more was applied and flushed, which a log that ends at 39 cannot have lost by the
    // installation.
    let mut applied = store.engine().applied().unwrap();
    applied.log_position = Some(LogPosition {
        term: 1,
        index: u64::try_from(COVERED).unwrap(),
    });
    store.engine().write(&[], &applied);
    store.engine().flush();
    drop(store);
    let error = super::openraft::boot_error(image.path());
    assert!(error.contains("the log ends at entry 39"), "{error}");
}
