//! Members that lost their data are replaced, one after the other, under load.

use std::time::Duration;

use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::load::Load;
use engram_e2e::{tools, turn};

use crate::ci_or_full;

const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn every_member_can_be_replaced_under_load() {
    let _turn = turn::take("replacement");
    let mut cluster = Plan::of(3).start();
    let load = Load::begin(&cluster, "replace", 4, Duration::from_millis(5));
    // CI's one is the leader: the hardest.
    for _ in 0..ci_or_full(1, 3) {
        load.must_progress(&cluster, 200);
        let place = cluster.wait_for_leader(LEADER_LIMIT).place;
        replace(&mut cluster, place);
        load.must_progress(&cluster, 100);
    }
    let written = load.nothing_is_lost(&cluster);
    println!("{} acknowledged writes are there", written.len());
    cluster.must_hold_the_same();
}

/// The member's directory is gone: it is removed, added under a new id, and started anew.
fn replace(cluster: &mut Cluster, place: usize) {
    let old = cluster.member_id(place);
    cluster.kill(place);
    cluster.wipe(place);
    let asked = cluster.wait_for_leader(LEADER_LIMIT).place;
    if !tools::engram_is_etcd() {
        a_wiped_member_is_refused(cluster, place);
    }
    cluster.remove_member(asked, old);
    cluster.add_again(asked, place);
    cluster.must_become_ready(place);
    let revision = cluster.revision(asked).expect("a read at the leader");
    cluster.wait_for_revision(place, revision, CATCH_UP_LIMIT);
    let new = cluster.member_id(place);
    cluster.must(new != old, || format!("id {old:x} was used again"));
    let listed = cluster.member_list(asked);
    let ids: Vec<u64> = listed.iter().map(|member| member.id).collect();
    cluster.must(
        ids.len() == 3 && ids.contains(&new) && !ids.contains(&old),
        || format!("{old:x} should have become {new:x}: {listed:?}"),
    );
}

/// Under its old id it could vote twice or forget what it acknowledged. (etcd lets it.)
fn a_wiped_member_is_refused(cluster: &mut Cluster, place: usize) {
    cluster.relaunch(place);
    let ended = cluster.ended_within(place, LEADER_LIMIT);
    let name = cluster.server(place).name().to_owned();
    cluster.must(ended.is_some_and(|status| !status.success()), || {
        format!("{name} lost its data and should refuse to serve under its old id: {ended:?}")
    });
    let said = cluster.server(place).output();
    cluster.must(
        said.contains("member remove") || said.contains("member add"),
        || format!("{name} should say how a member without data is replaced"),
    );
    if cluster.server(place).data_dir().exists() {
        cluster.wipe(place);
    }
}
