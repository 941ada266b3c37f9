//! One alert, seen firing in a real Prometheus: a member that does not answer.

use engram_e2e::kind::Declared;

use crate::frozen::Frozen;
use crate::prometheus::Prometheus;

/// Tells the story.
pub fn tell(demo: &Declared) {
    let prometheus = Prometheus::start(demo.kind(), &[]);
    prometheus.wait("up{job=\"engram\"} == 1", 3);
    member_down(demo, &prometheus);
}

/// Stops a follower's process until the alert fires, and has it go on.
pub fn member_down(demo: &Declared, prometheus: &Prometheus) {
    let frozen = Frozen::member(demo, &demo.follower());
    prometheus.fires("etcdMembersDown", "engram_cluster", demo.namespace());
    drop(frozen);
    prometheus.wait("up{job=\"engram\"} == 1", 3);
}
