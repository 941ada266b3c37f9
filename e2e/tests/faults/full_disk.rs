//! The disk of one of three members is full: the others take every write, no alarm speaks for all, and
//! with space again it takes part again, with all data.

use std::fs;
use std::time::{Duration, Instant};

use engram_e2e::bad_disk::BadSync;
use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::disk::SmallFileSystem;
use engram_e2e::random::Random;
use engram_proto::etcdserverpb::DeleteRangeRequest;
use tempfile::TempDir;

use crate::calls::{self, PATIENCE};
use crate::case::{self, Case};

const PLACE: usize = 2;
/// Room for a new member and some data.
const DISK_BYTES: u64 = 84 << 20;
/// Room for a new member's log and little more.
const LOG_DISK_BYTES: u64 = 44 << 20;
const ROOM_AGAIN: u64 = 900 << 20;
const VALUE_BYTES: usize = 900_000;
/// More than the disk holds.
const WRITES: usize = 90;
const WRITE_LIMIT: Duration = Duration::from_secs(6);
/// The same at once.
const FLOOD_WRITERS: usize = 12;
const FLOOD_ROUNDS: usize = 8;
/// Requests that fill a log and add nothing to a store.
const DELETES: usize = 150;
const DELETE_BYTES: usize = 120_000;
/// As long as a write may be refused because the one that led has just found its disk full.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(10);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// How long a sync of a store takes that stands still.
const STANDS_STILL: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    /// Only the log lies on the small disk.
    Log,
    /// Everything does.
    Everything,
}

/// A cluster whose last member has a small disk. The directory and the disk outlive the members.
struct Scene {
    cluster: Cluster,
    disk: SmallFileSystem,
    _scratch: TempDir,
}

impl Scene {
    fn with(full: Full) -> Self {
        Self::started(full, Vec::new())
    }

    /// The last member with these variables.
    fn started(full: Full, environment: Vec<(String, String)>) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let mount_point = scratch.path().join("small");
        fs::create_dir(&mount_point).expect("creating a directory");
        let bytes = match full {
            Full::Log => LOG_DISK_BYTES,
            Full::Everything => DISK_BYTES,
        };
        let disk = SmallFileSystem::mount(&mount_point, bytes);
        let flag = match full {
            Full::Log => format!("--wal-dir={}/wal", mount_point.display()),
            Full::Everything => format!("--data-dir={}/data", mount_point.display()),
        };
        let plan = Plan::of(3).flag_of(PLACE, flag);
        let cluster = plan.environment_of(PLACE, environment).start();
        Self {
            cluster,
            disk,
            _scratch: scratch,
        }
    }

    /// Writes at the two others until the disk must be full; returns how many were refused, and the
    /// last refusal.
    fn fill(&self) -> (usize, String) {
        let value = calls::digits(VALUE_BYTES);
        let (mut refused, mut last) = (0, String::new());
        for number in 0..WRITES {
            let key = format!("full/{}", number % 10);
            let written = calls::put(&self.cluster, number % 2, &key, &value, WRITE_LIMIT);
            if let Err(status) = written {
                (refused, last) = (refused + 1, status.to_string());
            }
            if refused > 2 {
                break;
            }
        }
        let address = self.cluster.server(0).address();
        self.cluster.runtime().block_on(async {
            let mut client = Client::lazy(address);
            for number in 0..DELETES {
                let nothing = DeleteRangeRequest {
                    key: vec![b'x'; DELETE_BYTES + number].into(),
                    ..DeleteRangeRequest::default()
                };
                // Only there to fill the log; whether they are taken is judged by the puts.
                let _ = client.kv.delete_range(nothing).await;
            }
        });
        (refused, last)
    }

    /// As [`Scene::fill`], as fast as the others take it, with values that no engine makes smaller.
    fn flood(&self) -> (usize, String) {
        let writer = |number: usize| {
            let address = self.cluster.server(number % 2).address();
            let value = Random::new(number as u64).bytes(VALUE_BYTES);
            async move {
                let mut client = Client::lazy(address);
                let (mut refused, mut last) = (0, String::new());
                for round in 0..FLOOD_ROUNDS {
                    let key = format!("flood/{number}/{}", round % 2);
                    let put = tokio::time::timeout(WRITE_LIMIT, client.put(key, value.clone()));
                    match put.await {
                        Ok(Ok(_)) => {}
                        Ok(Err(status)) => (refused, last) = (refused + 1, status.to_string()),
                        Err(_) => (refused, last) = (refused + 1, "no answer".to_owned()),
                    }
                }
                (refused, last)
            }
        };
        let runtime = self.cluster.runtime();
        let writers: Vec<_> = (0..FLOOD_WRITERS)
            .map(|number| runtime.spawn(writer(number)))
            .collect();
        let join = async {
            let (mut refused, mut last) = (0, String::new());
            for writer in writers {
                let (count, why) = writer.await.expect("a writer does not panic");
                refused += count;
                if count > 0 {
                    last = why;
                }
            }
            (refused, last)
        };
        runtime.block_on(join)
    }

    /// The member serves, has everything, and no alarm stands.
    fn all_is_well(&self) {
        calls::must_take_a_write(&self.cluster, PLACE, CATCH_UP_LIMIT);
        let revision = self.cluster.revision(0).expect("a read");
        self.cluster
            .wait_for_revision(PLACE, revision, CATCH_UP_LIMIT);
        self.cluster.must_hold_the_same();
        let alarms = calls::alarms(&self.cluster, 0);
        self.cluster
            .must(alarms.is_empty(), || format!("{alarms:?}"));
    }
}

#[test]
fn a_followers_full_disk_stops_nobody_and_it_starts_with_space_again() {
    let case = case::begin("full disk of a follower, restart");
    a_restart_with_space(&case, Full::Everything);
}

#[test]
fn a_followers_full_log_disk_stops_nobody_and_it_starts_with_space_again() {
    let case = case::begin("full log disk of a follower, restart");
    a_restart_with_space(&case, Full::Log);
}

fn a_restart_with_space(case: &Case, full: Full) {
    let mut scene = Scene::with(full);
    scene.cluster.have_lead(0);
    let (refused, why) = scene.fill();
    if scene.cluster.is_running(PLACE) {
        scene.cluster.server(PLACE).signal(libc::SIGTERM);
        if scene.cluster.ended_within(PLACE, PATIENCE).is_none() {
            scene.cluster.kill(PLACE);
        }
    }
    scene.disk.resize(ROOM_AGAIN);
    let ended = match scene.cluster.refusal(PLACE, Duration::from_secs(4)) {
        None => "runs".to_owned(),
        Some(_) => format!("refuses: {}", scene.cluster.server(PLACE).last_line()),
    };
    case.saw(format!(
        "{refused} puts refused by the cluster ({why}); with space again the member {ended}"
    ));
    let cluster = &scene.cluster;
    cluster.must(refused == 0, || format!("refused: {why}"));
    cluster.must(cluster.server(PLACE).has_process(), || ended);
    scene.cluster.must_become_ready(PLACE);
    scene.all_is_well();
}

#[test]
fn a_member_whose_disk_was_full_comes_back_by_itself() {
    let case = case::begin("full disk of a follower, no restart");
    comes_back_by_itself(&case, Full::Everything, Scene::fill);
}

/// The log fills its disk, since nothing of it can be purged; what the store then flushes makes room again.
#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_log_that_filled_its_disk_while_the_store_stood_still_goes_on_by_itself() {
    let case = case::begin("full log disk of a follower whose store stands still");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = BadSync::slow(scratch.path(), "*.sst", STANDS_STILL);
    let scene = Scene::started(Full::Log, slow.environment());
    scene.cluster.have_lead(0);
    slow.on();
    let (first, _) = scene.flood();
    let (refused, why) = scene.flood();
    let free = scene.disk.free();
    slow.off();
    let began = Instant::now();
    scene.all_is_well();
    case.saw(format!(
        "{} puts refused by the cluster ({why}); {free} bytes of the log's disk were free; it served with \
         everything {:.1?} after the store's disk was well",
        first + refused,
        began.elapsed()
    ));
}

/// The member looks at its disk now and then: what comes between two looks has to fit as well.
#[test]
fn a_member_whose_disk_was_filled_in_a_moment_comes_back_by_itself() {
    let case = case::begin("full disk of a follower, at once, no restart");
    comes_back_by_itself(&case, Full::Everything, Scene::flood);
}

#[test]
fn a_member_whose_log_disk_was_full_comes_back_by_itself() {
    let case = case::begin("full log disk of a follower, no restart");
    comes_back_by_itself(&case, Full::Log, Scene::fill);
}

fn comes_back_by_itself(case: &Case, full: Full, fill: impl FnOnce(&Scene) -> (usize, String)) {
    let mut scene = Scene::with(full);
    scene.cluster.have_lead(0);
    let (refused, why) = fill(&scene);
    let runs = scene.cluster.is_running(PLACE);
    let last = scene.cluster.server(PLACE).last_line();
    scene.disk.resize(ROOM_AGAIN);
    case.saw(format!(
        "{refused} puts refused by the cluster ({why}); the member {}",
        if runs {
            "still runs".to_owned()
        } else {
            format!("ended: {last}")
        }
    ));
    scene
        .cluster
        .must(refused == 0, || format!("refused: {why}"));
    scene.cluster.must(runs, || last);
    scene.all_is_well();
}

#[test]
fn a_leader_whose_disk_is_full_hands_over() {
    let case = case::begin("full disk of the leader");
    hands_over(&case, Full::Everything);
}

#[test]
fn a_leader_whose_log_disk_is_full_hands_over() {
    let case = case::begin("full log disk of the leader");
    hands_over(&case, Full::Log);
}

fn hands_over(case: &Case, full: Full) {
    let mut scene = Scene::with(full);
    scene.cluster.have_lead(PLACE);
    let value = calls::digits(VALUE_BYTES);
    let (mut outage, mut longest) = (None, Duration::ZERO);
    let mut refusals: Vec<String> = Vec::new();
    for number in 0..WRITES {
        let key = format!("full/{}", number % 10);
        match calls::put(&scene.cluster, number % 2, &key, &value, WRITE_LIMIT) {
            Ok(_) => outage = None,
            Err(status) => {
                let since = *outage.get_or_insert_with(Instant::now);
                longest = longest.max(since.elapsed() + Duration::from_millis(1));
                refusals.push(status.message().to_owned());
            }
        }
        if longest > HAND_OVER_LIMIT * 2 {
            break;
        }
    }
    let leader = scene.cluster.leader_among(&[0, 1]);
    refusals.dedup();
    case.saw(format!(
        "writes stood still for {longest:.1?} at most ({refusals:?}); leader afterwards: {leader:?}"
    ));
    let cluster = &scene.cluster;
    cluster.must(
        !refusals.iter().any(|said| said.contains("space exceeded")),
        || "one member's full disk is told as everybody's".to_owned(),
    );
    cluster.must(outage.is_none() && longest <= HAND_OVER_LIMIT, || {
        format!("no write for {longest:?}")
    });
    let next = cluster.wait_for_leader_among(&[0, 1], LEADER_LIMIT);
    cluster.must(next.place != PLACE, || "the full one leads".to_owned());
    scene.disk.resize(ROOM_AGAIN);
    if !scene.cluster.is_running(PLACE) {
        scene.cluster.restart(PLACE);
    }
    scene.all_is_well();
}
