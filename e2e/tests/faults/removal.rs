//! A change of members whose caller went away, or timed out, comes to its end by itself.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{LEADER_LIMIT, Plan};
use engram_proto::etcdserverpb::MemberRemoveRequest;

use crate::calls::{self, PATIENCE};
use crate::case;

/// See `HealthInterval` of etcd.
const IN_TOUCH: Duration = Duration::from_secs(6);

#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_removal_across_a_pause_of_the_quorum_ends() {
    let case = case::begin("removal across a pause of the quorum");
    let mut cluster = Plan::of(3).start();
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let (stays, goes) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.member_id(goes);
    cluster.pause(goes);
    std::thread::sleep(Duration::from_secs(2));
    cluster.pause(stays);
    let began = Instant::now();
    let address = cluster.server(leader).address();
    let asked = cluster.runtime().spawn(async move {
        let mut client = Client::lazy(address);
        let remove = client.cluster.member_remove(MemberRemoveRequest { id });
        tokio::time::timeout(Duration::from_secs(12), remove).await
    });
    std::thread::sleep(Duration::from_millis(8_500).saturating_sub(began.elapsed()));
    cluster.resume(stays);
    std::thread::sleep(Duration::from_secs(8));
    let outcome = cluster.runtime().block_on(asked).expect("no panic");
    let listed = cluster.member_list(leader).len();
    let with_two = calls::put(&cluster, leader, "x", b"1", PATIENCE);
    // The one that was removed must count for nothing now.
    cluster.pause(stays);
    cluster.resume(goes);
    std::thread::sleep(Duration::from_secs(4));
    let alone = calls::put(&cluster, leader, "y", b"1", Duration::from_secs(4));
    cluster.resume(stays);
    case.saw(format!(
        "removal: {:?}; {listed} members listed; a put with both that are left: {with_two:?}; a put \
         with the removed one alone: {:?}",
        outcome.map(|answer| answer.map(drop).map_err(|status| status.message().to_owned())),
        alone.as_ref().map_err(|status| status.code())
    ));
    cluster.must(with_two.is_ok(), || format!("{with_two:?}"));
    cluster.must(listed == 2, || "the removal is not there".to_owned());
    cluster.must(alone.is_err(), || {
        "the removed member still counts".to_owned()
    });
}

/// Without the one that is gone nobody could commit the removal, nor anything after it.
#[test]
#[ignore = "takes long: `make faults` runs it"]
fn a_leader_is_not_removed_beside_a_member_that_was_killed_a_moment_ago() {
    let case = case::begin("removal of the leader right after a kill");
    let mut cluster = Plan::of(3).start();
    cluster.have_lead(0);
    let id = cluster.member_id(0);
    std::thread::sleep(IN_TOUCH);
    cluster.kill(2);
    let began = Instant::now();
    let address = cluster.server(0).address();
    let removed = cluster.runtime().block_on(async {
        let mut client = Client::lazy(address);
        client
            .cluster
            .member_remove(MemberRemoveRequest { id })
            .await
    });
    let took = began.elapsed();
    let written = calls::put(&cluster, 1, "x", b"1", PATIENCE);
    let refusal = removed.as_ref().err().map(|status| status.message());
    case.saw(format!(
        "{refusal:?} after {took:.1?}; a put after it: {written:?}"
    ));
    cluster.must(refusal == Some("etcdserver: unhealthy cluster"), || {
        format!("{removed:?}")
    });
    cluster.must(written.is_ok(), || format!("{written:?}"));
}
