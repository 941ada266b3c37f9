//! A member whose log disk stands still, while the others commit without it: it applies nothing that
//! its own log does not hold, and so starts again whenever it is killed.

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use super::cluster::{
    Cluster, Member, PATIENCE, PATIENT_ELECTION_TIMEOUT, batch, eventually, open_log, propose,
    write,
};
use super::{copy_dir, open_store};
use crate::fs::faults::{self, Operation};
use crate::raft::fixture::{Entry, ProposeRefused, TypeConfig, Vote, entry, following};
use crate::store::Level;
use crate::store::fixture::noise;
use crate::wal::Keep;

fn value() -> Bytes {
    Bytes::from_static(b"a value")
}

/// What a kill at this moment leaves, with everything flushed that was applied: its log reaches as
/// far as its store.
pub(super) fn starts_again(member: &Member) {
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
    let applied_by_others = || {
        let others = (cluster.members.iter()).filter(|member| member.id != leader.id);
        others.map(|member| member.store.applied_index()).max()
    };
    eventually("the others go on", || applied_by_others() > Some(before)).await;
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

/// Another member has what is committed by itself: its clients wait neither for the leader's log nor for
/// its engine.
#[tokio::test]
async fn what_another_member_proposes_waits_for_no_disk_of_the_leaders() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    write(leader, 0..10, &value()).await;
    cluster.converge().await;
    let before = leader.store.applied_index();
    let propose = async |n| {
        let encoded = batch(n, &value()).encoded().clone();
        let limit = std::time::Duration::from_secs(5);
        tokio::time::timeout(limit, leader.consensus.serve_propose(encoded)).await
    };
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    assert_eq!(propose(10).await, Ok(Ok(())), "its log stands still");
    assert_eq!(leader.store.applied_index(), before);
    drop(stall);
    cluster.converge().await;
    let engine = leader.store.engine();
    let gate = engine.stall();
    for n in 11..13 {
        assert_eq!(propose(n).await, Ok(Ok(())), "its engine stands still");
    }
    drop(gate);
    cluster.converge().await;
    cluster.stop().await;
}

/// However much waits for the leader's log, the Raft thread does not: the leader is heard and hears
/// the others, and what it has no room for is refused, not taken.
#[tokio::test]
async fn a_log_disk_that_stands_still_holds_up_no_heartbeat_and_bounds_what_waits() {
    let cluster = Cluster::start_patient(3).await;
    let leader = cluster.leader().await;
    write(leader, 0..5, &value()).await;
    cluster.converge().await;
    let term = leader.consensus.leadership().term;
    let before = leader.log.last_index();
    let stall = faults::stall(&leader.wal_dir(), Operation::Write);
    let large = Bytes::from(vec![7; 1 << 20]);
    let mut proposed = futures_util::stream::FuturesUnordered::new();
    let mut refused = 0;
    for n in 10..60 {
        let before = leader.log.last_index();
        let mut proposal = Box::pin(leader.consensus.propose(batch(n, &large)));
        tokio::select! {
            outcome = &mut proposal => {
                assert_eq!(outcome, Err(ProposeRefused::Busy));
                refused += 1;
            }
            () = eventually("it is taken", || leader.log.last_index() > before) => {
                proposed.push(proposal);
            }
        }
    }
    assert!((15..20).contains(&refused), "{refused} were refused");
    let taken = leader.log.last_index() - before;
    assert!((31..35).contains(&taken), "{taken} wait for the disk");
    tokio::time::sleep(PATIENT_ELECTION_TIMEOUT * 3 / 2).await;
    let now = leader.consensus.leadership();
    assert_eq!((now.leader, now.term), (Some(leader.id), term));
    let silent_for = leader.consensus.replication().silent_for;
    assert!(
        silent_for
            .values()
            .all(|silent| *silent < PATIENT_ELECTION_TIMEOUT)
    );
    drop(stall);
    while let Some(outcome) = proposed.next().await {
        outcome.unwrap();
    }
    drop(proposed);
    write(leader, 60..61, &value()).await;
    cluster.converge().await;
    cluster.stop().await;
}

/// A follower whose log stands still goes on to answer heartbeats, and holds what the leader's window
/// lets it have.
#[tokio::test]
async fn a_follower_whose_log_disk_stands_still_stays_in_touch() {
    let cluster = Cluster::start_patient(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower_of(leader);
    let before = follower.log.last_index();
    let stall = faults::stall(&follower.wal_dir(), Operation::Write);
    write(leader, 0..60, &Bytes::from(vec![7; 1 << 20])).await;
    tokio::time::sleep(PATIENT_ELECTION_TIMEOUT * 3 / 2).await;
    let silent = leader.consensus.replication().silent_for[&follower.id];
    assert!(silent < PATIENT_ELECTION_TIMEOUT, "silent for {silent:?}");
    let heard = follower.consensus.leadership().leader;
    assert_eq!(heard, Some(leader.id));
    let taken = follower.log.last_index() - before;
    assert!(taken < 34, "{taken} MiB wait for the disk");
    drop(stall);
    cluster.converge().await;
    cluster.stop().await;
}

/// A leader counts the entry that an append without entries names as held: it is not answered for
/// before a crash would leave the entry.
#[tokio::test]
async fn an_append_without_entries_is_answered_for_what_is_durable() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut log = open_log(dir.path());
    let (view, vote) = (log.view(), Vote::new_committed(1, 1));
    log.save_vote(&vote).await.expect("saved");
    let stands = |index, term| {
        let request = openraft::raft::AppendEntriesRequest::<TypeConfig> {
            vote,
            prev_log_id: Some(entry::log_id(term, index)),
            entries: Vec::new(),
            leader_commit: None,
        };
        following::stands(&request, &view)
    };
    let entry = Entry {
        log_id: entry::log_id(1, 1),
        payload: openraft::EntryPayload::Normal(batch(1, &value())),
    };
    let stall = faults::stall(dir.path(), Operation::Write);
    let (told, flushed) = TypeConfig::oneshot();
    let append = log.append([entry], IOFlushed::signal(told));
    append.await.expect("taken");
    assert!(!stands(1, 1), "it is not on the disk");
    drop(stall);
    flushed.await.expect("told").expect("flushed");
    assert!(stands(1, 1));
    assert!(!stands(1, 2) && !stands(2, 1), "not what the log holds");
}

/// The log's files that wait to become a segment.
fn spares(wal_dir: &std::path::Path) -> usize {
    let names = crate::fs::file_names(wal_dir).expect("a directory");
    names
        .iter()
        .filter(|name| name.starts_with("spare"))
        .count()
}

/// What a purge frees is what a full log waits for: nothing that would carry it to the disk is let in before.
#[tokio::test]
async fn a_purge_of_a_log_whose_disk_is_full_waits_for_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut log = open_log(dir.path());
    let wal_dir = dir.path().join("wal");
    // Two segments, and not a third.
    let _disk = faults::bound(&wal_dir, 40 << 20);
    let vote = Vote::new_committed(1, 1);
    log.save_vote(&vote).await.expect("saved");
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    for index in 1..=20 {
        let entry = Entry {
            log_id: entry::log_id(1, index),
            payload: openraft::EntryPayload::Normal(batch(index, &value)),
        };
        let (told, flushed) = TypeConfig::oneshot();
        let append = log.append([entry], IOFlushed::signal(told));
        append.await.expect("taken");
        flushed.await.expect("told").expect("flushed");
    }
    // The second segment is in use, and making a third was tried so often that the disk counts as full.
    eventually("the disk counts as full", || log.is_full()).await;
    assert_eq!(spares(&wal_dir), 0);
    log.purge(entry::log_id(1, 17)).await.expect("taken");
    eventually("what was purged is the next segment", || {
        spares(&wal_dir) > 0
    })
    .await;
}

/// Waits until a member whose log's disk is full has taken what it can.
async fn takes_no_more(full: &Member) {
    let mut taken = 0;
    while taken != full.log.last_index() {
        taken = full.log.last_index();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// Purges a full log as often as it takes until everything is applied.
async fn goes_on_once_purged(full: &Member, everything: u64) {
    let goes_on = async {
        while full.store.applied_index() < everything {
            full.consensus.snapshot().await.expect("it runs");
            let purge = full.consensus.purge(&full.log, Keep::default(), 0);
            purge.await.expect("it runs");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let goes_on = tokio::time::timeout(PATIENCE * 2, goes_on).await;
    goes_on.expect("what was purged is room for what follows");
}

/// A member takes what its log's disk can hold, however much is on its way: the log would wait for room that
/// only a purge makes, and the purge for the log.
#[tokio::test]
async fn a_member_whose_logs_disk_is_full_goes_on_once_its_log_is_purged() {
    let cluster = Cluster::start_patient(3).await;
    let leader = cluster.leader().await;
    let full = cluster.follower_of(leader);
    let _disk = faults::bound(&full.wal_dir(), 40 << 20);
    full.store.headroom().found(Level::Short, 1 << 40);
    write(leader, 0..1200, &Bytes::from(noise(3))).await;
    takes_no_more(full).await;
    assert!(
        full.log.last_index() < leader.log.last_index(),
        "it had room for everything"
    );
    goes_on_once_purged(full, leader.log.last_index()).await;
    cluster.converge().await;
    cluster.stop().await;
}

/// That the disk is full shows when a segment is tried to be made, which may be long after more was let in than ever
/// fits: here because the disk stands still until then, elsewhere because the thread that tries had no turn.
#[tokio::test]
async fn a_log_that_stands_still_lets_in_no_more_than_its_disk_has_a_place_for() {
    let cluster = Cluster::start_patient(3).await;
    let leader = cluster.leader().await;
    let full = cluster.follower_of(leader);
    let _disk = faults::bound(&full.wal_dir(), 40 << 20);
    let value = Bytes::from(noise(3));
    write(leader, 0..150, &value).await;
    cluster.converge().await;
    eventually("its second segment is there", || {
        spares(&full.wal_dir()) == 1
    })
    .await;
    let stall = faults::stall(&full.wal_dir(), Operation::Write);
    write(leader, 150..1200, &value).await;
    takes_no_more(full).await;
    drop(stall);
    takes_no_more(full).await;
    goes_on_once_purged(full, leader.log.last_index()).await;
    cluster.converge().await;
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
