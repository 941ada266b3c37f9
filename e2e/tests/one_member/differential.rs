//! The same questions to the server and to a real etcd, recorded and side by side.

use std::time::Duration;

use engram_e2e::random::{Random, number_from};
use engram_e2e::server::Setup;
use engram_e2e::{tools, turn};

const OPERATIONS_DEFAULT: u64 = 100_000;
/// A hundred thousand operations take about two minutes on two cores.
const DIFFERENTIAL_LIMIT: Duration = Duration::from_secs(3_600);
/// How often the comparison begins anew because the real etcd crashed.
const ATTEMPTS_MAX: usize = 4;

#[test]
fn every_recorded_answer_of_etcd_is_given() {
    let _turn = turn::take("goldens");
    let server = Setup::engram().name("g1").start();
    let file = tools::directory().join("goldens/etcd-3.7.3.txt");
    let mut goldens = tools::command(&tools::tool("goldens"));
    goldens
        .arg("-check")
        .arg(file)
        .arg(server.address().to_string());
    let finished = tools::run(&mut goldens, tools::TOOL_LIMIT * 2);
    assert!(
        finished.status.success(),
        "{}\n{}",
        finished.text(),
        server.last_words()
    );
    println!("{}", finished.stdout.trim());
}

#[test]
fn random_operations_are_answered_as_a_real_etcd_answers_them() {
    let _turn = turn::take("differential");
    let operations = number_from("ENGRAM_DIFF_OPS").unwrap_or(OPERATIONS_DEFAULT);
    let first = Random::seed_from("ENGRAM_DIFF_SEED");
    let mut random = Random::new(first);
    let seeds = std::iter::once(first).chain(std::iter::repeat_with(|| random.bits()));
    let mut attempts = seeds.take(ATTEMPTS_MAX);
    let compared = attempts.any(|seed| is_compared(operations, seed));
    assert!(compared, "etcd ended by itself {ATTEMPTS_MAX} times");
}

/// Runs one comparison with fresh servers. `false` if the real etcd ended in the middle.
///
/// etcd 3.7.3 does so now and then ("range failed to find revision pair", when a read of an old
/// revision meets the compaction of it), which says nothing about the server under test.
///
/// # Panics
/// If there is a difference, or the server under test ended.
fn is_compared(operations: u64, seed: u64) -> bool {
    let mut etcd = Setup::etcd().flag("--unsafe-no-fsync").start();
    let server = Setup::engram().start();
    let (a, b) = (etcd.address().to_string(), server.address().to_string());
    let (operations, seed) = (operations.to_string(), seed.to_string());
    let mut differential = tools::command(&tools::tool("differential"));
    let arguments = ["-a", &a, "-b", &b, "-ops", &operations, "-seed", &seed];
    let finished = tools::run(differential.args(arguments), DIFFERENTIAL_LIMIT);
    println!("{}", finished.text().trim());
    if finished.status.success() {
        return true;
    }
    // The process may need a moment to be gone after its connections are.
    let ended = etcd.ended_within(Duration::from_secs(1));
    assert!(
        ended.is_some(),
        "{}\n{}",
        finished.text(),
        server.last_words()
    );
    println!("etcd itself ended ({ended:?}): {}", etcd.last_words());
    false
}
