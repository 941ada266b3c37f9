//! Histories of concurrent clients under random faults.

use std::time::{Duration, Instant};

use engram_e2e::cluster::{LEADER_LIMIT, Plan};
use engram_e2e::history::recording::{FLAGS, Recording};
use engram_e2e::random::{Random, number_from};
use engram_e2e::turn;

use crate::is_long;

/// Each recording is judged as a whole: in parts, a search for a linearization stays short.
const PART: Duration = Duration::from_secs(40);
const PARTS_CI: u64 = 3;
const PARTS_FULL: u64 = 15;
/// Eight clients with this pause do two to three hundred operations a second.
const PACE: Duration = Duration::from_millis(25);
/// What has to be served between two faults.
const SERVED: u64 = 60;
/// How long the cluster may need to serve again after a fault has ended.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn every_answer_and_every_event_is_right_under_faults() {
    let _turn = turn::take("histories");
    let mut random = Random::new(Random::seed_from("ENGRAM_CHAOS_SEED"));
    let parts = if is_long() { PARTS_FULL } else { PARTS_CI };
    for part in 0..number_from("ENGRAM_CHAOS_PARTS").unwrap_or(parts) {
        // Every third one of the long form on five members.
        let size = if is_long() && part % 3 == 2 { 5 } else { 3 };
        record(size, random.bits());
    }
}

fn record(size: usize, seed: u64) {
    let mut random = Random::new(seed);
    let plan = Plan::of(size)
        .flag("--snapshot-count=200")
        .flag("--snapshot-catchup-entries=50");
    let mut cluster = FLAGS
        .iter()
        .fold(plan, |plan, flag| plan.flag(*flag))
        .start();
    println!("{size} members, seed {seed}");
    let recording = Recording::begin(&cluster, random.bits(), PACE);
    let ends = Instant::now() + PART;
    while Instant::now() < ends {
        let fault = cluster.suffer(&mut random);
        println!("  {fault}");
        let goal = recording.served() + SERVED;
        cluster.wait_for(
            RECOVERY_LIMIT,
            &format!("operations are served after {fault}"),
            || (recording.served() >= goal).then_some(()),
        );
    }
    cluster.wait_for_leader(LEADER_LIMIT);
    recording.must_be_right(&cluster);
    cluster.must_hold_the_same();
}
