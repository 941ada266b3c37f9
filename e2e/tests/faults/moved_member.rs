//! A member starts at another peer URL: told by `member update` before, or nobody was told, as after a
//! pod's address changed.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, Plan};
use engram_proto::etcdserverpb::MemberUpdateRequest;

use crate::calls;
use crate::case;

/// etcd needs 1.2 s. The machine is busy.
const SERVES_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_member_that_was_updated_serves_from_its_new_address() {
    moves("member update, then a start there", 2, true);
}

#[test]
fn a_member_that_told_nobody_serves_from_its_new_address() {
    moves("start at another peer URL, nobody told", 2, false);
}

#[test]
fn the_leader_moves_and_serves_from_its_new_address() {
    moves("member update of the leader, then a start there", 0, true);
}

fn moves(name: &'static str, place: usize, tell: bool) {
    let case = case::begin(name);
    let mut cluster = Plan::of(3).start();
    cluster.have_lead(0);
    let id = cluster.member_id(place);
    cluster.terminate(place);
    let url = cluster.move_away(place);
    let asked = 1;
    if tell {
        update(&cluster, asked, id, &url);
    }
    cluster.relaunch(place);
    let began = Instant::now();
    let mut serves = false;
    while !serves && began.elapsed() < SERVES_LIMIT {
        serves = calls::put(&cluster, place, "a", b"b", Duration::from_secs(1)).is_ok();
    }
    let took = began.elapsed();
    case.saw(match serves {
        true => format!("serves after {took:.1?}"),
        false => format!("does not serve in {took:.0?}"),
    });
    cluster.must(serves, || "the moved member does not serve".to_owned());
    // And it carries its weight: with one of the others away the cluster goes on.
    cluster.kill(1);
    calls::must_take_a_write(&cluster, place, SERVES_LIMIT);
    cluster.restart(1);
    cluster.must_hold_the_same();
}

fn update(cluster: &Cluster, asked: usize, id: u64, url: &str) {
    cluster.wait_for(SERVES_LIMIT, "the update is taken", || {
        let request = MemberUpdateRequest {
            id,
            peer_ur_ls: vec![url.to_owned()],
        };
        let address = cluster.server(asked).address();
        let answer = cluster.runtime().block_on(async move {
            let mut client = Client::lazy(address);
            client.cluster.member_update(request).await
        });
        answer.ok()
    });
}
