//! Whom a leader that is asked to stop hands over to.

use std::time::{Duration, Instant};

use engram_e2e::cluster::Plan;

use crate::calls;
use crate::case;

/// What a put may take where nobody leads.
const PUT_LIMIT: Duration = Duration::from_secs(5);
/// How long writes are looked at.
const LOOKED_AT: Duration = Duration::from_secs(5);
/// Less than an election timeout: nobody has to be elected for want of who was meant to lead.
const GAP_MAX: Duration = Duration::from_millis(900);

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_leader_that_stops_hands_over_to_nobody_who_was_killed_a_moment_ago() {
    let case = case::begin("SIGTERM of the leader right after a kill");
    let mut cluster = Plan::of(5).start();
    let mut places: Vec<usize> = (0..5).collect();
    // Of those that have the same log, the one with the greatest id takes over.
    places.sort_by_key(|place| cluster.member_id(*place));
    let (leader, other, killed) = (places[0], places[1], places[4]);
    cluster.have_lead(leader);
    calls::must_take_a_write(&cluster, other, PUT_LIMIT);
    std::thread::sleep(Duration::from_secs(1));
    cluster.kill(killed);
    cluster.server(leader).signal(libc::SIGTERM);
    let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while began.elapsed() < LOOKED_AT {
        if calls::put(&cluster, other, "handed", b"over", PUT_LIMIT).is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    }
    case.saw(format!("longest time between two writes: {longest:.1?}"));
    cluster.must(longest < GAP_MAX, || format!("nobody led for {longest:?}"));
}
