//! The log's disk of one member syncs slowly while the others commit without it. What it applied must
//! never be ahead of what its log holds: it has to start again, however it ended, with nothing lost.

use std::time::{Duration, Instant};

use engram_e2e::bad_disk::BadSync;
use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_proto::etcdserverpb::DefragmentRequest;

use crate::calls::{self, PATIENCE};
use crate::case::{self, Case};

/// What a sync of the log takes longer.
const DELAY: Duration = Duration::from_secs(4);
const WRITES: usize = 40;
/// Between the beginnings of two writes, so that they are entries of their own.
const STAGGER: Duration = Duration::from_millis(25);
/// While the disk is slow: below [`DELAY`], so that the member ends in the middle of a sync.
const SLOW_FOR: Duration = Duration::from_millis(2_500);
/// A disk that makes a follower late, by less than reads at a revision wait.
const BEHIND: Duration = Duration::from_millis(300);
/// Before a leader hands over whose log stands still.
const STILL_LEADS: Duration = Duration::from_millis(1_000);
/// A log's disk that stands still.
const STANDS_STILL: Duration = Duration::from_secs(30);
/// How long writes through the others may be away then: two election timeouts until it hands over, and one
/// for the rest.
const AWAY_MAX: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
}

#[test]
fn a_leader_with_a_slow_log_starts_again_after_a_kill() {
    leader(&case::begin("slow log disk of the leader, kill"), End::Kill);
}

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_leader_with_a_slow_log_starts_again_after_sigterm() {
    let case = case::begin("slow log disk of the leader, SIGTERM");
    leader(&case, End::Terminate);
}

#[test]
fn a_follower_with_a_slow_log_starts_again_after_a_kill() {
    follower(&case::begin("slow log disk of a follower, kill"), End::Kill);
}

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_follower_with_a_slow_log_starts_again_after_sigterm() {
    let case = case::begin("slow log disk of a follower, SIGTERM");
    follower(&case, End::Terminate);
}

/// A leader sends entries before its own disk has them. Killed then, and there again before anybody
/// missed it, it must not go on numbering where its log ends now: others have committed other entries
/// there.
#[test]
fn a_leader_that_is_there_again_at_once_leads_in_another_term() {
    let case = case::begin("slow log disk of the leader, killed and started at once");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.wal", DELAY);
    let mut cluster = Plan::of(3).environment_of(0, slow.environment()).start();
    cluster.have_lead(0);
    let term = cluster.term(0);
    slow.on();
    let writes = begin_writes(&cluster, 0);
    std::thread::sleep(STILL_LEADS);
    let committed = cluster.revision(1);
    cluster.kill(0);
    slow.off();
    cluster.restart(0);
    let kept = acknowledged(&cluster, writes);
    for place in 0..cluster.size() {
        calls::must_take_a_write(&cluster, place, PATIENCE);
    }
    let leads = cluster.wait_for_leader(LEADER_LIMIT);
    let now = cluster.term(leads.place);
    case.saw(format!(
        "revision {committed:?} committed by the others; member {} leads term {now}, term {term} before; \
         {} writes acknowledged",
        leads.place,
        kept.len()
    ));
    cluster.must(now > term, || format!("term {now} is led twice"));
    cluster.must_hold_the_same();
}

/// Clients spread their calls over the members: what one has told of, another that is a moment behind is
/// asked for at that revision. It waits for it, and refuses what nobody has written.
#[test]
fn a_follower_that_is_behind_waits_for_a_revision_that_was_told() {
    let case = case::begin("slow log disk of a follower that is read at a revision");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.wal", BEHIND);
    let cluster = Plan::of(3).environment_of(2, slow.environment()).start();
    cluster.have_lead(0);
    slow.on();
    let (mut longest, mut behind) = (Duration::ZERO, 0);
    for number in 0..5 {
        let key = format!("told/{number}");
        let written = calls::put(&cluster, 0, &key, b"v", PATIENCE).expect("a quorum is quick");
        behind += usize::from(matches!(calls::get_local(&cluster, 2, &key), Ok(None)));
        let asked = Instant::now();
        let found = calls::get_local_at(&cluster, 2, &key, written);
        longest = longest.max(asked.elapsed());
        cluster.must(matches!(found, Ok(Some(_))), || {
            format!("{key} at {written}: {found:?}")
        });
    }
    let beyond = cluster.revision(0).expect("it answers") + 1000;
    let refused =
        calls::get_local_at(&cluster, 2, "told/0", beyond).expect_err("nobody has written it");
    case.saw(format!(
        "behind {behind} times of 5, longest read {longest:.1?}; beyond: {:?}",
        refused.message()
    ));
    cluster.must(behind > 0, || "it was never behind".into());
    let text = "etcdserver: mvcc: required revision is a future revision";
    cluster.must(refused.message() == text, || format!("{refused:?}"));
}

/// The others commit without it, and nobody's write may wait for its disk for longer than an election
/// takes: somebody else leads.
#[test]
fn a_leader_whose_log_stands_still_hands_over() {
    let case = case::begin("log disk of the leader that stands still");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.wal", STANDS_STILL);
    let mut cluster = Plan::of(3).environment_of(0, slow.environment()).start();
    cluster.have_lead(0);
    slow.on();
    let began = Instant::now();
    let (mut worst, mut count) = (Duration::ZERO, 0);
    while began.elapsed() < AWAY_MAX * 2 {
        for place in 1..cluster.size() {
            let asked = Instant::now();
            calls::must_take_a_write(&cluster, place, AWAY_MAX);
            worst = worst.max(asked.elapsed());
            count += 1;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let leads = cluster.wait_for_leader_among(&[1, 2], LEADER_LIMIT);
    case.saw(format!(
        "{count} writes through the others, the longest {worst:?}; member {} leads",
        leads.place
    ));
    cluster.kill(0);
    slow.off();
    cluster.restart(0);
    cluster.must_become_ready(0);
    cluster.must_hold_the_same();
}

fn leader(case: &Case, end: End) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.wal", DELAY);
    let mut cluster = Plan::of(3)
        .flag("--snapshot-count=20")
        .environment_of(0, slow.environment())
        .start();
    cluster.have_lead(0);
    slow.on();
    let writes = begin_writes(&cluster, 0);
    std::thread::sleep(SLOW_FOR);
    finish(&mut cluster, 0, end);
    slow.off();
    let kept = acknowledged(&cluster, writes);
    starts_again_with(case, &mut cluster, 0, &kept);
}

fn follower(case: &Case, end: End) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.wal", DELAY);
    let mut cluster = Plan::of(3).environment_of(2, slow.environment()).start();
    cluster.have_lead(0);
    slow.on();
    let writes = begin_writes(&cluster, 0);
    std::thread::sleep(SLOW_FOR / 2);
    // Has the store put on the disk what was applied.
    let address = cluster.server(2).address();
    let _ = cluster.runtime().block_on(async move {
        let mut client = Client::lazy(address);
        let defragment = client.maintenance.defragment(DefragmentRequest {});
        tokio::time::timeout(SLOW_FOR / 2, defragment).await
    });
    finish(&mut cluster, 2, end);
    slow.off();
    let kept = acknowledged(&cluster, writes);
    cluster.must(kept.len() == WRITES, || {
        format!(
            "two of three commit, and yet {} of {WRITES} writes",
            kept.len()
        )
    });
    starts_again_with(case, &mut cluster, 2, &kept);
}

type Write = tokio::task::JoinHandle<Option<(String, i64)>>;
type Writes = Vec<Write>;

fn begin_writes(cluster: &Cluster, place: usize) -> Writes {
    let address = cluster.server(place).address();
    let write = |number: u32| {
        cluster.runtime().spawn(async move {
            tokio::time::sleep(STAGGER * number).await;
            let key = format!("slow/{number}");
            let mut client = Client::lazy(address);
            let revision = client.put(key.as_str(), key.as_str()).await.ok()?;
            Some((key, revision))
        })
    };
    let count = u32::try_from(WRITES).expect("few");
    (0..count).map(write).collect()
}

fn acknowledged(cluster: &Cluster, writes: Writes) -> Vec<(String, i64)> {
    let wait = |task: Write| cluster.runtime().block_on(task).expect("no panic");
    writes.into_iter().filter_map(wait).collect()
}

fn finish(cluster: &mut Cluster, place: usize, end: End) {
    match end {
        End::Kill => cluster.kill(place),
        End::Terminate => drop(cluster.terminate(place)),
    }
}

fn starts_again_with(case: &Case, cluster: &mut Cluster, place: usize, kept: &[(String, i64)]) {
    let ended = match cluster.refusal(place, Duration::from_secs(3)) {
        None => "it starts again".to_owned(),
        Some((status, _)) => format!(
            "it ends with {status}: {}",
            cluster.server(place).last_line()
        ),
    };
    case.saw(format!("{} writes acknowledged; {ended}", kept.len()));
    cluster.must(cluster.server(place).has_process(), || ended.clone());
    cluster.must_become_ready(place);
    calls::must_take_a_write(cluster, place, PATIENCE);
    cluster.must_hold_the_same();
    for (key, _) in kept {
        let value = calls::get_local(cluster, place, key);
        let is_there = matches!(&value, Ok(Some(value)) if value == key.as_bytes());
        cluster.must(is_there, || {
            format!("{key} was acknowledged, it is {value:?}")
        });
    }
}
