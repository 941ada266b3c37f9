//! The leader's engine syncs its tables slowly: heartbeats wait for no engine, and it goes on leading.

use std::time::{Duration, Instant};

use engram_e2e::cluster::{ELECTION_TIMEOUT, LEADER_LIMIT, Plan};
use engram_e2e::slow_disk::SlowSync;

use crate::calls;
use crate::case;

const DELAY: Duration = Duration::from_secs(6);
const VALUE_BYTES: usize = 1_000_000;
const WRITES: usize = 90;
const TIME: Duration = Duration::from_secs(40);

#[test]
fn a_leader_whose_engine_stalls_goes_on_leading() {
    let Some(case) = case::begin_long("slow engine of the leader") else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let slow = SlowSync::of(scratch.path(), ".sst", DELAY);
    let cluster = Plan::of(3).environment_of(0, slow.environment()).start();
    cluster.have_lead(0);
    let before = cluster.wait_for_leader(LEADER_LIMIT);
    slow.on();
    let value = calls::incompressible(VALUE_BYTES);
    let (started, mut longest, mut failed) = (Instant::now(), Duration::ZERO, 0);
    for number in 0..WRITES {
        let began = Instant::now();
        let key = format!("stall/{number}");
        let written = calls::put(&cluster, 0, &key, &value, Duration::from_secs(15));
        failed += usize::from(written.is_err());
        longest = longest.max(began.elapsed());
        if started.elapsed() > TIME {
            break;
        }
    }
    slow.off();
    std::thread::sleep(ELECTION_TIMEOUT);
    let after = cluster.wait_for_leader(LEADER_LIMIT);
    let terms = after.term - before.term;
    case.saw(format!(
        "{terms} elections, longest put {longest:.1?}, {failed} failed"
    ));
    cluster.must(after == before, || format!("{before:?} became {after:?}"));
    cluster.must(failed == 0, || format!("{failed} puts failed"));
}
