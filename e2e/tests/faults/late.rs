//! A put that the leader takes and nobody else can keep: its end says why, as etcd's does.

use std::time::{Duration, Instant};

use engram_e2e::bad_disk::BadSync;
use engram_e2e::cluster::Plan;
use tonic::Code;

use crate::calls::{self, PATIENCE};
use crate::case;

/// The followers' log disks sync no sooner: beyond the time limit of a request (7 s).
const STUCK: Duration = Duration::from_secs(30);
/// After the put is under way.
const CUT_AFTER: Duration = Duration::from_secs(1);

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_put_whose_followers_stand_still_times_out() {
    times_out(
        "both followers' log disks stand still",
        false,
        "etcdserver: request timed out",
    );
}

#[test]
fn a_put_whose_leader_lost_its_connections_says_so() {
    times_out(
        "both followers' log disks stand still, their connections break",
        true,
        "etcdserver: request timed out, possibly due to connection lost",
    );
}

fn times_out(name: &'static str, cut: bool, wanted: &str) {
    let case = case::begin(name);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let stuck = BadSync::slow(scratch.path(), "*.wal", STUCK);
    let mut cluster = Plan::of(3)
        .environment_of(1, stuck.environment())
        .environment_of(2, stuck.environment())
        .start();
    cluster.have_lead(0);
    calls::must_take_a_write(&cluster, 0, PATIENCE);
    let term = cluster.term(0);
    stuck.on();
    let began = Instant::now();
    let answer = std::thread::scope(|scope| {
        let put = scope.spawn(|| calls::put(&cluster, 0, "late", b"v", PATIENCE));
        if cut {
            std::thread::sleep(CUT_AFTER);
            cluster.network().cut(0, 1);
            cluster.network().cut(0, 2);
        }
        put.join().expect("no panic")
    });
    let took = began.elapsed();
    case.saw(format!("{answer:?} after {took:.1?}"));
    cluster.must(term == cluster.term(0), || {
        "the leader was lost, which is another case".to_owned()
    });
    let Err(status) = answer else {
        cluster.fail("a put was taken that no follower has on its disk");
    };
    cluster.must(
        status.code() == Code::Unavailable && status.message() == wanted,
        || format!("{status}"),
    );
    stuck.off();
    for place in [1, 2] {
        cluster.kill(place);
        cluster.restart(place);
    }
    calls::must_take_a_write(&cluster, 0, PATIENCE);
    cluster.must_hold_the_same();
}
