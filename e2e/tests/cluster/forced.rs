//! Two of three members are lost for good: the third goes on alone, with everything it has.

use engram_e2e::cluster::{LEADER_LIMIT, Plan};
use engram_e2e::turn;

#[test]
fn a_member_goes_on_alone_when_it_is_forced() {
    let _turn = turn::take("force new cluster");
    let mut cluster = Plan::of(3).start();
    cluster.etcdctl(&["put", "before", "the loss"]);
    cluster.wait_for_revision(0, 2, LEADER_LIMIT);
    for place in [1, 2] {
        cluster.kill(place);
    }
    cluster.kill(0);
    cluster.restart_with(0, "--force-new-cluster");
    let leader = cluster.wait_for_leader_among(&[0], LEADER_LIMIT);
    assert_eq!(leader.place, 0);
    assert_eq!(cluster.member_list(0).len(), 1);
    let mut get = cluster.etcdctl_command(&[0]);
    let found = engram_e2e::tools::run(
        get.args(["get", "before", "--print-value-only"]),
        engram_e2e::tools::TOOL_LIMIT,
    );
    cluster.must(found.stdout.trim() == "the loss", || found.text());
    let mut put = cluster.etcdctl_command(&[0]);
    let put = engram_e2e::tools::run(
        put.args(["put", "after", "the loss"]),
        engram_e2e::tools::TOOL_LIMIT,
    );
    cluster.must(put.status.success(), || put.text());
}
