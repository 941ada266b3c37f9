//! The same questions to the server and to a real etcd, recorded and side by side.

use std::path::Path;
use std::time::Duration;

use engram_e2e::random::{Random, number_from};
use engram_e2e::server::Setup;
use engram_e2e::{tools, turn};

const OPERATIONS_DEFAULT: u64 = 100_000;
/// A hundred thousand operations take about two minutes on two cores.
const DIFFERENTIAL_LIMIT: Duration = Duration::from_secs(3_600);

#[test]
fn every_recorded_answer_of_etcd_is_given() {
    let _turn = turn::take("goldens");
    let server = Setup::engram().name("g1").start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/etcd-3.7.3.txt");
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
    let seed = Random::seed_from("ENGRAM_DIFF_SEED");
    let etcd = Setup::etcd().flag("--unsafe-no-fsync").start();
    let server = Setup::engram().start();
    let mut differential = tools::command(&tools::tool("differential"));
    differential
        .args([
            "-a",
            &etcd.address().to_string(),
            "-b",
            &server.address().to_string(),
        ])
        .args(["-ops", &operations.to_string(), "-seed", &seed.to_string()]);
    let finished = tools::run(&mut differential, DIFFERENTIAL_LIMIT);
    assert!(
        finished.status.success(),
        "{}\n{}",
        finished.text(),
        server.last_words()
    );
    println!("{}", finished.stdout.trim());
}
