//! A follower that was away for ten seconds under load comes back by the log, not by a snapshot.

use std::time::Duration;

use engram_e2e::cluster::{LEADER_LIMIT, Plan};
use engram_e2e::load::Load;

use crate::case;
use crate::ci_or_full;

const AWAY: Duration = Duration::from_secs(10);
/// Two writers, a write each in this time and what it takes: more than 150 a second.
const PACE: Duration = Duration::from_millis(8);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_follower_that_was_away_comes_back_by_the_log() {
    let case = case::begin("catch-up of a follower that was away");
    let mut cluster = Plan::of(3)
        // So that the log is cut while the load is small enough for a test.
        .flag(format!("--snapshot-count={}", ci_or_full(500, 10_000)))
        .start();
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let away = (leader + 1) % 3;
    let load = Load::begin(&cluster, "catch-up", 2, PACE);
    // Long enough that a snapshot was made before.
    std::thread::sleep(Duration::from_secs(ci_or_full(3, 62)));
    cluster.kill(away);
    let before = load.acknowledged();
    std::thread::sleep(AWAY);
    let missed = load.acknowledged() - before;
    cluster.restart(away);
    let revision = cluster.revision(leader).expect("a read");
    cluster.wait_for_revision(away, revision, CATCH_UP_LIMIT);
    let installed = cluster
        .server(away)
        .output()
        .matches("installed a snapshot")
        .count();
    case.saw(format!(
        "{missed} writes missed, {installed} snapshots installed"
    ));
    cluster.must(missed > 600, || "too little was missed to tell".to_owned());
    cluster.must(installed == 0, || "it came back by a snapshot".to_owned());
    load.nothing_is_lost(&cluster);
}
