//! Leases outlive their leader: one that is kept alive stays, one that is not expires, never early.

use std::time::{Duration, Instant};

use engram_e2e::cluster::{Cluster, ELECTION_TIMEOUT, LEADER_LIMIT, Plan};
use engram_e2e::{tools, turn};

/// Seconds.
const TTL: u64 = 5;
/// How much later than granted a lease may go: a new leader does not know when it was renewed last,
/// and lets it live its time anew and an election timeout longer; leases are looked at twice a
/// second, and the machine is busy.
const LATE_MAX: Duration = Duration::from_secs(5);

#[test]
fn leases_live_on_when_their_leader_is_killed() {
    let _turn = turn::take("leases and leaders");
    let mut cluster = Plan::of(3).start();
    let (kept, left) = (grant(&cluster), grant(&cluster));
    cluster.etcdctl(&["put", "kept", "1", &format!("--lease={kept}")]);
    cluster.etcdctl(&["put", "left", "1", &format!("--lease={left}")]);
    let mut keeping = cluster.etcdctl_command(&[0, 1, 2]);
    let mut keeping = keeping
        .args(["lease", "keep-alive", &kept])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("etcdctl runs");
    std::thread::sleep(Duration::from_secs(2));
    let leader = cluster.wait_for_leader(LEADER_LIMIT);
    let killed = Instant::now();
    cluster.kill(leader.place);
    let next = cluster.wait_for_leader(LEADER_LIMIT);
    let elected = Instant::now();
    cluster.must(has(&cluster, next.place, "left"), || {
        format!(
            "the lease went {:?} after the leader's death",
            killed.elapsed()
        )
    });
    let limit = Duration::from_secs(TTL) + ELECTION_TIMEOUT + LATE_MAX;
    while has(&cluster, next.place, "left") {
        cluster.must(elected.elapsed() < limit, || {
            "the lease that nobody renews did not expire".into()
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    println!(
        "expired {:?} after the new leader was there",
        elected.elapsed()
    );
    cluster.must(elected.elapsed() >= Duration::from_secs(TTL - 2), || {
        "a lease of which the new leader knows nothing lives its time anew".into()
    });
    cluster.must(has(&cluster, next.place, "kept"), || {
        "the lease that was kept alive is gone".into()
    });
    keeping.kill().expect("it runs");
    keeping.wait().expect("it was started here");
}

/// The new lease's id, as etcdctl writes it.
fn grant(cluster: &Cluster) -> String {
    let said = cluster.etcdctl(&["lease", "grant", &TTL.to_string()]);
    let id = said.split_whitespace().nth(1);
    id.unwrap_or_else(|| panic!("no lease was granted: {said}"))
        .to_owned()
}

fn has(cluster: &Cluster, place: usize, key: &str) -> bool {
    let mut get = cluster.etcdctl_command(&[place]);
    let found = tools::run(get.args(["get", key]), tools::TOOL_LIMIT);
    cluster.must(found.status.success(), || found.text());
    !found.stdout.is_empty()
}
