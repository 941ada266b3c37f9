//! etcd's own tests of its client's concurrency package (locks, elections, sessions, transactional memory),
//! and the examples of its client with the output that they say they have, on three members.

use std::time::Duration;

use engram_e2e::cluster::{Cluster, Plan};
use engram_e2e::{tools, turn};

const LIMIT: Duration = Duration::from_secs(120);

/// Runs one of etcd's packages, as `e2e/tools/build.sh own` has built it; each of its tests is to pass, and
/// how many did.
fn must_pass(cluster: &Cluster, package: &str) -> usize {
    let mut command = tools::command(&tools::tool(&format!("etcd-{package}.test")));
    let endpoints: Vec<String> = cluster
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    command
        .env("ENGRAM_ENDPOINTS", endpoints.join(","))
        .current_dir(std::env::temp_dir())
        .arg("-test.v");
    let finished = tools::run(&mut command, LIMIT);
    let text = finished.text();
    let failed = text.contains("--- FAIL") || text.contains("--- SKIP");
    cluster.must(finished.status.success() && !failed, || {
        format!("{package}: {text}")
    });
    text.matches("--- PASS").count()
}

#[test]
fn etcds_own_tests_of_locks_elections_and_sessions_pass_and_its_examples_say_what_they_say() {
    let _turn = turn::take("etcd's own tests");
    // The examples add and remove members as they please.
    let plan = Plan::of(3).flag("--strict-reconfig-check=false");
    let cluster = plan.flag("--watch-progress-notify-interval=200ms").start();
    let passed = must_pass(&cluster, "concurrency");
    let shown = must_pass(&cluster, "examples");
    println!("{passed} of etcd's tests of concurrency pass, and {shown} examples");
    assert!(passed >= 10 && shown >= 20, "{passed} {shown}");
}
